"""Weights cast at once against autocast's casts one by one. Of a CPU here, where both can be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ARCHITECTURES, ConfigWriter, tiny_architecture

from ftcli import half_weights
from ftcli.config.loading import load_config
from ftcli.experiments import prepare_experiment
from ftcli.hardware import start
from ftcli.learner import Learner
from ftcli.training import run_updates

# Nothing but autocast and transformers' own attention, as on a GPU.
STOCK = ("training.dropout=torch",)
Result = tuple[list[float], dict[str, torch.Tensor]]


def learn(config: Path, *overrides: str, at_once: bool) -> tuple[Learner, Result]:
    """Train for an epoch; return the losses and the weights."""
    experiment = prepare_experiment(
        load_config(
            config, ["training.precision=bf16", "training.device=cpu", "training.epochs=1", *STOCK, *overrides]
        ),
        ["train"],
    )
    experiment = replace(experiment, execution=replace(experiment.execution, casts_at_once=at_once))
    learner = experiment.learner(experiment.build_model().model, start(experiment.execution, experiment.processes))
    torch.manual_seed(0)
    losses = [record.loss for record in run_updates(learner, experiment.plan, experiment.splits["train"].features)]
    return learner, (losses, learner.model.state_dict())


def differences(found: Result, expected: Result) -> list[str]:
    names = [name for name, value in expected[1].items() if not torch.equal(found[1][name], value)]
    return names + ["loss"] * (found[0] != expected[0])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_losses_and_weights_are_autocasts_to_the_bit(write_config: ConfigWriter, tmp_path: Path, name: str) -> None:
    config = write_config(model={"name_or_path": str(tiny_architecture(tmp_path / name, name))})

    assert differences(learn(config, at_once=True)[1], learn(config, at_once=False)[1]) == []


@pytest.mark.parametrize("setting", ["training.micro_batch_size=3", "training.gradient_checkpointing=true"])
def test_in_several_passes_and_with_recomputation_too(
    write_config: ConfigWriter, tiny_model: Path, setting: str
) -> None:
    config = write_config(model={"name_or_path": str(tiny_model)})

    assert differences(learn(config, setting, at_once=True)[1], learn(config, setting, at_once=False)[1]) == []


def test_weights_that_are_not_cast_anew_are_seen(write_config: ConfigWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with the first casts of all, the weights hardly learn."""
    config = write_config()
    expected = learn(config, at_once=False)[1]
    kept: list[tuple[torch.Tensor, ...]] = []
    cast = half_weights._all_to

    def stale(dtype: torch.dtype, tensors: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        if dtype == torch.float32:
            return cast(dtype, tensors)
        kept.append(kept[0] if kept else cast(dtype, tensors))
        return tuple(tensor.clone() for tensor in kept[-1])

    monkeypatch.setattr(half_weights, "_all_to", stale)

    assert "loss" in differences(learn(config, at_once=True)[1], expected)


def test_an_evaluation_keeps_no_cast_of_an_older_weight(write_config: ConfigWriter) -> None:
    learner, _ = learn(write_config(), at_once=True)
    layers = [module for module in learner.model.modules() if isinstance(module, half_weights.Linear)]
    assert all(layer.cast is not None for layer in layers)

    learner.model.eval()
    learner.model(input_ids=torch.ones(1, 3, dtype=torch.int64))

    assert layers
    assert all(layer.cast is None for layer in layers)


def test_a_layer_that_has_no_part_in_the_loss_has_no_gradient() -> None:
    model = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 2), "unused": torch.nn.Linear(2, 2, bias=False)})
    model.forward = lambda x: model["used"](x)  # type: ignore[method-assign]
    half_weights.install(model, torch.bfloat16)

    model(torch.ones(1, 2, dtype=torch.bfloat16)).sum().backward()

    assert model["used"].weight.grad.dtype == torch.float32  # type: ignore[union-attr]
    assert model["unused"].weight.grad is None


def test_what_is_saved_knows_nothing_of_it(write_config: ConfigWriter, tmp_path: Path) -> None:
    for folder, at_once in (("found", True), ("expected", False)):
        learn(write_config(), at_once=at_once)[0].model.save_pretrained(tmp_path / folder)

    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "found" / file).read_bytes() == (tmp_path / "expected" / file).read_bytes()


def test_a_layer_that_is_not_trained_is_not_cast() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].requires_grad_(False)
    half_weights.install(model, torch.bfloat16)

    with torch.autocast("cpu", torch.bfloat16):
        model(torch.ones(1, 2)).sum().backward()

    assert type(model[0]) is torch.nn.Linear
    assert model[0].weight.grad is None
    assert model[1].weight.grad is not None


def test_a_model_without_linear_layers_is_left_alone() -> None:
    model = torch.nn.Sequential(torch.nn.LayerNorm(2))
    half_weights.install(model, torch.bfloat16)

    assert model(torch.ones(1, 2)).shape == (1, 2)
