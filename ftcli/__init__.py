"""Fine-tune Hugging Face encoders from one YAML file.

The Python API mirrors the commands: `train`, `evaluate`, `predict`, `inspect_batch` and `load_config`. They are
imported when first used, so that `import ftcli` stays instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ftcli.config.loading import load_config
    from ftcli.workflows import evaluate, inspect_batch, predict, train

__all__ = ["__version__", "evaluate", "inspect_batch", "load_config", "predict", "train"]

_HOMES = {
    "train": "ftcli.workflows",
    "evaluate": "ftcli.workflows",
    "predict": "ftcli.workflows",
    "inspect_batch": "ftcli.workflows",
    "load_config": "ftcli.config.loading",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ftcli' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
