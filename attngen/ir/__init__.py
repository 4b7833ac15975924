"""What an attention is: expressions, normalizers and the Spec, free of targets. Imports only `attngen.errors`."""
