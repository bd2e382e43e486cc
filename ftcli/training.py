"""The loop: a generator of step records, and `fit`, which evaluates, saves and stops.

The update is the unit. How it is cut over processes and micro-batches is execution and does not change it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

from ftcli.config.schema import EvaluationSection
from ftcli.data.batching import MicroBatch, Update, UpdatePlan, cut
from ftcli.data.collation import Collation, model_inputs, to_device
from ftcli.data.preparation import Features, PreparedSplit
from ftcli.errors import TrainingStoppedError
from ftcli.evaluation import Evaluation, Evaluator
from ftcli.metrics.names import LOSS, METRICS, Direction, is_better
from ftcli.optimization import UpdateOutcome, apply_update
from ftcli.processes import Processes
from ftcli.tasks.base import Task

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class StepRecord:
    """One update, read back from the device.

    epoch: passes over the data so far, a fraction. loss: mean over the targets of the update.
    learning_rate: the one that was used. grad_norm: before clipping. seconds: until the next step began.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    num_examples: int
    num_tokens: int
    num_slots: int
    seconds: float

    @property
    def examples_per_second(self) -> float:
        """Examples over all processes."""
        return self.num_examples / self.seconds

    @property
    def padding_efficiency(self) -> float:
        """Real tokens over slots."""
        return self.num_tokens / self.num_slots


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation while training. is_best: it beats all before it."""

    step: int
    epoch: float
    evaluation: Evaluation
    is_best: bool
    seconds: float


@dataclass(frozen=True)
class Learner:
    """All that computes updates: the model and what changes it.

    model: the bare model. wrapped: the same behind DDP, if there are several processes.
    micro_batch_size: most features in one forward pass.
    """

    model: torch.nn.Module
    wrapped: torch.nn.Module
    optimizer: torch.optim.AdamW
    schedule: LRScheduler
    accelerator: Accelerator
    processes: Processes
    task: Task
    collation: Collation
    micro_batch_size: int
    max_grad_norm: float | None = None

    def update(self, features: Features, indices: np.ndarray) -> UpdateOutcome:
        """Learn from one update, and step the schedule once; nothing is read back from the device."""
        mine = self.cut(indices)[self.processes.rank]
        device = self.accelerator.device
        sums = torch.zeros(2, device=device)
        for number, micro_batch in enumerate(mine, start=1):
            batch = self.batch(features, micro_batch)
            last = number == len(mine)
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                sums += self.accumulate(batch, counts=micro_batch.counts)
        self.processes.sum(sums)
        outcome = apply_update(
            self.optimizer,
            *sums,
            num_processes=self.processes.world_size,
            max_grad_norm=self.max_grad_norm,
            scaler=self.accelerator.scaler,
        )
        self.schedule.step()
        return outcome

    def cut(self, indices: np.ndarray) -> list[list[MicroBatch]]:
        """Return the micro-batches of every process."""
        return cut(indices, num_processes=self.processes.world_size, micro_batch_size=self.micro_batch_size)

    def batch(self, features: Features, micro_batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Return the tensors of a micro-batch on the device."""
        return to_device(self.collation(features, micro_batch.features), self.accelerator.device)

    def num_slots(self, lengths: np.ndarray, indices: np.ndarray) -> int:
        """Count the positions of an update's padded batches, over all processes."""
        return sum(
            len(micro_batch.features) * self.collation.padded_length(int(lengths[[*micro_batch.features]].max()))
            for part in self.cut(indices)
            for micro_batch in part
        )

    def accumulate(self, batch: dict[str, torch.Tensor], *, counts: bool) -> torch.Tensor:
        """Add the gradient of the summed loss; return (2,) loss sum and weight sum."""
        outputs = self.wrapped(**model_inputs(batch, self.collation.fields))
        loss_sum, weight_sum = self.task.loss(outputs, batch)
        if not counts:
            loss_sum, weight_sum = loss_sum * 0, weight_sum * 0
        self.accelerator.backward(loss_sum)
        return torch.stack([loss_sum.detach(), weight_sum.detach()])


