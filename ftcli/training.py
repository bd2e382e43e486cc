"""The loop: a generator of step records, and `fit`, which evaluates, saves and stops.

The update is the unit. How it is cut over processes and micro-batches is execution and does not change it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ftcli.config.schema import EvaluationSection
from ftcli.data.batching import Update, UpdatePlan
from ftcli.data.preparation import Features, PreparedSplit
from ftcli.errors import TrainingStoppedError
from ftcli.evaluation import Evaluation, Evaluator
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
        outcome = learner.update(features, update.features)
        shapes = learner.shapes(plan.lengths, update.features)
        current = _Pending(update, learning_rate, outcome, shapes, started)
        if pending is not None:
            yield pending.read(plan, features, ended=started)
        pending = current
        if pause_at(update.step):
            yield pending.read(plan, features)
            pending = None
    if pending is not None:
        yield pending.read(plan, features)


@dataclass(frozen=True)
class _Pending:
    """An update that has been computed, perhaps, and not been read back."""

    update: Update
    learning_rate: float
    outcome: UpdateOutcome
    shapes: list[tuple[int, int]]
    started: float

    def read(self, plan: UpdatePlan, features: Features, *, ended: float | None = None) -> StepRecord:
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
            epoch=self.update.passes,
            loss=loss,
            learning_rate=self.learning_rate,
            grad_norm=grad_norm,
            num_examples=len(rows),
            num_tokens=int(plan.lengths[indices].sum()),
            num_slots=sum(size * length for size, length in self.shapes),
            largest_pass=max(size for size, _ in self.shapes),
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
        due = step in plan.epoch_ends if self.every == "epoch" else step % int(self.every) == 0
        return due or step == plan.num_updates


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
