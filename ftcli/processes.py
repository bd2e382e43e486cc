"""The processes of a run: who this one is, and the few ways in which they speak to each other.

All of them work alike in one process and in many. Nothing is pickled: tensors travel as tensors, the rest as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ftcli.errors import FtcliError, LaunchError, from_record, to_record

if TYPE_CHECKING:
    from torch import Tensor, device

Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """This process among its peers. Before the group exists this is what the launcher's environment says."""

    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Processes:
        """Read what torchrun, Accelerate and our own launcher export."""

        def number(name: str, default: int) -> int:
            found = environment.get(name, str(default))
            if not found.isdecimal():
                raise LaunchError(f"{name}={found!r}: expected a whole number; launchers set it, so unset it here")
            return int(found)

        world_size = number("WORLD_SIZE", 1)
        return cls(number("RANK", 0), world_size, number("LOCAL_WORLD_SIZE", world_size))

    @property
    def is_main(self) -> bool:
        """Whether this process prints, writes and scores."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over all processes, in place; does not wait for the device."""
        if self.world_size > 1:
            from torch import distributed

            distributed.all_reduce(tensor)
        return tensor

    def all(self, claim: bool, device: device | str = "cpu") -> bool:
        """Whether a claim is true on every process; waits for the device, if there are several."""
        if self.world_size == 1:
            return claim
        import torch

        return bool(self.sum(torch.tensor(float(claim), device=device)) == self.world_size)

    def average(self, tensors: list[Tensor]) -> None:
        """Average tensors over all processes, in place."""
        for tensor in tensors if self.world_size > 1 else ():
            self.sum(tensor).div_(self.world_size)

    def gather(self, tensor: Tensor) -> Tensor:
        """Concatenate (n, ...) tensors of all processes in rank order.

        n may differ; other dimensions may differ too and are filled up with zeros at their ends.
        """
        if self.world_size == 1:
            return tensor
        import torch
        from torch import distributed

        shape = torch.tensor(tensor.shape, device=tensor.device)
        shapes = [torch.empty_like(shape) for _ in range(self.world_size)]
        distributed.all_gather(shapes, shape)
        common = torch.stack(shapes).amax(dim=0).tolist()
        padded = fill_up(tensor, common)
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        distributed.all_gather(parts, padded)
        return torch.cat([part[: int(shape[0])] for part, shape in zip(parts, shapes, strict=True)])

    def on_main(self, function: Callable[[], Result], device: device | str = "cpu") -> Result:
        """Run a function on the main process; every process gets its JSON-able result or raises its error."""
        if self.world_size == 1:
            return function()
        message = ""
        failure: BaseException | None = None
        if self.is_main:
            try:
                message = json.dumps({"result": function()})
            except FtcliError as error:
                message = json.dumps({"error": to_record(error)})
            except BaseException as error:
                # The others must not wait for a result that never comes.
                message = json.dumps({"error": to_record(FtcliError(f"the main process failed: {error}"))})
                failure = error
        received = self._broadcast(message, device)
        if failure is not None:
            raise failure
        if "error" in received:
            raise from_record(received["error"])
        result: Result = received["result"]
        return result

    def _broadcast(self, message: str, device: device | str) -> dict[str, Any]:
        """Give the main process's JSON text to all, and return it parsed."""
        import torch
        from torch import distributed

        text = message.encode()
        size = torch.tensor([len(text)], device=device)
        distributed.broadcast(size, src=0)
        data = torch.tensor(list(text) or [0] * int(size), dtype=torch.uint8, device=device)
        distributed.broadcast(data, src=0)
        received: dict[str, Any] = json.loads(bytes(data.tolist()))
        return received


def fill_up(tensor: Tensor, shape: list[int]) -> Tensor:
    """Extend a tensor with zeros at the end of each dimension until it has a shape."""
    if list(tensor.shape) == shape:
        return tensor.contiguous()
    filled = tensor.new_zeros(shape)
    filled[tuple(slice(size) for size in tensor.shape)] = tensor
    return filled
