"""One label for one text, or for a pair of texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field as Limits

from ftcli.errors import DataError, list_problems
from ftcli.tasks.base import Encoded, Field, LabelSet, Prediction, Rows, Task, is_missing
from ftcli.tasks.options import ONE_OR_A_LIST, Section, setting

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ftcli.tasks.tokenization import Tokenization

# Longer runs of digits are names: identifiers, not numbers.
_INTEGER = re.compile(r"-?\d{1,18}")
_FRACTION = re.compile(r"-?((\d+\.\d*|\.\d+)([eE][+-]?\d+)?|\d+[eE][+-]?\d+)")


class TextClassificationColumns(Section):
    """Which columns of the data hold the text and the label."""

    text: Annotated[tuple[str, ...], Limits(min_length=1, max_length=2), ONE_OR_A_LIST] = setting(
        help="One text column, or two that are encoded as a pair"
    )
    label: str = setting("label", help="The column with the label: names or whole numbers")


class TextClassification(Task):
    """Sequence classification with one label a row, cross-entropy and a softmax."""

    name = "text-classification"
    head = "AutoModelForSequenceClassification"
    problem_type = "single_label_classification"
    columns_type = TextClassificationColumns
    target_fields: ClassVar[Mapping[str, Field]] = {"labels": Field(pad=0, per_token=False, is_target=True)}

    columns: TextClassificationColumns

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The one or two columns that are tokenized."""
        return self.columns.text

    @property
    def answer_columns(self) -> tuple[str, ...]:
        """The label column."""
        return (self.columns.label,)

    def labels_from(self, rows: Rows, names: tuple[str, ...] | None) -> LabelSet:
        """Take the names from the config, else from the data's own class list, else sort what occurs."""
        column = self.columns.label
        declared = rows.class_names(column)
        given = names or declared
        num_values = len(set(rows.column(column)))
        if not given and num_values > max(20, len(rows) / 2):
            raise DataError(
                f"{rows.source}: column {column!r} has {num_values:,} different values in {len(rows):,} rows, and is "
                "hardly a label. Check data.columns.label"
            )
        labels = LabelSet(given, numbered=True) if given else LabelSet(self._sorted_names(rows, rows.column(column)))
        present = set(self.answers(rows, labels)[column])
        if len(present) < 2:
            raise DataError(
                f"{rows.source}: every row of the {rows.split} split has the label "
                f"{labels.names[present.pop()]!r} in column {column!r}; a classifier needs at least two. "
                "Check data.columns.label"
            )
        return labels

    def answers(self, rows: Rows, labels: LabelSet) -> dict[str, Sequence[Any]]:
        """Read each label as its id; missing, unlabelled, unknown and out-of-range ones are errors by row."""
        column = self.columns.label
        values = rows.column(column)
        to_name = self._name_reader(values, rows.class_names(column), labels)
        ids = labels.ids
        found = [None if (name := to_name(value)) is None else ids.get(name) for value in values]
        wrong = [index for index, label in enumerate(found) if label is None]
        if wrong:
            alike: dict[str, list[int]] = {}
            for index in wrong:
                alike.setdefault(self._explain(values[index], to_name(values[index]), labels), []).append(index)
            places = rows.where([indices[0] for indices in alike.values()])
            problems = [
                f"{place}{f' and {len(indices) - 1} more' if len(indices) > 1 else ''}: {problem}"
                for place, (problem, indices) in zip(places, alike.items(), strict=True)
            ]
            raise DataError(list_problems(f"{rows.source}, split {rows.split!r}, column {column!r}", problems))
        return {column: found}

    def strata(self, rows: Rows) -> Sequence[Hashable]:
        """Return the labels as they are written."""
        return rows.column(self.columns.label)

    def _sorted_names(self, rows: Rows, values: Sequence[Any]) -> tuple[str, ...]:
        """Sort the labels that occur, whole numbers by value and names by spelling."""
        texts = {str(value) for value in set(values) if not is_missing(value)}
        fractions = sorted(text for text in texts if _FRACTION.fullmatch(text))
        integers = sorted(text for text in texts if _INTEGER.fullmatch(text))
        where = f"{rows.source}, split {rows.split!r}, column {self.columns.label!r}"

        def told(text: str) -> str:
            first = next(index for index, value in enumerate(values) if str(value) == text)
            return f"{text!r} ({rows.where([first])[0]})"

        if fractions:
            raise DataError(
                f"{where}: labels are fractional numbers, such as {told(fractions[0])}; expected names or "
                "whole numbers. For categories, list their names in data.labels"
            )
        if integers and len(integers) < len(texts):
            raise DataError(
                f"{where}: labels are part numbers and part words, such as {told(integers[0])} and "
                f"{told(min(texts.difference(integers)))}; expected one kind. If all of them are names, list "
                "them in data.labels"
            )
        if integers:
            return tuple(sorted((text for text in texts if int(text) >= 0), key=lambda text: (int(text), text)))
        return tuple(sorted(texts))

    @staticmethod
    def _name_reader(
        values: Sequence[Any], declared: tuple[str, ...] | None, labels: LabelSet
    ) -> Callable[[Any], str | None]:
        """Choose how a raw label is read as a name: None for a missing or out-of-range one.

        Whole numbers are ids where the data declares class names, or where the config gives names that are no
        numbers themselves and no row spells one out; otherwise a label's text is its name.
        """
        numeric_names = any(_INTEGER.fullmatch(name) for name in labels.names)
        spelled = not labels.ids.keys().isdisjoint(map(str, set(values)))
        by_id = declared or (labels.names if labels.numbered and not numeric_names and not spelled else None)

        def to_name(value: Any) -> str | None:
            if is_missing(value):
                return None
            if by_id is None or not _INTEGER.fullmatch(str(value)):
                return str(value)
            return by_id[int(value)] if 0 <= int(value) < len(by_id) else None

        return to_name

    @staticmethod
    def _explain(value: Any, name: str | None, labels: LabelSet) -> str:
        known = ", ".join(labels.names[:10]) + (", …" if len(labels) > 10 else "")
        expected = f"expected one of {known}" if known else "expected a name or a whole number"
        if is_missing(value):
            return f"no label; {expected}. Fill it in or remove the row"
        if str(value) == "-1":
            return (
                f"label -1 marks an unlabelled row; {expected}. Choose a labelled split; if -1 is a class, name every "
                "class in data.labels"
            )
        if name is None:
            found = f"label {value} is out of range; expected 0 to {len(labels) - 1} ({known})"
            return f"{found}. Correct it or name every label in data.labels"
        found = f"unknown label {str(value)!r}; the train split or data.labels has {known}"
        return f"{found}. Correct it or list it in data.labels"

    def encode(self, rows: Mapping[str, Sequence[Any]], labels: LabelSet, tokenization: Tokenization) -> Encoded:
        """Give one feature a row: its text or pair of texts, and its label id."""
        texts = [rows[column] for column in self.columns.text]
        inputs, truncated = tokenization(*texts)
        answers = {"labels": rows[self.columns.label]} if self.columns.label in rows else {}
        return Encoded({**inputs, **answers}, rows=range(len(truncated)), truncated=truncated)

    def loss(self, outputs: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy summed over B features, and B."""
        from torch.nn.functional import cross_entropy

        labels_B = batch["labels"]
        loss_sum = cross_entropy(outputs.logits, labels_B, reduction="sum")
        return loss_sum, loss_sum.new_full((), float(len(labels_B)))

    def reduce(self, outputs: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Keep the logits, (B, C)."""
        return {"logits": outputs.logits.float()}

    def decode(self, reduced: Mapping[str, np.ndarray], features: Any, labels: LabelSet) -> list[Prediction]:
        """Take the most probable label; probabilities are the softmax of the logits, in float64."""
        from scipy.special import softmax

        logits_FC = reduced["logits"].astype("float64")
        answers = features.columns.get("labels")
        golds = [{}] * len(logits_FC) if answers is None else [{"gold": labels.names[gold]} for gold in answers]
        return [
            {
                "row": int(row),
                **gold,
                "predicted": labels.names[best],
                "probabilities": dict(zip(labels.names, map(float, probabilities_C), strict=True)),
            }
            for row, gold, best, probabilities_C in zip(
                features.rows, golds, logits_FC.argmax(axis=1), softmax(logits_FC, axis=1), strict=True
            )
        ]

    def metric_inputs(self, predictions: Sequence[Prediction], labels: LabelSet) -> tuple[list[Any], list[Any]]:
        """Return label ids, predicted and gold, in row order."""
        ids = labels.ids
        return [ids[p["predicted"]] for p in predictions], [ids[p["gold"]] for p in predictions]

    def baseline(self, train: Any, references: Sequence[Any]) -> list[Any] | None:
        """Answer always with the commonest label of the train split."""
        import numpy as np

        return [int(np.bincount(train.columns["labels"]).argmax())] * len(references)

    def describe(self, target: Mapping[str, Any], labels: LabelSet) -> list[str]:
        """Name the label."""
        return [f"label: {labels.names[int(target['labels'])]} (id {int(target['labels'])})"]

    def example_code(self, model: str) -> str:
        """Show the pipeline of transformers."""
        is_pair = len(self.columns.text) == 2
        example = '{"text": "One text.", "text_pair": "Another."}' if is_pair else '"A text."'
        lines = [
            "from transformers import pipeline",
            "",
            f'classify = pipeline("text-classification", model="{model}")',
            f"print(classify({example}, top_k=None, truncation=True))",
        ]
        if is_pair:
            lines += [
                "",
                "from sentence_transformers import CrossEncoder",
                "",
                f'print(CrossEncoder("{model}").predict([("One text.", "Another.")], apply_softmax=True))',
            ]
        return "\n".join(lines)
