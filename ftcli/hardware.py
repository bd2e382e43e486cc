"""What this machine is good at, decided once: a frozen Execution, and the reason for each choice."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil
import torch

from ftcli import fast_cpu
from ftcli.config.schema import Attention, TrainingSection
from ftcli.errors import LaunchError
from ftcli.processes import Processes

if TYPE_CHECKING:
    from accelerate import Accelerator

# sdpa as transformers has it, but for its question, before each forward pass, whether a mask masks anything: the answer
# has to come from the GPU, and all that it is computing has to end first. A mask that masks nothing is left out before.
SDPA_WITHOUT_WAITING = "ftcli_sdpa"
# How the summary calls what has a name of ours.
_SHORT_NAMES = {fast_cpu.NAME: "fast", SDPA_WITHOUT_WAITING: "sdpa"}
# Devices whose fused AdamW exists: torch.utils._foreach_utils._get_fused_kernels_supported_devices.
_FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")
# What a CPU needs to multiply bf16 natively, by the names of torch.cpu.get_capabilities().
_BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
# Tokens in one forward pass of an evaluation. On two cores with AMX, for SST-2, 2,048 took 1.07 times as long and 1,024
# 1.17 times; 4,096 took as long, and 40 MiB more.
_EVALUATION_TOKENS = {"cpu": 3072}
# On an H100, for an encoder of BERT-base's size, half of it took 1.03 times as long for MRPC and 1.01 for 8,000 rows of
# SST-2, twice as much 1.09 and 1.26. At most 256 texts a pass, not 1,024, took 2.7 times as long for SST-2, 4,096 0.96.
_EVALUATION_TOKENS_OF_OTHERS = 32768
# Lengths are rounded up to this in bf16 and fp16. A CPU's kernels are compiled for each shape and kept: for lengths of
# 19 to 103 in updates of 8 they took half a gigabyte, and 1.06 times as long. A GPU's tensor cores like multiples of 8,
# too. With many short examples the padding costs a CPU more: for SST-2 in updates of 32 multiples of 8 took 1.08 times
# as long as finer ones below 32 tokens. In updates of 8 it was 1.02, and finer ones took 100 MiB more.
_LENGTH_MULTIPLE = 8
_FINER_BELOW = {"cpu": 32}
# An evaluation has few shapes on a CPU, as its batches are sorted, and saves the padding.
_EVALUATION_LENGTH_MULTIPLE = {"cpu": 2}
# What fp16 gradients are multiplied with at first. torch's 2**16 is for a mean loss; our sum overflowed in it, and
# updates were skipped from the first on.
_FP16_SCALE = 2.0**10
# A compiled model is compiled again for each shape: few of them.
_COMPILED_LENGTH_MULTIPLE = 64
# glibc's mallopt parameters, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Execution:
    """How a run is computed on this machine. It changes speed and rounding, never the mathematics.

    device: torch's device type. num_threads: of this process, for work on the CPU. attention: the name by which
    transformers knows the implementation. dropout: where its masks come from. casts_at_once and packs_weights: see
    half_weights.py and packed_weights.py. full_masks: whether a model is given a mask that masks nothing.
    length_multiple and evaluation_length_multiple: what padded lengths are rounded up to, where the config leaves it
    to us. finer_below: the length up to which rounding is finer while training.
    """

    device: str
    precision: str
    num_threads: int
    fused_optimizer: bool
    length_multiple: int
    evaluation_length_multiple: int
    finer_below: int = 0
    dropout: Literal["fast", "torch"] = "torch"
    casts_at_once: bool = False
    packs_weights: bool = False
    attention: str = "sdpa"
    full_masks: bool = True
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def evaluation_tokens(self) -> int:
        """The tokens in one forward pass of an evaluation, where the config leaves it to us."""
        return _EVALUATION_TOKENS.get(self.device, _EVALUATION_TOKENS_OF_OTHERS)

    def summary(self) -> str:
        """Say on one line what was chosen and why."""
        parts = {
            "device": self.device,
            "precision": self.precision,
            "threads": f"{self.num_threads} thread{'s' if self.num_threads > 1 else ''}",
            "attention": f"{_SHORT_NAMES.get(self.attention, self.attention)} attention",
            "dropout": f"{self.dropout} dropout",
        }
        return ", ".join(
            f"{text} ({self.reasons[name]})" if name in self.reasons else text for name, text in parts.items()
        )


def choose_execution(
    training: TrainingSection,
    processes: Processes,
    environment: Mapping[str, str] = os.environ,
    *,
    fused: Literal["auto"] | bool = "auto",
) -> Execution:
    """Decide device, precision, threads, dropout and optimizer kernel for this process.

    fused: whether the optimizer's step is one kernel; auto where there is one for the device.
    Raises LaunchError where the launcher and the config contradict each other, or the device cannot do it.
    """
    reasons: dict[str, str] = {}
    device = _choose_device(training.device, environment, reasons)
    precision = _choose_precision(training.precision, device, environment, reasons)
    # Padding changes no digit of a result but its rounding; in fp32, for exact comparisons, not even that.
    multiple = _COMPILED_LENGTH_MULTIPLE if training.compile else 1 if precision == "fp32" else _LENGTH_MULTIPLE
    return Execution(
        device=device,
        precision=precision,
        num_threads=_choose_threads(processes, environment, reasons),
        fused_optimizer=device in _FUSED_DEVICES if fused == "auto" else fused,
        length_multiple=multiple,
        evaluation_length_multiple=_EVALUATION_LENGTH_MULTIPLE.get(device, multiple)
        if multiple == _LENGTH_MULTIPLE
        else multiple,
        finer_below=_choose_finer_below(training, device, processes) if multiple == _LENGTH_MULTIPLE else 0,
        # torch.compile draws its own masks, and cannot look into these.
        dropout="fast" if training.dropout == "fast" and device == "cpu" and not training.compile else "torch",
        casts_at_once=device == "cuda" and precision != "fp32" and _may_cast_at_once(training, processes),
        packs_weights=device == "cpu" and precision == "bf16" and not training.compile and _can_pack_weights(),
        reasons=reasons,
    )


def _choose_finer_below(training: TrainingSection, device: str, processes: Processes) -> int:
    """Return the length up to which rounding is finer: as many tokens as a pass has examples, up to a bound."""
    # So many tokens are as many examples as each of them is long.
    whole = training.batch_size if training.tokens_per_batch is None else math.isqrt(training.tokens_per_batch)
    examples = whole // processes.world_size
    if isinstance(training.micro_batch_size, int):
        examples = min(examples, training.micro_batch_size)
    return min(_FINER_BELOW.get(device, 0), examples)


def _can_pack_weights() -> bool:
    """Whether this CPU multiplies bf16, and torch has been built with oneDNN."""
    return bool(bf16_instructions()) and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _may_cast_at_once(training: TrainingSection, processes: Processes) -> bool:
    """Whether the gradients of all weights may come at the end of a pass, in half precision, and together.

    A compiler casts on the way, DDP sends gradients while others are being computed, and together they take memory.
    """
    is_short_of_memory = training.gradient_checkpointing or training.micro_batch_size is not None
    return processes.world_size == 1 and not training.compile and not is_short_of_memory


def fit_to_model(
    execution: Execution, asked: Attention, model_type: str, *, supports_sdpa: bool, supports_names: bool = True
) -> Execution:
    """Choose the attention of an architecture: the fastest that it has on this device, in this precision.

    supports_names: whether its attention is looked up by name, so that it may be one of ours.
    """
    if asked != "auto":
        return replace(execution, attention=asked, reasons={**execution.reasons, "attention": "model.attention"})
    if execution.dropout == "fast" and model_type in fast_cpu.KNOWN:
        return replace(execution, attention=fast_cpu.NAME)
    if execution.device == "cuda" and supports_sdpa and supports_names:
        # Without a mask some others look for padding in the ids, for which the host would wait as well.
        return replace(execution, attention=SDPA_WITHOUT_WAITING, full_masks=model_type not in fast_cpu.KNOWN)
    # The flash kernel that sdpa takes on a CPU outside training is several times slower in bf16 on some machines.
    slow = execution.device == "cpu" and execution.precision == "bf16"
    return replace(execution, attention="sdpa" if supports_sdpa and not slow else "eager")


def start(execution: Execution, processes: Processes) -> Accelerator:
    """Set threads, join the process group, and return the one Accelerator of this process.

    Raises LaunchError if the group that forms is not the one that was launched.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin, GradScalerKwargs

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
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
                GradScalerKwargs(init_scale=_FP16_SCALE),
            ],
        )
    torch.set_num_threads(execution.num_threads)
    if execution.device == "cpu":
        _keep_buffers()
        _multiply_with_onednn_if_exact()
    if execution.device == "cuda":
        # cuDNN's attention builds a plan for each new shape: with lengths as they came, BERT-base's first updates of 32
        # of MRPC took 2.1 times as long on an H100. With rounded lengths it was no faster than the others. The switch
        # is one of the process.
        torch.backends.cuda.enable_cudnn_sdp(False)
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
    return _native_precision(device, reasons) if asked == "auto" else asked


