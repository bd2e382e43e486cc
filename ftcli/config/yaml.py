"""YAML as people expect it: YAML 1.2 scalars, the place of every key, no duplicate keys, no tags.

PyYAML reads YAML 1.1, where `no` is false and `1e-5` is text. Here the core schema of YAML 1.2.2
(chapter 10.3) decides, except that numbers with a leading zero stay text: two readers disagree about them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml as pyyaml
from yaml.reader import ReaderError

# PyYAML reads some 100,000 characters a second: these bounds keep the worst document near one second.
MAX_CHARACTERS = 100_000
MAX_NODES = 10_000
MAX_LEVELS = 20
Path = tuple[str | int, ...]

_CORE = {
    "null": (r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?(?:0|[1-9][0-9]*)[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
_PREFIX = "tag:yaml.org,2002:"
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


class YamlError(Exception):
    """What is wrong with a document, and where: line and column count from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.line, self.column = line, column


@dataclass
class Document:
    """A document's value, and the line and column where each key and list item starts."""

    value: Any = None
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)


class _Loader(pyyaml.SafeLoader):
    """Refuses tags, and stops while reading where a document has too many values or levels."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class attribute
    num_nodes = 0
    level = 0

    def fetch_flow_collection_start(self, *arguments: Any) -> None:
        # The scanner reads a thousand brackets ahead, at quadratic cost, before the first is composed.
        if self.flow_level > MAX_LEVELS:
            raise _too_large(self.get_mark())
        super().fetch_flow_collection_start(*arguments)

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call] # types-PyYAML leaves it bare
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise _at(event, f"the tag {tag.replace(_PREFIX, '!!')} is not supported; write plain values")
        if _UNUSABLE.search(getattr(event, "value", "")):
            raise _at(event, "a NUL or half a character (a lone surrogate) is not text")
        self.num_nodes += 1
        self.level += 1
        if self.num_nodes > MAX_NODES or self.level > MAX_LEVELS:
            raise _too_large(event.start_mark)
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


class _Dumper(pyyaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class attribute


def _represent_text(dumper: pyyaml.SafeDumper, text: str) -> pyyaml.ScalarNode:
    # PyYAML's other styles lose line breaks such as U+0085; double quotes escape them.
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar(_PREFIX + "str", text, style=style)


_Dumper.add_representer(str, _represent_text)
for _name, (_pattern, _first) in _CORE.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_PREFIX + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def parse(text: str) -> Document:
    """Read one document. Raises YamlError with the place of the first thing that is wrong."""
    if len(text) > MAX_CHARACTERS:
        raise YamlError(f"{len(text):,} characters, above the limit of {MAX_CHARACTERS:,}; a config is a page or two")
    try:
        node = pyyaml.compose(text, Loader=_Loader)
    except pyyaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        told = ", ".join(filter(None, (error.context, error.problem)))
        raise YamlError(f"not YAML: {told}", line, column) from None
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        found = f"the character U+{ord(text[error.position]):04X}"
        raise YamlError(f"not YAML: {found} is not allowed", line, column) from None
    except (ValueError, OverflowError) as error:
        # An escape such as "\\UFFFFFFFF", which PyYAML does not check.
        raise YamlError(f"not YAML: {error}") from None
    document = Document()
    document.value = _Builder(document).build(node, ())
    return document


def dump(value: Any) -> str:
    """Write plain data so that `parse` reads the same data back."""
    return pyyaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Builder:
    """Turns nodes into values, noting places and counting nodes so that aliases cannot explode."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.num_nodes = 0

    def build(self, node: Any, path: Path) -> Any:
        if node is None:
            return None
        self.num_nodes += 1
        if self.num_nodes > MAX_NODES or len(path) > MAX_LEVELS:
            raise _too_large(node.start_mark)
        if isinstance(node, pyyaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, pyyaml.SequenceNode):
            return [self._item(child, (*path, index)) for index, child in enumerate(node.value)]
        return _scalar(node)

    def _item(self, node: Any, path: Path) -> Any:
        self.document.places.setdefault(path, _place(node))
        return self.build(node, path)

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, pyyaml.ScalarNode):
                raise _at(key_node, "a key must be text")
            key = key_node.value
            line = key_node.start_mark.line + 1
            if key in mapping:
                raise _at(key_node, f"{key!r} stands twice, in lines {first_line[key]} and {line}; keep one")
            first_line[key] = line
            self.document.places[(*path, key)] = _place(key_node)
            mapping[key] = self.build(value_node, (*path, key))
        return mapping


def _scalar(node: Any) -> Any:
    kind, text = node.tag.removeprefix(_PREFIX), node.value
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        if len(text) > 100:
            raise _at(node, f"a number of {len(text)} digits is too large")
        return int(text, base)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _place(node: Any) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _at(node: Any, message: str) -> YamlError:
    return YamlError(message, *_place(node))


def _too_large(mark: Any) -> YamlError:
    message = "too many values or levels, perhaps through aliases; write the values out"
    return YamlError(message, mark.line + 1, mark.column + 1)
