"""The dropout and the attention of CPUs against torch's and transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_architecture
from transformers import AutoModelForSequenceClassification

from ftcli import fast_cpu
from ftcli.modeling import register_attentions

RATE = 0.1


def drops(count: int, seed: int = 0, rate: float = RATE, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(count,) whether each of some ones was dropped."""
    torch.manual_seed(seed)
    return fast_cpu.dropout(torch.ones(count, dtype=dtype), rate) == 0


# --- dropout


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_are_dropped_at_the_rate(rate: float, dtype: torch.dtype) -> None:
    """Four standard deviations of a million draws, and the rounding of the rate."""
    count = 1_000_000
    allowed = 4 * (rate * (1 - rate) / count) ** 0.5 + 2**-17
    assert abs(drops(count, rate=rate, dtype=dtype).double().mean().item() - rate) < allowed


def chi_squared(dropped: torch.Tensor) -> float:
    """Return chi-squared over the 16 patterns of four neighbours, of which each should come by chance."""
    patterns = dropped.view(-1, 4).int() @ torch.tensor([8, 4, 2, 1], dtype=torch.int32)
    counts = np.bincount(patterns.numpy(), minlength=16)
    chances = np.array([RATE ** bin(i).count("1") * (1 - RATE) ** (4 - bin(i).count("1")) for i in range(16)])
    return float(((counts - chances * len(patterns)) ** 2 / (chances * len(patterns))).sum())


def test_neighbours_are_dropped_independently() -> None:
    """Chi-squared with 15 degrees of freedom lies below 37.7 in 999 of 1,000 cases."""
    assert chi_squared(drops(4_000_000)) < 37.7


def test_the_check_catches_neighbours_that_depend_on_each_other() -> None:
    assert chi_squared(drops(2_000_000).repeat_interleave(2)) > 1e5


def test_what_stays_is_scaled_so_that_the_expectation_stays() -> None:
    kept = fast_cpu.dropout(torch.full((1000,), 3.0), RATE).max().item()
    assert kept == pytest.approx(3 / 0.9, rel=1e-5)


def test_the_gradient_goes_where_the_value_went() -> None:
    x = torch.ones(1000, requires_grad=True)
    dropped = fast_cpu.dropout(x, RATE)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())


def test_the_same_seed_gives_the_same_masks_and_another_seed_others() -> None:
    assert torch.equal(drops(1000, seed=1), drops(1000, seed=1))
    assert not torch.equal(drops(1000, seed=1), drops(1000, seed=2))


def test_the_next_mask_is_another_one() -> None:
    ones = torch.ones(1000)
    assert not torch.equal(fast_cpu.dropout(ones, RATE), fast_cpu.dropout(ones, RATE))


@pytest.mark.parametrize("shape", [(), (1,), (3, 5, 7)])
def test_any_shape_is_taken(shape: tuple[int, ...]) -> None:
    assert fast_cpu.dropout(torch.ones(shape), RATE).shape == shape


# --- models


def build(folder: Path, name: str, attention: str, **settings: Any) -> Any:
    register_attentions()
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_architecture(folder / name, name, **settings), attn_implementation=attention, dtype=torch.float32
    )
    return model.eval()


def batch(num_padded: int) -> dict[str, torch.Tensor]:
    """Two examples of nine and four tokens, with some more slots of padding."""
    ids = torch.zeros(2, 9 + num_padded, dtype=torch.int64)
    ids[0, :9], ids[1, :4] = torch.arange(5, 14), torch.arange(9, 13)
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def logits(model: Any, num_padded: int = 0) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(**batch(num_padded)).logits
    return found


@pytest.mark.parametrize("name", sorted(fast_cpu.KNOWN))
def test_a_known_architecture_computes_what_it_does_with_eager_attention(name: str, tmp_path: Path) -> None:
    eager, fast = build(tmp_path, name, "eager"), build(tmp_path, name, fast_cpu.NAME)
    fast.load_state_dict(eager.state_dict())

    torch.testing.assert_close(logits(fast), logits(eager), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(fast_cpu.KNOWN))
def test_more_padding_changes_no_logit(name: str, tmp_path: Path) -> None:
    model = build(tmp_path, name, fast_cpu.NAME)

    torch.testing.assert_close(logits(model, 12), logits(model), rtol=0, atol=1e-6)


def test_a_window_that_holds_nothing_but_padding_gives_no_nan(tmp_path: Path) -> None:
    """In bf16, where the mask's large negative number could become infinity, and a row of them NaN."""
    model = build(tmp_path, "modernbert", fast_cpu.NAME, local_attention=4)
    fast_cpu.install(model)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        padded, expected = logits(model, 40), logits(model)

    torch.testing.assert_close(padded, expected, rtol=0, atol=0.02)


def test_padding_that_is_attended_changes_logits(tmp_path: Path) -> None:
    """Negative control: what happens to an attention that is registered without its mask."""
    from transformers import AttentionMaskInterface

    model = build(tmp_path, "bert", fast_cpu.NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AttentionMaskInterface()._global_mapping, fast_cpu.NAME, lambda *_, **__: None)
        found = logits(model, 12)

    assert (found - logits(model)).abs().max() > 1e-5


def gradients(model: Any) -> dict[str, torch.Tensor]:
    model(**batch(3), labels=torch.tensor([0, 1])).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("name", sorted(fast_cpu.KNOWN))
def test_its_gradients_are_those_of_eager_attention(name: str, tmp_path: Path) -> None:
    eager, fast = build(tmp_path, name, "eager"), build(tmp_path, name, fast_cpu.NAME)
    fast.load_state_dict(eager.state_dict())

    expected, found = gradients(eager), gradients(fast)

    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-4, atol=1e-6, msg=parameter)


def test_the_rate_of_attention_is_that_of_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    dropout: Callable[..., torch.Tensor] = fast_cpu.dropout
    monkeypatch.setattr(fast_cpu, "dropout", lambda x, rate: (rates.append(rate), dropout(x, rate))[1])
    model = build(tmp_path, "bert", fast_cpu.NAME, attention_probs_dropout_prob=0.25, hidden_dropout_prob=0.125)
    fast_cpu.install(model)

    model.train()(**batch(0))

    # Two layers: embeddings, per layer attention, its output and the layer's, and the classifier's.
    assert rates == [0.125, 0.25, 0.125, 0.125, 0.25, 0.125, 0.125, 0.125]


def test_a_model_outside_training_and_autocast_is_as_it_was(tmp_path: Path) -> None:
    model = build(tmp_path, "bert", "eager", hidden_dropout_prob=0.5)
    before = logits(model)
    fast_cpu.install(model)

    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("name", sorted(fast_cpu.KNOWN))
def test_under_autocast_every_layer_gets_bf16(name: str, tmp_path: Path) -> None:
    model = build(tmp_path, name, fast_cpu.NAME)
    fast_cpu.install(model)
    seen = set()
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: seen.add(inputs[0].dtype))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(**batch(0))

    assert seen == {torch.bfloat16}


def test_the_saved_config_names_no_attention(tmp_path: Path) -> None:
    build(tmp_path, "bert", fast_cpu.NAME).save_pretrained(tmp_path / "saved")

    assert fast_cpu.NAME not in (tmp_path / "saved" / "config.json").read_text()
