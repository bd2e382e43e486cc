"""The rows of a split: where they stand, which of them count, and how a split is cut in two."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from ftcli.config.schema import DataSection
from ftcli.data import files
from ftcli.errors import DataError, list_problems
from ftcli.tasks.base import Task, is_missing


@dataclass(frozen=True)
class SplitRows:
    """The rows of one split, with the columns that the task asks for.

    dataset: the columns as the datasets library keeps them, memory-mapped. fingerprint: changes with the
    content. file: where rows can be pointed at by line. numbers: which rows of the source these are, where they
    are not all of them. num_left_out: incomplete rows that the config leaves out. cut_from: the split that these
    rows were held out of, or what was left of it. content: the fingerprint of all rows, where these are not all.
    """

    split: str
    source: str
    dataset: Any
    fingerprint: str
    declared: dict[str, tuple[str, ...]]
    file: Path | None = None
    quoting: str = "auto"
    numbers: np.ndarray | None = None
    num_left_out: int = 0
    cut_from: str | None = None
    content: str | None = None

    def __len__(self) -> int:
        return len(self.dataset) if self.numbers is None else len(self.numbers)

    @property
    def held_out_of(self) -> str | None:
        """The split that these rows were held out of; None where they are a split of their own."""
        return None if self.cut_from == self.split else self.cut_from

    @property
    def whole_fingerprint(self) -> str:
        """The fingerprint of all rows of the source, whichever of them these are."""
        return self.content or self.fingerprint

    @property
    def source_numbers(self) -> np.ndarray:
        """(N,) the number of each row in its source, from 0."""
        return np.arange(len(self.dataset)) if self.numbers is None else self.numbers

    def column(self, name: str) -> Sequence[Any]:
        """Return one column, whole."""
        values = self.dataset.data.column(name)
        chosen: Sequence[Any] = (values if self.numbers is None else values.take(self.numbers)).to_pylist()
        return chosen

    def row(self, index: int) -> dict[str, Any]:
        """Return one row."""
        row: dict[str, Any] = self.dataset[int(self.source_numbers[index])]
        return row

    def batches(self, size: int) -> Iterator[tuple[int, dict[str, list[Any]]]]:
        """Yield (first row, columns) for consecutive rows."""
        for first in range(0, len(self), size):
            rows = slice(first, first + size) if self.numbers is None else self.numbers[first : first + size]
            yield first, self.dataset[rows]

    def class_names(self, name: str) -> tuple[str, ...] | None:
        """Return the names that the data declares for a column's integers, if it does."""
        return self.declared.get(name)

    def where(self, indices: Iterable[int]) -> list[str]:
        """Say where rows of the split stand: physical lines of a file, else row numbers that count from 0."""
        return self.places(self.source_numbers[list(indices)].tolist())

    def places(self, numbers: Sequence[int]) -> list[str]:
        """Say where rows stand that are given by their number in the source."""
        if self.file is None:
            return [f"row {number}" for number in numbers]
        return files.places(self.file, self.quoting, numbers)

    def keep(self, mask: np.ndarray, *reasons: object, **changes: Any) -> SplitRows:
        """Return the rows where `mask`, (N,) booleans, is true. reasons: go into the fingerprint."""
        numbers = self.source_numbers[mask]
        fingerprint = digest(self.fingerprint, *reasons)
        return replace(self, numbers=numbers, fingerprint=fingerprint, content=self.whole_fingerprint, **changes)


def task_columns(source: str, present: Sequence[str], task: Task) -> list[str]:
    """Return the columns that a task reads. Raises DataError for one that is not present."""
    names = list(dict.fromkeys((*task.text_columns, *task.answer_columns)))
    for name in names:
        require_column(name, present, source, "text" if name in task.text_columns else "label")
    return names


