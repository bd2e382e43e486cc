"""What is odd about a data set before anything is trained on it: leakage, contradictions, repetitions, rare labels.

Two texts count as the same if they differ only in blanks and in upper and lower case.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from ftcli.config.schema import DataSection
from ftcli.data.rows import SplitRows, is_empty
from ftcli.tasks.base import Task, is_missing

_EXAMPLES = 3
# Fewer rows than this, and one of them moves a score by more than a point.
_FEW_ROWS = 100
_ROWS_AT_ONCE = 10_000
_SHOWN = 50
# A share of truncated rows above this is worth a line.
_MUCH_TRUNCATED = 0.05


@dataclass(frozen=True)
class SplitQuality:
    """What was found in one split of N rows.

    labels: rows by label, as it is written, the commonest first. num_unlabelled: rows with no label or -1.
    num_empty: rows with an empty text. num_repeated: rows whose texts stand in an earlier row too.
    num_contradicted: texts that have several labels. examples: places and texts, by finding.
    """

    num_rows: int
    labels: dict[str, int]
    num_unlabelled: int
    num_empty: int
    num_repeated: int
    num_contradicted: int
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def majority_share(self) -> float:
        """The accuracy of always answering with the commonest label."""
        total = sum(self.labels.values())
        return max(self.labels.values()) / total if total else 0.0


@dataclass(frozen=True)
class Quality:
    """What was found in a data set: each split, and what is odd, one line each."""

    splits: dict[str, SplitQuality]
    warnings: list[str]


@dataclass
class _Split:
    """The texts of a split by their digest: the rows that have them, and each row's label."""

    rows: SplitRows
    columns: Sequence[str]
    by_text: dict[bytes, list[int]]
    labels: list[str | None]
    empty: list[int]


def examine(splits: Mapping[str, SplitRows], task: Task, data: DataSection) -> Quality:
    """Look for what is odd in and between splits, the one that `data` learns from among them."""
    train = data.train_split
    read = {name: _read(rows, task, data.labels or ()) for name, rows in splits.items()}
    found = {name: _quality(split) for name, split in read.items()}
    warnings: list[str] = []
    for name, split in read.items():
        warnings += _warnings_of(name, found[name], is_train=name == train)
        if name != train and train in read:
            warnings += _between(train, read[train], name, split)
    if train in found:
        warnings += _look_alikes(found[train].labels)
    return Quality(found, warnings)


def truncation_warnings(shares: Mapping[str, float], max_length: int) -> list[str]:
    """Say which splits lose much of their texts. shares: of the rows that are truncated, by split."""
    return [
        f"{name}: {share:.1%} of the rows are truncated after {max_length} tokens; data.max_length sets the limit"
        for name, share in shares.items()
        if share > _MUCH_TRUNCATED
    ]


def _read(rows: SplitRows, task: Task, declared: Sequence[str]) -> _Split:
    by_text: dict[bytes, list[int]] = defaultdict(list)
    empty: list[int] = []
    for first, batch in rows.batches(_ROWS_AT_ONCE):
        texts = zip(*(batch[name] for name in task.text_columns), strict=True)
        for index, row in enumerate(texts, start=first):
            if any(is_empty(text) for text in row):
                empty.append(index)
            else:
                plain = "\0".join(" ".join(text.split()).casefold() for text in row)
                by_text[hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).digest()].append(index)
    labels = [_name(label, declared) for label in _named_labels(rows, task)]
    return _Split(rows, task.text_columns, by_text, labels, empty)


def _named_labels(rows: SplitRows, task: Task) -> Sequence[Hashable]:
    """Return the label of each row, by the name that the data declares for it, if it does."""
    labels = task.strata(rows)
    names = rows.class_names(task.answer_columns[0]) if len(task.answer_columns) == 1 else None
    if names is None:
        return labels
    return [names[label] if isinstance(label, int) and 0 <= label < len(names) else label for label in labels]


def _name(label: Hashable, declared: Sequence[str]) -> str | None:
    """Return the text of a label; None for none. -1 is none, unless the config declares it as a class."""
    is_none = is_missing(label) or (str(label) == "-1" and "-1" not in declared)
    return None if is_none else str(label)


