"""Every error a user can meet, each with its exit code.

A message says where, what was found, what was expected and what to do. Several problems of one input are
reported together, in one error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MAX_PROBLEMS_SHOWN = 20


class FtcliError(Exception):
    """An error that is explained to the user instead of shown as a traceback.

    problems: each of them apart, where they are known to have places in a config.
    """

    exit_code = 1

    def __init__(self, message: str, problems: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ConfigError(FtcliError):
    """The config, an override or the way the command was launched is wrong."""

    exit_code = 2


class LaunchError(ConfigError):
    """What runs is not what was asked for: processes, devices, precision."""


class DataError(FtcliError):
    """The data cannot be read, or says something that the task cannot use."""

    exit_code = 3


class RunError(FtcliError):
    """A run directory or a checkpoint is missing, occupied or damaged."""

    exit_code = 4


class ModelError(FtcliError):
    """A model or tokenizer cannot be loaded, or the Hub does not give it."""

    exit_code = 5


class TrainingStoppedError(FtcliError):
    """Training cannot go on: a loss or gradient is not finite."""

    exit_code = 6


class TrainingInterruptedError(FtcliError):
    """Training ended early, as it was asked to, after a whole update."""

    exit_code = 130


class TrainingTerminatedError(TrainingInterruptedError):
    """It was asked to by SIGTERM, as schedulers do before they take a machine away."""

    exit_code = 143


EXIT_INTERRUPTED = 130

_CLASSES: dict[str, type[FtcliError]] = {
    cls.__name__: cls
    for cls in (
        FtcliError,
        ConfigError,
        LaunchError,
        DataError,
        RunError,
        ModelError,
        TrainingStoppedError,
        TrainingInterruptedError,
        TrainingTerminatedError,
    )
}


def list_problems(where: str, problems: Sequence[str]) -> str:
    """Format the problems of one input as one message, the first `MAX_PROBLEMS_SHOWN` in full."""
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    shown = [f"  {problem}" for problem in problems[:MAX_PROBLEMS_SHOWN]]
    if len(problems) > MAX_PROBLEMS_SHOWN:
        shown.append(f"  … and {len(problems) - MAX_PROBLEMS_SHOWN} more")
    return "\n".join([f"{where}: {len(problems)} problems", *shown])


def to_record(error: FtcliError) -> dict[str, str]:
    """Turn an error into JSON that another process can raise again with `from_record`."""
    name = type(error).__name__
    return {"class": name if name in _CLASSES else "FtcliError", "message": str(error)}


def from_record(record: dict[str, str]) -> FtcliError:
    """Rebuild the error that `to_record` described."""
    return _CLASSES[record["class"]](record["message"])
