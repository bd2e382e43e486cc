"""What is wrong with a config, shown where it was written: the line, a caret below it, and a word of help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ftcli.errors import MAX_PROBLEMS_SHOWN

Path = tuple[str | int, ...]
COMMAND_LINE = "command line"
# Characters of a line that are shown.
_WIDTH = 100


class Span(NamedTuple):
    """Where something is written, within one line. line and column count from 1."""

    line: int
    column: int
    width: int = 1


class Place(NamedTuple):
    """Where a key and its value are written; an item of a list is its own key."""

    key: Span
    value: Span


@dataclass(frozen=True)
class Source:
    """A text that values were written in: a file, or one argument of the command line.

    rank: what comes first when problems are told.
    """

    name: str
    lines: Sequence[str] = field(default=(), repr=False)
    rank: int = 0


class Mark(NamedTuple):
    """A place in a source, and a word to say there."""

    source: Source
    span: Span
    label: str = ""


class Problem(NamedTuple):
    """One thing that is wrong.

    path: the key that it is about. help: what that key is for. marks: where it is written, the first decides
    where the problem is told; without any, the composed config finds the key, its value, and the related keys.
    is_about_key: whether the key is wrong, and not its value.
    """

    path: Path
    message: str
    help: str = ""
    marks: tuple[Mark, ...] = ()
    is_about_key: bool = False
    related: tuple[Path, ...] = ()

    @property
    def key(self) -> str:
        """The dotted key."""
        return ".".join(map(str, self.path))

    @property
    def told(self) -> str:
        """The key and the message."""
        return f"{self.key}: {self.message}" if self.path else self.message


def render(name: str, problems: Iterable[Problem]) -> str:
    """Show problems in the order in which they are written. name: of the config, for what stands nowhere in it."""
    ordered = sorted(problems, key=_order)
    blocks = ["\n".join(_block(name, problem)) for problem in ordered[:MAX_PROBLEMS_SHOWN]]
    if len(ordered) > MAX_PROBLEMS_SHOWN:
        blocks.append(f"… and {len(ordered) - MAX_PROBLEMS_SHOWN} more")
    if len(ordered) > 1:
        blocks.insert(0, f"{name}: {len(ordered)} problems")
    return "\n\n".join(blocks)


def _order(problem: Problem) -> tuple[int, int, int]:
    if not problem.marks:
        return (0, 0, 0)
    mark = problem.marks[0]
    return (mark.source.rank, mark.span.line, mark.span.column)


def _block(name: str, problem: Problem) -> list[str]:
    shown = [f"{where(problem.marks[0]) if problem.marks else name}: {problem.told}"]
    shown += excerpt(problem.marks)
    if problem.help:
        shown.append(f"    = {problem.help}")
    return shown


def excerpt(marks: Sequence[Mark]) -> list[str]:
    """Show the lines that are marked: those of the first mark's source, then each other source below its name."""
    shown: list[str] = []
    sources = list(dict.fromkeys(mark.source.name for mark in marks))
    for name in sources:
        here = [mark for mark in marks if mark.source.name == name]
        if name != sources[0]:
            shown.append(f"{where(here[0])}: {here[0].label}")
            here[0] = here[0]._replace(label="")
        for line in sorted({mark.span.line for mark in here}):
            on_line = [mark for mark in here if mark.span.line == line]
            shown += _line(on_line, primary=marks[0])
    return shown


def where(mark: Mark) -> str:
    """Name a place as editors open it."""
    name = mark.source.name
    return name if name == COMMAND_LINE else f"{name}:{mark.span.line}:{mark.span.column}"


def _line(marks: Sequence[Mark], primary: Mark) -> list[str]:
    from rich.cells import cell_len

    source, line = marks[0].source, marks[0].span.line
    if line > len(source.lines):
        return []
    text = source.lines[line - 1].expandtabs(1).rstrip()
    # A long line is shown around its first mark.
    first = min(mark.span.column for mark in marks) - 1
    start = 0 if first < _WIDTH - 10 else first - _WIDTH // 2
    shown = ("…" if start else "") + text[start : start + _WIDTH] + ("…" if len(text) > start + _WIDTH else "")
    under = [" " * cell_len(character) for character in shown] + [" "]
    for mark in sorted(marks, key=lambda mark: mark == primary):
        at = mark.span.column - 1 - start + bool(start)
        end = min(at + mark.span.width, max(len(shown) - (len(text) > start + _WIDTH), at + 1))
        under[at:end] = [("^" if mark == primary else "-") * max(1, len(blank)) for blank in under[at:end]]
    labels = ", ".join(mark.label for mark in marks if mark.label)
    number = "" if source.name == COMMAND_LINE else str(line)
    return [f"{number:>3} | {shown}", f"    | {''.join(under).rstrip()} {labels}".rstrip()]
