"""Which columns hold the texts and the label, how long the texts are, and why that was guessed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, quantiles

from ftcli.errors import DataError
from ftcli.scaffolding.looking import Found, Sample

_LABELS = (
    "label labels class category target gold sentiment intent topic stars rating polarity emotion tag y answer "
    "is_duplicate outcome verdict type"
).split()
# Columns that tell rows apart for other reasons.
_ROLES = ("split", "fold", "partition", "subset", "lang", "language", "source")
_TEXTS = (
    "text sentence review content body comment message utterance query question tweet post title description "
    "document passage abstract headline"
).split()
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text_a", "text_b"),
    ("query", "passage"),
    ("query", "document"),
    ("question", "sentence"),
    ("question", "passage"),
    ("first", "second"),
    ("anchor", "positive"),
    ("source", "target"),
)
_IDS = re.compile(r"(.*[_-])?(id|idx|index|uuid|guid|key|row|no|nr|number|url|date|time|timestamp)\d*$", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
# Characters a token, in English and BERT's vocabulary: measured on MRPC and SST-2, rounded down.
_CHARACTERS_A_TOKEN = 3.5
_SPECIAL_TOKENS = 4
_MOST_LABELS = 200


@dataclass(frozen=True)
class Column:
    """What a sample shows of one column. values: its texts, without the empty ones."""

    name: str
    values: Sequence[str]
    num_empty: int

    @property
    def leaf(self) -> str:
        """Its name without the objects that it is in."""
        return self.name.rpartition(".")[2].lower()

    @property
    def distinct(self) -> int:
        """How many different values it has."""
        return len(set(self.values))

    @property
    def words(self) -> float:
        """Words a value, on average."""
        return mean(len(value.split()) for value in self.values) if self.values else 0.0

    @property
    def is_numeric(self) -> bool:
        """Whether all its values are numbers."""
        return all(_NUMBER.fullmatch(value) for value in self.values)

    @property
    def is_fractional(self) -> bool:
        """Whether it holds numbers that are not whole."""
        return self.is_numeric and any("." in value or "e" in value.lower() for value in self.values)


@dataclass(frozen=True)
class Guess:
    """What was guessed, and the reasons in words.

    labels: counts by name, in the order of the ids. num_empty_texts and num_empty_labels: rows of train without one.
    max_length: tokens that nearly all texts fit into, estimated.
    """

    texts: tuple[str, ...]
    label: str
    labels: dict[str, int]
    num_empty_texts: int
    num_empty_labels: int
    max_length: int
    reasons: dict[str, str]

    @property
    def has_negative_labels(self) -> bool:
        """Whether -1 or the like is a class here, as often in sentiments, and does not mark an unlabelled row."""
        return all(re.fullmatch(r"-?\d+", name) for name in self.labels) and any(name[0] == "-" for name in self.labels)


def guess(found: Found, *, text: Sequence[str] = (), label: str | None = None) -> Guess:
    """Guess the columns of a data set, but for those that are given. Raises DataError where nothing fits."""
    train = found.samples["train"]
    columns = {name: _column(train, name) for name in train.columns if name not in train.unusable}
    for name in (*text, *([label] if label else [])):
        if name not in columns:
            raise DataError(f"no column {name!r} that holds one text a row; found {_told(train)}")
    if len(text) > 2 or len(set(text)) < len(text) or label in text:
        raise DataError("one text, or two, and a label: each a column of its own; give --text once or twice")
    reasons = {"text": "as you said", "label": "as you said"}
    if label is None:
        label, reasons["label"] = _guess_label(columns, text, train)
    if not text:
        text, reasons["text"] = _guess_texts(columns, label, train)
    labels = _labels(columns[label], found.class_names.get(label))
    tokens = [
        sum(len(value or "") for value in row) / _CHARACTERS_A_TOKEN + _SPECIAL_TOKENS
        for row in zip(*(train.columns[name] for name in text), strict=True)
    ]
    nearly_all = quantiles(tokens, n=200)[-1] if len(tokens) > 1 else tokens[0]
    empty = sum(
        any(not (value or "").strip() for value in row) for row in zip(*(train.columns[n] for n in text), strict=True)
    )
    return Guess(
        texts=tuple(text),
        label=label,
        labels=labels,
        num_empty_texts=empty,
        num_empty_labels=columns[label].num_empty,
        max_length=next(length for length in (64, 128, 256, 512) if nearly_all <= length or length == 512),
        reasons=reasons,
    )


def _column(sample: Sample, name: str) -> Column:
    values = [value for value in sample.columns[name] if value is not None and value.strip()]
    return Column(name, values, sample.num_rows - len(values))


def _guess_label(columns: Mapping[str, Column], texts: Sequence[str], train: Sample) -> tuple[str, str]:
    """Prefer a name that labels have, then few different values."""
    candidates = [
        column
        for column in columns.values()
        if column.name not in texts
        and 2 <= column.distinct <= min(_MOST_LABELS, max(2, len(column.values) // 2), len(column.values) - 1)
        and column.words <= 4
        and not column.is_fractional
        and not (_IDS.match(column.leaf) and column.distinct > 2)
        and column.leaf not in _ROLES
    ]
    if not candidates:
        raise DataError(
            f"no column looks like a label, one of a few names or whole numbers a row: {_told(train)}. Say which it is "
            "with --label COLUMN"
        )

    def rank(column: Column) -> tuple[int, int]:
        named = next((place for place, name in enumerate(_LABELS) if name in re.split(r"[._\s-]", column.leaf)), None)
        return (len(_LABELS) if named is None else named, column.distinct)

    best = min(candidates, key=rank)
    why = "its name" if rank(best)[0] < len(_LABELS) else "short values that recur"
    others = [column.name for column in candidates if column is not best]
    return best.name, f"{why}{f'; not {_listed(others)}' if others else ''}"


def _guess_texts(columns: Mapping[str, Column], label: str, train: Sample) -> tuple[tuple[str, ...], str]:
    """Prefer a pair that has a pair's names, else the column with the most text."""
    texts = [
        column
        for column in columns.values()
        if column.name != label and not column.is_numeric and column.values and not _IDS.match(column.leaf)
    ]
    if not texts:
        raise DataError(f"no column looks like a text: {_told(train)}. Say which it is with --text COLUMN")
    by_leaf = {column.leaf: column.name for column in texts}
    for first, second in (*_PAIRS, *_numbered(by_leaf)):
        if first in by_leaf and second in by_leaf:
            return (by_leaf[first], by_leaf[second]), "a pair, by their names"

    def rank(column: Column) -> tuple[bool, float]:
        return (any(name in re.split(r"[._\s-]|\d", column.leaf) for name in _TEXTS), column.words)

    best = max(texts, key=rank)
    others = [column.name for column in texts if column is not best and column.words > 1.5]
    why = "its name" if rank(best)[0] else f"{best.words:.0f} words a row"
    hint = f"; for a pair with {others[0]}: text: [{best.name}, {others[0]}]" if others else ""
    return (best.name,), why + hint


def _numbered(names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pair names that differ in a number or a letter at the end: text1 and text2, left_a and left_b."""
    ends = (("1", "2"), ("_a", "_b"), ("A", "B"), ("0", "1"))
    return [(name, name[: -len(one)] + two) for one, two in ends for name in names if name.endswith(one)]


def _labels(column: Column, class_names: tuple[str, ...] | None) -> dict[str, int]:
    counts = Counter(column.values)
    if class_names:
        return {name: counts.get(str(index), 0) for index, name in enumerate(class_names)}
    if column.is_numeric:
        return {name: counts[name] for name in sorted(counts, key=float)}
    return {name: counts[name] for name in sorted(counts)}


def _told(train: Sample) -> str:
    """List the columns, and why some are neither texts nor labels."""
    shown = []
    for name in train.columns:
        why = train.unusable.get(name)
        if why is None and _column(train, name).values and _column(train, name).is_fractional:
            why = "numbers with fractions"
        shown.append(f"{name} ({why})" if why else name)
    return ", ".join(shown)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
