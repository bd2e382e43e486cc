"""Memory that runs out: passes are halved, the update stays the same, and what cannot be mended is explained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ConfigWriter
from line import Line, WeightedSum, line_features, line_learner

from ftcli import train
from ftcli.config.loading import load_config
from ftcli.console import Console
from ftcli.data.batching import UpdatePlan
from ftcli.data.preparation import Features
from ftcli.errors import ConfigError, TrainingStoppedError
from ftcli.experiments import prepare_experiment
from ftcli.hardware import start
from ftcli.learner import Learner
from ftcli.memory import is_out_of_memory
from ftcli.training import run_updates
from ftcli.workflows.train import dry_run

EIGHT = line_features([1, 2, 4, 8, 16, 32, 64, 128], weights=[1, 3, 2, 1, 1, 2, 3, 1])


class SmallMemory(Line):
    """Holds no more than some examples in one pass, and draws a random number in each."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.error: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more.")
        self.passes: list[int] = []
        self.drawn: list[float] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        self.passes.append(len(input_ids))
        self.drawn.append(torch.rand(()).item())
        if len(input_ids) > self.room:
            raise self.error
        return super().forward(input_ids, attention_mask)


def learner_with(room: int, *, adapts: bool = True, limit: int | None = None) -> tuple[Learner, SmallMemory]:
    learner = line_learner(WeightedSum(), micro_batch_size=limit, adapts=adapts, model=SmallMemory(room))
    assert isinstance(learner.model, SmallMemory)
    return learner, learner.model


def test_running_out_of_memory_halves_the_passes_of_the_same_update() -> None:
    learner, model = learner_with(room=2)

    learner.update(EIGHT, np.arange(8))

    assert model.passes == [8, 4, 2, 2, 2, 2]
    assert learner.pass_size.limit == 2


@pytest.mark.parametrize("room", [8, 5, 2, 1])
def test_the_update_is_that_of_a_machine_with_room(room: int) -> None:
    """Worked by hand: sum of weight times value over the sum of the weights."""
    learner, model = learner_with(room)

    outcome = learner.update(EIGHT, np.arange(8))

    expected = (1 + 6 + 8 + 8 + 16 + 64 + 192 + 128) / 14
    assert model.w.item() == pytest.approx(-expected)
    assert outcome.grad_norm.item() == pytest.approx(expected)


def test_what_was_found_holds_for_the_updates_that_follow() -> None:
    learner, model = learner_with(room=4)
    learner.update(EIGHT, np.arange(8))
    model.passes.clear()

    learner.update(EIGHT, np.arange(8))

    assert model.passes == [4, 4]


def test_the_update_is_repeated_with_the_random_numbers_that_it_had() -> None:
    learner, model = learner_with(room=4)

    learner.update(EIGHT, np.arange(8))

    assert model.drawn[0] == model.drawn[1]
    assert model.drawn[1] != model.drawn[2]


def test_a_single_example_that_does_not_fit_ends_with_what_to_change() -> None:
    learner, _ = learner_with(room=0)

    with pytest.raises(TrainingStoppedError, match=r"single example in a pass; lower data.max_length"):
        learner.update(EIGHT, np.arange(8))


def test_20_without_auto_the_way_out_is_named() -> None:
    learner, model = learner_with(room=4, adapts=False)

    with pytest.raises(TrainingStoppedError, match=r"8 examples of up to 1 tokens.*micro_batch_size=auto"):
        learner.update(EIGHT, np.arange(8))

    assert model.w.item() == 0


def test_20_a_dry_run_names_it_too(write_config: ConfigWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    def short_of_memory(*_: Any, **__: Any) -> Any:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:131] . DefaultCPUAllocator: can't allocate memory: you tried"
        )

    monkeypatch.setattr(Learner, "accumulate", short_of_memory)

    with pytest.raises(TrainingStoppedError, match=r"8 examples of up to .*micro_batch_size=auto"):
        dry_run(write_config(), console=Console(quiet=True))