def require_column(name: str, present: Sequence[str], source: str, role: str) -> None:
    """Raise DataError for a column that is not there. role: the key below data.columns that names it."""
    if name not in present:
        near = get_close_matches(name, present, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{source}: no column {name!r}; found {', '.join(present)}.{hint} Set data.columns.{role}")


def complete_rows(rows: SplitRows, task: Task, data: DataSection) -> SplitRows:
    """Check that the text columns hold texts, and do with incomplete rows what the config says.

    Raises DataError for values that are no texts, and one that lists the empty texts where those are errors. A
    missing answer that is not left out is the task's to report.
    """
    problems: list[str] = []
    left_out = np.zeros(len(rows), bool)
    for name in task.text_columns:
        values = rows.column(name)
        bad = [i for i, value in enumerate(values) if not isinstance(value, str | None)]
        if bad:
            kind = type(values[bad[0]]).__name__
            raise DataError(f"{rows.source}: column {name!r} holds {kind} values; expected text")
        empty = [] if data.empty_text == "keep" else [i for i, value in enumerate(values) if is_empty(value)]
        if data.empty_text == "drop":
            left_out[empty] = True
        elif empty:
            problems += [f"{place}: column {name!r} is empty" for place in rows.where(empty)]
    if problems:
        where = f"{rows.source}, split {rows.split!r}"
        hint = ". Fill in or remove these rows, or set data.empty_text=drop (or keep)"
        raise DataError(list_problems(where, problems) + hint)
    if data.empty_label == "drop":
        for name in task.answer_columns:
            left_out[[i for i, value in enumerate(rows.column(name)) if is_missing(value)]] = True
    if not left_out.any():
        return rows
    if left_out.all():
        raise DataError(f"{rows.source}, split {rows.split!r}: no row has both text and label")
    return rows.keep(~left_out, "complete", data.empty_text, data.empty_label, num_left_out=int(left_out.sum()))


def is_empty(text: str | None) -> bool:
    """Whether a text says nothing."""
    return not (text and text.strip())


def cut_validation(train: SplitRows, task: Task, data: DataSection, split: str) -> SplitRows:
    """Return one side of the cut of `data.validation_fraction`: the held-out rows, or the train rows that stay."""
    assert data.validation_fraction is not None
    held_out = hold_out(task.strata(train), fraction=data.validation_fraction, seed=data.split_seed)
    if not held_out.any():
        num_strata = len(set(task.strata(train)))
        if num_strata > max(20, len(train) / 2):
            raise DataError(
                f"{train.source}: no rows can be held out: {num_strata:,} different labels in {len(train):,} rows, and "
                "one of each has to stay. Check data.columns.label"
            )
        raise DataError(
            f"{train.source}: {len(train)} rows are too few to hold out {data.validation_fraction:.0%} of them; add "
            "rows, or raise data.validation_fraction"
        )
    is_validation = split == data.validation_split
    mask = held_out if is_validation else ~held_out
    reasons = (data.validation_fraction, data.split_seed, is_validation)
    num_left_out = 0 if is_validation else train.num_left_out  # so that each row is counted once
    return train.keep(mask, *reasons, split=split, cut_from=train.split, num_left_out=num_left_out)


def hold_out(strata: Sequence[Hashable], *, fraction: float, seed: int) -> np.ndarray:
    """Choose a share of N rows, of every stratum alike, and never the whole of one.

    strata: (N,) what each row is, such as its label. Returns (N,) booleans, true for round(fraction * N) rows where
    the strata allow it. The odd rows go to the strata with the largest remainders, and among equal ones to the
    larger. A pure function.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, stratum in enumerate(strata):
        members[stratum].append(index)
    groups = [np.asarray(members[stratum]) for stratum in sorted(members, key=str)]
    shares = [fraction * len(group) for group in groups]
    counts = [min(int(share), len(group) - 1) for share, group in zip(shares, groups, strict=True)]
    wanted = max(1, round(fraction * len(strata)))
    by_remainder = sorted(range(len(groups)), key=lambda i: (counts[i] - shares[i], -len(groups[i]), i))
    for i in by_remainder:
        if sum(counts) < wanted and counts[i] < len(groups[i]) - 1:
            counts[i] += 1
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(strata), bool)
    for group, count in zip(groups, counts, strict=True):
        chosen[generator.permutation(group)[:count]] = True
    return chosen


def digest(*parts: object) -> str:
    """Hash what decides the content of a split."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
