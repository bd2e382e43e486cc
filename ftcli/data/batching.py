"""Which features form each update, and which process computes which part.

`plan_epoch` is the mathematics of a run, `cut` its execution: whatever the cut, the updates are the same.
Both are pure functions. Evaluation forms its batches once and deals whole batches, so its numbers do not
depend on how many processes there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np


@dataclass(frozen=True)
class MicroBatch:
    """Features of one forward and backward pass. counts: False for one that weighs nothing."""

    features: tuple[int, ...]
    counts: bool = True


def plan_epoch(lengths: np.ndarray, *, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """List the feature indices of each update of one epoch.

    lengths: (F,) tokens a feature. The lists cover 0..F-1 exactly once; only the last may be short.
    A pure function: the same arguments give the same updates on every process and after a resume.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    return np.split(order, range(batch_size, len(order), batch_size))


@dataclass(frozen=True)
class Update:
    """One update of a run. step counts from 1; epoch from 0; features: the indices it learns from."""

    step: int
    epoch: int
    features: np.ndarray


@dataclass(frozen=True)
class UpdatePlan:
    """All updates of a run, in order: the mathematics, without the machine.

    lengths: (F,) tokens a feature. batch_size: features an update. max_steps: ends the run earlier.
    """

    lengths: np.ndarray
    batch_size: int
    epochs: int
    max_steps: int | None
    seed: int

    @property
    def updates_an_epoch(self) -> int:
        """Updates of a full pass over the features."""
        return ceil(len(self.lengths) / self.batch_size)

    @property
    def num_updates(self) -> int:
        """The updates that will really run."""
        planned = self.epochs * self.updates_an_epoch
        return planned if self.max_steps is None else min(planned, self.max_steps)

    def __iter__(self) -> Iterator[Update]:
        step = 0
        for epoch in range(self.epochs):
            planned = plan_epoch(self.lengths, batch_size=self.batch_size, seed=self.seed, epoch=epoch)
            for features in planned[: self.num_updates - step]:
                step += 1
                yield Update(step, epoch, features)


def cut(update: Sequence[int] | np.ndarray, *, num_processes: int, micro_batch_size: int) -> list[list[MicroBatch]]:
    """Cut one update into the micro-batches of each process.

    The parts cover the update exactly once. A process without features in a short update computes one real
    feature that does not count, because every process must take part and an empty batch raises.
    """
    bounds = [len(update) * rank // num_processes for rank in range(num_processes + 1)]
    parts = [tuple(int(i) for i in update[start:end]) for start, end in pairwise(bounds)]
    return [
        [MicroBatch(part[start : start + micro_batch_size]) for start in range(0, len(part), micro_batch_size)]
        or [MicroBatch((int(update[0]),), counts=False)]
        for part in parts
    ]


def default_micro_batch_size(batch_size: int, num_processes: int) -> int:
    """Return the smallest size with which every process needs one micro-batch an update."""
    return ceil(batch_size / num_processes)


def plan_evaluation(lengths: np.ndarray, *, batch_size: int) -> list[np.ndarray]:
    """List the feature indices of each evaluation batch, the longest features first.

    lengths: (F,) tokens a feature. Batches of like lengths have little padding, and what does not fit into memory
    shows in the first one.
    """
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def deal(num_batches: int, *, num_processes: int, rank: int) -> range:
    """Return the batches that one process evaluates."""
    return range(rank, num_batches, num_processes)
