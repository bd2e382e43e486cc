"""The last layer of a classifier, computed for one token, against the whole of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ARCHITECTURES, tiny_architecture
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from ftcli import fast_cpu, first_token
from ftcli.modeling import register_attentions

IDS = torch.tensor([[2, 9, 10, 11, 12, 3], [2, 13, 14, 3, 0, 0]])


def build(folder: Path, name: str, head: Any = AutoModelForSequenceClassification, attention: str = "eager") -> Any:
    """Return a classifier whose weights are large enough for a token more or less to be seen."""
    register_attentions()
    torch.manual_seed(0)
    model = head.from_pretrained(tiny_architecture(folder, name), dtype=torch.float32, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return model.eval()


def run(model: Any, targets: Any = None) -> Any:
    return model(input_ids=IDS, attention_mask=(IDS > 0).long(), labels=targets)


def tokens_behind_attention(model: Any) -> list[int]:
    """Return the tokens that the last linear layer of the encoder sees."""
    seen: list[int] = []
    linear = [module for module in model.base_model.modules() if isinstance(module, torch.nn.Linear)]
    behind = [module for module in linear if module.in_features > module.out_features] or linear
    behind[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    run(model)
    return seen


@pytest.mark.parametrize("attention", ["eager", "sdpa", fast_cpu.NAME])
@pytest.mark.parametrize("name", sorted(first_token.KNOWN))
def test_logits_and_gradients_are_those_of_the_whole_layer(name: str, attention: str, tmp_path: Path) -> None:
    whole, cut = build(tmp_path, name), build(tmp_path, name, attention=attention)
    first_token.install(cut)

    expected, found = run(whole, torch.tensor([0, 1])), run(cut, torch.tensor([0, 1]))
    expected.loss.backward()
    found.loss.backward()

    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-6)
    gradients = {name: parameter.grad for name, parameter in cut.named_parameters() if parameter.grad is not None}
    for parameter, tensor in whole.named_parameters():
        assert (tensor.grad is None) == (parameter not in gradients), parameter
        if tensor.grad is not None:
            torch.testing.assert_close(gradients[parameter], tensor.grad, rtol=1e-4, atol=1e-6, msg=parameter)


def test_the_check_catches_another_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the second token in the place of the first."""
    whole, cut = build(tmp_path, "bert"), build(tmp_path, "bert")
    monkeypatch.setattr(first_token, "_keep_first", lambda _, inputs: (inputs[0][:, 1:2], inputs[1][:, 1:2]))
    first_token.install(cut)

    assert (run(cut).logits - run(whole).logits).abs().max() > 1e-3


@pytest.mark.parametrize("name", sorted(first_token.KNOWN))
def test_one_token_a_feature_is_computed_behind_the_last_attention(name: str, tmp_path: Path) -> None:
    model = build(tmp_path, name)
    first_token.install(model)

    assert tokens_behind_attention(model) == [1]


def test_our_attention_computes_one_query_a_feature_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(tmp_path, "bert", attention=fast_cpu.NAME)
    first_token.install(model)
    shapes: list[tuple[int, ...]] = []
    bmm = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: (shapes.append(tuple(a.shape)), bmm(a, b))[1])
    run(model)

    # Two layers, two products each: every query in the first, one of the six in the last.
    assert [shape[1] for shape in shapes] == [6, 6, 1, 1]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - first_token.KNOWN))
def test_an_architecture_that_is_not_known_stays_as_it_is(name: str, tmp_path: Path) -> None:
    model = build(tmp_path, name)
    before = run(model).logits
    first_token.install(model)

    assert torch.equal(run(model).logits, before)


def test_a_head_that_reads_every_token_gets_every_token(tmp_path: Path) -> None:
    model = build(tmp_path, "bert", AutoModelForTokenClassification)
    first_token.install(model)

    assert run(model).logits.shape[:2] == IDS.shape
