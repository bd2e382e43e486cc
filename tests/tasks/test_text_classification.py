"""Label rules, loss and decoding of text classification; expected values are worked by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ftcli.data.preparation import Features, Ragged
from ftcli.errors import DataError
from ftcli.tasks.base import LabelSet
from ftcli.tasks.text_classification import TextClassification, TextClassificationColumns

TASK = TextClassification(TextClassificationColumns(text=("text",)))
TWO = LabelSet(("bad", "good"))
NAMED = LabelSet(("bad", "good"), numbered=True)  # as the config names them
THREE = LabelSet(("bad", "fair", "good"))


@dataclass(frozen=True)
class LabelRows:
    """Rows with labels only, as a csv file with a header would give them: row 0 stands on line 2."""

    values: Sequence[Any]
    declared: tuple[str, ...] | None = None
    split: str = "train"
    source: str = "rows.csv"

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> Sequence[Any]:
        return {"label": self.values}[name]

    def class_names(self, name: str) -> tuple[str, ...] | None:
        return self.declared

    def where(self, indices: Iterable[int]) -> list[str]:
        return [f"line {index + 2}" for index in indices]


def names(values: Sequence[Any], declared: tuple[str, ...] | None = None, asked: Any = None) -> tuple[str, ...]:
    return TASK.labels_from(LabelRows(values, declared), asked).names


def ids(values: Sequence[Any], labels: LabelSet, declared: tuple[str, ...] | None = None) -> list[int]:
    return list(TASK.answers(LabelRows(values, declared, "validation"), labels)["label"])


def refusal(values: Sequence[Any], labels: LabelSet, declared: tuple[str, ...] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        ids(values, labels, declared)
    return str(caught.value)


def train_refusal(values: Sequence[Any], declared: tuple[str, ...] | None = None, asked: Any = None) -> str:
    with pytest.raises(DataError) as caught:
        names(values, declared, asked)
    return str(caught.value)


# --- which labels there are, and in which order


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["good", "bad", "good"], ("bad", "good")),
        (["b", "C", "a"], ("C", "a", "b")),
        (["10", "9", "100"], ("9", "10", "100")),
        ([10, 9, 100], ("9", "10", "100")),
        (["true", "false"], ("false", "true")),
        (["not_entailment", "entailment"], ("entailment", "not_entailment")),
        (["NA", "null"], ("NA", "null")),
    ],
)
def test_undeclared_labels_are_sorted_numbers_by_value_and_names_by_spelling(
    values: list[Any], expected: tuple[str, ...]
) -> None:
    assert names(values) == expected


def test_the_datas_own_order_stays() -> None:
    assert names([0, 1, 2], declared=("red", "amber", "green")) == ("red", "amber", "green")


def test_the_configs_order_wins_over_the_datas() -> None:
    assert names([0, 1], declared=("good", "bad"), asked=("bad", "good")) == ("bad", "good")


def test_the_configs_order_wins_over_the_alphabet() -> None:
    assert names(["yes", "no"], asked=("yes", "no")) == ("yes", "no")


def test_declared_labels_that_do_not_occur_stay() -> None:
    assert names([0, 2], declared=("red", "amber", "green")) == ("red", "amber", "green")


@pytest.mark.parametrize(("labels", "positive"), [(TWO, "good"), (LabelSet(("1", "0")), "0"), (THREE, None)])
def test_of_two_labels_the_last_is_positive(labels: LabelSet, positive: str | None) -> None:
    assert labels.positive == positive


# --- how a label becomes an id


def test_a_name_becomes_its_place_in_the_label_set() -> None:
    assert ids(["good", "bad"], TWO) == [1, 0]


@pytest.mark.parametrize("values", [[1, 0, 1], ["1", "0", "1"]])
def test_whole_numbers_index_the_names_that_the_config_gives(values: list[Any]) -> None:
    assert ids(values, NAMED) == [1, 0, 1]


def test_whole_numbers_do_not_index_names_that_were_found_in_the_data() -> None:
    assert "line 2: unknown label '1'" in refusal(["1", "0"], TWO)


def test_whole_numbers_index_the_names_that_the_data_declares() -> None:
    assert ids([0, 1], TWO, declared=("good", "bad")) == [1, 0]


def test_numbers_that_are_names_do_not_index() -> None:
    assert ids(["5", "3"], LabelSet(("3", "5"))) == [1, 0]


def test_numbers_that_are_names_keep_their_order_of_the_config() -> None:
    assert ids(["0", "1"], LabelSet(("1", "0"))) == [1, 0]


# --- labels that cannot be learned from


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["1.0", "0.0"], "fractional numbers, such as '0.0' (line 3)"),
        ([1.0, 0.0], "fractional numbers, such as '0.0' (line 3)"),
        (["0", "1e-05"], "fractional numbers, such as '1e-05' (line 3)"),
        (["1e+16", "0"], "fractional numbers, such as '1e+16' (line 2)"),
        (["0", "1", "yes"], "part numbers and part words, such as '0' (line 2) and 'yes' (line 4)"),
        (["good", "good"], "every row of the train split has the label 'good'"),
        ([1, 1, 1], "every row of the train split has the label '1'"),
        (["good", "", "bad"], "line 3: no label; expected one of bad, good. Fill it in or remove the row"),
        (["good", None, "bad"], "line 3: no label"),
        (["0", "1", "-1"], "line 4: label -1 marks an unlabelled row; expected one of 0, 1"),
        (["-1", "-1"], "line 2 and 1 more: label -1 marks an unlabelled row; expected a name or a whole number"),
        ([None, None], "line 2 and 1 more: no label; expected a name or a whole number"),
    ],
)
def test_train_labels_that_make_no_sense_are_an_error(values: list[Any], words: str) -> None:
    assert words in train_refusal(values)


@pytest.mark.parametrize(
    ("values", "fix"),
    [
        (["0.5", "1"], "list their names in data.labels"),
        (["0", "yes"], "list them in data.labels"),
        (["a", "a"], "Check data.columns.label"),
        ([None, "a"], "Fill it in or remove the row"),
        (["-1", "0"], "Choose a labelled split"),
    ],
)
def test_an_error_about_train_labels_says_what_to_do(values: list[Any], fix: str) -> None:
    assert fix in train_refusal(values)


def test_fractions_that_are_listed_as_names_are_names() -> None:
    assert names(["1.0", "2.0"], asked=("1.0", "2.0")) == ("1.0", "2.0")


def test_a_train_label_that_the_config_does_not_list_is_an_error() -> None:
    assert "line 4: unknown label 'fair'" in train_refusal(["good", "bad", "fair"], asked=("bad", "good"))


def test_a_train_number_beyond_the_listed_names_is_an_error() -> None:
    assert "line 4: label 2 is out of range; expected 0 to 1" in train_refusal([0, 1, 2], asked=("bad", "good"))


def test_declared_names_with_one_of_them_in_train_are_an_error() -> None:
    assert "has the label 'good'" in train_refusal([1, 1], declared=("bad", "good"))


@pytest.mark.parametrize(
    ("values", "labels", "words"),
    [
        (["good", "fair"], TWO, "line 3: unknown label 'fair'"),
        (["0", "2"], NAMED, "line 3: label 2 is out of range; expected 0 to 1 (bad, good)"),
        (["0", "-2"], NAMED, "line 3: label -2 is out of range"),
        (["0", "-1"], TWO, "line 3: label -1 marks an unlabelled row"),
        (["0", ""], TWO, "line 3: no label"),
        (["0", "2"], LabelSet(("0", "1")), "line 3: unknown label '2'"),
        (["good", "0"], NAMED, "line 3: unknown label '0'"),
        (["0", "1", "?"], NAMED, "column 'label': line 4: unknown label '?'"),
    ],
    ids=[
        "unseen",
        "above",
        "below",
        "unlabelled",
        "missing",
        "unseen number",
        "number among names",
        "one odd",
    ],
)
def test_33_a_validation_label_that_does_not_fit_is_named_by_its_line(
    values: list[Any], labels: LabelSet, words: str
) -> None:
    assert words in refusal(values, labels)


def test_32_a_number_beyond_the_declared_names_is_out_of_range() -> None:
    assert "line 3: label 2 is out of range" in refusal([0, 2], TWO, declared=("bad", "good"))


def test_all_wrong_labels_are_reported_together() -> None:
    assert "rows.csv, split 'validation', column 'label': 2 problems" in refusal(["x", "good", "y"], TWO)


def test_an_unknown_label_says_what_is_known_and_what_to_do() -> None:
    assert refusal(["fair"], TWO).endswith("has bad, good. Correct it or list it in data.labels")


# --- loss


def outputs(*logits: list[float]) -> SimpleNamespace:
    return SimpleNamespace(logits=torch.tensor(logits))


def test_the_loss_is_the_cross_entropy_summed_over_the_batch() -> None:
    # Row 0: softmax(0, ln 3) = (1/4, 3/4), label 1: ln 4/3. Row 1: softmax(0, 0), label 0: ln 2.
    batch = {"labels": torch.tensor([1, 0])}
    loss_sum, _ = TASK.loss(outputs([0.0, math.log(3)], [0.0, 0.0]), batch)
    assert loss_sum.item() == pytest.approx(math.log(4 / 3) + math.log(2), abs=1e-6)


def test_the_weight_of_a_batch_is_its_number_of_rows() -> None:
    _, weight = TASK.loss(outputs([0.0, 1.0], [0.0, 0.0], [2.0, 0.0]), {"labels": torch.tensor([1, 0, 0])})
    assert weight.item() == 3.0


def test_logits_are_reduced_to_float32() -> None:
    reduced = TASK.reduce(SimpleNamespace(logits=torch.zeros(1, 2, dtype=torch.bfloat16)), {})
    assert reduced["logits"].dtype == torch.float32


# --- predictions


@pytest.fixture
def predictions() -> list[dict[str, Any]]:
    columns: dict[str, Any] = {
        "labels": np.asarray([2, 0], "int32"),
        "input_ids": Ragged(np.asarray([1, 2]), np.asarray([0, 1, 2])),
    }
    features = Features(columns, rows=np.asarray([0, 1]), truncated=np.zeros(2, bool), num_rows=2)
    # softmax(0, ln 2, ln 5) = (1, 2, 5) / 8; softmax(ln 2, 0, 0) = (2, 1, 1) / 4.
    logits = np.asarray([[0.0, math.log(2), math.log(5)], [math.log(2), 0.0, 0.0]], "float32")
    return TASK.decode({"logits": logits}, features, THREE)


def test_a_prediction_is_the_most_probable_label(predictions: list[dict[str, Any]]) -> None:
    assert [p["predicted"] for p in predictions] == ["good", "bad"]


def test_a_prediction_names_its_row_and_gold_label(predictions: list[dict[str, Any]]) -> None:
    assert [(p["row"], p["gold"]) for p in predictions] == [(0, "good"), (1, "bad")]


@pytest.mark.parametrize(
    ("row", "expected"),
    [(0, {"bad": 1 / 8, "fair": 2 / 8, "good": 5 / 8}), (1, {"bad": 2 / 4, "fair": 1 / 4, "good": 1 / 4})],
)
def test_probabilities_are_the_softmax_of_the_logits(
    predictions: list[dict[str, Any]], row: int, expected: dict[str, float]
) -> None:
    assert predictions[row]["probabilities"] == pytest.approx(expected, abs=1e-7)


def test_metrics_get_ids_in_row_order() -> None:
    made = [{"predicted": "good", "gold": "bad"}, {"predicted": "fair", "gold": "good"}]
    assert TASK.metric_inputs(made, THREE) == ([2, 1], [0, 2])


def test_the_baseline_always_answers_with_the_commonest_label_of_train() -> None:
    train = SimpleNamespace(columns={"labels": np.asarray([0, 2, 2, 1])})
    assert TASK.baseline(train, [0, 1, 0]) == [2, 2, 2]


def test_a_target_is_described_by_name_and_id() -> None:
    assert TASK.describe({"labels": 1}, THREE) == ["label: fair (id 1)"]
