"""The rows that `predict` writes: JSON lines, csv or tsv, to a file that is whole or absent, or to standard output."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from ftcli.console import to_json
from ftcli.data.formats import BadRow
from ftcli.durable import explained, whole_file
from ftcli.errors import ConfigError, RunError

OUTPUT_SUFFIXES = (".jsonl", ".csv", ".tsv")
# Where a prediction keeps the probabilities of the labels, by name.
_PROBABILITIES = "probabilities"


@dataclass(frozen=True)
class Output:
    """Where predictions go. path: None is standard output. top_k: only the most probable labels, best first."""

    path: Path | None
    top_k: int | None = None

    @classmethod
    def find(cls, target: str | None, source: Path | None, top_k: int | None = None) -> Output:
        """Check that a target can be written, and is not the source. Raises ConfigError or RunError if not."""
        if top_k is not None and top_k < 1:
            raise ConfigError(f"top_k {top_k}: expected 1 or more labels")
        if target is None or target == "-":
            return cls(None, top_k)
        path = Path(target)
        if path.suffix not in OUTPUT_SUFFIXES:
            raise ConfigError(f"{target}: unknown kind of output; expected one of {', '.join(OUTPUT_SUFFIXES)}")
        if path.is_dir() or not path.parent.is_dir():
            what = "a directory; name a file" if path.is_dir() else f"no directory {path.parent}; make it first"
            raise ConfigError(f"{target}: {what}")
        if source is not None and path.exists() and path.samefile(source):
            raise ConfigError(f"{target}: is the input; name another file")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise RunError(f"{target}: {path.parent} is read-only for this user; name another place")
        return cls(path, top_k)

    @property
    def name(self) -> str:
        """What to call it."""
        return "standard output" if self.path is None else str(self.path)

    @contextmanager
    def open(self) -> Iterator[RowWriter]:
        """Open the target; a file appears when all went well, and not at all otherwise. Raises RunError."""
        if self.path is None:
            # JSON is UTF-8, whatever the terminal's locale.
            if isinstance(sys.stdout, TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8")
            yield RowWriter(sys.stdout, ".jsonl", self.top_k)
            return
        with whole_file(self.path, _cannot_write) as file:
            yield RowWriter(file, self.path.suffix, self.top_k)


def _cannot_write(path: Path, error: Exception) -> RunError:
    reason = getattr(error, "strerror", None) or error
    return RunError(f"{path}: cannot be written: {reason}. Free space, or name another place")


class RowDoesNotFitError(Exception):
    """A row cannot be written beside the others; the message says why. is_about_columns: none of its kind can."""

    def __init__(self, message: str, *, is_about_columns: bool = False) -> None:
        super().__init__(message)
        self.is_about_columns = is_about_columns


class RowWriter:
    """Writes rows with their predictions, in the columns of the first row."""

    def __init__(self, file: TextIO, suffix: str, top_k: int | None) -> None:
        self.file, self.suffix, self.top_k = file, suffix, top_k
        self.header: list[str] | None = None
        self.table = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")

    def write(self, values: Mapping[str, Any], prediction: Mapping[str, Any]) -> None:
        """Write the columns of a row, and what was predicted for it.

        Raises RowDoesNotFitError for a row whose own columns are called as a prediction's, or do not fit the header.
        """
        best = {**prediction, _PROBABILITIES: _best(prediction[_PROBABILITIES], self.top_k)}
        columns = best if self.suffix == ".jsonl" else _flat(best, ranked=self.top_k is not None)
        taken = [name for name in values if name in columns]
        if taken:
            message = f"a column is called {taken[0]!r}, as one of the prediction is; rename it"
            raise RowDoesNotFitError(message, is_about_columns=True)
        row = {**values, **columns}
        if self.suffix == ".jsonl":
            self.file.write(to_json({name: _plain(value) for name, value in row.items()}) + "\n")
        else:
            self._write_cells(row)

    def _write_cells(self, row: Mapping[str, Any]) -> None:
        if self.header is None:
            self.header = list(row)
            self.table.writerow(self.header)
        new = [name for name in row if name not in self.header]
        if new:
            raise RowDoesNotFitError(
                f"column {new[0]!r} is not in the first row, which makes the header; write to a .jsonl"
            )
        self.table.writerow([_cell(row.get(name)) for name in self.header])

    def flush(self) -> None:
        """Hand on what was written: whoever reads a pipe waits for it."""
        self.file.flush()


class SetAside:
    """The file of the rows that could not be predicted: JSON lines with the line, what is wrong, and the row itself."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self._file = path, file
        self.num_rows = 0

    @staticmethod
    def path_beside(output: Output) -> Path:
        """Choose its place: beside the output, or for standard output in the working directory."""
        name = "predict" if output.path is None else str(output.path)
        return Path(f"{name}.errors.jsonl")

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[SetAside]:
        """Be ready to take rows in. At the end, if all went well, the file of an earlier run gives way."""
        with whole_file(path, _cannot_write) as file:
            aside = cls(path, file)
            yield aside
        if not aside.num_rows:
            path.unlink()

    def write(self, number: int, row: BadRow) -> None:
        """Add a row."""
        self.num_rows += 1
        content = "row" if isinstance(row.content, dict) else "text"
        record = {"line": row.line or None, "number": number, "error": row.problem, content: _plain(row.content)}
        with explained(self.path, _cannot_write):
            self._file.write(to_json(record) + "\n")


def _best(probabilities: Mapping[str, float], top_k: int | None) -> dict[str, float]:
    if top_k is None:
        return dict(probabilities)
    return dict(sorted(probabilities.items(), key=lambda item: -item[1])[:top_k])


def _flat(prediction: Mapping[str, Any], *, ranked: bool) -> dict[str, Any]:
    """Give every probability a column: one a label, or with `ranked` label and probability by rank."""
    columns = {name: value for name, value in prediction.items() if name != _PROBABILITIES}
    probabilities = prediction[_PROBABILITIES]
    if not ranked:
        return {**columns, **{f"probability_{name}": value for name, value in probabilities.items()}}
    for rank, (name, value) in enumerate(probabilities.items(), start=1):
        suffix = "" if rank == 1 else f"_{rank}"
        columns |= {f"predicted{suffix}": name, f"probability{suffix}": value}
    return columns


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; dates and the like of a parquet file as text."""
    if value is None or isinstance(value, str | int | float):
        return value
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return json.loads(json.dumps(value, default=str)) if isinstance(value, dict | list) else str(value)
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json.dumps(_plain(value), ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)
