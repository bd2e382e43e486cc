"""From rows to features: tokenized once, kept in contiguous arrays, and cached under a stable fingerprint."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ftcli.data.rows import SplitRows
from ftcli.data.sources import cache_directory, cannot_cache
from ftcli.errors import DataError
from ftcli.tasks.base import Encoded, Field, LabelSet, Task
from ftcli.tasks.tokenization import Tokenization

ROWS_AT_ONCE = 1000
# Raise it when the same rows and settings would give other features.
_PREPARATION_VERSION = 2


@dataclass(frozen=True)
class Ragged:
    """F sequences of different lengths in one array: sequence i is values[offsets[i]:offsets[i + 1]]."""

    values: np.ndarray
    offsets: np.ndarray

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """(F,) the length of each sequence."""
        return np.diff(self.offsets)

    def take(self, indices: np.ndarray) -> Ragged:
        """Return some of the sequences, in the order of the indices."""
        parts = [self[index] for index in indices]
        return Ragged(np.concatenate(parts), np.cumsum([0, *map(len, parts)]))


@dataclass(frozen=True)
class Features:
    """The F encoded inputs of a split.

    columns: name -> Ragged for a per-token field, (F,) array otherwise. rows: (F,) the row of each feature, by its
    number in the source.
    lengths: (F,) tokens. truncated: (F,) whether tokens were lost. num_rows: rows of the split.
    """

    columns: Mapping[str, Ragged | np.ndarray]
    rows: np.ndarray
    truncated: np.ndarray
    num_rows: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """(F,) tokens a feature."""
        ids = self.columns["input_ids"]
        assert isinstance(ids, Ragged)
        return ids.lengths

    def take(self, indices: np.ndarray) -> Features:
        """Return some of the features, in the order of the indices."""
        columns = {
            name: column.take(indices) if isinstance(column, Ragged) else column[indices]
            for name, column in self.columns.items()
        }
        return Features(columns, self.rows[indices], self.truncated[indices], len(np.unique(self.rows[indices])))


@dataclass(frozen=True)
class PreparedSplit:
    """A split ready for batches, and the rows that it came from."""

    name: str
    rows: SplitRows
    features: Features


def input_fields(tokenization: Tokenization) -> dict[str, Field]:
    """Return the fields that the model sees, with padding: what the tokenizer gives and the model takes."""
    pads = {"input_ids": tokenization.tokenizer.pad_token_id}
    names = [name for name in tokenization.tokenizer.model_input_names if name != "attention_mask"]
    return {name: Field(pad=pads.get(name, 0)) for name in names if name in tokenization.accepts}


def prepare(rows: SplitRows, task: Task, labels: LabelSet, tokenization: Tokenization) -> PreparedSplit:
    """Encode a split, or take the features from the cache.

    One process does the work while others wait for its lock, so this may run in every process, before or
    after the process group exists. Raises DataError for answers that do not fit the labels.
    """
    answers = task.answers(rows, labels)
    fields = {**input_fields(tokenization), **task.target_fields}
    folder = cache_directory() / "features" / _fingerprint(rows, task, labels, tokenization)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.exists():
                aside = folder.with_suffix(".partial")
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir()
                _encode_into(aside, rows, answers, task, labels, tokenization, fields)
                aside.rename(folder)
    except OSError as error:
        raise cannot_cache(error) from None
    return PreparedSplit(rows.split, rows, _open(folder, fields, len(rows)))


def encode_texts(
    texts: Mapping[str, Sequence[str]], task: Task, labels: LabelSet, tokenization: Tokenization
) -> Features:
    """Encode N rows that have texts and no answers: what predicting needs, kept in memory."""
    encoded = task.encode(texts, labels, tokenization)
    fields = input_fields(tokenization)
    arrays = _arrays(encoded, fields)
    columns = _columns(arrays.__getitem__, fields)
    return Features(columns, arrays["rows"], arrays["truncated"], num_rows=len(next(iter(texts.values()))))


def _encode_into(
    folder: Path,
    rows: SplitRows,
    answers: Mapping[str, Sequence[Any]],
    task: Task,
    labels: LabelSet,
    tokenization: Tokenization,
    fields: Mapping[str, Field],
) -> None:
    """Encode a split by and by, and save its arrays."""
    parts: dict[str, list[np.ndarray]] = {}
    for first, batch in rows.batches(ROWS_AT_ONCE):
        size = len(next(iter(batch.values())))
        texts = {name: ["" if text is None else text for text in batch[name]] for name in task.text_columns}
        here = {name: values[first : first + size] for name, values in answers.items()}
        arrays = _arrays(task.encode({**batch, **texts, **here}, labels, tokenization), fields)
        arrays["rows"] = rows.source_numbers[arrays["rows"] + first]
        for name, array in arrays.items():
            before = parts.setdefault(name, [])
            # Offsets count on from where the last batch ended, whose end is this one's beginning.
            before.append(array[1:] + before[-1][-1] if name.endswith(".offsets") and before else array)
    for name, arrays_of_name in parts.items():
        np.save(folder / f"{name}.npy", np.concatenate(arrays_of_name), allow_pickle=False)


def _arrays(encoded: Encoded, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
    """Return the columns of some features as arrays: a per-token one end to end, with its offsets."""
    arrays = {"rows": np.asarray(encoded.rows, "int64"), "truncated": np.asarray(encoded.truncated, "bool")}
    for name, field in fields.items():
        column = encoded.columns[name]
        dtype = "int32" if field.dtype == "int64" else field.dtype
        if field.per_token:
            lengths = np.fromiter(map(len, column), "int64", len(column))
            if not np.array_equal(lengths, [len(ids) for ids in encoded.columns["input_ids"]]):
                raise RuntimeError(f"the task gives {name} another number of values than tokens")
            arrays[f"{name}.offsets"] = np.concatenate([[0], np.cumsum(lengths)])
            column = [value for values in column for value in values]
        arrays[name] = np.asarray(column, dtype)
    return arrays


def _open(folder: Path, fields: Mapping[str, Field], num_rows: int) -> Features:
    def load(name: str) -> np.ndarray:
        array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array

    columns = _columns(load, fields)
    return Features(columns, load("rows"), load("truncated"), num_rows)


def _columns(load: Callable[[str], np.ndarray], fields: Mapping[str, Field]) -> dict[str, Ragged | np.ndarray]:
    """Put the arrays that `_arrays` makes together again, wherever they are kept."""
    return {
        name: Ragged(load(name), load(f"{name}.offsets")) if field.per_token else load(name)
        for name, field in fields.items()
    }


def _fingerprint(rows: SplitRows, task: Task, labels: LabelSet, tokenization: Tokenization) -> str:
    """Hash all that decides the features: content, columns, labels, tokenizer, limits and versions."""
    import tokenizers

    tokenizer = tokenization.tokenizer
    parts = {
        "version": _PREPARATION_VERSION,
        "rows": rows.fingerprint,
        "task": task.name,
        "columns": task.columns.model_dump(mode="json"),
        "labels": labels.names,
        "tokenizer": hashlib.sha256(bare(tokenizer).encode()).hexdigest(),
        "inputs": sorted(name for name in tokenizer.model_input_names if name in tokenization.accepts),
        "special": [tokenizer.pad_token_id, tokenizer.padding_side, tokenizer.truncation_side],
        "max_length": tokenization.max_length,
        "tokenizers": tokenizers.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def bare(tokenizer: Any) -> str:
    """Return the tokenizer as JSON, without the truncation and padding that its last call left in it."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    described.update(truncation=None, padding=None)
    return json.dumps(described, sort_keys=True)


@dataclass(frozen=True)
class SplitStatistics:
    """What there is to say about a split: for the header, `inspect-batch` and data.json."""

    num_rows: int
    num_features: int
    num_tokens: int
    truncated_share: float
    length_quantiles: dict[str, int]

    @classmethod
    def of(cls, features: Features) -> SplitStatistics:
        """Count. Raises DataError for a split without features."""
        if not len(features):
            raise DataError("the split has no rows")
        marks = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
        lengths = np.asarray(features.lengths)
        return cls(
            num_rows=features.num_rows,
            num_features=len(features),
            num_tokens=int(lengths.sum()),
            truncated_share=float(features.truncated.mean()),
            length_quantiles={name: int(np.quantile(lengths, q, method="lower")) for name, q in marks.items()},
        )


def label_counts(features: Features, labels: LabelSet) -> dict[str, int]:
    """Count how often each label occurs; targets that are padded per token count by token."""
    targets = features.columns["labels"]
    values = targets.values if isinstance(targets, Ragged) else targets
    counted = np.bincount(values[values >= 0], minlength=len(labels))
    return dict(zip(labels.names, map(int, counted), strict=True))
