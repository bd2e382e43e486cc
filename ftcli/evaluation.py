"""Predict and score: whole batches dealt to processes, every feature exactly once, one score for all.

Training's evaluations and `ftcli eval` are the same code, so that a saved model gets the score it had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ftcli.data.batching import deal, plan_evaluation
from ftcli.data.collation import Collation, model_inputs
from ftcli.data.preparation import Features, PreparedSplit
from ftcli.errors import TrainingStoppedError
from ftcli.interruption import Interrupted, Interruption
from ftcli.memory import ERRORS, is_out_of_memory, release
from ftcli.metrics.names import LOSS
from ftcli.metrics.scoring import compute_scores
from ftcli.packed_weights import packed_weights
from ftcli.processes import Processes, fill_up
from ftcli.tasks.base import LabelSet, Prediction, Task

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Evaluator:
    """All that evaluating needs beside a model and a split.

    accelerator: whose device and precision compute. batch_size, tokens_per_batch: most features and most slots of a
    forward pass. packs_weights: see packed_weights.py.
    """

    task: Task
    labels: LabelSet
    metrics: tuple[str, ...]
    collation: Collation
    batch_size: int
    tokens_per_batch: int
    processes: Processes
    accelerator: Accelerator
    packs_weights: bool = False

    @property
    def device(self) -> torch.device:
        """Where the batches go."""
        device: torch.device = self.accelerator.device
        return device

    def __call__(
        self,
        model: torch.nn.Module,
        split: PreparedSplit,
        on_batch: Callable[[], None] = lambda: None,
        *,
        interruption: Interruption | None = None,
    ) -> Evaluation:
        """Evaluate a model on a split; every process takes part and gets the scores, the main one the predictions.

        on_batch: called after each batch of this process, `num_batches` times. Raises Interrupted if an interruption
        was agreed on before all batches were done.
        """
        reduced, loss = self.run_model(model, split.features, on_batch, interruption=interruption)
        if not math.isfinite(loss):
            # The argmax of NaN is a label like any other: such a model would get an ordinary score.
            raise TrainingStoppedError(
                f"evaluation on {split.name!r}: loss {loss}, so the model's outputs mean nothing. Lower "
                "optimizer.learning_rate, or set training.max_grad_norm=1.0 or training.precision=fp32"
            )
        predictions: list[Prediction] = []

        def score() -> dict[str, float]:
            predictions.extend(self.task.decode(reduced, split.features, self.labels))
            inputs = self.task.metric_inputs(predictions, self.labels)
            return {**compute_scores(self.metrics, *inputs, num_labels=len(self.labels)), LOSS: loss}

        scores = self.processes.on_main(score, self.device)
        return Evaluation(split.name, split.features.num_rows, scores, predictions)

    def plan(self, features: Features) -> list[np.ndarray]:
        """List the feature indices of each batch."""
        lengths = self.collation.padded_lengths(features.lengths)
        return plan_evaluation(lengths, batch_size=self.batch_size, tokens_per_batch=self.tokens_per_batch)

    def num_batches(self, features: Features) -> int:
        """Count the batches that this process computes."""
        batches = self.plan(features)
        return len(deal(len(batches), num_processes=self.processes.world_size, rank=self.processes.rank))

    def run_model(
        self,
        model: torch.nn.Module,
        features: Features,
        on_batch: Callable[[], None] = lambda: None,
        *,
        interruption: Interruption | None = None,
    ) -> tuple[dict[str, np.ndarray], float]:
        """Return the reduced outputs of all F features in feature order, and the mean loss: NaN without targets.

        The sums of the batches are added in batch order, so the loss does not depend on the processes.
        Raises Interrupted, on every process, if any of them was asked to stop.
        """
        batches = self.plan(features)
        mine = deal(len(batches), num_processes=self.processes.world_size, rank=self.processes.rank)
        was_training = model.training
        model.eval()
        parts = []
        # Around all of the batches, so that autocast casts the weights once and not for each (see run_batch).
        packed = packed_weights(model) if self.packs_weights else nullcontext()
        with self.accelerator.autocast(), packed:
            for number in mine:
                if interruption is not None and (interruption.wish or interruption.agreed):
                    break
                parts.append(self.run_batch(model, features, batches[number]))
                on_batch()
            if not parts:
                # Gathering needs the shapes of a result: compute one feature and keep nothing of it.
                reduced, sums = self.run_batch(model, features, range(1))
                parts.append(({name: tensor[:0] for name, tensor in reduced.items()}, sums[:0]))
        model.train(was_training)
        if interruption is not None:
            wishes = torch.tensor(float(interruption.wish), device=self.device)
            if interruption.agree(float(self.processes.sum(wishes))):
                raise Interrupted
        ids = torch.tensor([i for n in mine for i in batches[n]], dtype=torch.int64, device=self.device)
        numbers = torch.tensor(list(mine), dtype=torch.int64, device=self.device)
        return self._gather(parts, ids, numbers, len(features), len(batches))

    def run_batch(
        self, model: torch.nn.Module, features: Features, indices: Sequence[int] | np.ndarray
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return the reduced outputs of one batch, and (1, 2) its loss sum and weight sum.

        A batch that is too much for the memory is computed in halves. Raises TrainingStoppedError if it is one feature.
        """
        try:
            return self._run_whole_batch(model, features, indices)
        except ERRORS as error:
            if not is_out_of_memory(error):
                raise
            if len(indices) == 1:
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise TrainingStoppedError(
                    f"out of memory in an evaluation, with a single example in a pass ({reason}); lower "
                    "data.max_length, or choose a smaller encoder"
                ) from None
        release()
        middle = len(indices) // 2
        first, first_sums = self.run_batch(model, features, indices[:middle])
        second, second_sums = self.run_batch(model, features, indices[middle:])
        return {name: _concatenate([first[name], second[name]]) for name in first}, first_sums + second_sums

    def _run_whole_batch(
        self, model: torch.nn.Module, features: Features, indices: Sequence[int] | np.ndarray
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        batch = self.collation.on_device(features, indices, self.device)
        # Not inference_mode: autocast keeps no cast of a weight in it.
        with torch.no_grad():
            outputs = model(**model_inputs(batch, self.collation.fields))
            sums = torch.zeros(1, 2, device=self.device)
            if batch.keys() >= self.task.target_fields.keys():
                sums = torch.stack(self.task.loss(outputs, batch)).float()[None]
            return self.task.reduce(outputs, batch), sums

    def _gather(
        self,
        parts: list[tuple[dict[str, torch.Tensor], torch.Tensor]],
        ids: torch.Tensor,
        numbers: torch.Tensor,
        num_features: int,
        num_batches: int,
    ) -> tuple[dict[str, np.ndarray], float]:
        all_ids = self.processes.gather(ids).cpu().numpy()
        assert_exactly_once(all_ids, num_features)
        order = np.argsort(all_ids, kind="stable")
        reduced = {
            name: self.processes.gather(_concatenate([part[name] for part, _ in parts])).cpu().numpy()[order]
            for name in parts[0][0]
        }
        sums = self.processes.gather(torch.cat([sums for _, sums in parts])).cpu().numpy()
        all_numbers = self.processes.gather(numbers).cpu().numpy()
        assert_exactly_once(all_numbers, num_batches)
        loss_sum, weight_sum = sums[np.argsort(all_numbers, kind="stable")].sum(axis=0, dtype="float64")
        return reduced, float(loss_sum / weight_sum) if weight_sum else math.nan


@dataclass(frozen=True)
class Evaluation:
    """Scores of one split. predictions: one a row in row order, on the main process only."""

    split: str
    num_rows: int
    scores: dict[str, float]
    predictions: list[Prediction]


def assert_exactly_once(ids: np.ndarray, count: int) -> None:
    """Raise unless ids are 0..count-1, each once: a score over anything else would be wrong."""
    seen = np.bincount(ids, minlength=count) if len(ids) else np.zeros(count, int)
    if len(seen) != count or not (seen == 1).all():
        wrong = np.flatnonzero(seen != 1)[:5].tolist()
        raise RuntimeError(f"{len(ids)} results for {count} features; not exactly once: {wrong}")


def _concatenate(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Concatenate tensors that may differ beyond the first dimension, filled up with zeros."""
    common = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    return torch.cat([fill_up(tensor, [len(tensor), *common]) for tensor in tensors])
