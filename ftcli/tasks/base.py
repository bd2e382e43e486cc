"""What a task is: everything the loop, the evaluation and the config ask of it, in one class.

Legend of the shape suffixes: B features of a batch, T tokens, C labels, F features of a split.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ftcli.metrics.names import METRICS, for_any_number_of_labels
from ftcli.tasks.options import Section

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ftcli.tasks.tokenization import Tokenization

Prediction = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """One tensor of a batch.

    per_token: as long as the feature, padded to the batch; otherwise one number a feature.
    pad: the value of padded slots; None means the tokenizer's padding token.
    is_target: for the loss only; the model does not see it.
    """

    pad: float | None
    per_token: bool = True
    is_target: bool = False
    dtype: str = "int64"


@dataclass(frozen=True)
class LabelSet:
    """The label names of a run, in the order of their ids. They come from the train split alone.

    numbered: whole numbers in the data may stand for these names; never so for names that were found there.
    """

    names: tuple[str, ...]
    numbered: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @property
    def positive(self) -> str | None:
        """The positive class: the last of two labels; with more there is none."""
        return self.names[-1] if len(self.names) == 2 else None

    @property
    def ids(self) -> dict[str, int]:
        """Name to id."""
        return {name: index for index, name in enumerate(self.names)}


def is_missing(answer: Any) -> bool:
    """Whether a cell holds no answer."""
    return answer is None or answer == ""


class Rows(Protocol):
    """The rows of one split as a task sees them."""

    @property
    def split(self) -> str:
        """The name of the split."""
        ...

    @property
    def source(self) -> str:
        """Where the rows come from."""
        ...

    def __len__(self) -> int: ...

    def column(self, name: str) -> Sequence[Any]:
        """Return one column, whole."""
        ...

    def class_names(self, name: str) -> tuple[str, ...] | None:
        """Return the names that the data itself declares for the integers of a column, if it does."""
        ...

    def where(self, indices: Iterable[int]) -> list[str]:
        """Say where rows stand, for an error: file and physical line if there is a file."""
        ...


@dataclass(frozen=True)
class Encoded:
    """The features of some rows.

    columns: name -> one value a feature, a list of numbers for a per-token field.
    rows: which of the given rows each feature comes from; every row gives at least one.
    truncated: whether each feature lost tokens.
    """

    columns: Mapping[str, Sequence[Any]]
    rows: Sequence[int]
    truncated: Sequence[bool]


class Task(ABC):
    """One kind of problem: its columns, its metrics, and the two computations that differ from the others'.

    A task holds no state but its column options; torch is imported inside `loss` and `reduce` alone.
    """

    name: ClassVar[str]
    head: ClassVar[str]  # the transformers AutoModel class whose head fits
    problem_type: ClassVar[str | None] = None  # what transformers calls it in a model's config
    columns_type: ClassVar[type[Section]]
    metrics: ClassVar[tuple[str, ...]] = tuple(METRICS)
    target_fields: ClassVar[Mapping[str, Field]]

    def __init__(self, columns: Any) -> None:
        self.columns = columns

    @property
    @abstractmethod
    def text_columns(self) -> tuple[str, ...]:
        """The columns that are tokenized."""

    @property
    @abstractmethod
    def answer_columns(self) -> tuple[str, ...]:
        """The columns that hold what is to be learned."""

    def default_metrics(self, labels: LabelSet | None) -> tuple[str, ...]:
        """Name the metrics to compute where the config names none."""
        return ("accuracy", "f1") if labels is None or len(labels) == 2 else ("accuracy", "f1_macro")

    def usable_metrics(self, labels: LabelSet) -> list[str]:
        """List the metrics that mean something for these labels."""
        return list(self.metrics) if len(labels) == 2 else for_any_number_of_labels(self.metrics)

    @abstractmethod
    def labels_from(self, rows: Rows, names: tuple[str, ...] | None) -> LabelSet:
        """Find the label set in the train split; `names` is the order that the config asks for, if any.

        Raises DataError for labels that the task cannot learn from.
        """

    @abstractmethod
    def answers(self, rows: Rows, labels: LabelSet) -> dict[str, Sequence[Any]]:
        """Return the answer columns in normal form (ids, not names), for `encode`.

        Raises one DataError that lists the rows whose answers do not fit the label set.
        """

    def strata(self, rows: Rows) -> Sequence[Hashable]:
        """Say of each row what a cut of the split should keep in proportion; alike where there is no such thing."""
        return [None] * len(rows)

    @abstractmethod
    def encode(self, rows: Mapping[str, Sequence[Any]], labels: LabelSet, tokenization: Tokenization) -> Encoded:
        """Turn some rows into features; one row may give several.

        rows: the text columns as they are and the answer columns as `answers` returned them. To predict there are
        no answer columns, and the features have no targets.
        """

    @abstractmethod
    def loss(self, outputs: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed loss of a batch and the weight to divide it by, both scalars on the device."""

    @abstractmethod
    def reduce(self, outputs: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Keep what decoding needs, still on the device: small tensors of B rows.

        Other dimensions may differ from batch to batch; they are filled up with zeros when gathered.
        """

    @abstractmethod
    def decode(self, reduced: Mapping[str, np.ndarray], features: Any, labels: LabelSet) -> list[Prediction]:
        """Turn the reduced outputs of all F features of a split into one prediction a row, in row order.

        Each prediction is JSON: `row`, `gold` where the features have targets, `predicted`, and whatever else is
        worth writing down.
        """

    @abstractmethod
    def metric_inputs(self, predictions: Sequence[Prediction], labels: LabelSet) -> tuple[list[Any], list[Any]]:
        """Return predictions and references as the metrics take them."""

    def baseline(self, train: Any, references: Sequence[Any]) -> list[Any] | None:
        """Return what a model without input predicts, learned from the train features, if there is such."""
        return None

    def describe(self, target: Mapping[str, Any], labels: LabelSet) -> list[str]:
        """Say in words what one feature's targets are, for `inspect-batch`."""
        return [f"{name}: {value}" for name, value in target.items()]

    def example_code(self, model: str) -> str:
        """Return a few lines of Python that load a saved model without ftcli, for its card."""
        return f'from transformers import {self.head}\n\nmodel = {self.head}.from_pretrained("{model}")'
