"""From a YAML file and `key=value` overrides to one checked, frozen Config."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ftcli.config.checks import cross_check, looks_local
from ftcli.config.explanations import Problem, describe, explain
from ftcli.config.schema import Config, config_type
from ftcli.config.yaml import Document, YamlError, dump, parse
from ftcli.errors import ConfigError, list_problems
from ftcli.locations import PACKAGE_PREFIX, package_path
from ftcli.tasks import TASKS

COMMAND_LINE = "command line"
DEFAULT_TASK = "text-classification"


def load_config(source: str | Path | Config, overrides: Iterable[str] = ()) -> Config:
    """Read a config file, lay `key=value` overrides over it, and check everything at once.

    Relative local paths start at the working directory and come back absolute. A Config passes through,
    with the overrides laid over it. Raises ConfigError that lists every problem with its place.
    """
    raw = _Raw.of(source)
    for override in overrides:
        raw.override(override)
    raw.stop_if_wrong()
    return _absolute(_validate(raw))


def config_text(config: Config) -> str:
    """Return a config as YAML that loads as the same config."""
    return dump(config.model_dump(mode="json"))


@dataclass
class _Raw:
    """What was written, before it is checked, and where each value was written."""

    name: str
    document: Document
    values: dict[str, Any]
    overridden: dict[tuple[str, ...], str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def of(cls, source: str | Path | Config) -> _Raw:
        if isinstance(source, Config):
            values = source.model_dump(mode="json")
            return cls("config", Document(values), values)
        document = _read(source)
        if not isinstance(document.value, dict):
            raise ConfigError(f"{source}: expected keys such as model: and data:, found {describe(document.value)}")
        values = document.value
        values.setdefault("task", DEFAULT_TASK)
        values.setdefault("output_dir", f"runs/{Path(source).stem}")
        return cls(str(source), document, values)

    def override(self, text: str) -> None:
        """Lay one `a.b=value` over the values; the value is YAML."""
        dotted, equals, value = text.partition("=")
        path = tuple(dotted.split("."))
        if not equals or not all(path):
            hint = "write for example training.epochs=3"
            self.problems.append(Problem((), f"{COMMAND_LINE}: {text!r} is not key=value; {hint}"))
            return
        try:
            parsed = parse(value).value
        except YamlError as error:
            self.overridden[path] = text
            self.problems.append(Problem(path, str(error)))
            return
        node = self.values
        for depth, part in enumerate(path[:-1], start=1):
            if not isinstance(node.get(part), dict):
                node[part] = {}
                self.overridden[path[:depth]] = text
            node = node[part]
        node[path[-1]] = parsed
        self.overridden[path] = text

    def place(self, path: Sequence[str | int]) -> tuple[tuple[float, float], str]:
        """Find where a key was written, or its section: what to sort by, and in words."""
        path, last = tuple(path), (inf, inf)
        for written, text in reversed(self.overridden.items()):
            if path[: len(written)] == written:
                return last, f"{COMMAND_LINE} ({text}) "
        for end in range(len(path), 0, -1):
            if path[:end] in self.document.places:
                line, column = self.document.places[path[:end]]
                return (line, column), f"{line}:{column} "
        return last, ""

    def stop_if_wrong(self) -> None:
        """Raise all problems as one ConfigError: those of the file in its order, then the others."""
        if self.problems:
            placed = [(*self.place(problem.path), problem.text()) for problem in self.problems]
            lines = [place + text for _, place, text in sorted(placed, key=itemgetter(0))]
            if len(lines) == 1 and placed[0][0] != (inf, inf):
                raise ConfigError(f"{self.name}:{lines[0]}")  # file:line:column, as editors open it
            raise ConfigError(list_problems(self.name, lines))


def _read(source: str | Path) -> Document:
    try:
        path = package_path(str(source)) if str(source).startswith(PACKAGE_PREFIX) else Path(source)
    except LookupError as error:
        raise ConfigError(str(error.args[0])) from None
    try:
        return parse(path.read_text(encoding="utf-8-sig"))
    except YamlError as error:
        raise ConfigError(f"{path}:{error.line}:{error.column} {error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file; give the path of a YAML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _validate(raw: _Raw) -> Config:
    task = raw.values["task"]
    if not isinstance(task, str) or task not in TASKS:
        raw.problems.append(Problem(("task",), f"unknown task {task!r}; known are {', '.join(TASKS)}"))
        raw.stop_if_wrong()
    schema = config_type(task)
    try:
        config = schema.model_validate(raw.values)
    except ValidationError as error:
        raw.problems += explain(error, raw.values, schema)
        raw.stop_if_wrong()
        raise
    raw.problems += [Problem(tuple(path.split(".")), text) for path, text in cross_check(config)]
    raw.stop_if_wrong()
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
