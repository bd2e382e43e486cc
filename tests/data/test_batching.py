"""Updates are planned once; whatever cuts them covers each feature exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from ftcli.config.schema import Sampling
from ftcli.data.batching import (
    MicroBatch,
    UpdatePlan,
    cut,
    deal,
    plan_epoch,
    plan_evaluation,
)

Cut = Callable[..., list[list[MicroBatch]]]


def lengths(count: int) -> np.ndarray:
    return np.full(count, 5)


def mixed_lengths(count: int) -> np.ndarray:
    """Lengths as in a data set of sentences: most are short, few are long."""
    return np.random.default_rng(0).geometric(0.05, count) + 3


def epoch_of(
    count: int, batch_size: int, *, seed: int = 0, epoch: int = 0, sampling: Sampling = "random", **more: Any
) -> list[list[int]]:
    updates = plan_epoch(mixed_lengths(count), batch_size=batch_size, sampling=sampling, seed=seed, epoch=epoch, **more)
    return [update.tolist() for update in updates]


SAMPLINGS: tuple[Sampling, ...] = ("random", "group_by_length")


# --- plan_epoch


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("tokens", [None, 1, 50, 400])
@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 17, 901])
def test_an_epoch_holds_every_feature_once(count: int, batch_size: int, tokens: int | None, sampling: Sampling) -> None:
    planned = epoch_of(count, batch_size, sampling=sampling, tokens_per_batch=tokens)
    assert sorted(feature for update in planned for feature in update) == list(range(count))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(8, 8, [8]), (17, 8, [8, 8, 1]), (3, 8, [3]), (6, 2, [2, 2, 2]), (7, 2, [2, 2, 2, 1]), (401, 4, [4] * 100 + [1])],
)
def test_only_the_last_update_of_an_epoch_is_short(
    count: int, batch_size: int, sizes: list[int], sampling: Sampling
) -> None:
    assert [len(update) for update in epoch_of(count, batch_size, sampling=sampling)] == sizes


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_same_arguments_give_the_same_epoch_whatever_was_drawn_between(sampling: Sampling) -> None:
    first = epoch_of(500, 8, seed=3, epoch=2, sampling=sampling)
    np.random.default_rng(3).permutation(50)
    np.random.seed(3)  # the global generator must not matter
    assert epoch_of(500, 8, seed=3, epoch=2, sampling=sampling) == first


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("other", [{"seed": 1, "epoch": 1}, {"seed": 2, "epoch": 0}, {"seed": 0, "epoch": 1}])
def test_another_seed_or_epoch_has_another_order(other: dict[str, int], sampling: Sampling) -> None:
    """The last case: seed and epoch are not summed."""
    one = epoch_of(50, 8, seed=1, epoch=0, sampling=sampling)
    assert epoch_of(50, 8, sampling=sampling, **other) != one


def slots(updates: list[list[int]], lengths: np.ndarray) -> int:
    return sum(len(update) * int(lengths[update].max()) for update in updates)


def test_grouping_leaves_less_than_a_twentieth_of_the_padding() -> None:
    lengths = mixed_lengths(4000)
    padding = {s: slots(epoch_of(4000, 8, sampling=s), lengths) - int(lengths.sum()) for s in SAMPLINGS}
    assert padding["group_by_length"] < padding["random"] / 20


def test_grouping_keeps_to_windows_of_fifty_updates_in_shuffled_order() -> None:
    """Worked from the definition: sorting all 4,000 at once would leave one run of the longest."""
    lengths = mixed_lengths(4000)
    longest = [set(update) for update in epoch_of(4000, 8, sampling="group_by_length")]
    order = np.random.default_rng([0, 0]).permutation(4000)
    window = order[:400]
    assert set(window[np.argsort(-lengths[window], kind="stable")][:8].tolist()) in longest


def test_grouped_updates_come_in_no_order_of_length() -> None:
    lengths = mixed_lengths(4000)
    means = np.array([lengths[update].mean() for update in epoch_of(4000, 8, sampling="group_by_length")])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.1


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_an_update_by_tokens_fits_its_budget_and_would_not_hold_much_more(sampling: Sampling) -> None:
    lengths = mixed_lengths(2000)
    taken = [len(u) * int(lengths[u].max()) for u in epoch_of(2000, 8, sampling=sampling, tokens_per_batch=512)]
    assert max(taken) <= 512
    assert np.median(taken) > 512 * 0.75


def test_a_feature_over_the_budget_is_an_update_of_its_own() -> None:
    planned = plan_epoch(
        np.array([3, 90, 3]), batch_size=8, sampling="group_by_length", seed=0, epoch=0, tokens_per_batch=10
    )
    assert sorted(sorted(update.tolist()) for update in planned) == [[0, 2], [1]]


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
        parts = cutter(update, mixed_lengths(200), num_processes=processes, micro_batch_size=micro)
        counted = [feature for part in parts for batch in part if batch.counts for feature in batch.features]
        if sorted(counted) != update:
            wrong.append((count, processes, micro))
    return wrong


def test_every_cut_covers_each_feature_once() -> None:
    assert uncovered(cut) == []


def drop_the_last(update: Sequence[int], lengths: np.ndarray, **how: int) -> list[list[MicroBatch]]:
    return cut(update[: max(1, len(update) - 1)], lengths, **how)


def repeat_the_first(update: Sequence[int], lengths: np.ndarray, **how: int) -> list[list[MicroBatch]]:
    return cut([update[0], *update], lengths, **how)


def floor_the_share(
    update: Sequence[int], lengths: np.ndarray, *, num_processes: int, micro_batch_size: int
) -> list[list[MicroBatch]]:
    share = max(1, len(update) // num_processes)  # what is left over is lost
    kept = update[: share * num_processes]
    return cut(kept, lengths, num_processes=num_processes, micro_batch_size=micro_batch_size)


@pytest.mark.parametrize("wrong_cut", [drop_the_last, repeat_the_first, floor_the_share])
def test_the_check_catches_a_cut_that_does_not_cover(wrong_cut: Cut) -> None:
    assert uncovered(wrong_cut) != []


def test_an_update_of_like_lengths_is_cut_into_even_parts_in_order() -> None:
    assert cut(range(10, 18), lengths(20), num_processes=2, micro_batch_size=3) == [
        [MicroBatch((10, 11, 12)), MicroBatch((13,))],
        [MicroBatch((14, 15, 16)), MicroBatch((17,))],
    ]


def test_a_process_with_long_features_gets_fewer_of_them() -> None:
    """Worked by hand: 1 x 12 and 4 x 3 slots; by number it would be 3 x 12 and 2 x 3."""
    parts = cut(range(5), np.array([3, 3, 12, 3, 3]), num_processes=2, micro_batch_size=None)
    assert parts == [[MicroBatch((2,))], [MicroBatch((0, 1, 3, 4))]]


def test_an_update_that_is_not_cut_keeps_its_order() -> None:
    assert cut([3, 1, 2], np.array([1, 2, 3, 4]), num_processes=1, micro_batch_size=None) == [[MicroBatch((3, 1, 2))]]


def test_no_micro_batch_is_larger_than_asked_or_empty() -> None:
    sizes = {
        (micro, len(batch.features))
        for count, processes, micro in GRID
        for part in cut(range(count), mixed_lengths(20), num_processes=processes, micro_batch_size=micro)
        for batch in part
    }
    assert all(1 <= size <= micro for micro, size in sizes)


def test_every_process_takes_part_in_every_update() -> None:
    numbers = {
        (processes, len(parts), min(map(len, parts)) >= 1)
        for count, processes, micro in GRID
        for parts in [cut(range(count), mixed_lengths(20), num_processes=processes, micro_batch_size=micro)]
    }
    assert all(processes == parts and nobody_idle for processes, parts, nobody_idle in numbers)


def test_a_process_without_features_computes_one_that_does_not_count() -> None:
    parts = cut([7], lengths(8), num_processes=3, micro_batch_size=4)
    assert sorted(parts, key=lambda part: part[0].counts) == [
        [MicroBatch((7,), counts=False)],
        [MicroBatch((7,), counts=False)],
        [MicroBatch((7,), counts=True)],
    ]


# --- evaluation


def test_evaluation_takes_the_longest_first_and_equals_in_order() -> None:
    batches = plan_evaluation(np.array([5, 9, 5, 2, 9, 7, 5]), batch_size=3, tokens_per_batch=100)

    assert [batch.tolist() for batch in batches] == [[1, 4, 5], [0, 2, 6], [3]]


def test_nothing_to_evaluate_is_no_batch() -> None:
    assert plan_evaluation(np.array([], int), batch_size=3, tokens_per_batch=100) == []


def test_an_evaluation_batch_fits_its_budget_of_tokens_and_holds_one_feature_at_least() -> None:
    """Worked by hand: 30 > 20; 9 + 7 as 2 x 9; 4 x 5; the rest."""
    batches = plan_evaluation(np.array([5, 9, 5, 2, 30, 7, 5, 5]), batch_size=8, tokens_per_batch=20)

    assert [batch.tolist() for batch in batches] == [[4], [1, 5], [0, 2, 6, 7], [3]]


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
    return UpdatePlan(
        mixed_lengths(count), batch_size=batch_size, sampling="random", epochs=epochs, max_steps=max_steps, seed=42
    )


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


def test_a_plan_says_how_much_of_the_data_has_been_seen() -> None:
    assert [update.passes for update in plan(17, 8, 2)] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])


def test_a_plan_by_tokens_counts_the_updates_that_it_yields() -> None:
    planned = UpdatePlan(
        mixed_lengths(301), 8, "group_by_length", epochs=3, max_steps=None, seed=1, tokens_per_batch=128
    )
    steps = [update.epoch for update in planned]
    assert planned.epoch_ends == [steps.index(1), steps.index(2), len(steps)]
    assert planned.num_updates == len(steps)
