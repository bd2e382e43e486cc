"""Packed weights against the linear layers that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ARCHITECTURES, ConfigWriter, tiny_architecture
from transformers import AutoModelForSequenceClassification

from ftcli import evaluation
from ftcli import packed_weights as module
from ftcli.config.loading import load_config
from ftcli.experiments import prepare_experiment
from ftcli.hardware import bf16_instructions, start
from ftcli.packed_weights import packed_weights

pytestmark = pytest.mark.skipif(not bf16_instructions(), reason="this CPU does not multiply bf16")
IDS = torch.arange(5, 25).view(2, 10)
# Logits are some 1 to 2 here; autocast errs by up to 0.017, and a gelu that is left out by 1.
TOLERANCE = 0.03


def build(folder: Path, name: str = "bert", **settings: Any) -> Any:
    torch.manual_seed(0)
    path = tiny_architecture(folder, name, initializer_range=0.2, **settings)
    return AutoModelForSequenceClassification.from_pretrained(path).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found: torch.Tensor = model(input_ids=IDS).logits.float()
    return found


def packed_logits(model: Any) -> torch.Tensor:
    with packed_weights(model):
        return logits(model)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_logits_are_those_of_bf16(tmp_path: Path, name: str) -> None:
    model = build(tmp_path, name)
    with torch.no_grad():
        exact = model(input_ids=IDS).logits

    torch.testing.assert_close(packed_logits(model), exact, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_python", "relu"])
def test_an_activation_that_the_kernel_does_not_have_stays(tmp_path: Path, activation: str) -> None:
    model = build(tmp_path, hidden_act=activation)

    torch.testing.assert_close(packed_logits(model), logits(model), rtol=0, atol=TOLERANCE)


def test_a_gelu_that_the_kernel_leaves_out_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: nobody else computes it."""
    model = build(tmp_path)
    expected = packed_logits(model)
    packed = module._packed
    monkeypatch.setattr(module, "_packed", lambda layer, _: packed(layer, "none"))

    assert (packed_logits(model) - expected).abs().max() > 10 * TOLERANCE


@pytest.mark.parametrize(("activation", "is_fused"), [("gelu", True), ("gelu_new", False), ("relu", False)])
def test_every_linear_layer_is_packed_and_the_exact_gelu_fused(tmp_path: Path, activation: str, is_fused: bool) -> None:
    model = build(tmp_path, hidden_act=activation)
    layers = [layer for layer in model.modules() if type(layer) is torch.nn.Linear]

    with packed_weights(model):
        assert all("forward" in vars(layer) for layer in layers)
        fused = [
            isinstance(layer.intermediate.intermediate_act_fn, torch.nn.Identity) for layer in model.bert.encoder.layer
        ]

    assert fused == [is_fused] * 2


def test_within_itself_it_does_nothing_more(tmp_path: Path) -> None:
    model = build(tmp_path)
    expected = packed_logits(model)

    with packed_weights(model):
        assert torch.equal(packed_logits(model), expected)
        assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("packs", [True, False])
def test_an_evaluation_packs_where_the_hardware_says_so(
    write_config: ConfigWriter, monkeypatch: pytest.MonkeyPatch, packs: bool
) -> None:
    entered = []

    @contextmanager
    def spy(model: Any) -> Iterator[None]:
        entered.append(model)
        yield

    monkeypatch.setattr(evaluation, "packed_weights", spy)
    experiment = prepare_experiment(load_config(write_config(), ["training.precision=bf16"]), ["train", "validation"])
    evaluator = experiment.evaluator(start(experiment.execution, experiment.processes))
    model = experiment.build_model().model

    replace(evaluator, packs_weights=packs).run_model(model, experiment.splits["validation"].features)

    assert evaluator.packs_weights
    assert entered == [model] * packs


def test_afterwards_the_model_is_as_it_was(tmp_path: Path) -> None:
    model = build(tmp_path)
    before = logits(model)
    activations = [layer.intermediate.intermediate_act_fn for layer in model.bert.encoder.layer]

    with pytest.raises(KeyboardInterrupt), packed_weights(model):
        raise KeyboardInterrupt

    assert torch.equal(logits(model), before)
    assert [layer.intermediate.intermediate_act_fn for layer in model.bert.encoder.layer] == activations
    assert not [module for module in model.modules() if "forward" in vars(module)]


def test_each_time_the_weights_of_then_are_packed(tmp_path: Path) -> None:
    model = build(tmp_path)
    before = packed_logits(model)

    with torch.no_grad():
        model.classifier.weight.mul_(-1)
        model.classifier.bias.mul_(-1)

    assert torch.equal(packed_logits(model), -before)
