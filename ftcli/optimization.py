"""Parameter groups, optimizer, schedule, and the one place where weights change."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from ftcli.config.schema import OptimizerSection, SchedulerSection
from ftcli.errors import ConfigError

# A scale that has fallen this low means that gradients overflow whatever the scale.
_LEAST_SCALE = 2.0**-10
_NOTHING = torch.zeros(())


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters into decayed ones and, undecayed, the one-dimensional: biases and norms."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimizer(model: torch.nn.Module, section: OptimizerSection, *, fused: bool) -> torch.optim.AdamW:
    """Build AdamW over the parameter groups of a model that is on its device."""
    return torch.optim.AdamW(
        parameter_groups(model, section.weight_decay),
        lr=section.learning_rate,
        betas=section.betas,
        eps=section.epsilon,
        fused=fused,
    )


def build_schedule(optimizer: torch.optim.Optimizer, section: SchedulerSection, *, num_updates: int) -> LRScheduler:
    """Build a schedule of transformers over the updates that will really run; it steps once an update.

    Raises ConfigError for options that the schedule does not take, or lacks.
    """
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, get_scheduler
    from transformers.trainer_utils import SchedulerType

    warmup = section.warmup_steps
    num_warmup_steps = int(warmup) if warmup >= 1 else math.ceil(warmup * num_updates)
    if warmup >= 1 and num_warmup_steps >= num_updates:
        raise ConfigError(
            f"scheduler.warmup_steps: {num_warmup_steps} updates of warm-up in a run of {num_updates}: the learning "
            "rate would never reach its peak; give fewer, or a share below 1, or raise training.epochs"
        )
    _check_options(section, TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(section.name)])
    try:
        schedule: LRScheduler = get_scheduler(
            section.name,
            optimizer,
            num_warmup_steps=num_warmup_steps,
            num_training_steps=num_updates,
            scheduler_specific_kwargs=dict(section.options),
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"scheduler.options: {section.name} cannot be built: {error}") from None
    return schedule


def advance_schedule(schedule: LRScheduler, step: int) -> None:
    """Put a new schedule where it stands after some updates: it is a function of the step alone."""
    # The second number is one more than the first would have it, as torch warns of a first step without an update.
    schedule.load_state_dict({**schedule.state_dict(), "last_epoch": step - 1, "_step_count": step + 1})
    schedule.step()


def check_schedule(section: SchedulerSection, *, num_updates: int) -> None:
    """Raise the ConfigError that building the schedule would, before there is a model."""
    build_schedule(torch.optim.SGD([torch.zeros(1)], lr=1.0), section, num_updates=num_updates)


def _check_options(section: SchedulerSection, function: Any) -> None:
    ours = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
    parameters = {
        name: parameter for name, parameter in inspect.signature(function).parameters.items() if name not in ours
    }
    # get_scheduler passes no options to these two.
    known = [] if section.name in ("constant", "constant_with_warmup") else list(parameters)
    unknown = [name for name in section.options if name not in known]
    if unknown:
        takes = ", ".join(known) or "none"
        raise ConfigError(f"scheduler.options.{unknown[0]}: {section.name} has no such option; it takes {takes}")
    needed = [name for name in known if parameters[name].default is inspect.Parameter.empty]
    missing = [name for name in needed if name not in section.options]
    if missing:
        raise ConfigError(f"scheduler.options.{missing[0]}: required by {section.name}")


@dataclass(frozen=True)
class UpdateOutcome:
    """What an update did, as scalars; with the fused optimizer nothing here has been waited for.

    loss: mean over the targets of the update. grad_norm: before clipping; not finite where an fp16 overflow
    left the weights alone. is_finite: False if the run must stop, because loss or gradient is not finite.
    own_loss: summed over the part of this process alone. wishes: to stop, summed over all processes.
    copied: on a GPU, the event after which the scalars are on the host: wait() before reading them.
    """

    loss: Tensor
    grad_norm: Tensor
    is_finite: Tensor
    own_loss: Tensor = _NOTHING
    wishes: Tensor = _NOTHING
    copied: torch.cuda.Event | None = None

    def to_host(self) -> UpdateOutcome:
        """Have a GPU copy the scalars right behind this update: read from the GPU, they would wait for the next one."""
        if self.loss.device.type != "cuda":
            return self
        scalars = (self.loss, self.grad_norm, self.is_finite.float(), self.own_loss, self.wishes)
        on_host = torch.stack(scalars).to("cpu", non_blocking=True)
        loss, grad_norm, is_finite, own_loss, wishes = on_host.unbind()
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()
        return UpdateOutcome(loss, grad_norm, is_finite, own_loss, wishes, copied)

    def wait(self) -> None:
        """Wait until the scalars can be read."""
        if self.copied is not None:
            self.copied.synchronize()


def apply_update(
    optimizer: torch.optim.AdamW,
    loss_sum: Tensor,
    weight_sum: Tensor,
    *,
    num_processes: int,
    max_grad_norm: float | None,
    scaler: torch.amp.GradScaler | None = None,
) -> UpdateOutcome:
    """Divide the gradient by the weight of the whole update, clip it, and step, unless it is not finite.

    The parameters hold the gradient of the summed loss, averaged over the processes as DDP leaves it; loss_sum
    and weight_sum are already summed over them. With the fused kernel the division, the clipping and the
    decision not to step are its arguments: they cost no pass over the parameters and no wait for the device.
    With fp16's scaler an overflow only lowers the scale, unless that has been going on for long.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if scaler is not None:
        scaler.unscale_(optimizer)
    # An update without a single target (all of them masked) leaves a zero gradient, not 0 / 0.
    weight_sum = torch.where(weight_sum == 0, 1.0, weight_sum)
    divisor = weight_sum / num_processes
    grad_norm = total_norm(gradients) / divisor
    if max_grad_norm is not None:
        # The same coefficient as torch.nn.utils.clip_grad_norm_.
        divisor = divisor * torch.clamp((grad_norm + 1e-6) / max_grad_norm, min=1.0)
    loss = loss_sum / weight_sum
    is_finite = torch.isfinite(loss)
    if scaler is not None:
        torch._foreach_div_(gradients, divisor)
        scaler.step(optimizer)
        scaler.update()
        scale = scaler._get_scale_async()  # get_scale() would wait for the GPU
        assert scale is not None, "a scaler that has stepped has a scale"
        is_finite = is_finite & (scale >= _LEAST_SCALE)
    else:
        is_finite = is_finite & torch.isfinite(grad_norm)
        _step_if_finite(optimizer, gradients, divisor, is_finite)
    optimizer.zero_grad(set_to_none=True)
    return UpdateOutcome(loss, grad_norm, is_finite)


def total_norm(gradients: list[Tensor]) -> Tensor:
    """Return the 2-norm of all gradients together, a scalar."""
    if gradients[0].device.type != "cpu":
        return torch.nn.utils.get_total_norm(gradients)
    # On a CPU torch's own took three times as long, and for 23 million values was off by 2e-4 where this is by 4e-6.
    flat = [gradient.flatten() for gradient in gradients]
    return torch.stack([torch.dot(values, values) for values in flat]).sum().sqrt()


def _step_if_finite(optimizer: torch.optim.AdamW, gradients: list[Tensor], divisor: Tensor, is_finite: Tensor) -> None:
    if optimizer.defaults["fused"]:
        # The kernel reads these two attributes, as torch.amp.GradScaler sets them.
        optimizer.grad_scale = divisor.float()  # type: ignore[attr-defined]
        optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif bool(is_finite):
        torch._foreach_div_(gradients, divisor)
        optimizer.step()
