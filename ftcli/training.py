"""The loop: a generator of step records, and `fit`, which evaluates, saves and stops.

The update is the unit. How it is cut over processes and micro-batches is execution and does not change it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ftcli.config.schema import EvaluationSection
from ftcli.data.batching import Update, UpdatePlan
from ftcli.data.preparation import Features, PreparedSplit
from ftcli.errors import TrainingStoppedError
from ftcli.evaluation import Evaluation, Evaluator
from ftcli.interruption import Interrupted, Interruption
from ftcli.learner import Learner
from ftcli.metrics.names import LOSS, METRICS, Direction, is_better
from ftcli.optimization import UpdateOutcome


@dataclass(frozen=True)
class StepRecord:
    """One update, read back from the device.

    epoch: passes over the data so far, a fraction. loss: mean over the targets of the update.
    learning_rate: the one that was used. grad_norm: before clipping. num_slots: positions of the padded batches.
    largest_pass: the most examples in one forward pass. seconds: until the next step began.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    num_examples: int
    num_tokens: int
    num_slots: int
    largest_pass: int
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


@dataclass
class Standing:
    """How far a run has come: with weights, optimizer and random numbers, all that decides how it goes on.

    step: the last update. epoch: passes over the data, a fraction. evaluated: the step of the last evaluation.
    best_score, num_since_best: of the evaluations so far.
    """

    step: int = 0
    epoch: float = 0.0
    evaluated: int = 0
    best_score: float | None = None
    num_since_best: int = 0


def run_updates(
    learner: Learner,
    plan: UpdatePlan,
    features: Features,
    *,
    after: int = 0,
    pause_at: Callable[[int], bool] = lambda step: False,
    interruption: Interruption | None = None,
) -> Iterator[StepRecord]:
    """Yield one record an update, in order, from the one that comes after a step.

    A record is read back from the device while the next update is being computed, so that nothing waits;
    but before anything follows a step that `pause_at` names, that step is read and yielded. When an interruption has
    been agreed on, what has been computed is yielded, and nothing more is.
    Raises TrainingStoppedError, with step, processes and rows, for a loss or gradient that is not finite: that update
    has left the weights alone.
    """
    learner.wrapped.train()
    interruption = interruption or Interruption()
    pending: _Pending | None = None
    for update in plan.updates(after):
        started = time.perf_counter()
        learning_rate = float(learner.schedule.get_last_lr()[0])
        outcome = learner.update(features, update.features, wish=interruption.wish)
        shapes = learner.shapes(plan.lengths, update.features)
        current = _Pending(learner, plan, update, learning_rate, outcome, shapes, started)
        if pending is not None:
            yield pending.read(features, interruption, ended=started)
        pending = current
        if pause_at(update.step) or interruption.agreed:
            yield pending.read(features, interruption)
            pending = None
        if interruption.agreed:
            return
    if pending is not None:
        yield pending.read(features, interruption)


