"""Which rows of a split count: incomplete ones left out, and a validation split held out of train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import load_rows as load
from conftest import write_table
from hypothesis import given
from hypothesis import strategies as st

from ftcli.data.rows import hold_out
from ftcli.errors import DataError

LETTERS = [(f"text {number}", "ab"[number % 4 == 0]) for number in range(40)]


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """40 rows in one file: 30 a and 10 b."""
    return {"files": {"train": str(write_table(tmp_path / "all.csv", ("text", "label"), LETTERS))}}


# --- incomplete rows


def test_rows_without_text_or_label_are_left_out_and_counted(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("text", "label"), [("x", "a"), ("", "b"), ("y", ""), (" ", "a"), ("z", "b")])

    rows = load(path=str(tmp_path), empty_text="drop", empty_label="drop")

    assert (rows.column("text"), rows.column("label"), rows.num_left_out) == (["x", "z"], ["a", "b"], 3)


def test_a_row_behind_one_that_is_left_out_keeps_its_line(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("text", "label"), [("", "a"), ("x", "a"), ("", "b"), ("y", "b")])

    rows = load(path=str(tmp_path), empty_text="drop")

    assert rows.where([0, 1]) == ["line 3", "line 5"]
    assert rows.source_numbers.tolist() == [1, 3]
    assert list(rows.batches(1)) == [(0, {"text": ["x"], "label": ["a"]}), (1, {"text": ["y"], "label": ["b"]})]


def test_empty_labels_alone_do_not_excuse_empty_texts(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("text", "label"), [("", ""), ("x", "a")])

    with pytest.raises(DataError, match="line 2: column 'text' is empty"):
        load(path=str(tmp_path), empty_label="drop")


def test_leaving_every_row_out_is_an_error(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("text", "label"), [("", "a"), ("x", "")])

    with pytest.raises(DataError, match="no row has both text and label"):
        load(path=str(tmp_path), empty_text="drop", empty_label="drop")


def test_what_is_left_out_changes_the_fingerprint(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("text", "label"), [("x", "a"), ("", "b")])

    kept, dropped = (load(path=str(tmp_path), empty_text=policy) for policy in ("keep", "drop"))

    assert kept.fingerprint != dropped.fingerprint


# --- a validation split held out of train


def test_both_sides_of_the_cut_cover_the_rows_once_in_file_order(table: dict[str, Any]) -> None:
    train, validation = (load(split, validation_fraction=0.25, **table) for split in ("train", "validation"))

    numbers = [train.source_numbers.tolist(), validation.source_numbers.tolist()]
    assert sorted(numbers[0] + numbers[1]) == list(range(40))
    assert [part == sorted(part) for part in numbers] == [True, True]
    assert [text for text, _ in LETTERS if text in validation.column("text")] == validation.column("text")


def test_the_cut_keeps_the_labels_in_proportion(table: dict[str, Any]) -> None:
    assert Counter(load("validation", validation_fraction=0.2, **table).column("label")) == {"a": 6, "b": 2}


def test_the_split_seed_alone_decides_which_rows(table: dict[str, Any]) -> None:
    def held_out(**data: Any) -> list[Any]:
        return list(load("validation", validation_fraction=0.2, **data, **table).column("text"))

    assert held_out() == held_out() != held_out(split_seed=1)


def test_a_validation_split_that_exists_is_used_instead(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("text", "label"), LETTERS)
    write_table(tmp_path / "validation.csv", ("text", "label"), [("own", "a")])

    train, validation = (load(split, path=str(tmp_path), validation_fraction=0.5) for split in ("train", "validation"))

    assert (len(train), validation.column("text")) == (40, ["own"])


def test_incomplete_rows_are_left_out_before_the_cut(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("text", "label"), [*LETTERS, ("", "a"), ("", "b")])
    options = {"path": str(tmp_path), "empty_text": "drop", "validation_fraction": 0.1}

    train, validation = load("train", **options), load("validation", **options)

    assert (len(train), len(validation), "" in [*train.column("text"), *validation.column("text")]) == (36, 4, False)


def test_too_few_rows_to_hold_any_out_are_an_error(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("text", "label"), [("x", "a"), ("y", "b")])

    with pytest.raises(DataError, match="2 rows are too few to hold out 10% of them"):
        load(path=str(tmp_path), validation_fraction=0.1)


def test_a_label_that_occurs_once_stays_in_train() -> None:
    assert hold_out(["a"] * 9 + ["b"], fraction=0.5, seed=0)[9] == False  # noqa: E712 - a numpy boolean


Chooser = Callable[[Sequence[Hashable], float, int], np.ndarray]


def unfair(choose: Chooser, labels: Sequence[str], fraction: float, seed: int) -> bool:
    """Whether a choice takes a whole label, or more than one row more or less than its share."""
    chosen = choose(labels, fraction, seed)
    for label in set(labels):
        members = np.array([value == label for value in labels])
        taken = int(chosen[members].sum())
        if taken == members.sum() or abs(taken - fraction * members.sum()) > 1:
            return True
    return False


def choose_by_stratum(labels: Sequence[Hashable], fraction: float, seed: int) -> np.ndarray:
    return hold_out(labels, fraction=fraction, seed=seed)


def choose_at_random(labels: Sequence[Hashable], fraction: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(len(labels)) < fraction


@given(
    st.lists(st.sampled_from("abcd"), min_size=2, max_size=60),
    st.floats(0.05, 0.6),
    st.integers(0, 2**32 - 1),
)
def test_every_label_gives_its_share_and_none_is_used_up(labels: list[str], fraction: float, seed: int) -> None:
    assert not unfair(choose_by_stratum, labels, fraction, seed)


def test_a_cut_that_ignores_the_labels_is_found() -> None:
    """Negative control."""
    assert any(unfair(choose_at_random, ["a"] * 20 + ["b"] * 20, 0.3, seed) for seed in range(20))


@given(st.lists(st.sampled_from("ab"), min_size=20, max_size=60), st.floats(0.1, 0.5))
def test_the_whole_cut_has_the_size_that_was_asked_for(labels: list[str], fraction: float) -> None:
    possible = sum(labels.count(label) - 1 for label in set(labels))
    wanted = min(max(1, round(fraction * len(labels))), possible)

    assert hold_out(labels, fraction=fraction, seed=0).sum() == wanted
