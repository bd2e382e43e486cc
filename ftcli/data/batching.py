"""Which features form each update, and which process computes which part.

`plan_epoch` is the mathematics of a run, `cut` its execution: whatever the cut, the updates are the same.
Both are pure functions. Evaluation forms its batches once and deals whole batches, so its numbers do not
depend on how many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate

import numpy as np

from ftcli.config.schema import Sampling

# Updates that share a window of shuffled features. Within it they are formed by length, so that a wider window
# leaves less padding, and a narrower one a composition closer to chance.
WINDOW = 50


@dataclass(frozen=True)
class MicroBatch:
    """Features of one forward and backward pass. counts: False for one that weighs nothing."""

    features: tuple[int, ...]
    counts: bool = True


def plan_epoch(
    lengths: np.ndarray,
    *,
    batch_size: int,
    sampling: Sampling,
    seed: int,
    epoch: int,
    tokens_per_batch: int | None = None,
) -> list[np.ndarray]:
    """List the feature indices of each update of one epoch.

    lengths: (F,) tokens a feature. tokens_per_batch: fill each update up to this many slots, instead of taking
    batch_size features. The lists cover 0..F-1 exactly once; without tokens_per_batch only the last may be short.
    A pure function: the same arguments give the same updates on every process and after a resume.
    `group_by_length` sorts within windows of a shuffled order and shuffles the updates, as the samplers of
    fairseq and transformers do; what the last, short update holds is left to chance.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    divide: Callable[[np.ndarray], list[np.ndarray]]
    if tokens_per_batch is None:
        divide, mean_size = partial(_by_count, size=batch_size), batch_size
        num_grouped = len(order) // batch_size * batch_size
    else:
        divide = partial(_by_slots, lengths=lengths, budget=tokens_per_batch)
        mean_size = max(1, int(tokens_per_batch // lengths.mean()))
        num_grouped = len(order)
    if sampling == "random":
        return divide(order)
    windows = _by_count(order[:num_grouped], WINDOW * mean_size)
    longest_first = [window[np.argsort(-lengths[window], kind="stable")] for window in windows]
    updates = [update for window in longest_first for update in divide(window)]
    shuffled = [updates[index] for index in generator.permutation(len(updates))]
    return shuffled + _by_count(order[num_grouped:], batch_size)


def _by_count(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _by_slots(order: np.ndarray, lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Divide an order where one more feature would take the padded batch over the budget."""
    starts, longest = [0], 0
    for position, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        if longest * (position + 1 - starts[-1]) > budget and position > starts[-1]:
            starts.append(position)
            longest = length
    return np.split(order, starts[1:])


@dataclass(frozen=True)
class Update:
    """One update of a run. step counts from 1; epoch from 0; features: the indices it learns from.

    passes: passes over the data when it is done, a fraction.
    """

    step: int
    epoch: int
    features: np.ndarray
    passes: float


@dataclass(frozen=True)
class UpdatePlan:
    """All updates of a run, in order: the mathematics, without the machine.

    lengths: (F,) tokens a feature. batch_size: features an update; tokens_per_batch: slots an update, instead.
    max_steps: ends the run earlier.
    """

    lengths: np.ndarray
    batch_size: int
    sampling: Sampling
    epochs: int
    max_steps: int | None
    seed: int
    tokens_per_batch: int | None = None

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """List the updates of one epoch."""
        return plan_epoch(
            self.lengths,
            batch_size=self.batch_size,
            tokens_per_batch=self.tokens_per_batch,
            sampling=self.sampling,
            seed=self.seed,
            epoch=epoch,
        )

    @cached_property
    def epoch_ends(self) -> list[int]:
        """The last step of each epoch, if nothing ends the run earlier."""
        if self.tokens_per_batch is None:
            size = -(-len(self.lengths) // self.batch_size)
            return [size * epoch for epoch in range(1, self.epochs + 1)]
        return list(accumulate(len(self.epoch(epoch)) for epoch in range(self.epochs)))

    @property
    def num_updates(self) -> int:
        """The updates that will really run."""
        planned = self.epoch_ends[-1]
        return planned if self.max_steps is None else min(planned, self.max_steps)

    def __iter__(self) -> Iterator[Update]:
        return self.updates()

    def updates(self, after: int = 0) -> Iterator[Update]:
        """Yield the updates that come after a step: the cursor of a run is nothing but that number."""
        step = 0
        for epoch, end in enumerate(self.epoch_ends):
            if end > after:
                planned = self.epoch(epoch)
                for number, features in enumerate(planned[: self.num_updates - step], start=1):
                    if step + number > after:
                        yield Update(step + number, epoch, features, epoch + number / len(planned))
            step = end
            if step >= self.num_updates:
                return


def cut(
    update: Sequence[int] | np.ndarray, lengths: np.ndarray, *, num_processes: int, micro_batch_size: int | None
) -> list[list[MicroBatch]]:
    """Cut one update into the micro-batches of each process.

    lengths: (F,) tokens a feature. micro_batch_size: most features in one; None leaves the part of a process whole.
    The parts cover the update exactly once, and are as alike in slots as can be. A process without features in a
    short update computes one real feature that does not count, because every process must take part and an empty
    batch raises.
    """
    update = np.asarray(update)
    size = micro_batch_size or len(update)
    if num_processes > 1 or len(update) > size:
        update = update[np.argsort(-lengths[update], kind="stable")]
    parts = np.split(update, _even_bounds(np.maximum(lengths[update], 1), num_processes))
    return [
        [MicroBatch(tuple(batch.tolist())) for batch in _by_count(part, size)]
        or [MicroBatch((int(update[-1]),), counts=False)]
        for part in parts
    ]


def _even_bounds(lengths: np.ndarray, num_parts: int) -> list[int]:
    """Say where to split features, the longest first, so that the part with the most slots has the fewest."""
    least, most = 0, int(lengths[0]) * len(lengths)
    while least < most:
        budget = (least + most) // 2
        least, most = (budget + 1, most) if _bounds(lengths, budget, num_parts) is None else (least, budget)
    found = _bounds(lengths, least, num_parts)
    assert found is not None, "one part with everything is always possible"
    return found


def _bounds(lengths: np.ndarray, budget: int, num_parts: int) -> list[int] | None:
    """Fill parts up to a budget of slots; None if the features do not fit into so many."""
    bounds = [0]
    for _ in range(num_parts):
        start = bounds[-1]
        fits = budget // int(lengths[start]) if start < len(lengths) else 0
        bounds.append(min(len(lengths), start + fits))
    return bounds[1:-1] if bounds[-1] == len(lengths) else None


def plan_evaluation(lengths: np.ndarray, *, batch_size: int, tokens_per_batch: int) -> list[np.ndarray]:
    """List the feature indices of each evaluation batch, the longest features first.

    lengths: (F,) tokens a feature, padded. batch_size, tokens_per_batch: most features and most slots of a batch; one
    feature is always taken. Batches of like lengths have little padding, and what does not fit into memory shows
    in the first one.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        size = min(batch_size, max(1, tokens_per_batch // longest))
        batches.append(order[start : start + size])
        start += size
    return batches


def deal(num_batches: int, *, num_processes: int, rank: int) -> range:
    """Return the batches that one process evaluates."""
    return range(rank, num_batches, num_processes)
