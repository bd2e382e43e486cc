"""Updates are planned once; whatever cuts them covers each feature exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from ftcli.data.batching import (
    MicroBatch,
    UpdatePlan,
    cut,
    deal,
    default_micro_batch_size,
    plan_epoch,
    plan_evaluation,
)

Cut = Callable[..., list[list[MicroBatch]]]


def lengths(count: int) -> np.ndarray:
    return np.full(count, 5)


def epoch_of(count: int, batch_size: int, *, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    return [u.tolist() for u in plan_epoch(lengths(count), batch_size=batch_size, seed=seed, epoch=epoch)]


# --- plan_epoch


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 17])
def test_an_epoch_holds_every_feature_once(count: int, batch_size: int) -> None:
    assert sorted(feature for update in epoch_of(count, batch_size) for feature in update) == list(range(count))


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(8, 8, [8]), (17, 8, [8, 8, 1]), (3, 8, [3]), (6, 2, [2, 2, 2]), (7, 2, [2, 2, 2, 1])],
)
def test_only_the_last_update_of_an_epoch_is_short(count: int, batch_size: int, sizes: list[int]) -> None:
    assert [len(update) for update in epoch_of(count, batch_size)] == sizes


def test_the_same_arguments_give_the_same_epoch_whatever_was_drawn_between() -> None:
    first = epoch_of(50, 8, seed=3, epoch=2)
    np.random.default_rng(3).permutation(50)
    np.random.seed(3)  # the global generator must not matter
    assert epoch_of(50, 8, seed=3, epoch=2) == first


def test_another_epoch_has_another_order() -> None:
    assert epoch_of(50, 8, epoch=0) != epoch_of(50, 8, epoch=1)


def test_another_seed_has_another_order() -> None:
    assert epoch_of(50, 8, seed=0) != epoch_of(50, 8, seed=1)


def test_seed_and_epoch_are_not_summed() -> None:
    assert epoch_of(50, 8, seed=1, epoch=0) != epoch_of(50, 8, seed=0, epoch=1)


# --- cut

GRID = [
    (count, processes, micro)
    for count in range(1, 18)
    for processes in (1, 2, 3, 5, 8)
    for micro in (1, 2, 3, 4, 8, 20)
]


def uncovered(cutter: Cut) -> list[tuple[int, int, int]]:
    """List the (features, processes, micro-batch size) for which a cut does not cover each feature once."""
    wrong = []
    for count, processes, micro in GRID:
        update = list(range(100, 100 + count))
        parts = cutter(update, num_processes=processes, micro_batch_size=micro)
        counted = [feature for part in parts for batch in part if batch.counts for feature in batch.features]
        if sorted(counted) != update:
            wrong.append((count, processes, micro))
    return wrong


def test_every_cut_covers_each_feature_once() -> None:
    assert uncovered(cut) == []


def drop_the_last(update: Sequence[int], **how: int) -> list[list[MicroBatch]]:
    return cut(update[: max(1, len(update) - 1)], **how)


def repeat_the_first(update: Sequence[int], **how: int) -> list[list[MicroBatch]]:
    return cut([update[0], *update], **how)


def floor_the_share(update: Sequence[int], *, num_processes: int, micro_batch_size: int) -> list[list[MicroBatch]]:
    share = max(1, len(update) // num_processes)  # what is left over is lost
    return cut(update[: share * num_processes], num_processes=num_processes, micro_batch_size=micro_batch_size)


@pytest.mark.parametrize("wrong_cut", [drop_the_last, repeat_the_first, floor_the_share])
def test_the_check_catches_a_cut_that_does_not_cover(wrong_cut: Cut) -> None:
    assert uncovered(wrong_cut) != []


def test_an_update_is_cut_into_even_parts_in_order() -> None:
    assert cut(range(10, 18), num_processes=2, micro_batch_size=3) == [
        [MicroBatch((10, 11, 12)), MicroBatch((13,))],
        [MicroBatch((14, 15, 16)), MicroBatch((17,))],
    ]


def test_no_micro_batch_is_larger_than_asked_or_empty() -> None:
    sizes = {
        (micro, len(batch.features))
        for count, processes, micro in GRID
        for part in cut(range(count), num_processes=processes, micro_batch_size=micro)
        for batch in part
    }
    assert all(1 <= size <= micro for micro, size in sizes)


def test_every_process_takes_part_in_every_update() -> None:
    numbers = {
        (processes, len(parts), min(map(len, parts)) >= 1)
        for count, processes, micro in GRID
        for parts in [cut(range(count), num_processes=processes, micro_batch_size=micro)]
    }
    assert all(processes == parts and nobody_idle for processes, parts, nobody_idle in numbers)


def test_a_process_without_features_computes_one_that_does_not_count() -> None:
    parts = cut([7], num_processes=3, micro_batch_size=4)
    assert sorted(parts, key=lambda part: part[0].counts) == [
        [MicroBatch((7,), counts=False)],
        [MicroBatch((7,), counts=False)],
        [MicroBatch((7,), counts=True)],
    ]


@pytest.mark.parametrize(("batch_size", "processes", "size"), [(8, 1, 8), (8, 2, 4), (8, 3, 3), (2, 4, 1)])
def test_by_default_each_process_needs_one_micro_batch(batch_size: int, processes: int, size: int) -> None:
    assert default_micro_batch_size(batch_size, processes) == size


# --- evaluation


def test_evaluation_takes_the_longest_first_and_equals_in_order() -> None:
    batches = plan_evaluation(np.array([5, 9, 5, 2, 9, 7, 5]), batch_size=3)

    assert [batch.tolist() for batch in batches] == [[1, 4, 5], [0, 2, 6], [3]]


def test_nothing_to_evaluate_is_no_batch() -> None:
    assert plan_evaluation(np.array([], int), batch_size=3) == []


def undealt(dealer: Callable[..., Sequence[int]]) -> list[tuple[int, int]]:
    """List the (batches, processes) for which dealing does not give each batch to one process."""
    return [
        (batches, processes)
        for batches in range(18)
        for processes in range(1, 6)
        if sorted(b for rank in range(processes) for b in dealer(batches, num_processes=processes, rank=rank))
        != list(range(batches))
    ]


def test_every_batch_is_dealt_to_one_process() -> None:
    assert undealt(deal) == []


def test_the_check_catches_dealing_that_pads_to_equal_shares() -> None:
    def padded(num_batches: int, *, num_processes: int, rank: int) -> list[int]:
        share = -(-num_batches // num_processes)
        return [min(rank + step * num_processes, num_batches - 1) for step in range(share)]

    assert undealt(padded) != []


# --- UpdatePlan


def plan(count: int, batch_size: int, epochs: int, max_steps: int | None = None) -> UpdatePlan:
    return UpdatePlan(lengths(count), batch_size=batch_size, epochs=epochs, max_steps=max_steps, seed=42)


def test_mrpc_for_three_epochs_of_batches_of_eight_is_1377_updates() -> None:
    assert plan(3668, 8, 3).num_updates == 1377


def test_a_plan_yields_as_many_updates_as_it_promises() -> None:
    assert len(list(plan(3668, 8, 3))) == 1377


@pytest.mark.parametrize(("max_steps", "updates"), [(1, 1), (4, 4), (6, 6), (7, 7), (9, 9), (100, 9)])
def test_max_steps_ends_a_plan_earlier_and_never_lengthens_it(max_steps: int, updates: int) -> None:
    assert [update.step for update in plan(17, 8, 3, max_steps)] == list(range(1, updates + 1))


def test_max_steps_does_not_change_the_updates_before_it() -> None:
    whole = [update.features.tolist() for update in plan(17, 8, 3)]
    assert [update.features.tolist() for update in plan(17, 8, 3, 5)] == whole[:5]


def test_a_plan_counts_epochs_from_zero() -> None:
    assert [update.epoch for update in plan(17, 8, 2)] == [0, 0, 0, 1, 1, 1]


def test_a_plan_is_the_epochs_one_after_the_other() -> None:
    expected = [*epoch_of(17, 8, seed=42, epoch=0), *epoch_of(17, 8, seed=42, epoch=1)]
    assert [update.features.tolist() for update in plan(17, 8, 2)] == expected