def _quality(split: _Split) -> SplitQuality:
    repeated = [rows for rows in split.by_text.values() if len(rows) > 1]
    contradicted = [rows for rows in split.by_text.values() if len({split.labels[i] for i in rows} - {None}) > 1]
    # At once: to find a line, a file is read from its beginning.
    shown = _examples(split, [*repeated[:_EXAMPLES], *contradicted[:_EXAMPLES]])
    num_repeated = len(repeated[:_EXAMPLES])
    examples = {"repeated": shown[:num_repeated], "contradicted": shown[num_repeated:]}
    counts = Counter(label for label in split.labels if label is not None)
    return SplitQuality(
        num_rows=len(split.rows),
        labels=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        num_unlabelled=sum(label is None for label in split.labels),
        num_empty=len(split.empty),
        num_repeated=sum(len(rows) - 1 for rows in repeated),
        num_contradicted=len(contradicted),
        examples={name: texts for name, texts in examples.items() if texts},
    )


def _examples(split: _Split, groups: Sequence[Sequence[int]]) -> list[str]:
    """Show the text of each group of rows, and where it stands with which label."""
    shown = [index for rows in groups for index in rows[:_EXAMPLES]]
    places = dict(zip(shown, split.rows.where(shown), strict=True)) if shown else {}
    return [
        f"{_text(split, rows[0])!r} ({', '.join(f'{places[i]}: {split.labels[i]}' for i in rows[:_EXAMPLES])})"
        for rows in groups
    ]


def _text(split: _Split, index: int) -> str:
    row = split.rows.row(index)
    text = " | ".join(str(row[name]) for name in split.columns)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _warnings_of(name: str, found: SplitQuality, *, is_train: bool) -> list[str]:
    warnings = []
    if found.num_unlabelled:
        warnings.append(f"{name}: {found.num_unlabelled:,} of {_count(found.num_rows, 'row')} without a label")
    if found.num_empty:
        warnings.append(f"{name}: {_count(found.num_empty, 'row')} with an empty text")
    if found.num_contradicted:
        example = found.examples["contradicted"][0]
        warnings.append(f"{name}: {_count(found.num_contradicted, 'text')} with different labels, such as {example}")
    if found.num_repeated:
        warnings.append(
            f"{name}: {_count(found.num_repeated, 'row')} with a text that an earlier row has, such as "
            f"{found.examples['repeated'][0]}"
        )
    rare = [label for label, count in found.labels.items() if count == 1]
    if is_train and rare and len(found.labels) < found.num_rows / 2:
        warnings.append(f"{name}: a single row for {_listed(rare)}")
    if not is_train and 0 < found.num_rows < _FEW_ROWS:
        points = 100 / found.num_rows
        warnings.append(f"{name}: {_count(found.num_rows, 'row')}; one of them moves accuracy by {points:.1f} points")
    return warnings


def _between(train: str, learned: _Split, name: str, split: _Split) -> list[str]:
    """Compare a split with the one that is learned from."""
    warnings = []
    shared = [(rows, learned.by_text[text]) for text, rows in split.by_text.items() if text in learned.by_text]
    if shared:
        number = sum(len(rows) for rows, _ in shared)
        (here, there) = shared[0]
        where = f"{split.rows.where(here[:1])[0]}, in {train} {learned.rows.where(there[:1])[0]}"
        share = f"{number:,} of {len(split.rows):,} rows ({number / len(split.rows):.1%})"
        example = f"{_text(split, here[0])!r} ({where})"
        warnings.append(f"{name}: {share} have a text of {train}, and their score says little, such as {example}")
    known, here_labels = set(learned.labels) - {None}, set(split.labels) - {None}
    if here_labels - known:
        warnings.append(f"{name}: labels that {train} lacks: {_listed(sorted(map(str, here_labels - known)))}")
    if known - here_labels and here_labels:
        warnings.append(f"{name}: no row of {_listed(sorted(map(str, known - here_labels)))}, which {train} has")
    return warnings


def _look_alikes(labels: Mapping[str, int]) -> list[str]:
    """Find labels that differ only in blanks and in upper and lower case."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        alike[" ".join(label.split()).casefold()].append(label)
    return [
        f"labels that differ only in blanks or case: {_listed(group)}" for group in alike.values() if len(group) > 1
    ]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f", … ({len(names)})" if len(names) > 5 else "")
