"""YAML as people expect it: YAML 1.2 scalars, the place of every key, no duplicate keys, no tags.

PyYAML reads YAML 1.1, where `no` is false and `1e-5` is text. Here the core schema of YAML 1.2.2
(chapter 10.3) decides. What YAML 1.1 reads as another number, or as a date, is refused with both readings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml as pyyaml
from yaml.reader import ReaderError

from ftcli.config.excerpts import Path, Place, Span

# PyYAML reads some 100,000 characters a second: these bounds keep the worst document near one second.
MAX_CHARACTERS = 100_000
MAX_NODES = 10_000
MAX_LEVELS = 20

_CORE = {
    "null": (r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?(?:0|[1-9][0-9]*)[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    # Numbers and dates of YAML 1.1 (yaml.org/type): a leading zero, underscores, base sixty, base two, days.
    "ambiguous": (
        r"[-+]?0[0-9]+|[-+]?[1-9][0-9]*_[0-9_]*|0b[01]+"
        r"|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ][-+0-9:.Zz ]*)?",
        list("-+0123456789"),
    ),
}
_PREFIX = "tag:yaml.org,2002:"
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


class YamlError(Exception):
    """What makes a document unreadable, and where. began: where that began, if it is elsewhere."""

    def __init__(self, message: str, span: Span | None = None, *, path: Path = (), began: Span | None = None) -> None:
        super().__init__(message)
        self.span, self.path, self.began = span or Span(1, 1), path, began


class Flaw(NamedTuple):
    """What is wrong with one value; the rest can be read. first: where a key that stands twice stands first.

    is_ambiguous: a text would be fine, and is what was read.
    """

    path: Path
    message: str
    span: Span
    first: Span | None = None
    is_ambiguous: bool = False


@dataclass
class Document:
    """A document's value, where each key and list item is written, and what is wrong with single values."""

    value: Any = None
    places: dict[Path, Place] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)


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
    """Read one document. Raises YamlError with the place of the first thing that makes it unreadable."""
    if len(text) > MAX_CHARACTERS:
        raise YamlError(f"{len(text):,} characters, above the limit of {MAX_CHARACTERS:,}; a config is a page or two")
    try:
        node = pyyaml.compose(text, Loader=_Loader)
    except pyyaml.MarkedYAMLError as error:
        raise _explained(error) from None
    except ReaderError as error:
        before = text[: error.position]
        span = Span(before.count("\n") + 1, len(before) - before.rfind("\n"))
        found = f"the character U+{ord(text[error.position]):04X}"
        raise YamlError(f"not YAML: {found} is not allowed", span) from None
    except (ValueError, OverflowError) as error:
        # An escape such as "\\UFFFFFFFF", which PyYAML does not check.
        raise YamlError(f"not YAML: {error}") from None
    document = Document()
    document.value = _Builder(document).build(node, ())
    return document


def _explained(error: pyyaml.MarkedYAMLError) -> YamlError:
    began = _at_mark(error.context_mark)
    at = _at_mark(error.problem_mark) or began
    told = ", ".join(filter(None, (error.context, error.problem)))
    if "mapping values are not allowed" in told:
        told = (
            "a colon cannot stand here; see to the indentation, to a blank behind each colon, or to quotes around the "
            "text"
        )
    if "could not find expected ':'" in told:
        at, began = began or at, None
        told = "a key without a value; write a colon and a blank behind the key"
    if "<block mapping start>" in told or "<block sequence start>" in told or "expected <block end>" in told:
        told, began = "the indentation does not fit the lines above", None
    if "scanning a quoted scalar" in told and "end of stream" in told:
        told = "a quote opens here and never closes"
    if "'\\t'" in told:
        told += "; indent with blanks"
    if "end" in str(error.problem) and "stream" in str(error.problem):
        at, began = began or at, None  # what matters is what never ends
    return YamlError(f"not YAML: {told}", at, began=None if began == at else began)


def _at_mark(mark: Any) -> Span | None:
    return None if mark is None else Span(mark.line + 1, mark.column + 1)


