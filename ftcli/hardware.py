"""What this machine is good at, decided once: a frozen Execution, and the reason for each choice."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
import torch

from ftcli.config.schema import TrainingSection
from ftcli.errors import LaunchError
from ftcli.processes import Processes

if TYPE_CHECKING:
    from accelerate import Accelerator

# Devices whose fused AdamW exists: torch.utils._foreach_utils._get_fused_kernels_supported_devices.
_FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


@dataclass(frozen=True)
class Execution:
    """How a run is computed on this machine. It changes speed and rounding, never the mathematics.

    device: torch's device type. num_threads: of this process, for work on the CPU.
    """

    device: str
    precision: str
    num_threads: int
    fused_optimizer: bool
    reasons: dict[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """Say on one line what was chosen and why."""
        parts = {
            "device": self.device,
            "precision": self.precision,
            "threads": f"{self.num_threads} thread{'s' if self.num_threads > 1 else ''}",
        }
        return ", ".join(
            f"{text} ({self.reasons[name]})" if name in self.reasons else text for name, text in parts.items()
        )


def choose_execution(
    training: TrainingSection, processes: Processes, environment: Mapping[str, str] = os.environ
) -> Execution:
    """Decide device, precision, threads and optimizer kernel for this process.

    Raises LaunchError where the launcher and the config contradict each other, or the device cannot do it.
    """
    reasons: dict[str, str] = {}
    device = _choose_device(training.device, environment, reasons)
    precision = _choose_precision(training.precision, device, environment, reasons)
    return Execution(
        device=device,
        precision=precision,
        num_threads=_choose_threads(processes, environment, reasons),
        fused_optimizer=device in _FUSED_DEVICES,
        reasons=reasons,
    )


def start(execution: Execution, processes: Processes) -> Accelerator:
    """Set threads, join the process group, and return the one Accelerator of this process.

    Raises LaunchError if the group that forms is not the one that was launched.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin

    if processes.world_size == 1:
        # Accelerate keeps one state a process; a second run in a notebook may want another precision.
        AcceleratorState._reset_state(reset_partial_state=True)
    with warnings.catch_warnings():
        # Where OMP_NUM_THREADS is unset Accelerate warns and sets a number of its own; ours follows.
        warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
        accelerator = Accelerator(
            cpu=execution.device == "cpu",
            mixed_precision={"fp32": "no"}.get(execution.precision, execution.precision),
            # The loop weighs micro-batches itself; accumulation inherited from a launcher would divide again.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
        )
    torch.set_num_threads(execution.num_threads)
    if accelerator.num_processes != processes.world_size:
        raise LaunchError(
            f"{processes.world_size} processes were asked for and {accelerator.num_processes} found each other; "
            "start them with ftcli train --num-processes, torchrun or accelerate launch --multi_gpu"
        )
    return accelerator


def _choose_device(asked: str, environment: Mapping[str, str], reasons: dict[str, str]) -> str:
    if asked == "cpu":
        reasons["device"] = "training.device"
        return "cpu"
    if environment.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1"):
        reasons["device"] = "ACCELERATE_USE_CPU"
        return "cpu"
    if not torch.accelerator.is_available():
        reasons["device"] = "no accelerator found"
        return "cpu"
    return str(torch.accelerator.current_accelerator())


def _choose_precision(asked: str, device: str, environment: Mapping[str, str], reasons: dict[str, str]) -> str:
    # `accelerate launch` exports "no" whether or not anybody said so: it counts as unset.
    launched = environment.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if launched not in ("no", "fp32"):
        if launched not in ("bf16", "fp16"):
            raise LaunchError(f"accelerate launch asks for {launched}; ftcli computes in fp32, bf16 or fp16")
        if asked not in ("auto", launched):
            raise LaunchError(
                f"accelerate launch asks for {launched} and training.precision for {asked}; remove one of them"
            )
        asked, reasons["precision"] = launched, "accelerate launch"
    elif asked != "auto":
        reasons["precision"] = "training.precision"
    if asked == "fp16" and device == "cpu":
        raise LaunchError("fp16 needs a GPU; on a CPU set training.precision to bf16 or fp32")
    return "fp32" if asked == "auto" else asked


def _choose_threads(processes: Processes, environment: Mapping[str, str], reasons: dict[str, str]) -> int:
    """Share the physical cores among the processes of this machine, unless the user set a number.

    Launchers export OMP_NUM_THREADS=1 without being asked, so beneath a launcher a 1 is nobody's wish.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in environment or "TORCHELASTIC_RUN_ID" in environment
    wished = environment.get("OMP_NUM_THREADS", "")
    if wished.isdigit() and int(wished) > 0 and not (launched and wished == "1"):
        reasons["threads"] = "OMP_NUM_THREADS"
        return int(wished)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(usable, psutil.cpu_count(logical=False) or usable)
    return max(1, cores // processes.local_world_size)
