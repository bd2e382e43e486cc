"""What a device, or the system, says when it has no memory left."""

from __future__ import annotations

import torch

# The classes that such errors have; most errors of these classes are others.
ERRORS = (RuntimeError, MemoryError)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or the system, had no memory left."""
    from accelerate.utils.memory import should_reduce_batch_size

    # oneDNN's words for it, measured under a limit of memory; numpy has Python's own class, those of others Accelerate
    # knows.
    of_onednn = isinstance(error, RuntimeError) and "could not create a primitive" in str(error)
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or of_onednn or should_reduce_batch_size(error)


def release() -> None:
    """Give back what an attempt has left behind; call it where nothing holds on to its tensors, as a handler does."""
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)
