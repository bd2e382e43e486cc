"""What rates are measured against: the parameters that compute, and the rate at which the machine multiplies."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch

from ftcli.hardware import bf16_instructions

# Floating-point operations a parameter and token: forward 2; backward twice as many again.
FLOPS_OF_TRAINING, FLOPS_OF_EVALUATION = 6, 2
# Rows of the square matrices whose product shows the rate: a GPU needs larger ones to be busy.
_SIZE, _SIZE_OF_GPUS = 2048, 8192
_REPEATS = 9


def encoder_parameters(model: Any) -> int:
    """Count the weights that every token is multiplied with: neither embeddings nor pooler nor head."""
    return sum(
        parameter.numel()
        for name, parameter in model.base_model.named_parameters()
        if parameter.ndim > 1 and "embedding" not in name and "pooler" not in name
    )


def matrix_rate(device: str) -> float:
    """Return the floating-point operations a second of a large square product: the median of nine.

    It is in bf16, or in fp32 on a CPU without instructions for that.
    """
    size = _SIZE if device == "cpu" else _SIZE_OF_GPUS
    dtype = torch.float32 if device == "cpu" and not bf16_instructions() else torch.bfloat16
    a, b = torch.randn(2, size, size, dtype=dtype, device=device).unbind()
    seconds = []
    for _ in range(_REPEATS):
        _wait(device)
        started = time.perf_counter()
        a @ b
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / median(seconds)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.get_device_module(device).synchronize()
