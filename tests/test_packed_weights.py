"""Packed weights against the linear layers that they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ARCHITECTURES, tiny_architecture
from transformers import AutoModelForSequenceClassification

from ftcli.hardware import _bf16_instructions
from ftcli.packed_weights import packed_weights

pytestmark = pytest.mark.skipif(not _bf16_instructions(), reason="this CPU does not multiply bf16")
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
    with packed_weights(model, 2048):
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


def test_a_gelu_that_is_left_out_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the activation is computed with the product."""
    model = build(tmp_path)
    for layer in model.bert.encoder.layer:
        monkeypatch.setattr(layer.intermediate, "intermediate_act_fn", torch.nn.Identity())

    assert (packed_logits(model) - packed_logits(build(tmp_path))).abs().max() > 10 * TOLERANCE


def test_afterwards_the_model_is_as_it_was(tmp_path: Path) -> None:
    model = build(tmp_path)
    before = logits(model)
    activations = [layer.intermediate.intermediate_act_fn for layer in model.bert.encoder.layer]

    with pytest.raises(KeyboardInterrupt), packed_weights(model, 2048):
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
