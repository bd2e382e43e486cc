"""The command line: parse, call one workflow, turn an error into its exit code. Nothing heavy is imported."""

from ftcli.cli import config_verbs, data_verbs, machine_verbs, model_verbs  # noqa: F401 - their verbs join the app
from ftcli.cli.app import app
from ftcli.cli.verbs import eval_command, inspect_batch_command, train_command

__all__ = ["app", "eval_command", "inspect_batch_command", "train_command"]
