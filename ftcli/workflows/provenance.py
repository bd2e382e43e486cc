"""Where a run's numbers come from: versions, machine, command. Nothing secret: no environment variables."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from ftcli import __version__
from ftcli.hardware import Execution
from ftcli.processes import Processes

_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "tokenizers",
    "numpy",
    "scikit-learn",
)


def describe_environment(execution: Execution, processes: Processes) -> dict[str, Any]:
    """Return the record that goes into environment.json."""
    return {
        "ftcli": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "execution": asdict(execution),
        "num_processes": processes.world_size,
        "git_commit": _git_commit(),
        "command": sys.argv,
    }


def _git_commit() -> str | None:
    """Return the commit of the working directory, where there is one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
