"""Tokenization equals the tokenizer's own truncation, and stays small where that does not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from conftest import WORDS

from ftcli.tasks.tokenization import Tokenization

INPUTS = frozenset(("input_ids", "token_type_ids", "attention_mask"))


def load(folder: Path, **options: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)


def text_of(count: int, *, seed: int = 0) -> str:
    """Make a text of this many words, some unknown to the tokenizer, with punctuation in between."""
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    return " ".join(draw.choice([*WORDS, "Unheard", "x" * 40, "漢字", "cat,dog", "naïve"]) for _ in range(count))


def own_answer(tokenizer: Any, max_length: int, *texts: list[str]) -> tuple[Any, Any, list[bool]]:
    """Ask the tokenizer itself, with truncation: the oracle."""
    encoded = tokenizer(*texts, truncation=True, max_length=max_length)
    return encoded["input_ids"], encoded["token_type_ids"], [bool(e.overflowing) for e in encoded.encodings]


def our_answer(tokenizer: Any, max_length: int, *texts: list[str]) -> tuple[Any, Any, list[bool]]:
    columns, truncated = Tokenization(tokenizer, max_length, INPUTS)(*texts)
    return columns["input_ids"], columns["token_type_ids"], truncated


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("max_length", [16, 33, 64])
@pytest.mark.parametrize("words", [0, 1, 14, 15, 31, 62, 63, 200, 1000, 5000])
def test_a_text_is_truncated_as_the_tokenizer_does(tiny_model: Path, words: int, max_length: int, side: str) -> None:
    texts = [text_of(words), text_of(words + 1, seed=1)]
    expected = own_answer(load(tiny_model, truncation_side=side), max_length, texts)
    assert our_answer(load(tiny_model, truncation_side=side), max_length, texts) == expected


# The tokenizer's own memory for a pair grows with the product of the lengths: 500 by 5,000 words is enough.
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("max_length", [63, 64])
@pytest.mark.parametrize(
    "words",
    [
        *[(0, 3), (3, 4), (30, 30), (31, 30), (20, 5000), (5000, 20), (90, 300), (300, 90)],
        *[(500, 505), (505, 500), (500, 5000), (5000, 500), (400, 400)],
    ],
    ids=str,
)
def test_a_pair_is_truncated_as_the_tokenizer_does(
    tiny_model: Path, words: tuple[int, int], max_length: int, side: str
) -> None:
    texts = [text_of(words[0])], [text_of(words[1], seed=1)]
    expected = own_answer(load(tiny_model, truncation_side=side), max_length, *texts)
    assert our_answer(load(tiny_model, truncation_side=side), max_length, *texts) == expected


def test_the_limits_that_a_tokenizer_file_carries_do_not_matter(tiny_model: Path) -> None:
    tokenizer = load(tiny_model)
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    texts = ["the cat", text_of(2000)]
    assert our_answer(tokenizer, 64, texts) == own_answer(load(tiny_model), 64, texts)


@pytest.mark.parametrize("earlier_calls", [0, 1])
@pytest.mark.parametrize("word", ["cat ", "cat,"], ids=["spaces", "no space"])
def test_most_of_a_million_characters_is_cut_off_before_the_tokenizer_is_asked(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, word: str, earlier_calls: int
) -> None:
    tokenizer = load(tiny_model)
    tokenization = Tokenization(tokenizer, 64, INPUTS)
    for _ in range(earlier_calls):  # what a call leaves in the tokenizer must not hide how long a text is
        tokenization(["the cat"], ["a dog"])
    seen: list[int] = []
    ask = type(tokenizer).__call__

    def spy(self: Any, texts: list[str], **how: Any) -> Any:
        seen.extend(map(len, texts))
        return ask(self, texts, **how)

    monkeypatch.setattr(type(tokenizer), "__call__", spy)
    tokenization([word * 250_000])
    assert max(seen) < 2000


def test_a_million_characters_without_end_of_word_are_one_token(tiny_model: Path) -> None:
    columns, truncated = Tokenization(load(tiny_model), 64, INPUTS)(["x" * 1_000_000])
    assert (len(columns["input_ids"][0]), truncated) == (3, [False])


def test_40_a_pair_of_million_character_texts_is_truncated_and_counted(tiny_model: Path) -> None:
    text = "cat " * 250_000
    tokenization = Tokenization(load(tiny_model), 64, INPUTS)
    tokenization(["the"], ["a"])
    columns, truncated = tokenization([text], [text])
    assert (len(columns["input_ids"][0]), truncated) == (64, [True])


@pytest.mark.parametrize(
    ("texts", "expected"), [(["the cat"], [False]), (["cat " * 62], [False]), (["cat " * 63], [True])]
)
def test_a_text_counts_as_truncated_when_it_loses_a_token(
    tiny_model: Path, texts: list[str], expected: list[bool]
) -> None:
    # 62 words, [CLS] and [SEP] are 64 tokens.
    assert Tokenization(load(tiny_model), 64, INPUTS)(texts)[1] == expected


def test_a_pair_is_two_segments(tiny_model: Path) -> None:
    columns, _ = Tokenization(load(tiny_model), 64, INPUTS)(["the cat"], ["a dog runs"])
    # [CLS] the cat [SEP] a dog runs [SEP]
    assert columns["token_type_ids"] == [[0, 0, 0, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [
        (INPUTS, {"input_ids", "token_type_ids"}),
        (frozenset(("input_ids", "attention_mask")), {"input_ids"}),
        (frozenset(("input_ids", "inputs_embeds", "labels")), {"input_ids"}),
    ],
)
def test_columns_that_the_model_does_not_take_are_dropped(
    tiny_model: Path, accepts: frozenset[str], expected: set[str]
) -> None:
    columns, _ = Tokenization(load(tiny_model), 64, accepts)(["the cat"], ["a dog"])
    assert set(columns) == expected
