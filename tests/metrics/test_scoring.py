"""Scores worked by hand from one confusion matrix, and nothing run or left behind on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcli.errors import ConfigError, ModelError
from ftcli.metrics.names import METRICS, is_better
from ftcli.metrics.scoring import compute_scores

# True positives 3, false positives 1, false negatives 2, true negatives 4.
REFERENCES = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
PREDICTIONS = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("accuracy", 7 / 10),
        ("precision", 3 / 4),
        ("recall", 3 / 5),
        ("f1", 2 * 3 / (2 * 3 + 1 + 2)),
        ("f1_macro", (6 / 9 + 8 / 11) / 2),
        ("f1_micro", 7 / 10),
        ("precision_macro", (3 / 4 + 4 / 6) / 2),
        ("recall_weighted", 7 / 10),
        ("matthews_correlation", (3 * 4 - 1 * 2) / (4 * 5 * 5 * 6) ** 0.5),
    ],
)
def test_scores_by_hand(name: str, score: float) -> None:
    found = compute_scores([name], PREDICTIONS, REFERENCES, num_labels=2)

    assert found == {name: pytest.approx(score)}


def test_f1_is_zero_when_the_positive_class_is_never_predicted() -> None:
    assert compute_scores(["f1"], [0, 0], [1, 0], num_labels=2) == {"f1": 0.0}


def test_a_label_that_never_occurs_counts_in_a_macro_average() -> None:
    # Labels 0 and 1 are perfect; label 2 is neither predicted nor true, and scores 0.
    found = compute_scores(["f1_macro"], [0, 1], [0, 1], num_labels=3)

    assert found == {"f1_macro": pytest.approx(2 / 3)}


def test_every_name_has_a_class_and_scores_come_in_the_order_asked_for() -> None:
    names = list(reversed(METRICS))

    assert list(compute_scores(names, PREDICTIONS, REFERENCES, num_labels=2)) == names


def test_a_script_of_that_name_in_the_working_directory_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "accuracy").mkdir()
    (tmp_path / "accuracy" / "accuracy.py").write_text("raise SystemExit('the script ran')")
    monkeypatch.chdir(tmp_path)

    assert compute_scores(["accuracy"], [1], [1], num_labels=2) == {"accuracy": 1.0}


def test_a_hub_metric_does_not_fall_back_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "accuracy").mkdir()
    (tmp_path / "accuracy" / "accuracy.py").write_text("raise SystemExit('the script ran')")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match="would run the local 'accuracy'"):
        compute_scores(["hub:accuracy"], [1], [1], num_labels=2)


def test_a_hub_metric_that_cannot_be_loaded_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModelError, match="hub:nowhere: the metric cannot be loaded from the Hub"):
        compute_scores(["hub:nowhere"], [1], [1], num_labels=2)


def test_nothing_is_left_on_disk(private_home: Path) -> None:
    before = set(private_home.rglob("*"))

    compute_scores(["accuracy", "f1"], PREDICTIONS, REFERENCES, num_labels=2)

    assert set(private_home.rglob("*")) == before


@pytest.mark.parametrize(
    ("score", "best", "direction", "better"),
    [
        (0.6, 0.5, "higher", True),
        (0.5, 0.5, "higher", False),
        (0.4, 0.5, "lower", True),
        (float("nan"), 0.5, "higher", False),
    ],
)
def test_only_a_strictly_better_number_is_better(score: float, best: float, direction: str, better: bool) -> None:
    assert is_better(score, best, direction) is better
