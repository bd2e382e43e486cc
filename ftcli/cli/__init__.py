"""The command line: parse, call one workflow, turn an error into its exit code. Nothing heavy is imported."""

from __future__ import annotations

import sys

from ftcli.cli.app import app
from ftcli.cli.verbs import eval_command, inspect_batch_command, train_command

__all__ = ["app", "eval_command", "inspect_batch_command", "main", "train_command"]


def main() -> None:
    """Run the command line; `ftcli` and `python -m ftcli` both end here."""
    app(prog_name="ftcli", args=sys.argv[1:])
