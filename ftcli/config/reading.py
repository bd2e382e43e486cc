"""Config files, each laid over the ones that it extends."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from ftcli.config import yaml
from ftcli.config.composition import EXTENDS, Composition, Origin
from ftcli.config.excerpts import Mark, Path, Problem, Source, render
from ftcli.config.explanations import describe, wrong_value
from ftcli.config.schema import Config
from ftcli.errors import ConfigError
from ftcli.locations import PACKAGE_PREFIX, package_path

_MAX_FILES = 100


def read_config(name: str) -> Composition:
    """Read a file and all that it extends. Raises ConfigError if one of them is no config."""
    composition = Composition(name)
    _Reader(composition).read(name, _located(name), None, ())
    return composition


class _Asked(NamedTuple):
    """The place where a file is named by the one that extends it, and how it is written there."""

    mark: Mark
    written: str


@dataclass
class _Reader:
    """Reads files depth first, each once: what two files extend does not override what either of them says."""

    composition: Composition
    done: set[str] = field(default_factory=set)

    def read(self, shown: str, path: str, asked: _Asked | None, chain: tuple[str, ...]) -> None:
        """Lay a file over the composition, and before it what it extends. chain: the files that lead to it."""
        if asked and path in chain:
            circle = (*chain[chain.index(path) :], path)
            self._stop(asked, f"goes in a circle: {' -> '.join(map(_shown, circle))}")
        if path in self.done:
            return
        if asked and len(self.done) == _MAX_FILES:
            self._stop(asked, f"more than {_MAX_FILES} files")
        source, document = self._parse(shown, path, asked)
        self.done.add(path)
        if not isinstance(document.value, dict):
            raise ConfigError(f"{shown}: expected keys such as model: and data:, found {describe(document.value)}")
        self.composition.problems += [_flawed(source, flaw) for flaw in document.flaws]
        origins = {at: Origin(source, place) for at, place in document.places.items()}
        for base in self._bases(document.value.pop(EXTENDS, ()), origins):
            there = _located(base.written, os.path.dirname(path))  # noqa: PTH120 - a path as text, all through
            self.read(_shown(there), there, base, (*chain, path))
        self.composition.lay(document.value, origins)

    def _bases(self, named: Any, origins: Mapping[Path, Origin]) -> list[_Asked]:
        names = [named] if isinstance(named, str) else named
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
            self.composition.origins.update(origins)
            self.composition.problems.append(wrong_value((EXTENDS,), named, Config))
            self.composition.stop_if_wrong()
        found = []
        for index, name in enumerate(names):
            origin = origins.get((EXTENDS, index)) or origins[(EXTENDS,)]
            found.append(_Asked(Mark(origin.source, origin.place.value), name))
        return found

    def _parse(self, shown: str, path: str, asked: _Asked | None) -> tuple[Source, yaml.Document]:
        try:
            with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123 - a path as text, all through
                text = file.read()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{shown}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError)
            if asked:
                hint = "no such file; it is looked for beside this one" if is_missing else str(error.strerror)
                self._stop(asked, f"{asked.written}: {hint}")
            hint = "no such config file; give the path of a YAML file"
            raise ConfigError(f"{shown}: {hint if is_missing else f'cannot be read: {error.strerror}'}") from None
        source = Source(shown, text.splitlines(), rank=len(self.done))
        try:
            return source, yaml.parse(text)
        except yaml.YamlError as error:
            raise _unreadable(source, error) from None

    def _stop(self, asked: _Asked, message: str) -> NoReturn:
        problem = Problem((EXTENDS,), message, marks=(asked.mark,))
        raise ConfigError(render(self.composition.name, [problem]), [problem])


def _located(name: str, folder: str = "") -> str:
    """Return the absolute path of a config: of an installed package, else relative to a folder."""
    try:
        if name.startswith(PACKAGE_PREFIX):
            return str(package_path(name))
    except LookupError as error:
        raise ConfigError(str(error.args[0])) from None
    return os.path.abspath(os.path.join(folder, os.path.expanduser(name)))  # noqa: PTH100, PTH111, PTH118


def _shown(path: str) -> str:
    """Name a file as a person in the working directory would."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _flawed(source: Source, flaw: yaml.Flaw) -> Problem:
    marks = [Mark(source, flaw.span)]
    if flaw.first is not None:
        marks.append(Mark(source, flaw.first, "first here"))
    return Problem(flaw.path, flaw.message, marks=tuple(marks))


def _unreadable(source: Source, error: yaml.YamlError) -> ConfigError:
    marks = [Mark(source, error.span)]
    if error.began is not None:
        marks.append(Mark(source, error.began, "it began here"))
    problem = Problem(error.path, str(error), marks=tuple(marks))
    return ConfigError(render(source.name, [problem]), [problem])
