"""What a checkpoint holds besides the model: optimizer, random numbers, scaler. Tensors and JSON, nothing pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, load_model, save_file

from ftcli.durable import operation
from ftcli.errors import RunError
from ftcli.learner import Learner
from ftcli.optimization import advance_schedule
from ftcli.runs import OPTIMIZER, RANDOM

_MODEL = "model.safetensors"


@dataclass(frozen=True)
class TrainingState:
    """The optimizer's tensors by parameter, the generators of every process by rank, and a record of the rest."""

    optimizer: Mapping[str, torch.Tensor]
    random: Mapping[str, torch.Tensor]
    record: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write the tensors beside a model."""
        for name, tensors in ((OPTIMIZER, self.optimizer), (RANDOM, self.random)):
            with operation("write", folder / name):
                save_file(dict(tensors), folder / name)


def capture(learner: Learner) -> TrainingState:
    """Take the state of all processes; every one of them must call this, and gets the same.

    The schedule is left out: it is a function of the step. Of the generators it takes torch's, from which all of
    ours and transformers' encoders draw.
    """
    device, processes = learner.accelerator.device, learner.processes
    random = {"cpu": processes.gather(torch.get_rng_state()[None].to(device)).cpu()}
    if device.type != "cpu":
        own = torch.get_device_module(device).get_rng_state(device)
        random["device"] = processes.gather(own[None].to(device)).cpu()
    optimizer = {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, parameter in learner.model.named_parameters()
        for key, value in learner.optimizer.state.get(parameter, {}).items()
    }
    scaler = learner.accelerator.scaler
    record = {"pass_limit": learner.pass_size.limit, "scaler": None if scaler is None else scaler.state_dict()}
    return TrainingState(optimizer, random, record)


def restore(learner: Learner, folder: Path, record: Mapping[str, Any]) -> None:
    """Put a learner where a checkpoint was taken; random numbers go on there if there are as many processes.

    record: what `capture` put there, and the step. Raises RunError if the checkpoint is of another model.
    """
    try:
        load_model(learner.model, folder / _MODEL)
        _restore_optimizer(learner, load_file(folder / OPTIMIZER))
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{folder}: does not fit the model of the config: {reason}") from None
    advance_schedule(learner.schedule, record["step"])
    learner.pass_size.limit = record["pass_limit"]
    if learner.accelerator.scaler is not None and record["scaler"] is not None:
        learner.accelerator.scaler.load_state_dict(record["scaler"])
    # Last, so that nothing draws in between.
    _restore_random(learner, load_file(folder / RANDOM), record["step"])


def _restore_optimizer(learner: Learner, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give each parameter its moments, through torch's own loading, which puts each where it belongs."""
    state: dict[str, dict[str, torch.Tensor]] = {}
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition(".")
        state.setdefault(name, {})[key] = tensor
    names = {parameter: name for name, parameter in learner.model.named_parameters()}
    ordered = [names[p] for group in learner.optimizer.param_groups for p in group["params"]]
    groups = learner.optimizer.state_dict()["param_groups"]
    by_number = {number: state[name] for number, name in enumerate(ordered) if name in state}
    learner.optimizer.load_state_dict({"state": by_number, "param_groups": groups})


def _restore_random(learner: Learner, states: Mapping[str, torch.Tensor], step: int) -> None:
    """Go on with the generators; of another number of processes, with a stream that no step before has drawn from."""
    rank, device = learner.processes.rank, learner.accelerator.device
    if len(states["cpu"]) != learner.processes.world_size:
        torch.manual_seed(torch.initial_seed() + step)
        return
    torch.set_rng_state(states["cpu"][rank].clone())
    if device.type != "cpu" and "device" in states:
        torch.get_device_module(device).set_rng_state(states["device"][rank].clone(), device)
