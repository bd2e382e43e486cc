"""Files of rows: csv, tsv, json, jsonl and parquet, read strictly and with the physical line of every row.

Text stays text: "NA", "null" and "007" are what they say. A file that breaks its own format is an error with
the line, never a shifted column or a swallowed row.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ftcli.errors import DataError, list_problems

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
_MAX_PROBLEMS = 5


class Row(NamedTuple):
    """One row of a file: the physical line where it starts (0 where there are no lines), and its values."""

    line: int
    values: dict[str, Any]


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
            return tuple(first.values)
        what = "only a header" if path.suffix in (".csv", ".tsv") and path.stat().st_size else "nothing"
    raise DataError(f"{path}: holds {what}; expected rows. Check data.path or data.files")


def read_rows(path: Path, quoting: str) -> Iterator[Row]:
    """Yield the rows of a file in order. quoting: for csv and tsv, see `data.quoting`.

    Raises DataError with the file and the physical line of whatever breaks the format.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    _check_utf8(path)
    if path.suffix in (".csv", ".tsv"):
        return _read_delimited(path, quoting)
    if path.suffix == ".jsonl" or not _starts_with_bracket(path):
        return _read_json_lines(path)
    return _read_json_array(path)


def _read_delimited(path: Path, quoting: str) -> Iterator[Row]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    if quoting == "auto":
        quoting = "none" if delimiter == "\t" and not _quotes_pair(path) else "minimal"
    csv.field_size_limit(sys.maxsize)
    problems: list[str] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        # Without strict mode a stray quote would swallow what follows it.
        reader = csv.reader(
            file,
            delimiter=delimiter,
            strict=True,
            quoting=csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL,
        )
        header: list[str] | None = None
        line = 1
        try:
            for cells in reader:
                start, line = line, reader.line_num + 1
                if not cells and (header is None or len(header) > 1):
                    continue  # a blank line is neither header nor row
                if header is None:
                    header = _checked_header(path, start, cells)
                elif len(cells) == len(header):
                    yield Row(start, dict(zip(header, cells, strict=True)))
                elif not cells:
                    yield Row(start, {header[0]: ""})
                else:
                    problems.append(f"line {start}: {len(cells)} cells; the header has {len(header)}")
                    if len(problems) == _MAX_PROBLEMS:
                        break
        except csv.Error as error:
            problems.append(_explain_csv(error, line, delimiter))
    if problems:
        raise DataError(list_problems(str(path), problems) + _quoting_hint(delimiter, quoting))


def _checked_header(path: Path, line: int, cells: list[str]) -> list[str]:
    twice = sorted({cell for cell in cells if cells.count(cell) > 1})
    if twice:
        raise DataError(f"{path}: line {line}: the column {twice[0]!r} stands twice; rename one")
    return cells


def _explain_csv(error: csv.Error, line: int, delimiter: str) -> str:
    if "unexpected end of data" in str(error):
        return f"line {line}: a quote opens and never closes"
    if "expected after" in str(error):
        name = "tab" if delimiter == "\t" else "comma"
        return f"line {line}: a quote closes in the middle of a cell; expected a {name} behind it"
    return f"line {line}: {error}"


def _quoting_hint(delimiter: str, quoting: str) -> str:
    if quoting == "none":
        return ". Correct the file, or set data.quoting=minimal if its cells are quoted"
    name, other = "commas", ""
    if delimiter == "\t":
        name, other = "tabs", ", or set data.quoting=none if its quotes are plain text"
    return f'. Quote cells that hold {name}, line breaks or quotes, and double quotes inside them (""){other}'


def _quotes_pair(path: Path) -> bool:
    """Whether a tsv uses quotes as csv does: in every line, a cell that opens with a quote ends with one."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for text in file:
            if '"' not in text:
                continue
            for cell in text.rstrip("\r\n").split("\t"):
                inner = cell[1:-1]
                if cell.startswith('"') and (len(cell) < 2 or not cell.endswith('"') or '"' in inner.replace('""', "")):
                    return False
    return True


def _read_json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, text in enumerate(file, start=1):
            if text.strip():
                yield Row(number, _json_object(path, number, text.rstrip()))


def _json_object(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        value = _parse_json(text)
    except json.JSONDecodeError as error:
        expected = "one object a line" + (", or an array of objects" if path.suffix == ".json" else "")
        raise DataError(
            f"{path}: line {number}: not JSON: {error.msg} at column {error.colno}; expected {expected}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: line {number}: not JSON: {error}") from None
    return _checked_object(value, f"{path}: line {number}")


def _read_json_array(path: Path) -> Iterator[Row]:
    try:
        rows = _parse_json(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {error.lineno}: not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    for index, value in enumerate(rows):
        yield Row(0, _checked_object(value, f"{path}: row {index}"))


def _parse_json(text: str) -> Any:
    """Read JSON; fractions keep the digits that are written, as the cells of a csv do."""
    return json.loads(text, parse_float=str, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value; write null or a text")


def _checked_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        found = json.dumps(value)[:40]
        raise DataError(f'{where}: expected an object such as {{"text": …}}, found {found}')
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: half of a surrogate pair; write the character itself") from None
    return value


def _starts_with_bracket(path: Path) -> bool:
    with path.open(encoding="utf-8-sig") as file:
        return file.read(4096).lstrip().startswith("[")


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a parquet file: {error}") from None


def _read_parquet(path: Path) -> Iterator[Row]:
    for batch in _parquet(path).iter_batches():
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
                raise DataError(f"{path}: is UTF-16; expected UTF-8. Convert it: iconv -f UTF-16 -t UTF-8")
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}: line {number}, byte {position + error.start}: not UTF-8. "
                    "Convert it, for example: iconv -f LATIN1 -t UTF-8"
                ) from None
            position += len(line)


def places(path: Path, quoting: str, indices: Sequence[int]) -> list[str]:
    """Say where some rows stand, by reading the file again: only an error asks for it."""
    wanted = set(indices)
    lines = {index: row.line for index, row in enumerate(read_rows(path, quoting)) if index in wanted}
    return [place(lines.get(index, 0), index) for index in indices]


def place(line: int, index: int) -> str:
    """Say where a row stands: its line, or where there are no lines its number, from 0."""
    return f"line {line}" if line else f"row {index}"