def run_updates(
    learner: Learner,
    plan: UpdatePlan,
    features: Features,
    *,
    pause_at: Callable[[int], bool] = lambda step: False,
) -> Iterator[StepRecord]:
    """Yield one record an update, in order.

    A record is read back from the device while the next update is being computed, so that nothing waits;
    but before anything follows a step that `pause_at` names, that step is read and yielded.
    Raises TrainingStoppedError, with step and rows, for a loss or gradient that is not finite: that update has
    left the weights alone.
    """
    learner.wrapped.train()
    pending: _Pending | None = None
    for update in plan:
        started = time.perf_counter()
        learning_rate = float(learner.schedule.get_last_lr()[0])
        current = _Pending(update, learning_rate, learner.update(features, update.features), started)
        if pending is not None:
            yield pending.read(learner, plan, features, ended=started)
        pending = current
        if pause_at(update.step):
            yield pending.read(learner, plan, features)
            pending = None
    if pending is not None:
        yield pending.read(learner, plan, features)


@dataclass(frozen=True)
class _Pending:
    """An update that has been computed, perhaps, and not been read back."""

    update: Update
    learning_rate: float
    outcome: UpdateOutcome
    started: float

    def read(self, learner: Learner, plan: UpdatePlan, features: Features, *, ended: float | None = None) -> StepRecord:
        """Wait for the device. ended: when the next update began; None if none has."""
        step, indices, outcome = self.update.step, self.update.features, self.outcome
        loss, grad_norm = float(outcome.loss), float(outcome.grad_norm)
        rows = np.unique(features.rows[indices])
        if not outcome.is_finite:
            raise TrainingStoppedError(
                f"step {step}: loss {loss}, gradient norm {grad_norm}; the update was not applied. Rows of the "
                f"train split in it: {', '.join(map(str, rows[:64]))}. Look at these rows, lower "
                "optimizer.learning_rate, or set training.max_grad_norm=1.0 or training.precision=fp32"
            )
        return StepRecord(
            step=step,
            epoch=self.update.epoch + ((step - 1) % plan.updates_an_epoch + 1) / plan.updates_an_epoch,
            loss=loss,
            learning_rate=self.learning_rate,
            grad_norm=grad_norm,
            num_examples=len(rows),
            num_tokens=int(plan.lengths[indices].sum()),
            num_slots=learner.num_slots(plan.lengths, indices),
            seconds=(time.perf_counter() if ended is None else ended) - self.started,
        )


@dataclass(frozen=True)
class Judge:
    """Evaluates while training and says which evaluation is best, and when to stop.

    every: "epoch", "never", or a number of updates; the last update is always evaluated, unless never.
    patience: evaluations without a better score after which training stops; None never stops it.
    """

    evaluator: Evaluator
    split: PreparedSplit | None
    every: str | int
    metric: str
    direction: Direction
    patience: int | None = None

    def due(self, step: int, plan: UpdatePlan) -> bool:
        """Whether to evaluate after a step."""
        if self.every == "never":
            return False
        interval = plan.updates_an_epoch if self.every == "epoch" else int(self.every)
        return step % interval == 0 or step == plan.num_updates


def fit(
    learner: Learner,
    plan: UpdatePlan,
    features: Features,
    *,
    judge: Judge,
    save: Callable[[EvaluationRecord | None, int, bool], None],
) -> Iterator[StepRecord | EvaluationRecord]:
    """Run the updates; evaluate, save the best, and stop early. Yields every step and every evaluation.

    save(evaluation, step, as_best) is called on every process: for each best evaluation, and for the last step.
    """
    best: float | None = None
    num_since_best = 0
    last: EvaluationRecord | None = None
    step = 0
    for record in run_updates(learner, plan, features, pause_at=lambda step: judge.due(step, plan)):
        yield record
        step = record.step
        if not judge.due(step, plan):
            continue
        last = _evaluate(learner, judge, record, best)
        if last.is_best:
            best, num_since_best = last.evaluation.scores[judge.metric], 0
            save(last, step, True)
        else:
            num_since_best += 1
        yield last
        if judge.patience is not None and num_since_best >= judge.patience:
            break
    if last is None or not last.is_best or last.step != step:
        save(last if last is not None and last.step == step else None, step, False)


def _evaluate(learner: Learner, judge: Judge, step: StepRecord, best: float | None) -> EvaluationRecord:
    assert judge.split is not None, "an evaluation needs a split"
    started = time.perf_counter()
    evaluation = judge.evaluator(learner.model, judge.split)
    score = evaluation.scores[judge.metric]
    improves = score == score if best is None else is_better(score, best, judge.direction)
    return EvaluationRecord(step.step, step.epoch, evaluation, improves, time.perf_counter() - started)


def direction_of(section: EvaluationSection, metric: str) -> Direction:
    """Say which way a metric is better."""
    if metric == LOSS:
        return "lower"
    return section.directions[metric] if metric in section.directions else METRICS[metric].direction