@dataclass(frozen=True)
class _Pending:
    """An update that has been computed, perhaps, and not been read back."""

    learner: Learner
    plan: UpdatePlan
    update: Update
    learning_rate: float
    outcome: UpdateOutcome
    shapes: list[tuple[int, int]]
    started: float

    def read(self, features: Features, interruption: Interruption, *, ended: float | None = None) -> StepRecord:
        """Wait for the device. ended: when the next update began; None if none has."""
        indices, outcome = self.update.features, self.outcome
        outcome.wait()
        loss, grad_norm = float(outcome.loss), float(outcome.grad_norm)
        if not outcome.is_finite:
            raise TrainingStoppedError(self._explain(features, loss, grad_norm))
        interruption.agree(float(outcome.wishes))
        return StepRecord(
            step=self.update.step,
            epoch=self.update.passes,
            loss=loss,
            learning_rate=self.learning_rate,
            grad_norm=grad_norm,
            num_examples=len(np.unique(features.rows[indices])),
            num_tokens=int(self.plan.lengths[indices].sum()),
            num_slots=sum(size * length for size, length in self.shapes),
            largest_pass=max(size for size, _ in self.shapes),
            seconds=(time.perf_counter() if ended is None else ended) - self.started,
        )

    def _explain(self, features: Features, loss: float, grad_norm: float) -> str:
        """Say which processes and rows met a number that is not finite; all of them come here together."""
        learner, indices = self.learner, self.update.features
        own = self.outcome.own_loss[None].to(learner.accelerator.device)
        finite = learner.processes.gather(own.isfinite()).tolist()
        if all(finite) and len(finite) > 1:
            # The gradients were averaged before anybody looked at them: each process sees to its own once more.
            found = torch.full_like(own, learner.has_finite_gradient(features, indices))
            finite = learner.processes.gather(found).tolist()
        wrong = [rank for rank, is_finite in enumerate(finite) if not is_finite]
        where = ""
        if wrong and len(finite) > 1:
            where = f" on process {', '.join(map(str, wrong))}"
            parts = learner.cut(self.plan.lengths, indices)
            indices = np.array([i for rank in wrong for one in parts[rank] for i in one.features])
        rows = np.unique(features.rows[indices]).tolist()
        shown = ", ".join(map(str, rows[:64])) + (", …" if len(rows) > 64 else "")
        return (
            f"step {self.update.step}: loss {loss}, gradient norm {grad_norm}{where}; the update was not applied. Rows "
            f"of the train split in it: {shown}. Look at these rows, lower optimizer.learning_rate, or set "
            "training.max_grad_norm=1.0 or training.precision=fp32"
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
        return self.every != "never" and (is_due(self.every, step, plan) or step == plan.num_updates)

    def has_lost_patience(self, standing: Standing) -> bool:
        """Whether training stops, for want of a better score."""
        return self.patience is not None and standing.num_since_best >= self.patience

    def evaluate(self, learner: Learner, standing: Standing, interruption: Interruption) -> EvaluationRecord | None:
        """Evaluate after the last update, and count that in; None if an interruption was agreed on meanwhile."""
        assert self.split is not None, "an evaluation needs a split"
        started = time.perf_counter()
        try:
            evaluation = self.evaluator(learner.model, self.split, interruption=interruption)
        except Interrupted:
            return None
        score, best = evaluation.scores[self.metric], standing.best_score
        improves = score == score if best is None else is_better(score, best, self.direction)
        standing.evaluated = standing.step
        standing.num_since_best = 0 if improves else standing.num_since_best + 1
        if improves:
            standing.best_score = score
        return EvaluationRecord(standing.step, standing.epoch, evaluation, improves, time.perf_counter() - started)


def is_due(every: str | int, step: int, plan: UpdatePlan) -> bool:
    """Whether something that happens every epoch, or every so many updates, happens after a step."""
    return step in plan.epoch_ends if every == "epoch" else step % int(every) == 0


class Saving(Protocol):
    """What `fit` saves with; both methods are called on every process."""

    def due(self, step: int, plan: UpdatePlan) -> bool:
        """Whether to save after a step, whatever was evaluated."""

    def save(self, standing: Standing, evaluation: EvaluationRecord | None) -> None:
        """Save everything. evaluation: of this very step, if there was one."""


@dataclass
class _Pause:
    """What happens between two updates: an evaluation and a save, where they are due."""

    learner: Learner
    plan: UpdatePlan
    judge: Judge
    standing: Standing
    saver: Saving
    interruption: Interruption
    evaluation: EvaluationRecord | None = None
    saved: int = 0

    def due(self, step: int) -> bool:
        """Whether the updates pause after a step."""
        return self.judge.due(step, self.plan) or self.saver.due(step, self.plan)

    def __call__(self) -> Iterator[EvaluationRecord]:
        """Evaluate and save. The evaluation is yielded, and so recorded, before anything counts on it."""
        step = self.standing.step
        if self.judge.due(step, self.plan):
            self.evaluation = self.judge.evaluate(self.learner, self.standing, self.interruption)
        if self.evaluation is not None:
            yield self.evaluation
        if self.saver.due(step, self.plan) or (self.evaluation is not None and self.evaluation.is_best):
            self.save()

    def save(self) -> None:
        """Save what there is."""
        self.saver.save(self.standing, self.evaluation)
        self.saved = self.standing.step


def fit(
    learner: Learner,
    plan: UpdatePlan,
    features: Features,
    *,
    judge: Judge,
    standing: Standing,
    saver: Saving,
    interruption: Interruption,
) -> Iterator[StepRecord | EvaluationRecord]:
    """Run the updates that come after a standing; evaluate, save, and stop early. Yields every step and evaluation.

    What is yielded is recorded by the caller before anything is saved, so that what is saved lacks no record.
    An interruption ends it after the update at hand, saved.
    """
    pause = _Pause(learner, plan, judge, standing, saver, interruption, saved=standing.step)
    if standing.evaluated < standing.step and judge.due(standing.step, plan):
        # The run that this one goes on with ended in its evaluation.
        yield from pause()
    if not judge.has_lost_patience(standing) and interruption.agreed is None:
        updates = run_updates(
            learner, plan, features, after=standing.step, pause_at=pause.due, interruption=interruption
        )
        for record in updates:
            yield record
            standing.step, standing.epoch, pause.evaluation = record.step, record.epoch, None
            if pause.due(record.step):
                yield from pause()
            if judge.has_lost_patience(standing):
                break
    if pause.saved != standing.step:
        pause.save()


def direction_of(section: EvaluationSection, metric: str) -> Direction:
    """Say which way a metric is better."""
    if metric == LOSS:
        return "lower"
    return section.directions[metric] if metric in section.directions else METRICS[metric].direction
