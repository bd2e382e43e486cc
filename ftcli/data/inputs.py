"""The rows that `predict` reads: from a file or standard input, one by one, each checked for its texts."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ftcli.data.files import SUFFIXES, hint, place, resolved_quoting, scan_file
from ftcli.data.formats import (
    CSV,
    JSONL,
    LINES,
    NOT_UTF8,
    RECODE,
    TSV,
    BadRow,
    FormatError,
    Row,
    cell,
    column_paths,
    scan,
)
from ftcli.data.rows import is_empty, require_column
from ftcli.errors import ConfigError, DataError

STANDARD_INPUT = "-"
STREAM_FORMATS = (LINES, CSV, TSV, JSONL)
_WITH_HEADER = (CSV, TSV, "parquet")
Item = TypeVar("Item")


class TextRow(NamedTuple):
    """A row that can be predicted: its number, from 0, its line, its own values, and its texts by column."""

    number: int
    line: int
    values: dict[str, Any]
    texts: dict[str, str]


class WrongRow(NamedTuple):
    """A row that cannot be predicted: its number, from 0, and what is wrong with it."""

    number: int
    row: BadRow


@dataclass(frozen=True)
class Input:
    """Where rows come from. path: None is standard input. format_name: one of STREAM_FORMATS, json or parquet."""

    name: str
    path: Path | None
    format_name: str

    @classmethod
    def find(cls, source: str, format_name: str | None = None) -> Input:
        """Find the file that a person names, `-` for standard input. Raises DataError if there is none.

        format_name: how to read it; by default as its suffix says, standard input and .txt line by line.
        """
        if format_name not in (None, *STREAM_FORMATS):
            raise ConfigError(f"input format {format_name!r}: expected one of {', '.join(STREAM_FORMATS)}")
        if source == STANDARD_INPUT:
            return cls("standard input", None, format_name or LINES)
        path = Path(source)
        if path.is_dir() or not path.exists():
            what = (
                "a directory; give one file" if path.is_dir() else "no such file; give a file, or - for standard input"
            )
            raise DataError(f"{source}: {what}")
        known = {suffix: suffix.removeprefix(".") for suffix in SUFFIXES} | {".txt": LINES}
        if format_name is None and path.suffix not in known:
            raise DataError(
                f"{source}: unknown kind of file; expected one of {', '.join(known)}, or say which with --input-format"
            )
        return cls(source, path, format_name or known[path.suffix])

    @property
    def is_terminal(self) -> bool:
        """Whether a person types the rows, and waits for an answer to each."""
        return self.path is None and sys.stdin.isatty()

    def rows(self, columns: Sequence[str], *, quoting: str, keep_empty: bool) -> Iterator[TextRow | WrongRow]:
        """Yield every row in order, with its texts.

        columns: those of the texts. quoting: see `data.quoting`; keep_empty: whether an empty text is a text.
        Raises DataError where the input cannot be read on, or lacks a column altogether.
        """
        try:
            if self.format_name in _WITH_HEADER and self.path is not None and self.path.stat().st_size == 0:
                raise DataError(f"{self.name}: holds nothing; expected a header and rows")
            is_checked = self.format_name not in _WITH_HEADER
            for number, row in enumerate(self._scan(columns, quoting)):
                if isinstance(row, Row) and not is_checked:
                    is_checked = True
                    for column in columns:
                        require_column(column, list(column_paths(row.values)), self.name, "text")
                yield _with_texts(number, row, columns, keep_empty=keep_empty)
        except FormatError as error:
            remedy = hint(self.format_name, quoting) if error.remedy is None else error.remedy
            raise DataError(f"{self.name}: {error}{remedy}") from None
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read: {error.strerror or error}") from None

    def where(self, wrong: WrongRow) -> str:
        """Say where a row stands."""
        return f"{self.name}: {place(wrong.row.line, wrong.number)}"

    def mending(self, row: BadRow, quoting: str) -> str:
        """Say how a row that breaks the format is mended."""
        if row.problem == NOT_UTF8:
            return RECODE
        return hint(self.format_name, "minimal" if quoting == "auto" else quoting)

    def _scan(self, columns: Sequence[str], quoting: str) -> Iterator[Row | BadRow]:
        if self.path is not None:
            if self.format_name == TSV and self.path.is_file():  # a pipe cannot be read twice
                quoting = resolved_quoting(self.path, quoting)
            if self.format_name in (self.path.suffix.removeprefix("."), "json", "parquet"):
                yield from scan_file(self.path, quoting)
                return
        stream = sys.stdin.buffer if self.path is None else self.path.open("rb")
        newline = "\n" if self.format_name == JSONL else ""
        text = TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline=newline)
        try:
            yield from scan(text, self.format_name, quoting=quoting, columns=columns)
        finally:
            text.detach()  # closing it would close standard input
            if self.path is not None:
                stream.close()


def _with_texts(number: int, row: Row | BadRow, columns: Sequence[str], *, keep_empty: bool) -> TextRow | WrongRow:
    if isinstance(row, BadRow):
        return WrongRow(number, row)
    texts = {}
    for column in columns:
        try:
            text = cell(row, column)
        except ValueError as error:
            return WrongRow(number, BadRow(row.line, str(error), row.values))
        if is_empty(text) and not keep_empty:
            return WrongRow(number, BadRow(row.line, f"column {column!r} is empty", row.values))
        texts[column] = text or ""
    return TextRow(number, row.line, row.values, texts)


def windows(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield consecutive items, `size` at a time; the last window may be short."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window
