"""Names of things that may be shipped inside an installed package: `package:MODULE/PATH`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGE_PREFIX = "package:"
# The config that `init` writes and that `train` takes, where none is named.
DEFAULT_CONFIG = "ftcli.yaml"


def package_path(name: str) -> Path:
    """Turn `package:MODULE/PATH` into a path, without importing the package.

    Raises LookupError that says what is missing and how to get it.
    """
    module, _, inner = name.removeprefix(PACKAGE_PREFIX).partition("/")
    spec = find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        install = f"pip install {module.replace('_', '-')}" if module.isidentifier() else "install it"
        raise LookupError(f"{name}: no installed package {module!r}; install it, perhaps with {install}")
    path = Path(spec.submodule_search_locations[0]) / inner
    if not path.exists():
        raise LookupError(f"{name}: the package has no {inner!r}")
    return path
