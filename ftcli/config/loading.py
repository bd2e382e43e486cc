"""From a YAML file and `key=value` overrides to one checked, frozen Config."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ftcli.config.checks import cross_check, looks_local
from ftcli.config.composition import Composition, override
from ftcli.config.explanations import explain, takes_text
from ftcli.config.reading import read_config
from ftcli.config.schema import DEFAULT_TASK, Config, config_type
from ftcli.errors import ConfigError
from ftcli.locations import PACKAGE_PREFIX
from ftcli.tasks import TASKS


def load_config(source: str | Path | Config, overrides: Iterable[str] = ()) -> Config:
    """Load a config file and what it extends, lay `key=value` overrides over it, and check everything at once.

    Relative local paths start at the working directory and come back absolute; the names in `extends` start at
    their file. A Config passes through, with the overrides laid over it. Raises ConfigError that shows every
    problem where it is written.
    """
    return compose(source, overrides)[0]


def compose(source: str | Path | Config, overrides: Iterable[str] = ()) -> tuple[Config, Composition]:
    """Load a config as `load_config` does, and keep where each of its values was written."""
    if not os.path.exists(os.curdir):  # noqa: PTH110 - Path.cwd would raise
        raise ConfigError("the working directory is gone; change into another one")
    if isinstance(source, Config):
        values = source.model_dump(mode="json")
        composition = Composition("config", values)
    else:
        composition = read_config(str(source))
        composition.values.setdefault("output_dir", f"runs/{Path(source).stem}")
    schema = _schema_for(composition.values)
    for text in overrides:
        override(composition, text, partial(takes_text, schema=schema))
    config = _validate(composition, _schema_for(composition.values))
    return _absolute(config), composition


def _schema_for(values: Mapping[str, Any]) -> type[Config]:
    """Return the schema of the config's task; of the default one where the task is wrong, which is told later."""
    task = values.get("task")
    return config_type(task if isinstance(task, str) and task in TASKS else DEFAULT_TASK)


def _validate(composition: Composition, schema: type[Config]) -> Config:
    try:
        config = schema.model_validate(composition.values)
    except ValidationError as error:
        told = {problem.path for problem in composition.problems}
        found = explain(error, composition.values, schema)
        composition.problems += [problem for problem in found if problem.path not in told]
        composition.stop_if_wrong()
        raise
    composition.problems += cross_check(config)
    composition.stop_if_wrong()
    return config


def _absolute(config: Config) -> Config:
    """Make every local path absolute, so that the run can be used from anywhere."""

    def absolute(path: str) -> str:
        # abspath keeps symlinks; os.path.expanduser keeps the ~ of an unknown user, Path.expanduser raises.
        return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111

    return with_local_paths(config, absolute)


def with_local_paths(config: Config, change: Callable[[str], str]) -> Config:
    """Return a config with every path of this machine changed: model, data, files, and run directory."""

    def changed(path: str | None) -> str | None:
        return change(path) if path is not None and looks_local(path) else path

    data = config.data.model_copy(update={"path": changed(config.data.path)})
    if data.files is not None:
        # A file is local whether or not it is there.
        files = {
            split: path if path is None or path.startswith(PACKAGE_PREFIX) else change(path)
            for split, path in data.files.model_dump().items()
        }
        data = data.model_copy(update={"files": data.files.model_copy(update=files)})
    model = config.model.model_copy(update={"name_or_path": changed(config.model.name_or_path)})
    return config.model_copy(update={"model": model, "data": data, "output_dir": change(config.output_dir)})
