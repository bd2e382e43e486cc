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
# Of what is read in all: what takes longer than a second is no config.
_MAX_CHARACTERS = yaml.MAX_CHARACTERS


def read_config(name: str) -> Composition:
    """Read a file and all that it extends. Raises ConfigError if one of them is no config."""
    composition = Composition(name)
    try:
        _Reader(composition).read(name, _located(name), None, ())
    except LookupError as error:
        raise ConfigError(str(error.args[0])) from None
    return composition


# What people give by mistake where a config is meant.
_DATA = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


class _Asked(NamedTuple):
    """The place where a file is named by the one that extends it, and how it is written there."""

    mark: Mark
    written: str


@dataclass
class _Reader:
    """Reads files depth first, each once: what two files extend does not override what either of them says."""

    composition: Composition
    done: set[str] = field(default_factory=set)
    num_characters: int = 0

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
            self._refuse(shown, asked, f"expected keys such as model: and data:, found {describe(document.value)}")
        self.composition.problems += [_flawed(source, flaw) for flaw in document.flaws]
        origins = {at: Origin(source, place) for at, place in document.places.items()}
        for base in self._bases(document.value.pop(EXTENDS, ()), origins):
            try:
                there = _located(base.written, os.path.dirname(path))  # noqa: PTH120 - a path as text, all through
            except LookupError as error:
                self._stop(base, str(error.args[0]))
            shown_base = base.written if base.written.startswith(PACKAGE_PREFIX) else _shown(there)
            self.read(shown_base, there, base, (*chain, path))
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
            with open(path, "rb") as file:  # noqa: PTH123 - a path as text, all through
                text = file.read(4 * _MAX_CHARACTERS).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self._refuse(shown, asked, f"not UTF-8 at byte {error.start}; save it as UTF-8")
        except FileNotFoundError:
            beside, alone = "file; it is looked for beside this one", "config file; give the path of a YAML file"
            self._refuse(shown, asked, f"no such {beside if asked else alone}")
        except OSError as error:
            self._refuse(shown, asked, f"cannot be read: {error.strerror}")
        self.num_characters += len(text)
        if self.num_characters > _MAX_CHARACTERS:
            self._refuse(shown, asked, f"above the limit of {_MAX_CHARACTERS:,} characters; a config is a page or two")
        source = Source(shown, text.splitlines(), rank=len(self.done))
        try:
            return source, yaml.parse(text)
        except yaml.YamlError as error:
            if shown.endswith(_DATA):
                self._refuse(shown, asked, "no config")
            raise _unreadable(source, error) from None

    def _refuse(self, shown: str, asked: _Asked | None, message: str) -> NoReturn:
        """Refuse a file, at the place that names it if there is one."""
        if asked:
            self._stop(asked, f"{asked.written}: {message}")
        hint = f"; it looks like data: ftcli init {shown}" if shown.endswith(_DATA) else ""
        raise ConfigError(f"{shown}: {message}{hint}")

    def _stop(self, asked: _Asked, message: str) -> NoReturn:
        problem = Problem((EXTENDS,), message, marks=(asked.mark,))
        raise ConfigError(render(self.composition.name, [problem]), [problem])


def _located(name: str, folder: str = "") -> str:
    """Return the absolute path of a config: of an installed package, else relative to a folder.

    Raises LookupError where no such package is installed.
    """
    if name.startswith(PACKAGE_PREFIX):
        return str(package_path(name))
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
