"""A task that exists in the tests only, to hold the seams open.

One row gives one to three features, targets are per token with unequal weights, and the output is ragged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ftcli.tasks.base import Encoded, Field, LabelSet, Prediction, Rows, Task
from ftcli.tasks.options import Section, setting

WORDS_A_FEATURE = 4


class AwkwardColumns(Section):
    text: str = setting("text", help="Words")
    tags: str = setting("tags", help="One whole number a word")


class Awkward(Task):
    name = "awkward"
    head = "AutoModelForTokenClassification"
    columns_type = AwkwardColumns
    target_fields: ClassVar[Mapping[str, Field]] = {
        "labels": Field(pad=0, is_target=True),
        "weights": Field(pad=0.0, is_target=True, dtype="float32"),
    }

    @property
    def text_columns(self) -> tuple[str, ...]:
        return (self.columns.text,)

    @property
    def answer_columns(self) -> tuple[str, ...]:
        return (self.columns.tags,)

    def default_metrics(self, labels: LabelSet | None) -> tuple[str, ...]:
        return ("accuracy",)

    def labels_from(self, rows: Rows, names: tuple[str, ...] | None) -> LabelSet:
        return LabelSet(("zero", "one", "two"))

    def answers(self, rows: Rows, labels: LabelSet) -> dict[str, Sequence[Any]]:
        name = self.columns.tags
        return {name: [[int(tag) for tag in tags.split()] for tags in rows.column(name)]}

    def encode(self, rows: Mapping[str, Sequence[Any]], labels: LabelSet, tokenization: Any) -> Encoded:
        texts, owners, targets, weights = [], [], [], []
        for row, (text, tags) in enumerate(zip(rows[self.columns.text], rows[self.columns.tags], strict=True)):
            words = text.split()
            for start in range(0, len(words), WORDS_A_FEATURE):
                end = start + WORDS_A_FEATURE
                texts.append(" ".join(words[start:end]))
                owners.append(row)
                targets.append([0, *tags[start:end], 0])
                weights.append([0.0, *(0.5 + (row + step) % 4 for step in range(len(words[start:end]))), 0.0])
        columns, truncated = tokenization(texts)
        return Encoded({**columns, "labels": targets, "weights": weights}, owners, truncated)

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        from torch.nn.functional import cross_entropy

        losses_BT = cross_entropy(outputs.logits.transpose(1, 2), batch["labels"], reduction="none")
        return (losses_BT * batch["weights"]).sum(), batch["weights"].sum()

    def reduce(self, outputs: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {"best": outputs.logits.argmax(dim=-1), "ids": batch["input_ids"]}

    def decode(self, reduced: Mapping[str, Any], features: Any, labels: LabelSet) -> list[Prediction]:
        rows: list[Prediction] = [
            {"row": row, "gold": [], "predicted": [], "features": []} for row in range(features.num_rows)
        ]
        for feature, row in enumerate(features.rows):
            length = features.lengths[feature]
            # What was gathered for this feature must have been computed from this feature.
            assert reduced["ids"][feature][:length].tolist() == features.columns["input_ids"][feature].tolist()
            rows[row]["features"].append(feature)
            rows[row]["gold"] += features.columns["labels"][feature][1:-1].tolist()
            rows[row]["predicted"] += reduced["best"][feature][1 : length - 1].tolist()
        return rows

    def metric_inputs(self, predictions: Sequence[Prediction], labels: LabelSet) -> tuple[list[Any], list[Any]]:
        return (
            [tag for prediction in predictions for tag in prediction["predicted"]],
            [tag for prediction in predictions for tag in prediction["gold"]],
        )


def awkward_rows(count: int) -> list[tuple[str, str]]:
    """Make rows of 1 to 12 words, so of one to three features, each word with a tag."""
    from conftest import WORDS

    rows = []
    for number in range(count):
        size = 1 + (number * 5) % 12
        words = [WORDS[(number * 3 + step) % len(WORDS)] for step in range(size)]
        rows.append((" ".join(words), " ".join(str(len(word) % 3) for word in words)))
    return rows
