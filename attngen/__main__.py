"""`python -m attngen`."""

from __future__ import annotations

from attngen.cli import main

main()
