"""The formats of rows, read line by line from an open text: csv, tsv, JSON lines, and plain lines.

Text stays text: "NA", "null" and "007" are what they say. A row that breaks its format comes as a BadRow in its
place, never as shifted columns or swallowed rows: some readers stop at it, others set it aside.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

LINES, CSV, TSV, JSONL = "lines", "csv", "tsv", "jsonl"
NOT_UTF8 = "not UTF-8"
RECODE = ". Convert it, for example: iconv -f LATIN1 -t UTF-8"
RECODE_UTF16 = ". Convert it: iconv -f UTF-16 -t UTF-8"
# A cell that is longer is a quote that never closes.
_MAX_CELL = 2**27


class Row(NamedTuple):
    """One row: the physical line where it starts (0 where there are no lines), and its values."""

    line: int
    values: dict[str, Any]


class BadRow(NamedTuple):
    """What stands where a row should: the physical line where it starts, what is wrong, and what is written there.

    content: the text of a row that cannot be read, the values of one that can.
    """

    line: int
    problem: str
    content: str | dict[str, Any]


class FormatError(Exception):
    """Nothing that follows can be read. remedy: what to do; None leaves it to who knows the file."""

    def __init__(self, problem: str, remedy: str | None = None) -> None:
        super().__init__(problem)
        self.remedy = remedy


def scan(
    stream: Iterable[str], format_name: str, *, quoting: str = "minimal", columns: Sequence[str] = ()
) -> Iterator[Row | BadRow]:
    """Yield the rows of a text in order, good and bad.

    stream: physical lines with their ends; bytes that are no UTF-8 as surrogates (errors="surrogateescape").
    quoting: minimal or none, for csv and tsv. columns: what plain lines hold, several separated by tabs.
    Raises FormatError with the line of what makes the rest unreadable.
    """
    lines = _Lines(stream)
    if format_name in (CSV, TSV):
        rows = _scan_delimited(lines, "\t" if format_name == TSV else ",", quoting)
    elif format_name == JSONL:
        rows = _scan_json_lines(lines)
    else:
        rows = _scan_lines(lines, columns)
    for row in rows:
        text = lines.take()
        yield row if _is_utf8(text) else BadRow(row.line, NOT_UTF8, _readable(text))


class _Lines:
    """The lines of a stream, which remembers those of the row that is being read."""

    def __init__(self, stream: Iterable[str]) -> None:
        self.stream = iter(stream)
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self.stream)
        self.taken.append(line)
        return line

    def take(self) -> str:
        """Return the text since the last call."""
        text = "".join(self.taken)
        self.taken.clear()
        return text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _readable(text: str) -> str:
    """Put a replacement for what is no UTF-8."""
    return text.rstrip("\r\n").encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _scan_lines(lines: _Lines, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    for number, text in enumerate(lines, start=1):
        line = text.rstrip("\r\n")
        cells = [line] if len(columns) == 1 else line.split("\t")
        if len(cells) == len(columns):
            yield Row(number, dict(zip(columns, cells, strict=True)))
        else:
            wanted = f"{len(columns)} texts separated by tabs ({', '.join(columns)})"
            yield BadRow(number, f"{len(cells)} texts; expected {wanted}", line)


def _scan_delimited(lines: _Lines, delimiter: str, quoting: str) -> Iterator[Row | BadRow]:
    csv.field_size_limit(_MAX_CELL)
    # Without strict mode a stray quote would swallow what follows it.
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        strict=True,
        quoting=csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL,
    )
    header: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem, text = _explain_csv(error, line, delimiter), "".join(lines.taken).rstrip("\r\n")
            if header is None or text.count('"') % 2:
                # Where a quote stays open nobody knows where the row ends, and what follows would be made up.
                raise FormatError(f"line {line}: {problem}") from None
            yield BadRow(line, problem, text)
            line = reader.line_num + 1
            continue
        start, line = line, reader.line_num + 1
        if not cells and (header is None or len(header) > 1):
            lines.take()  # a blank line is neither header nor row
        elif header is None:
            header = _checked_header(start, cells, delimiter)
            lines.take()
        elif len(cells) == len(header):
            yield Row(start, dict(zip(header, cells, strict=True)))
        elif not cells:
            yield Row(start, {header[0]: ""})
        else:
            problem = f"{len(cells)} cells; the header has {len(header)}"
            yield BadRow(start, problem, "".join(lines.taken).rstrip("\r\n"))


def _checked_header(line: int, cells: list[str], delimiter: str) -> list[str]:
    if cells[0].startswith(("\udcff\udcfe", "\udcfe\udcff")):
        raise FormatError("is UTF-16; expected UTF-8", RECODE_UTF16)
    if not _is_utf8("".join(cells)):
        raise FormatError(f"line {line}: {NOT_UTF8}", RECODE)
    other = next((mark for mark in ";\t|" if len(cells) == 1 and mark in cells[0] and mark != delimiter), None)
    if other is not None:
        expected = "commas" if delimiter == "," else "tabs"
        remedy = ". Write it so, for example with pandas: read_csv(FILE, sep=SEPARATOR).to_csv(NEW, index=False)"
        raise FormatError(f"line {line}: {other!r} separates the cells; expected {expected}", remedy)
    twice = sorted({cell for cell in cells if cells.count(cell) > 1})
    if twice:
        raise FormatError(f"line {line}: the column {twice[0]!r} stands twice; rename one", "")
    return cells


def _explain_csv(error: csv.Error, line: int, delimiter: str) -> str:
    """Say what is wrong with a row. Raises FormatError for an open quote: it may have swallowed any number of rows."""
    if "unexpected end of data" in str(error) or "field larger" in str(error):
        raise FormatError(f"line {line}: a quote opens and never closes") from None
    if "expected after" in str(error):
        name = "tab" if delimiter == "\t" else "comma"
        return f"a quote closes in the middle of a cell; expected a {name} behind it"
    return str(error)


def _scan_json_lines(lines: _Lines) -> Iterator[Row | BadRow]:
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            lines.take()
            continue
        try:
            yield Row(number, json_object(text.rstrip()))
        except ValueError as error:
            yield BadRow(number, str(error), text.rstrip())


def json_object(text: str) -> dict[str, Any]:
    """Read one JSON object. Raises ValueError that says what is wrong with it."""
    try:
        value = parse_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}; expected one object a line") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    return checked_object(value)


def checked_object(value: Any) -> dict[str, Any]:
    """Return a JSON value that is an object of whole characters. Raises ValueError for any other."""
    if not isinstance(value, dict):
        raise ValueError(f'expected an object such as {{"text": …}}, found {json.dumps(value)[:40]}')
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair; write the character itself") from None
    return value


class WrittenNumber(float):
    """A fraction that, as a text, has the digits that were written, as the cells of a csv do."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def parse_json(text: str) -> Any:
    """Read JSON; fractions know how they were written."""
    return json.loads(text, parse_float=WrittenNumber, parse_constant=_refuse_constant)


def column_paths(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names by which `cell` finds the values of a row: a field of an object inside it has a dotted name."""
    for name, value in values.items():
        yield name
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in column_paths(value))


def cell(row: Row, name: str) -> str | None:
    """Return a value of a row as the text it is. Raises ValueError if there is none."""
    try:
        value = _value_at(row.values, name)
    except KeyError:
        raise ValueError(f"no {name!r}; every row needs it") from None
    try:
        return as_text(value)
    except ValueError as error:
        raise ValueError(f"column {name!r} {error}") from None


def _value_at(values: Mapping[str, Any], name: str) -> Any:
    if name in values:
        return values[name]
    for end in (index for index, character in enumerate(name) if character == "."):
        inner = values.get(name[:end])
        if isinstance(inner, dict):
            return _value_at(inner, name[end + 1 :])
    raise KeyError(name)


def as_text(value: Any) -> str | None:
    """Keep what a cell says: JSON's numbers and truth values as they are written there.

    Raises ValueError for a value that is not one text, such as a list.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple | dict | bytes):
        raise ValueError(f"holds {type(value).__name__}; expected text, one value a row")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value; write null or a text")