@pytest.mark.parametrize(
    "error", [RuntimeError("could not create a primitive"), MemoryError("Unable to allocate 1.0 GiB for an array")]
)
def test_what_onednn_and_numpy_say_without_memory_is_taken_for_it(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_memory_that_numpy_lacks_halves_the_passes_too() -> None:
    """The masks of dropout on a CPU are drawn by numpy."""
    learner, model = learner_with(room=4)
    model.error = MemoryError("Unable to allocate 1.0 GiB for an array")

    learner.update(EIGHT, np.arange(8))

    assert model.passes == [8, 4, 4]


def test_another_error_is_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, model = learner_with(room=8)
    monkeypatch.setattr(model, "forward", lambda **_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        learner.update(EIGHT, np.arange(8))


def test_a_probe_finds_the_size_and_changes_nothing_else() -> None:
    learner, model = learner_with(room=4)
    plan = UpdatePlan(EIGHT.lengths, 8, "random", epochs=1, max_steps=None, seed=0)
    before = torch.get_rng_state()

    learner.probe(EIGHT, plan)

    assert learner.pass_size.limit == 4
    assert (model.w.item(), model.w.grad) == (0, None)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_record_says_how_large_its_passes_were() -> None:
    learner, _ = learner_with(room=3)
    plan = UpdatePlan(EIGHT.lengths, 4, "random", epochs=1, max_steps=None, seed=0)

    records = list(run_updates(learner, plan, EIGHT))

    assert [(record.largest_pass, record.num_slots) for record in records] == [(2, 4), (2, 4)]


# --- settings that change how, and not what


def losses(config: Any, *overrides: str) -> list[float]:
    experiment = prepare_experiment(load_config(config, ["training.max_steps=4", *overrides]), ["train"])
    accelerator = start(experiment.execution, experiment.processes)
    learner = experiment.learner(experiment.build_model().model, accelerator)
    features: Features = experiment.splits["train"].features
    return [record.loss for record in run_updates(learner, experiment.plan, features)]


@pytest.mark.parametrize(
    "setting",
    [
        "training.gradient_checkpointing=true",
        "training.micro_batch_size=auto",
        "model.attention=eager",
        "model.attention=sdpa",
        "optimizer.fused=false",
        "training.dropout=torch",
    ],
)
def test_a_setting_of_execution_leaves_the_losses(write_config: ConfigWriter, setting: str) -> None:
    np.testing.assert_allclose(losses(write_config(), setting), losses(write_config()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("setting", ["training.gradient_checkpointing=true", "training.micro_batch_size=auto"])
def test_with_dropout_the_losses_are_the_same_to_the_bit(
    write_config: ConfigWriter, tiny_model: Any, setting: str
) -> None:
    config = write_config(model={"name_or_path": str(tiny_model)})
    assert losses(config, setting) == losses(config)


def test_an_update_by_tokens_holds_as_many_examples_as_fit(write_config: ConfigWriter) -> None:
    config = load_config(write_config(), ["training.tokens_per_batch=64", "training.epochs=1"])
    experiment = prepare_experiment(config, ["train"])
    features = experiment.splits["train"].features
    learner = experiment.learner(experiment.build_model().model, start(experiment.execution, experiment.processes))

    records = list(run_updates(learner, experiment.plan, features))

    assert sum(record.num_examples for record in records) == 43
    assert max(record.num_slots for record in records) <= 64
    assert len({record.num_examples for record in records}) > 1


def test_an_encoder_that_cannot_recompute_says_so(write_config: ConfigWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertForSequenceClassification

    monkeypatch.setattr(BertForSequenceClassification, "supports_gradient_checkpointing", False)

    with pytest.raises(ConfigError, match=r"training.gradient_checkpointing: .* does not support it"):
        losses(write_config(), "training.gradient_checkpointing=true")


def test_a_run_tells_and_records_that_its_passes_became_smaller(
    write_config: ConfigWriter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import BertForSequenceClassification

    forward = BertForSequenceClassification.forward

    def with_room_for_four(self: Any, input_ids: torch.Tensor, **inputs: Any) -> Any:
        if self.training and len(input_ids) > 4 and num_passes[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        num_passes[0] += 1
        return forward(self, input_ids, **inputs)

    num_passes = [0]
    monkeypatch.setattr(BertForSequenceClassification, "forward", with_room_for_four)

    run = Path(train(write_config(), ["training.micro_batch_size=auto", "training.epochs=1"])["run"])

    steps = [json.loads(line)["largest_pass"] for line in (run / "steps.jsonl").read_text().splitlines()]
    assert steps == [8, 8, 4, 4, 4, 3]
    assert "out of memory; from here on at most 4 examples a pass" in " ".join(capsys.readouterr().err.split())
    assert "from here on at most 4 examples" in (run / "log.txt").read_text()


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler")
@pytest.mark.slow
def test_a_compiled_model_has_the_losses_of_one_that_is_not(write_config: ConfigWriter) -> None:
    torch._dynamo.utils.counters.clear()
    compiled = losses(write_config(), "training.compile=true", "training.max_steps=2")

    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    np.testing.assert_allclose(compiled, losses(write_config(), "training.max_steps=2"), rtol=0, atol=1e-5)
