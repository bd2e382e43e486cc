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
    width = max(len(line) for line, key in lines if key not in sections)
    told = [f"{line:<{width}}  # {note(key)}" if note and key not in sections else line for line, key in lines]
    return "\n".join(told) + "\n"


def _lines(values: Mapping[str, Any], prefix: str, sections: set[str]) -> Iterator[tuple[str, str]]:
    indent = "  " * prefix.count(".")
    for name, value in values.items():
        key = prefix + name
        if key in sections and value is not None:
            yield f"{indent}{name}:", key
            yield from _lines(value, f"{key}.", sections)
        else:
            # null has a line of its own, though its key is a section where it has a value.
            yield f"{indent}{name}: {dump_inline(value)}", f"{key}" if key not in sections else f"{key}."


class Written(NamedTuple):
    """Where a value comes from. source: default, a file, or the command line and what stands there."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """Name the place as editors open it."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


def origin_of(key: str, composition: Composition) -> Written:
    """Say where the value of a dotted key was written."""
    mark = composition.mark(tuple(key.rstrip(".").split(".")), exact=True)
    if mark is None:
        return Written("default")
    if mark.source.name == COMMAND_LINE:
        return Written(f"{COMMAND_LINE}: {mark.source.lines[0]}")
    return Written(mark.source.name, mark.span.line, mark.span.column)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return plain values by dotted key; a list is one value."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


class Difference(NamedTuple):
    """A key whose values differ between two configs; a key that one of them lacks is None there."""

    key: str
    first: Any
    second: Any


def differences(first: Config, second: Config) -> list[Difference]:
    """List the keys that differ, in the order of the schema."""
    one, two = (flat(config.model_dump(mode="json")) for config in (first, second))
    return [
        Difference(key, one.get(key), two.get(key))
        for key in dict.fromkeys((*one, *two))
        if one.get(key) != two.get(key)
    ]
