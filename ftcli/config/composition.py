"""What was written, before it is checked: values laid over values, each with its origin; the command line on top."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ftcli.config import yaml
from ftcli.config.excerpts import COMMAND_LINE, Mark, Path, Place, Problem, Source, Span, excerpt, render, where
from ftcli.errors import ConfigError, DataError

EXTENDS = "extends"
# The command line is told last.
_LAST = 10_000


class Origin(NamedTuple):
    """Where a value comes from."""

    source: Source
    place: Place


@dataclass
class Composition:
    """The values of a config, where each of them was written, and what was found wrong on the way.

    name: of the config, in messages.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def lay(self, values: Mapping[str, Any], origins: Mapping[Path, Origin], path: Path = ()) -> None:
        """Lay values over what is there: sections key by key, everything else, and an empty {}, as a whole."""
        target: Any = self.values
        for part in path:
            target = target[part]
        for key, value in values.items():
            here = (*path, key)
            if isinstance(value, dict) and value and isinstance(target.get(key), dict):
                self.lay(value, origins, here)
                continue
            for at in _paths(target.get(key), here):
                self.origins.pop(at, None)
            target[key] = deepcopy(value)
            self.origins |= {at: origins[at] for at in _paths(value, here) if at in origins}

    def mark(self, path: Path, *, is_about_key: bool = False, exact: bool = False) -> Mark | None:
        """Find where a key or its value is written, or, unless exact, the section that it is missing from."""
        for end in range(len(path), len(path) - 1 if exact else 0, -1):
            origin = self.origins.get(path[:end])
            if origin is not None:
                is_missing = end < len(path)
                return Mark(origin.source, origin.place.key if is_missing or is_about_key else origin.place.value)
        return None

    def placed(self, problem: Problem) -> Problem:
        """Return a problem with the marks of its key and of the related keys that were written."""
        if problem.marks:
            return problem
        mark = self.mark(problem.path, is_about_key=problem.is_about_key)
        if mark is None:
            return problem
        written = [(path, self.origins[path]) for path in problem.related if path in self.origins]
        related = [Mark(origin.source, origin.place.value, ".".join(map(str, path))) for path, origin in written]
        return problem._replace(marks=(mark, *related))

    def origins_of(self, path: Path) -> list[Mark]:
        """Find every place that the value of a key was written in: a mapping may come from several."""
        below = [at for at in self.origins if len(at) > len(path) and at[: len(path)] == path]
        inner = [at for at in below if isinstance(at[len(path)], str)]
        marks = [self.mark(at, exact=True) for at in (inner or [path])]
        return [mark for mark in marks if mark is not None]

    @contextmanager
    def pointing(self) -> Iterator[None]:
        """Show, below an error about config or data, where the keys that it names are written."""
        try:
            yield
        except (ConfigError, DataError) as error:
            marks = self._named_in(str(error))
            if marks and not error.problems:
                error.problems = (Problem((), str(error), marks=tuple(marks)),)
                shown = (
                    line
                    for mark in marks
                    for line in (f"{where(mark)}: {mark.label}", *excerpt([mark._replace(label="")]))
                )
                error.args = ("\n".join((str(error), *shown)),)
            raise

    def _named_in(self, message: str) -> list[Mark]:
        """Find the keys that a message names, where they are written."""
        keys = dict.fromkeys(re.findall(r"\b[a-z_]+(?:\.[a-z_]+)+\b", message))
        found = [(key, self.mark(tuple(key.split(".")), exact=True)) for key in keys]
        return [mark._replace(label=key) for key, mark in found if mark is not None]

    def stop_if_wrong(self) -> None:
        """Raise all problems as one ConfigError."""
        if self.problems:
            placed = [self.placed(problem) for problem in self.problems]
            raise ConfigError(render(self.name, placed), placed)


def _paths(value: Any, path: Path) -> Iterator[Path]:
    """Yield the path of a value, and of every key and item in it."""
    yield path
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(inner, (*path, name))


def override(composition: Composition, text: str, takes_text: Callable[[Path], bool]) -> None:
    """Lay one `a.b=value` over a composition. takes_text: whether a key is a text that may look like a number."""
    source = Source(COMMAND_LINE, [text], rank=_LAST)
    dotted, equals, written = text.partition("=")
    path: Path = tuple(dotted.split("."))
    if not equals or not all(path) or not dotted.isprintable():
        message = f"{text!r} is not key=value; write for example training.epochs=3"
        composition.problems.append(Problem((), message, marks=(Mark(Source(COMMAND_LINE), Span(1, 1)),)))
        return
    if path[0] == EXTENDS:
        message = "belongs into a file; on the command line name the file itself as CONFIG"
        composition.problems.append(Problem(path, message, marks=(Mark(source, Span(1, 1, len(dotted))),)))
        return
    start = len(dotted) + 1
    try:
        document = yaml.parse(written)
    except yaml.YamlError as error:
        mark = Mark(source, Span(1, start + error.span.column))
        composition.problems.append(Problem(path, str(error), marks=(mark,)))
        return
    value = document.value
    if not isinstance(value, str | dict | list | None) and takes_text(path):
        value = written.partition(" #")[0].strip()  # a commit of digits is a text all the same
    for flaw in document.flaws:
        if not (flaw.is_ambiguous and not flaw.path and takes_text(path)):
            composition.problems.append(
                Problem((*path, *flaw.path), flaw.message, marks=(Mark(source, _shifted(flaw.span, start)),))
            )
    key = Span(1, 1, len(dotted))
    whole = Place(key, Span(1, start + 1, max(1, len(written))))
    origins = {path[:end]: Origin(source, whole) for end in range(1, len(path) + 1)}
    for at, place in document.places.items():
        shifted = Place(_shifted(place.key, start), _shifted(place.value, start))
        origins[(*path, *at)] = Origin(source, shifted)
    for part in reversed(path):
        value = {part: value}
    composition.lay(value, origins)


def _shifted(span: Span, by: int) -> Span:
    return span._replace(line=1, column=span.column + by)
