"""Where weights change: groups, schedules, and the update itself against torch's own clipping and AdamW."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from ftcli.config.schema import OptimizerSection, SchedulerSection
from ftcli.errors import ConfigError
from ftcli.optimization import (
    advance_schedule,
    apply_update,
    build_optimizer,
    build_schedule,
    parameter_groups,
    total_norm,
)


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense = torch.nn.Linear(3, 2)
        self.norm = torch.nn.LayerNorm(2)


def test_biases_and_norms_are_not_decayed() -> None:
    model = Tiny()

    decayed, spared = parameter_groups(model, weight_decay=0.1)

    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(model.dense.weight)]
    assert {id(p) for p in spared["params"]} == {id(model.dense.bias), id(model.norm.weight), id(model.norm.bias)}


def test_frozen_parameters_are_in_no_group() -> None:
    model = Tiny()
    model.dense.weight.requires_grad_(False)

    decayed, _ = parameter_groups(model, weight_decay=0.1)

    assert decayed["params"] == []


def rates(section: SchedulerSection, *, num_updates: int) -> list[float]:
    optimizer = torch.optim.AdamW(Tiny().parameters(), lr=1.0)
    schedule = build_schedule(optimizer, section, num_updates=num_updates)
    found = []
    for _ in range(num_updates):
        found.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (SchedulerSection(), [1.0, 0.75, 0.5, 0.25]),
        (SchedulerSection(warmup_steps=2), [0.0, 0.5, 1.0, 0.5]),
        (SchedulerSection(warmup_steps=0.5), [0.0, 0.5, 1.0, 0.5]),
        (SchedulerSection(name="constant"), [1.0, 1.0, 1.0, 1.0]),
        (SchedulerSection(name="constant_with_warmup", warmup_steps=2), [0.0, 0.5, 1.0, 1.0]),
        (SchedulerSection(name="polynomial", options={"power": 2.0, "lr_end": 0.0}), [1.0, 0.5625, 0.25, 0.0625]),
    ],
)
def test_schedules_are_functions_of_the_updates_that_will_run(section: SchedulerSection, expected: list[float]) -> None:
    assert rates(section, num_updates=4) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (SchedulerSection(warmup_steps=5), "5 updates of warm-up in a run of 4"),
        (SchedulerSection(name="cosine", options={"cycles": 2}), r"scheduler\.options\.cycles: .* it takes num_cycles"),
        (SchedulerSection(options={"num_cycles": 2}), r"scheduler\.options\.num_cycles: linear has no such option"),
        (SchedulerSection(name="warmup_stable_decay"), r"scheduler\.options\.num_decay_steps: required"),
        (SchedulerSection(name="cosine_with_min_lr"), r"scheduler\.options: cosine_with_min_lr cannot be built"),
    ],
)
def test_a_schedule_that_cannot_be_built_names_the_key(section: SchedulerSection, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rates(section, num_updates=4)


def gradients_of(model: torch.nn.Module, scale: float) -> None:
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * scale


def update(model: torch.nn.Module, *, fused: bool, loss: float = 8.0, **how: Any) -> tuple[Any, Any]:
    """Apply an update whose gradient is that of a sum with weight 4 over 2 processes: twice the mean."""
    optimizer = build_optimizer(model, OptimizerSection(learning_rate=0.1), fused=fused)
    gradients_of(model, scale=2.0)
    outcome = apply_update(
        optimizer,
        torch.tensor(loss),
        torch.tensor(4.0),
        num_processes=2,
        max_grad_norm=how.pop("max_grad_norm", None),
        **how,
    )
    return optimizer, outcome


def test_the_norm_of_many_gradients_is_that_of_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(shape, generator=generator) for shape in [(4000, 1000), (7,)]]
    gradients.append(torch.randn(50, 80, generator=generator).T)  # not contiguous
    exact = torch.cat([gradient.double().flatten() for gradient in gradients]).norm().item()

    assert total_norm(gradients).item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("max_grad_norm", [None, 0.5, 100.0])
@pytest.mark.parametrize("fused", [True, False])
def test_an_update_equals_torch_clipping_and_adamw_on_the_mean_gradient(
    fused: bool, max_grad_norm: float | None
) -> None:
    model = Tiny()
    expected = copy.deepcopy(model)
    plain = torch.optim.AdamW(expected.parameters(), lr=0.1, weight_decay=0.0, foreach=False)
    gradients_of(expected, scale=1.0)
    if max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(expected.parameters(), max_grad_norm)
    plain.step()

    _, outcome = update(model, fused=fused, max_grad_norm=max_grad_norm)

    assert outcome.loss.item() == 2.0
    for found, wanted in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_leaves_weights_and_state_alone(fused: bool, loss: float) -> None:
    model = Tiny()
    before = copy.deepcopy(model.state_dict())

    optimizer, outcome = update(model, fused=fused, loss=loss)

    assert not bool(outcome.is_finite)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(float(state["step"]) == 0 for state in optimizer.state.values())


def test_the_loss_scale_of_fp16_does_not_reach_the_weights() -> None:
    model = Tiny()
    expected = copy.deepcopy(model)
    update(expected, fused=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = build_optimizer(model, OptimizerSection(learning_rate=0.1), fused=True)
    gradients_of(model, scale=2.0 * 1024)
    scaler.scale(torch.tensor(1.0))  # the scale exists from the first scaled loss on

    apply_update(optimizer, torch.tensor(8.0), torch.tensor(4.0), num_processes=2, max_grad_norm=None, scaler=scaler)

    for found, wanted in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_an_fp16_overflow_lowers_the_scale_and_does_not_stop_the_run() -> None:
    model = Tiny()
    before = copy.deepcopy(model.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = build_optimizer(model, OptimizerSection(), fused=True)
    gradients_of(model, scale=float("inf"))
    scaler.scale(torch.tensor(1.0))

    outcome = apply_update(
        optimizer, torch.tensor(8.0), torch.tensor(4.0), num_processes=1, max_grad_norm=1.0, scaler=scaler
    )

    assert bool(outcome.is_finite)
    assert scaler.get_scale() == 512.0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["linear", "cosine", "constant_with_warmup", "inverse_sqrt", "polynomial"])
@pytest.mark.parametrize("step", [1, 2, 7, 10])
def test_a_schedule_that_is_advanced_has_the_rates_of_one_that_was_stepped(name: Any, step: int) -> None:
    def build() -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
        return optimizer, build_schedule(optimizer, SchedulerSection(name=name, warmup_steps=3), num_updates=10)

    (one, stepped), (two, advanced) = build(), build()
    advance_schedule(advanced, step)
    for _ in range(step):
        one.step()
        stepped.step()
    found, expected = [], []
    for _ in range(3):
        found.append((two.param_groups[0]["lr"], advanced.get_last_lr()))
        expected.append((one.param_groups[0]["lr"], stepped.get_last_lr()))
        for optimizer, schedule in ((one, stepped), (two, advanced)):
            optimizer.step()
            schedule.step()

    assert found == expected
