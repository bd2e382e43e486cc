"""Padding, worked by hand: two features of three and one tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ftcli.data.collation import Collation, model_inputs, without_full_mask
from ftcli.data.preparation import Features, Ragged
from ftcli.tasks.base import Field

FIELDS = {
    "input_ids": Field(pad=9),
    "token_type_ids": Field(pad=0),
    "labels": Field(pad=0, per_token=False, is_target=True),
    "tags": Field(pad=-100, is_target=True),
    "weights": Field(pad=0.0, is_target=True, dtype="float32"),
}


def ragged(*sequences: list[float], dtype: str = "int32") -> Ragged:
    return Ragged(
        np.asarray([value for sequence in sequences for value in sequence], dtype),
        np.cumsum([0, *[len(sequence) for sequence in sequences]]),
    )


@pytest.fixture
def features() -> Features:
    columns = {
        "input_ids": ragged([1, 2, 3], [4], [5, 6]),
        "token_type_ids": ragged([0, 1, 1], [1], [0, 0]),
        "labels": np.asarray([1, 0, 2], "int32"),
        "tags": ragged([7, -100, 8], [6], [5, 5]),
        "weights": ragged([0.5, 1.0, 2.0], [0.25], [1.0, 1.0], dtype="float32"),
    }
    return Features(columns, rows=np.arange(3), truncated=np.zeros(3, bool), num_rows=3)


def collate(features: Features, *indices: int, **settings: Any) -> dict[str, torch.Tensor]:
    return Collation(fields=FIELDS, **settings)(features, indices)


@pytest.mark.parametrize(
    ("name", "right", "left"),
    [
        ("input_ids", [[1, 2, 3], [4, 9, 9]], [[1, 2, 3], [9, 9, 4]]),
        ("token_type_ids", [[0, 1, 1], [1, 0, 0]], [[0, 1, 1], [0, 0, 1]]),
        ("tags", [[7, -100, 8], [6, -100, -100]], [[7, -100, 8], [-100, -100, 6]]),
        ("weights", [[0.5, 1, 2], [0.25, 0, 0]], [[0.5, 1, 2], [0, 0, 0.25]]),
        ("attention_mask", [[1, 1, 1], [1, 0, 0]], [[1, 1, 1], [0, 0, 1]]),
        ("labels", [1, 0], [1, 0]),
    ],
)
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_field_is_padded_with_its_own_value_on_the_given_side(
    features: Features, side: str, name: str, right: list[Any], left: list[Any]
) -> None:
    assert collate(features, 0, 1, padding_side=side)[name].tolist() == (right if side == "right" else left)


def test_features_come_in_the_order_of_the_indices(features: Features) -> None:
    assert collate(features, 2, 0)["input_ids"].tolist() == [[5, 6, 9], [1, 2, 3]]


def test_a_batch_is_as_long_as_its_longest_feature(features: Features) -> None:
    assert collate(features, 1, 2)["input_ids"].shape == (2, 2)


@pytest.mark.parametrize(
    ("settings", "slots"),
    [
        ({}, 3),
        ({"fixed_length": 6}, 6),
        ({"multiple_of": 4}, 4),
        ({"multiple_of": 3}, 3),
        ({"fixed_length": 6, "multiple_of": 4}, 8),
        ({"multiple_of": 8, "limit": 5}, 5),
        ({"multiple_of": 8, "finer_below": 8}, 4),
        ({"multiple_of": 8, "finer_below": 4}, 4),
        ({"multiple_of": 8, "finer_below": 2}, 8),
        ({"multiple_of": 8, "finer_below": 64}, 3),
        ({"limit": 64}, 3),
    ],
)
def test_padded_length(features: Features, settings: dict[str, int], slots: int) -> None:
    assert collate(features, 0, 1, **settings)["input_ids"].shape == (2, slots)


def test_a_fixed_length_is_masked_out(features: Features) -> None:
    assert collate(features, 1, fixed_length=4)["attention_mask"].tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize("name", ["input_ids", "token_type_ids", "labels", "tags", "attention_mask"])
def test_whole_numbers_are_int64_however_they_are_stored(features: Features, name: str) -> None:
    assert collate(features, 0, 1)[name].dtype == torch.int64


def test_fractions_keep_the_type_of_their_field(features: Features) -> None:
    assert collate(features, 0)["weights"].dtype == torch.float32


def test_the_model_sees_everything_but_the_targets(features: Features) -> None:
    batch = collate(features, 0)
    assert set(model_inputs(batch, FIELDS)) == {"input_ids", "token_type_ids", "attention_mask"}


def test_a_mask_is_left_out_only_where_it_masks_nothing(features: Features) -> None:
    full, padded = collate(features, 0), collate(features, 0, 1)

    assert full.keys() - without_full_mask(full).keys() == {"attention_mask"}
    assert without_full_mask(padded).keys() == padded.keys()


@pytest.mark.parametrize("full_masks", [True, False])
def test_a_batch_on_a_device_has_a_full_mask_if_it_is_to_have_one(features: Features, full_masks: bool) -> None:
    collation = Collation(FIELDS, full_masks=full_masks)

    assert ("attention_mask" in collation.on_device(features, [0], torch.device("cpu"))) is full_masks
    assert "attention_mask" in collation.on_device(features, [0, 1], torch.device("cpu"))
