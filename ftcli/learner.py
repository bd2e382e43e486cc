"""What computes an update: forward and backward passes, as many as memory needs, and one step of the optimizer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

from ftcli.data.batching import MicroBatch, UpdatePlan, cut
from ftcli.data.collation import Collation, model_inputs
from ftcli.data.preparation import Features
from ftcli.errors import TrainingStoppedError
from ftcli.memory import ERRORS, is_out_of_memory, release
from ftcli.optimization import UpdateOutcome, apply_update, total_norm
from ftcli.processes import Processes
from ftcli.tasks.base import Task

if TYPE_CHECKING:
    from accelerate import Accelerator

Result = TypeVar("Result")


@dataclass
class PassSize:
    """How many features one forward and backward pass takes; the one thing here that may change while training.

    limit: at most so many; None leaves the part of a process whole. adapts: whether running out of memory halves it.
    """

    limit: int | None = None
    adapts: bool = False

    def halve(self, largest: int) -> None:
        """Halve it, after passes of up to `largest` features. Raises TrainingStoppedError if that was one."""
        if largest <= 1:
            raise TrainingStoppedError(
                "out of memory with a single example in a pass; lower data.max_length, set "
                "training.gradient_checkpointing=true, or choose a smaller encoder"
            )
        self.limit = largest // 2


@dataclass(frozen=True)
class Learner:
    """All that computes updates: the model and what changes it.

    model: the bare model. wrapped: the same behind DDP, if there are several processes.
    """

    model: torch.nn.Module
    wrapped: torch.nn.Module
    optimizer: torch.optim.AdamW
    schedule: LRScheduler
    accelerator: Accelerator
    processes: Processes
    task: Task
    collation: Collation
    max_grad_norm: float | None = None
    pass_size: PassSize = field(default_factory=PassSize)

    def update(self, features: Features, indices: np.ndarray, *, wish: int = 0) -> UpdateOutcome:
        """Learn from one update, and step the schedule once; nothing is read back from the device.

        wish: to stop, as an Interruption has it; it travels with the sums, so that all processes learn of it at once.
        """
        if self.pass_size.adapts:
            sums = self._gradients_that_fit(features, indices)
        else:
            sums = self.explained(lambda: self._gradients(features, indices), features.lengths, indices)
        own_loss = sums[0].clone()
        loss_sum, weight_sum, wishes = self.processes.sum(torch.cat([sums, sums.new_full((1,), float(wish))]))
        outcome = apply_update(
            self.optimizer,
            loss_sum,
            weight_sum,
            num_processes=self.processes.world_size,
            max_grad_norm=self.max_grad_norm,
            scaler=self.accelerator.scaler,
        )
        self.schedule.step()
        return replace(outcome, own_loss=own_loss, wishes=wishes).to_host()

    def cut(self, lengths: np.ndarray, indices: np.ndarray) -> list[list[MicroBatch]]:
        """Return the micro-batches of every process. lengths: (F,) tokens a feature."""
        return cut(indices, lengths, num_processes=self.processes.world_size, micro_batch_size=self.pass_size.limit)

    def batch(self, features: Features, micro_batch: MicroBatch) -> dict[str, torch.Tensor]:
        """Return the tensors of a micro-batch on the device."""
        return self.collation.on_device(features, micro_batch.features, self.accelerator.device)

    def shapes(self, lengths: np.ndarray, indices: np.ndarray) -> list[tuple[int, int]]:
        """List the features and the padded length of each pass of an update, over all processes."""
        return [
            (len(one.features), self.collation.padded_length(int(lengths[[*one.features]].max())))
            for part in self.cut(lengths, indices)
            for one in part
        ]

    def _largest_pass(self, lengths: np.ndarray, indices: np.ndarray) -> int:
        return max(size for size, _ in self.shapes(lengths, indices))

    def accumulate(self, batch: dict[str, torch.Tensor], *, counts: bool) -> torch.Tensor:
        """Add the gradient of the summed loss; return (2,) loss sum and weight sum."""
        outputs = self.wrapped(**model_inputs(batch, self.collation.fields))
        loss_sum, weight_sum = self.task.loss(outputs, batch)
        if not counts:
            loss_sum, weight_sum = loss_sum * 0, weight_sum * 0
        self.accelerator.backward(loss_sum)
        return torch.stack([loss_sum.detach(), weight_sum.detach()])

    def probe(self, features: Features, plan: UpdatePlan) -> None:
        """Find a size of pass whose gradients fit into memory, by the update with the most slots; learn nothing."""
        lengths = plan.lengths
        longest = max(
            (update for epoch in range(plan.epochs) for update in plan.epoch(epoch)),
            key=lambda update: len(update) * int(lengths[update].max()),
        )
        state = _random_state(self.accelerator.device)
        self.wrapped.train()
        self._gradients_that_fit(features, longest)
        self.optimizer.zero_grad(set_to_none=True)
        _restore(state, self.accelerator.device)

    def settle(self, features: Features, indices: np.ndarray) -> None:
        """Let DDP see one backward pass, after which it orders the gradients as it then keeps them; learn nothing.

        Of three processes and more the order of the gradients decides in which order their parts are added up.
        """
        if self.wrapped is not self.model and not self.pass_size.adapts:
            self.wrapped.train()
            self._gradients(features, indices)
            self.optimizer.zero_grad(set_to_none=True)

    def has_finite_gradient(self, features: Features, indices: np.ndarray) -> bool:
        """Whether the gradient of this process's own part of an update is finite: computed again, learning nothing."""
        self._gradients(features, indices, synchronise=False)
        norm = total_norm(self._accumulated())
        self.optimizer.zero_grad(set_to_none=True)
        return bool(norm.isfinite())

    def _gradients(self, features: Features, indices: np.ndarray, *, synchronise: bool = True) -> torch.Tensor:
        """Add up the gradient of an update; return this process's (2,) loss sum and weight sum.

        synchronise: let DDP average the gradients over the processes, within the last backward pass.
        """
        mine = self.cut(features.lengths, indices)[self.processes.rank]
        sums = torch.zeros(2, device=self.accelerator.device)
        for number, micro_batch in enumerate(mine, start=1):
            last = synchronise and number == len(mine)
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                sums += self.accumulate(self.batch(features, micro_batch), counts=micro_batch.counts)
        return sums

    def _accumulated(self) -> list[torch.Tensor]:
        """List what the backward passes have added up."""
        return [p.grad for p in self.model.parameters() if p.grad is not None]

    def _gradients_that_fit(self, features: Features, indices: np.ndarray) -> torch.Tensor:
        """Halve the passes until the gradient fits into the memory of every process, then average it.

        A process that runs out of memory cannot keep a collective that others wait in: so all compute first, agree,
        and only then speak of gradients.
        """
        device = self.accelerator.device
        state = _random_state(device)
        while True:
            sums = None
            try:
                sums = self._gradients(features, indices, synchronise=False)
            except ERRORS as error:
                if not is_out_of_memory(error):
                    raise
            if self.processes.all(sums is not None, device):
                assert sums is not None
                self.processes.average(self._accumulated())
                return sums
            self.optimizer.zero_grad(set_to_none=True)
            release()
            _restore(state, device)
            self.pass_size.halve(self._largest_pass(features.lengths, indices))

    def explained(self, compute: Callable[[], Result], lengths: np.ndarray, indices: np.ndarray) -> Result:
        """Compute, and say what to change if that ran out of memory. Raises TrainingStoppedError then."""
        try:
            return compute()
        except ERRORS as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingStoppedError(
                f"out of memory: {self._largest_pass(lengths, indices)} examples of up to {lengths[indices].max()} "
                "tokens in one pass; set training.micro_batch_size=auto, which cuts the same update smaller, or lower "
                "data.max_length"
            ) from None


def _random_state(device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the state of the generators that dropout draws from."""
    on_device = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)
    return torch.get_rng_state(), on_device


def _restore(state: tuple[torch.Tensor, torch.Tensor | None], device: torch.device) -> None:
    on_host, on_device = state
    torch.set_rng_state(on_host)
    if on_device is not None:
        torch.get_device_module(device).set_rng_state(on_device, device)
