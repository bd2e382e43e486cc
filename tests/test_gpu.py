"""What only a GPU can show. Without one these tests are skipped; the choices made for one are tested with fakes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ConfigWriter, pair_rows, run_ftcli, tiny_architecture, write_table

from ftcli import evaluate, train
from ftcli.config.loading import load_config
from ftcli.console import Console
from ftcli.data.preparation import Features
from ftcli.experiments import Experiment, prepare_experiment
from ftcli.hardware import start
from ftcli.learner import Learner
from ftcli.training import StepRecord, run_updates

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature:UserWarning"),
]
QUIET = Console(quiet=True)
ON_GPU = {"device": "auto", "precision": "bf16", "epochs": 1, "batch_size": 8}


@pytest.fixture
def no_waiting() -> Iterator[Any]:
    """Have torch raise an error wherever the host would wait for the GPU, from the moment that this is called."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


def build(config: Path, *overrides: str, **changes: Any) -> tuple[Experiment, Learner, Features]:
    experiment = prepare_experiment(load_config(config, overrides), ["train", "validation"])
    experiment = replace(experiment, execution=replace(experiment.execution, **changes))
    accelerator = start(experiment.execution, experiment.processes)
    learner = experiment.learner(experiment.build_model().model, accelerator)
    return experiment, learner, experiment.splits["train"].features


def updates(config: Path, *overrides: str, **changes: Any) -> list[StepRecord]:
    experiment, learner, features = build(config, *overrides, **changes)
    torch.manual_seed(0)
    return list(run_updates(learner, experiment.plan, features))


def losses(config: Path, *overrides: str) -> list[float]:
    return [record.loss for record in updates(config, *overrides)]


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_no_update_waits_for_the_gpu(write_config: ConfigWriter, no_waiting: Any, precision: str) -> None:
    experiment, learner, features = build(write_config(training={**ON_GPU, "precision": precision}))
    learner.wrapped.train()
    first, *others = experiment.plan.epoch(0)
    learner.update(features, first)  # kernels are loaded, and buffers made
    torch.cuda.synchronize()

    no_waiting()
    outcomes = [learner.update(features, indices) for indices in others]

    torch.cuda.set_sync_debug_mode("default")
    for outcome in outcomes:
        outcome.wait()
    assert all(np.isfinite(outcome.loss.item()) for outcome in outcomes)
    assert all(outcome.loss.device.type == "cpu" for outcome in outcomes)


def test_a_part_that_waits_is_found(write_config: ConfigWriter, no_waiting: Any) -> None:
    """Negative control: transformers' own sdpa asks the GPU whether anything is masked."""
    experiment, learner, features = build(write_config(training=ON_GPU), "model.attention=sdpa")
    no_waiting()

    with pytest.raises(RuntimeError, match="synchronizing"):
        learner.update(features, experiment.plan.epoch(0)[0])


def test_no_batch_of_an_evaluation_waits_for_the_gpu(write_config: ConfigWriter, no_waiting: Any) -> None:
    experiment, learner, features = build(write_config(training=ON_GPU))
    evaluator = experiment.evaluator(learner.accelerator)
    evaluator.run_batch(learner.model, features, range(4))
    no_waiting()

    reduced, _ = evaluator.run_batch(learner.model, features, range(8))

    assert reduced["logits"].shape == (8, 2)


@pytest.mark.parametrize("name", ["bert", "modernbert", "roberta", "distilbert"])
def test_masks_that_nobody_looks_at_mask_the_same(tmp_path: Path, write_config: ConfigWriter, name: str) -> None:
    model = tiny_architecture(tmp_path / name, name)
    config = write_config(model={"name_or_path": str(model)}, training={**ON_GPU, "precision": "fp32"})
    found = {}
    for attention in ("auto", "sdpa"):
        experiment, learner, features = build(config, f"model.attention={attention}")
        found[attention] = experiment.evaluator(learner.accelerator).run_model(learner.model, features)[0]["logits"]

    np.testing.assert_allclose(found["auto"], found["sdpa"], rtol=0, atol=1e-5)


def test_the_losses_are_those_of_a_cpu(write_config: ConfigWriter) -> None:
    config = write_config(training={**ON_GPU, "precision": "fp32"})

    np.testing.assert_allclose(losses(config), losses(config, "training.device=cpu"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_close_to_fp32(write_config: ConfigWriter, precision: str) -> None:
    config = write_config(training={**ON_GPU, "epochs": 3})

    halved, expected = (updates(config, f"training.precision={name}") for name in (precision, "fp32"))

    assert len(halved) == 18
    # An update that overflows in fp16 is skipped.
    assert all(np.isfinite(record.grad_norm) for record in halved)
    np.testing.assert_allclose([r.loss for r in halved], [r.loss for r in expected], rtol=0, atol=0.01)


@pytest.mark.parametrize("name", ["albert", "bert", "modernbert"])
def test_weights_that_are_cast_at_once_give_autocasts_losses(
    tmp_path: Path, write_config: ConfigWriter, name: str
) -> None:
    config = write_config(model={"name_or_path": str(tiny_architecture(tmp_path / name, name))}, training=ON_GPU)

    assert [r.loss for r in updates(config)] == [r.loss for r in updates(config, casts_at_once=False)]


def test_running_out_of_the_gpus_memory_halves_the_passes_of_the_same_update(
    write_config: ConfigWriter, tmp_path: Path
) -> None:
    """A limit on what torch may allocate stands for a smaller GPU."""
    write_table(tmp_path / "pairs" / "train.csv", ("sentence1", "sentence2", "label"), pair_rows(4096))
    config = write_config(training={**ON_GPU, "precision": "fp32", "batch_size": 2048, "micro_batch_size": "auto"})
    expected = losses(config)
    whole = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    total = torch.cuda.get_device_properties().total_memory
    torch.cuda.set_per_process_memory_fraction(whole * 0.6 / total)
    try:
        experiment, learner, features = build(config)
        records = list(run_updates(learner, experiment.plan, features))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    assert all(record.largest_pass < 2048 for record in records)
    assert torch.cuda.max_memory_allocated() < whole * 0.6
    np.testing.assert_allclose([record.loss for record in records], expected, rtol=0, atol=1e-5)


def test_eval_gives_the_scores_that_training_recorded(write_config: ConfigWriter) -> None:
    run = Path(train(write_config(training=ON_GPU), console=QUIET)["run"])

    best = json.loads((run / "best.json").read_text())
    assert evaluate(run, console=QUIET)["scores"] == best["scores"]


def test_a_deterministic_run_goes_on_bit_for_bit(write_config: ConfigWriter, tiny_model: Path, tmp_path: Path) -> None:
    config = write_config(training={**ON_GPU, "epochs": 2}, model={"name_or_path": str(tiny_model)})
    run, again = tmp_path / "run", tmp_path / "again"
    first = run_ftcli("train", config, "--deterministic", "checkpoint.every=4")
    assert first.returncode == 0, first.stderr
    shutil.copytree(run, again)
    older = min((again / "checkpoints").iterdir())

    second = run_ftcli("resume", older)

    assert second.returncode == 0, second.stderr
    assert digest(again) == digest(run)


def digest(run: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(run.rglob("model.safetensors"))]
