"""Features are made once and found again; whatever decides them is part of the key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WORDS, write_table

from ftcli.config.schema import config_type
from ftcli.data.preparation import (
    Features,
    PreparedSplit,
    Ragged,
    SplitStatistics,
    cache_directory,
    input_fields,
    label_counts,
    prepare,
)
from ftcli.data.sources import load_split
from ftcli.errors import DataError
from ftcli.tasks.base import LabelSet
from ftcli.tasks.tokenization import Tokenization

BERT = frozenset(("input_ids", "token_type_ids", "attention_mask"))
DISTILBERT = frozenset(("input_ids", "attention_mask"))
TWO = LabelSet(("bad", "good"))
# The tiny tokenizer numbers [PAD] [UNK] [CLS] [SEP] [MASK] 0 to 4, then WORDS.
CLS, SEP = 2, 3
THE, A, CAT, DOG = (5 + WORDS.index(word) for word in ("the", "a", "cat", "dog"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test."""
    monkeypatch.setenv("FTCLI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [("the cat", "a dog", "good"), ("the dog", "cat", "bad"), ("a", "a", "good")]
    write_table(tmp_path / "data" / "train.csv", ("first", "second", "label"), rows)
    return tmp_path / "data"


@pytest.fixture
def tokenization(tiny_model: Path) -> Tokenization:
    from transformers import AutoTokenizer

    return Tokenization(AutoTokenizer.from_pretrained(tiny_model, local_files_only=True), 16, BERT)


def prepared(
    folder: Path, tokenization: Tokenization, labels: LabelSet = TWO, text: Any = ("first", "second")
) -> PreparedSplit:
    config = config_type("text-classification").model_validate(
        {
            "task": "text-classification",
            "model": {"name_or_path": "unused"},
            "data": {"path": str(folder), "columns": {"text": list(text)}},
            "output_dir": "unused",
        }
    )
    task = config.build_task()
    return prepare(load_split(config.data, "train", task), task, labels, tokenization)


def column(split: PreparedSplit, name: str) -> list[list[int]]:
    values = split.features.columns[name]
    assert isinstance(values, Ragged)
    return [values[index].tolist() for index in range(len(split.features))]


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


# --- what the features are


def test_texts_become_the_token_ids_of_the_pair(folder: Path, tokenization: Tokenization) -> None:
    assert column(prepared(folder, tokenization), "input_ids") == [
        [CLS, THE, CAT, SEP, A, DOG, SEP],
        [CLS, THE, DOG, SEP, CAT, SEP],
        [CLS, A, SEP, A, SEP],
    ]


def test_label_becomes_labels(folder: Path, tokenization: Tokenization) -> None:
    features = prepared(folder, tokenization).features
    assert np.asarray(features.columns["labels"]).tolist() == [1, 0, 1]


def test_every_feature_knows_its_row(folder: Path, tokenization: Tokenization) -> None:
    assert prepared(folder, tokenization).features.rows.tolist() == [0, 1, 2]


def test_rows_beyond_the_first_thousand_keep_their_own_labels(tmp_path: Path, tokenization: Tokenization) -> None:
    rows = [("cat", "good") if number % 3 else ("dog", "bad") for number in range(2100)]
    write_table(tmp_path / "many" / "train.csv", ("first", "label"), rows)
    split = prepared(tmp_path / "many", tokenization, text=("first",))
    words = [ids[1] for ids in column(split, "input_ids")]
    expected = [(CAT, 1) if number % 3 else (DOG, 0) for number in range(2100)]
    assert list(zip(words, np.asarray(split.features.columns["labels"]).tolist(), strict=True)) == expected


def test_token_types_are_there_where_model_and_tokenizer_have_them(folder: Path, tokenization: Tokenization) -> None:
    assert column(prepared(folder, tokenization), "token_type_ids")[2] == [0, 0, 0, 1, 1]


def test_no_token_types_for_a_model_that_does_not_take_them(folder: Path, tokenization: Tokenization) -> None:
    split = prepared(folder, replace(tokenization, accepts=DISTILBERT))
    assert set(split.features.columns) == {"input_ids", "labels"}


def test_no_token_types_from_a_tokenizer_that_does_not_give_them(folder: Path, tokenization: Tokenization) -> None:
    tokenization.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    assert set(prepared(folder, tokenization).features.columns) == {"input_ids", "labels"}


def test_token_ids_are_padded_with_the_tokenizers_own_token(tokenization: Tokenization) -> None:
    tokenization.tokenizer.pad_token = "[MASK]"  # noqa: S105 - a token, no secret
    assert input_fields(tokenization)["input_ids"].pad == 4


@pytest.mark.parametrize(
    ("max_length", "expected"), [(7, [False] * 3), (6, [True, False, False]), (5, [True, True, False])]
)
def test_truncated_features_are_marked(
    folder: Path, tokenization: Tokenization, max_length: int, expected: list[bool]
) -> None:
    # The pairs take 7, 6 and 5 tokens.
    split = prepared(folder, replace(tokenization, max_length=max_length))
    assert split.features.truncated.tolist() == expected


def test_an_answer_that_does_not_fit_is_an_error_before_anything_is_cached(
    folder: Path, tokenization: Tokenization, cache: Path
) -> None:
    with pytest.raises(DataError, match="line 3: unknown label 'bad'"):
        prepared(folder, tokenization, LabelSet(("good", "fair")))
    assert not cache.exists()


# --- the cache


@pytest.fixture
def num_encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the texts that are tokenized from now on."""
    counts: list[int] = []
    original = Tokenization.__call__

    def counting(self: Tokenization, *texts: Any) -> Any:
        counts.append(len(texts[0]))
        return original(self, *texts)

    monkeypatch.setattr(Tokenization, "__call__", counting)
    return counts


def test_features_come_from_the_cache_the_second_time(
    folder: Path, tokenization: Tokenization, num_encoded: list[int]
) -> None:
    for _ in range(3):
        prepared(folder, tokenization)
    assert num_encoded == [3]


def test_what_a_tokenizer_was_used_for_before_does_not_matter(
    folder: Path, tokenization: Tokenization, num_encoded: list[int]
) -> None:
    prepared(folder, tokenization)
    tokenization.tokenizer(["the cat"] * 2, truncation=True, max_length=5, padding="max_length")
    prepared(folder, tokenization)
    assert num_encoded == [3]


def test_cached_features_equal_fresh_ones(folder: Path, tokenization: Tokenization) -> None:
    fresh, cached = (column(prepared(folder, tokenization), "input_ids") for _ in range(2))
    assert fresh == cached


def change_labels(folder: Path, tokenization: Tokenization) -> PreparedSplit:
    return prepared(folder, tokenization, LabelSet(("good", "bad")))


def change_max_length(folder: Path, tokenization: Tokenization) -> PreparedSplit:
    return prepared(folder, replace(tokenization, max_length=15))


def change_vocabulary(folder: Path, tokenization: Tokenization) -> PreparedSplit:
    tokenization.tokenizer.add_tokens(["newword"])
    return prepared(folder, tokenization)


def change_truncation_side(folder: Path, tokenization: Tokenization) -> PreparedSplit:
    tokenization.tokenizer.truncation_side = "left"
    return prepared(folder, tokenization)


def change_columns(folder: Path, tokenization: Tokenization) -> PreparedSplit:
    return prepared(folder, tokenization, text=("first",))


def swap_columns(folder: Path, tokenization: Tokenization) -> PreparedSplit:
    return prepared(folder, tokenization, text=("second", "first"))


def change_model_inputs(folder: Path, tokenization: Tokenization) -> PreparedSplit:
    return prepared(folder, replace(tokenization, accepts=DISTILBERT))


def change_one_byte(folder: Path, tokenization: Tokenization) -> PreparedSplit:
    path = folder / "train.csv"
    path.write_bytes(path.read_bytes().replace(b"the cat", b"the bat"))
    return prepared(folder, tokenization)


@pytest.mark.parametrize(
    "change",
    [
        change_labels,
        change_max_length,
        change_vocabulary,
        change_truncation_side,
        change_columns,
        swap_columns,
        change_model_inputs,
        change_one_byte,
    ],
)
def test_whatever_decides_the_features_is_part_of_the_key(
    folder: Path, tokenization: Tokenization, num_encoded: list[int], change: Any
) -> None:
    prepared(folder, tokenization)
    change(folder, tokenization)
    assert num_encoded == [3, 3]


def test_a_crash_while_encoding_leaves_no_entry(
    folder: Path, tokenization: Tokenization, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    save = np.save

    def failing(path: Path, *arguments: Any, **options: Any) -> None:
        saved.append(str(path))
        if len(saved) == 3:
            raise OSError("no space left on device")
        save(path, *arguments, **options)

    monkeypatch.setattr(np, "save", failing)
    with pytest.raises(DataError, match=r"the cache cannot be written: no space.*FTCLI_CACHE"):
        prepared(folder, tokenization)
    assert [entry for entry in entries(cache) if entry.suffix != ".partial"] == []


def test_after_a_crash_the_features_are_made_anew(folder: Path, tokenization: Tokenization, cache: Path) -> None:
    expected = column(prepared(folder, tokenization), "input_ids")
    (entry,) = entries(cache)
    entry.rename(entry.with_suffix(".partial"))
    (entry.with_suffix(".partial") / "input_ids.npy").write_bytes(b"half")
    assert column(prepared(folder, tokenization), "input_ids") == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"FTCLI_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, Path("/a")),
        ({"FTCLI_CACHE": "", "XDG_CACHE_HOME": "/b"}, Path("/b/ftcli")),
        ({"FTCLI_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, Path("/c/.cache/ftcli")),
    ],
)
def test_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: Path
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_directory() == expected


# --- statistics, by hand


def features_of(lengths: list[int], *, truncated: list[bool], labels: list[int]) -> Features:
    ids = Ragged(np.zeros(sum(lengths), "int32"), np.cumsum([0, *lengths]))
    return Features(
        {"input_ids": ids, "labels": np.asarray(labels)},
        rows=np.arange(len(lengths)),
        truncated=np.asarray(truncated, bool),
        num_rows=len(lengths),
    )


def test_statistics_of_a_split() -> None:
    # Sorted lengths 2, 3, 5, 7, 8; quantile q is the entry at floor(4 q): 0, 1, 2, 3, 3 and 4.
    features = features_of([5, 3, 8, 2, 7], truncated=[False, False, True, False, True], labels=[0] * 5)
    assert SplitStatistics.of(features) == SplitStatistics(
        num_rows=5,
        num_features=5,
        num_tokens=25,
        truncated_share=0.4,
        length_quantiles={"min": 2, "p25": 3, "median": 5, "p75": 7, "p95": 7, "max": 8},
    )


def test_a_split_without_features_has_no_statistics() -> None:
    with pytest.raises(DataError, match="no rows"):
        SplitStatistics.of(features_of([], truncated=[], labels=[]))


def test_labels_are_counted_by_name_also_where_there_are_none() -> None:
    features = features_of([2, 2, 2], truncated=[False] * 3, labels=[2, 0, 2])
    assert label_counts(features, LabelSet(("a", "b", "c", "d"))) == {"a": 1, "b": 0, "c": 2, "d": 0}


def test_labels_of_tokens_are_counted_without_the_ignored_ones() -> None:
    features = replace(
        features_of([3], truncated=[False], labels=[0]),
        columns={"labels": Ragged(np.asarray([1, -100, 0]), np.asarray([0, 3]))},
    )
    assert label_counts(features, TWO) == {"bad": 1, "good": 1}
