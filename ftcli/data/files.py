"""Files of rows: csv, tsv, json, jsonl and parquet, read strictly and with the physical line of every row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ftcli.data.formats import (
    CSV,
    JSONL,
    NOT_UTF8,
    RECODE,
    RECODE_UTF16,
    TSV,
    BadRow,
    FormatError,
    Row,
    checked_object,
    column_paths,
    parse_json,
    scan,
)
from ftcli.errors import DataError, list_problems

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
_MAX_PROBLEMS = 5


def column_names(path: Path, quoting: str) -> tuple[str, ...]:
    """Return the columns of a file. Raises DataError for a file without rows."""
    if path.suffix == ".parquet":
        table = _parquet(path)
        if table.metadata.num_rows:
            return tuple(table.schema_arrow.names)
        what = "columns and no row"
    else:
        first = next(read_rows(path, quoting), None)
        if first is not None:
            return tuple(column_paths(first.values))
        what = "only a header" if path.suffix in (".csv", ".tsv") and path.stat().st_size else "nothing"
    raise DataError(f"{path}: holds {what}; expected rows. Check data.path or data.files")


def read_rows(path: Path, quoting: str) -> Iterator[Row]:
    """Yield the rows of a file in order. quoting: for csv and tsv, see `data.quoting`.

    Raises DataError with the file and the physical lines of whatever breaks the format.
    """
    if path.suffix != ".parquet":
        _check_utf8(path)
    problems: list[str] = []
    remedy: str | None = None
    quoting = resolved_quoting(path, quoting)
    try:
        for row in scan_file(path, quoting):
            if isinstance(row, Row):
                yield row
                continue
            problems.append(f"{place(row.line, 0)}: {row.problem}")
            if len(problems) == _MAX_PROBLEMS:
                break
    except FormatError as error:
        problems.append(str(error))
        remedy = error.remedy
    if problems:
        remedy = hint(path.suffix.removeprefix("."), quoting) if remedy is None else remedy
        raise DataError(list_problems(str(path), problems) + remedy)


def scan_file(path: Path, quoting: str) -> Iterator[Row | BadRow]:
    """Yield the rows of a file in order, good and bad, never more than one batch in memory but for a JSON array.

    quoting: resolved. Raises FormatError for what makes the rest unreadable.
    """
    if path.suffix == ".parquet":
        yield from _scan_parquet(path)
    elif path.suffix == ".json" and _starts_with_bracket(path):
        yield from _scan_json_array(path)
    else:
        kind = {".csv": CSV, ".tsv": TSV}.get(path.suffix, JSONL)
        newline = "\n" if kind == JSONL else ""
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as stream:
            yield from scan(stream, kind, quoting=quoting)


def resolved_quoting(path: Path, quoting: str) -> str:
    """Settle what `auto` means for a file: minimal, or none for a tsv whose quotes do not pair."""
    if quoting != "auto":
        return quoting
    return "none" if path.suffix == ".tsv" and not _quotes_pair(path) else "minimal"


def hint(format_name: str, quoting: str) -> str:
    """Say how rows that break a format are mended."""
    if format_name == "json":
        return ". Write one object a line, or an array of objects"
    if format_name not in (CSV, TSV):
        return ""
    if quoting == "none":
        return ". Correct the file, or set data.quoting=minimal if its cells are quoted"
    name, other = "commas", ""
    if format_name == TSV:
        name, other = "tabs", ", or set data.quoting=none if its quotes are plain text"
    return f'. Quote cells that hold {name}, line breaks or quotes, and double quotes inside them (""){other}'


def _quotes_pair(path: Path) -> bool:
    """Whether a tsv uses quotes as csv does: in every line, a cell that opens with a quote ends with one."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for text in file:
            if '"' not in text:
                continue
            for cell in text.rstrip("\r\n").split("\t"):
                inner = cell[1:-1]
                if cell.startswith('"') and (len(cell) < 2 or not cell.endswith('"') or '"' in inner.replace('""', "")):
                    return False
    return True


def _scan_json_array(path: Path) -> Iterator[Row]:
    try:
        rows = parse_json(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise FormatError(f"line {error.lineno}: not JSON: {error.msg} at column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"byte {error.start}: {NOT_UTF8}", RECODE) from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from None
    for index, value in enumerate(rows):
        try:
            yield Row(0, checked_object(value))
        except ValueError as error:
            raise FormatError(f"row {index}: {error}") from None


def _starts_with_bracket(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        return file.read(4096).lstrip().startswith("[")


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a parquet file: {error}") from None


def _scan_parquet(path: Path) -> Iterator[Row]:
    for batch in _parquet(path).iter_batches(batch_size=1024):
        for values in batch.to_pylist():
            yield Row(0, values)


def parquet_class_names(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the class names that the datasets library stores in a parquet file, by column."""
    metadata = (_parquet(path).schema_arrow.metadata or {}).get(b"huggingface")
    if metadata is None:
        return {}
    features = json.loads(metadata).get("info", {}).get("features", {})
    return {
        name: tuple(feature["names"])
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }


def _check_utf8(path: Path) -> None:
    """Raise DataError with the byte of the first thing that is not UTF-8."""
    position = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(f"{path}: is UTF-16; expected UTF-8{RECODE_UTF16}")
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                where = f"{path}: line {number}, byte {position + error.start}"
                raise DataError(f"{where}: {NOT_UTF8}{RECODE}") from None
            position += len(line)


def places(path: Path, quoting: str, indices: Sequence[int]) -> list[str]:
    """Say where some rows stand, by reading the file again: only an error asks for it."""
    wanted = set(indices)
    lines = {index: row.line for index, row in enumerate(read_rows(path, quoting)) if index in wanted}
    return [place(lines.get(index, 0), index) for index in indices]


def place(line: int, index: int) -> str:
    """Say where a row stands: its line, or where there are no lines its number, from 0."""
    return f"line {line}" if line else f"row {index}"
