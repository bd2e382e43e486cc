"""What is odd about a data set: each finding on rows written by hand, and none on rows without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import write_table

from ftcli.config.schema import config_type
from ftcli.data.quality import Quality, examine, truncation_warnings
from ftcli.data.sources import load_splits

HEADER = ("text", "label")
GOOD = [(f"text number {n}", "ab"[n % 2]) for n in range(200)]
HELD = [(f"another text {n}", "ab"[n % 2]) for n in range(100)]


def look(folder: Path, train: list[Any], validation: list[Any] | None = None, **data: Any) -> Quality:
    """Write the splits, and examine them as `inspect-data` does."""
    write_table(folder / "train.csv", HEADER, train)
    if validation is not None:
        write_table(folder / "validation.csv", HEADER, validation)
    config = config_type("text-classification").model_validate(
        {
            "model": {"name_or_path": "unused"},
            "data": {"path": str(folder), "columns": {"text": "text"}, **data},
            "output_dir": "unused",
        }
    )
    task = config.build_task()
    return examine(load_splits(config.data, task), task, config.data)


def test_nothing_odd_is_nothing_told(tmp_path: Path) -> None:
    quality = look(tmp_path, GOOD, HELD)

    assert quality.warnings == []
    assert quality.splits["train"].labels == {"a": 100, "b": 100}
    assert quality.splits["train"].majority_share == 0.5


def test_labels_are_counted_and_the_commonest_comes_first(tmp_path: Path) -> None:
    found = look(tmp_path, [("x", "rare"), ("y", "common"), ("z", "common"), ("w", "")]).splits["train"]

    assert list(found.labels.items()) == [("common", 2), ("rare", 1)]
    assert (found.majority_share, found.num_unlabelled) == (2 / 3, 1)


def test_minus_one_and_empty_texts_are_counted_not_refused(tmp_path: Path) -> None:
    found = look(tmp_path, [("x", 0), ("", 1), ("y", -1), (" ", 1)]).splits["train"]

    assert (found.num_unlabelled, found.num_empty, found.labels) == (1, 2, {"1": 2, "0": 1})


def test_minus_one_is_a_label_where_the_config_declares_it(tmp_path: Path) -> None:
    rows = [(f"text {n}", n % 3 - 1) for n in range(300)]

    found = look(tmp_path, rows, labels=["-1", "0", "1"])

    assert (found.warnings, found.splits["train"].num_unlabelled) == ([], 0)
    assert found.splits["train"].labels == {"-1": 100, "0": 100, "1": 100}


def test_a_split_without_labels_is_told(tmp_path: Path) -> None:
    quality = look(tmp_path, GOOD, [(text, "") for text, _ in HELD])

    assert quality.warnings == ["validation: 100 of 100 rows without a label"]


def test_a_repeated_text_is_told_with_its_lines(tmp_path: Path) -> None:
    quality = look(tmp_path, [*GOOD, ("Text  NUMBER 3", "b"), ("text number 3", "b")], HELD)

    assert quality.splits["train"].num_repeated == 2
    assert quality.warnings == [
        "train: 2 rows with a text that an earlier row has, such as "
        "'text number 3' (line 5: b, line 202: b, line 203: b)"
    ]


def test_a_text_with_two_labels_is_told_with_both(tmp_path: Path) -> None:
    quality = look(tmp_path, [*GOOD, ("text number 3", "a")], HELD)

    assert quality.splits["train"].num_contradicted == 1
    assert "train: 1 text with different labels, such as 'text number 3' (line 5: b, line 202: a)" in quality.warnings


def test_a_text_that_stands_in_train_too_is_leakage(tmp_path: Path) -> None:
    quality = look(tmp_path, GOOD, [*HELD, ("TEXT number 7", "b")])

    assert quality.warnings == [
        "validation: 1 of 101 rows (1.0%) have a text of train, and their score says little, such as "
        "'TEXT number 7' (line 102, in train line 9)"
    ]


def test_a_pair_is_the_same_only_if_both_texts_are(tmp_path: Path) -> None:
    header = ("one", "two", "label")
    write_table(tmp_path / "train.csv", header, [("a", "b", 0), ("b", "a", 1), ("a b", "", 1)])
    config = config_type("text-classification").model_validate(
        {
            "model": {"name_or_path": "unused"},
            "data": {"path": str(tmp_path), "columns": {"text": ["one", "two"]}, "empty_text": "keep"},
        }
    )
    task = config.build_task()

    assert examine(load_splits(config.data, task), task, config.data).splits["train"].num_repeated == 0


def test_labels_that_differ_between_splits_are_told(tmp_path: Path) -> None:
    quality = look(tmp_path, [*GOOD, *((f"c {n}", "c") for n in range(2))], [*HELD, ("new", "d")])

    assert "validation: labels that train lacks: 'd'" in quality.warnings
    assert "validation: no row of 'c', which train has" in quality.warnings


def test_labels_that_look_alike_are_told(tmp_path: Path) -> None:
    quality = look(tmp_path, [*GOOD, ("x", "A"), ("y", "A"), ("z", "a "), ("w", "a ")])

    assert "labels that differ only in blanks or case: 'a', 'A', 'a '" in quality.warnings


def test_a_label_with_one_row_is_told(tmp_path: Path) -> None:
    assert "train: a single row for 'c'" in look(tmp_path, [*GOOD, ("x", "c")]).warnings


def test_a_small_validation_split_is_told_with_what_one_row_weighs(tmp_path: Path) -> None:
    assert look(tmp_path, GOOD, HELD[:40]).warnings == ["validation: 40 rows; one of them moves accuracy by 2.5 points"]


def test_a_held_out_split_is_examined_as_training_cuts_it(tmp_path: Path) -> None:
    quality = look(tmp_path, GOOD, validation_fraction=0.5)

    assert {name: found.num_rows for name, found in quality.splits.items()} == {"train": 100, "validation": 100}


@pytest.mark.parametrize(("share", "told"), [(0.05, 0), (0.06, 1)])
def test_much_truncation_is_told(share: float, told: int) -> None:
    assert len(truncation_warnings({"train": share}, 128)) == told
