"""A config as people read it: whole, with the origin of each value, or as the difference of two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ftcli.config.composition import Composition
from ftcli.config.excerpts import COMMAND_LINE
from ftcli.config.schema import Config, keys
from ftcli.config.yaml import dump_inline


def config_text(config: Config, note: Callable[[str], str] | None = None) -> str:
    """Return a config as YAML that loads as the same config, a key a line.

    note: given a dotted key, what to say behind its value.
    """
    sections = {key.path for key in keys(type(config)) if key.section is not None}
    lines = list(_lines(config.model_dump(mode="json"), "", sections))
    width = max(len(line) for line, key in lines if key)
    told = [f"{line:<{width}}  # {note(key)}" if note and key else line for line, key in lines]
    return "\n".join(told) + "\n"


def _lines(values: Mapping[str, Any], prefix: str, sections: set[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each line, and the key whose value it holds; None for the line that opens a section."""
    indent = "  " * prefix.count(".")
    for name, value in values.items():
        key = prefix + name
        if key in sections and value is not None:
            yield f"{indent}{name}:", None
            yield from _lines(value, f"{key}.", sections)
        else:
            yield f"{indent}{name}: {dump_inline(value)}", key


class Written(NamedTuple):
    """Where a value comes from. source: default, a file, or the command line and what stands there."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """Name the place as editors open it."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


def origins_of(key: str, composition: Composition) -> list[Written]:
    """Say where the value of a dotted key was written: of a mapping, each place that it comes from."""
    marks = composition.origins_of(tuple(key.split(".")))
    found = [
        Written(f"{COMMAND_LINE}: {mark.source.lines[0]}")
        if mark.source.name == COMMAND_LINE
        else Written(mark.source.name, mark.span.line, mark.span.column)
        for mark in marks
    ]
    return list(dict.fromkeys(found)) or [Written("default")]


def told_origin(key: str, composition: Composition) -> str:
    """Say in one line where a value was written."""
    return ", ".join(dict.fromkeys(map(str, origins_of(key, composition))))


class Difference(NamedTuple):
    """A key whose values differ between two configs; a key that one of them lacks is None there."""

    key: str
    first: Any
    second: Any


def differences(first: Config, second: Config) -> list[Difference]:
    """List the keys that differ, in the order of the schema."""
    one, two = (config.model_dump(mode="json") for config in (first, second))
    names = [key.path for kind in (type(first), type(second)) for key in keys(kind) if key.section is None]
    found = [Difference(name, value_at(one, name), value_at(two, name)) for name in dict.fromkeys(names)]
    return [difference for difference in found if difference.first != difference.second]


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key; None where a section above it is null."""
    value: Any = values
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