def bf16_instructions() -> list[str]:
    """List the instructions of this CPU that multiply bf16."""
    capabilities = torch.cpu.get_capabilities()
    return [name for name in _BF16_INSTRUCTIONS if capabilities.get(name)]


def _native_precision(device: str, reasons: dict[str, str]) -> str:
    """Choose what the hardware multiplies fastest without losing what training needs."""
    if device == "cpu":
        found = bf16_instructions()
        reasons["precision"] = found[0] if found else "no bf16 instructions"
        return "bf16" if found else "fp32"
    if device == "cuda":
        capability = torch.cuda.get_device_capability()
        reasons["precision"] = f"compute capability {capability[0]}.{capability[1]}"
        # Tensor cores multiply fp16 from 7.0 on, bf16 from 8.0 on.
        return "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "fp32"
    reasons["precision"] = f"{device} is untested"
    return "fp32"


def _keep_buffers() -> None:
    """Have glibc keep the memory that it frees: else every step gets its big tensors as fresh pages, to be zeroed."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _multiply_with_onednn_if_exact() -> None:
    """Multiply fp32 matrices with oneDNN where its kernel is true fp32, as it is on AMD's Zen 5, at twice the speed.

    The switch that leads there is named after bf16, and on machines with AMX really multiplies in it: so look.
    """
    kernels: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = kernels.fp32_precision
    kernels.fp32_precision = "bf16"
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 64, 64, generator=generator).unbind()
    error = (a @ b - (a.double() @ b.double()).float()).abs().max()
    # fp32 errs by some 1e-5 here, bf16 by 0.05.
    if error > 1e-4:
        kernels.fp32_precision = before


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
    quota = _cpu_quota()
    if quota is not None and quota < cores:
        cores, reasons["threads"] = max(1, math.floor(quota)), "the CPU quota of the container"
    return max(1, cores // processes.local_world_size)


def _cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the CPUs' worth of time that Linux grants this container, as `docker --cpus` sets it; None: no limit.

    More threads than that would be stopped for most of each period. A limit of a group outside containers is not seen.
    """
    try:
        if (root / "cpu.max").is_file():
            quota, period = (root / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        # No Linux, no limit ("max"), or the root of all groups, which has no such file.
        return None