def dump(value: Any) -> str:
    """Write plain data so that `parse` reads the same data back."""
    return pyyaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def dump_inline(value: Any) -> str:
    """Write plain data in one line."""
    written = pyyaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf"), default_flow_style=True
    )
    return written.removesuffix("...\n").strip()


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
            # Where an alias leads says nothing; the key that uses it does.
            place = self.document.places.get(path[:1])
            raise YamlError(_TOO_LARGE, place.key if place else _span(node), path=path[:1])
        if isinstance(node, pyyaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, pyyaml.SequenceNode):
            return [self._item(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _item(self, node: Any, path: Path) -> Any:
        self.document.places.setdefault(path, Place(_span(node), _span(node)))
        return self.build(node, path)

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, pyyaml.ScalarNode):
                raise YamlError("a key must be text", _span(key_node))
            here = (*path, key_node.value)
            key = _span(key_node)
            if key_node.value in mapping:
                first = self.document.places[here].key
                self.document.flaws.append(Flaw(here, "stands twice; keep one", key, first))
                # What the second one says is not missing.
                again, before = self.build(value_node, here), mapping[key_node.value]
                if isinstance(again, dict) and isinstance(before, dict):
                    mapping[key_node.value] = again | before
                continue
            self.document.places[here] = Place(key, _value_span(value_node) or key)
            mapping[key_node.value] = self.build(value_node, here)
        return mapping

    def _scalar(self, node: Any, path: Path) -> Any:
        kind, text = node.tag.removeprefix(_PREFIX), node.value
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int" and len(text) > 100:
            self.document.flaws.append(Flaw(path, f"a number of {len(text)} digits is too large", _span(node)))
            return None
        if kind == "int":
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if kind == "ambiguous":
            flaw = Flaw(path, f"{text} is ambiguous: {_readings(text)}", _span(node), is_ambiguous=True)
            self.document.flaws.append(flaw)
        return text


def _readings(text: str) -> str:
    """Say how the two versions of YAML read a scalar, and what to write instead.

    Base eight, base sixty and dates follow https://yaml.org/type/int.html and timestamp.html.
    """
    quoted = f"'{text}' for a text"
    if re.match(r"[0-9]{4}-", text):
        return f"a date in YAML 1.1, a text in YAML 1.2; write {quoted}"
    if ":" in text:
        sign = -1 if text.startswith("-") else 1
        seconds = 0.0
        for part in text.lstrip("-+").replace("_", "").split(":"):
            seconds = seconds * 60 + float(part)
        return f"the number {sign * seconds:.12g} in YAML 1.1, a text in YAML 1.2; write {quoted}"
    if text.startswith("0b"):
        return f"the number {int(text, 2)} in YAML 1.1, a text in YAML 1.2; write {int(text, 2)}, or {quoted}"
    if "_" in text:
        number = text.replace("_", "")
        return f"the number {number} in YAML 1.1, a text in YAML 1.2; write {number}, or {quoted}"
    new = int(text)
    old = str(int(text, 8)) if set(text) <= set("-+01234567") else "a text"
    if old == str(new):
        return f"base eight in YAML 1.1, base ten in YAML 1.2; write {new}, or {quoted}"
    return f"{old} in YAML 1.1, {new} in YAML 1.2; write {new}, or {quoted}"


_TOO_LARGE = "too many values or levels, perhaps through aliases; write the values out"


def _span(node: Any) -> Span:
    """Return where a node, or an event, is written; of several lines the first."""
    start, end = node.start_mark, node.end_mark
    # A width beyond the line is cut where it is shown.
    width = end.column - start.column if end.line == start.line else 1_000
    return Span(start.line + 1, start.column + 1, max(1, width))


def _value_span(node: Any) -> Span | None:
    """Return where a value is written; None where its key shows better: an indented section, or nothing at all."""
    is_block = not isinstance(node, pyyaml.ScalarNode) and not node.flow_style
    is_nothing = node.start_mark.index == node.end_mark.index
    return None if is_block or is_nothing else _span(node)


def _at(node: Any, message: str) -> YamlError:
    return YamlError(message, Span(*_span(node)[:2]))


def _too_large(mark: Any) -> YamlError:
    return YamlError(_TOO_LARGE, Span(mark.line + 1, mark.column + 1))
