"""The command line. Torch and the compiler are imported by the commands that need them, so that help is quick."""

from __future__ import annotations

from attngen.cli.app import app


def main() -> None:
    """The entry point `attngen`."""
    app(prog_name="attngen")


__all__ = ["app", "main"]
