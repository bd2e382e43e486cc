"""The loop against a plain PyTorch loop, against sums worked by hand, and against numbers that are not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ConfigWriter
from line import MeanOfMeans, WeightedSum, line_features, line_learner
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler

from ftcli.config.loading import load_config
from ftcli.data.batching import UpdatePlan, plan_epoch
from ftcli.errors import TrainingStoppedError
from ftcli.experiments import prepare_experiment
from ftcli.hardware import start
from ftcli.learner import Learner
from ftcli.training import run_updates


def ftcli_losses(config: Path, *overrides: str) -> list[float]:
    experiment = prepare_experiment(load_config(config, overrides), ["train"])
    accelerator = start(experiment.execution, experiment.processes)
    learner = experiment.learner(experiment.build_model().model, accelerator)
    features = experiment.splits["train"].features
    return [record.loss for record in run_updates(learner, experiment.plan, features)]


def plain_losses(
    model_folder: Path, rows: list[dict[str, str]], *, num_updates: int, max_grad_norm: float | None = None
) -> list[float]:
    """Train as a user would by hand: the tokenizer's own padding, unfused AdamW, the model's own loss."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    torch.manual_seed(42)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=2, dtype=torch.float32)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, foreach=False)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=num_updates)
    losses: list[float] = []
    epoch = 0
    while len(losses) < num_updates:
        for indices in plan_epoch(np.ones(len(rows)), batch_size=8, sampling="random", seed=42, epoch=epoch):
            batch = [rows[index] for index in indices]
            inputs = tokenizer(
                [row["sentence1"] for row in batch],
                [row["sentence2"] for row in batch],
                padding=True,
                return_tensors="pt",
            )
            loss = model(**inputs, labels=torch.tensor([int(row["label"]) for row in batch])).loss
            loss.backward()
            if max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        epoch += 1
    return losses[:num_updates]


@pytest.fixture
def rows(pair_data: Path) -> list[dict[str, str]]:
    import csv

    with (pair_data / "train.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# 43 rows, so 6 updates an epoch of which the last has 3 rows; 9 epochs.
FIFTY = ("training.epochs=9", "training.sampling=random")


@pytest.mark.parametrize(("model", "settings"), [("still_model", []), ("tiny_model", ["training.dropout=torch"])])
def test_losses_equal_a_plain_loop(
    write_config: ConfigWriter,
    rows: list[dict[str, str]],
    request: pytest.FixtureRequest,
    model: str,
    settings: list[str],
) -> None:
    """Without dropout, and with torch's own, mask by mask."""
    folder: Path = request.getfixturevalue(model)

    found = ftcli_losses(write_config(model={"name_or_path": str(folder)}), *FIFTY, *settings)

    expected = plain_losses(folder, rows, num_updates=54)
    np.testing.assert_allclose(found[:50], expected[:50], rtol=0, atol=1e-6)


def test_clipped_losses_equal_a_plain_loop(
    write_config: ConfigWriter, still_model: Path, rows: list[dict[str, str]]
) -> None:
    found = ftcli_losses(write_config(), *FIFTY, "training.max_grad_norm=0.1", "training.micro_batch_size=3")

    expected = plain_losses(still_model, rows, num_updates=54, max_grad_norm=0.1)
    np.testing.assert_allclose(found[:50], expected[:50], rtol=0, atol=1e-6)


def test_other_masks_give_other_losses(
    write_config: ConfigWriter, tiny_model: Path, rows: list[dict[str, str]]
) -> None:
    """Negative control: the check above sees which masks are drawn."""
    config = write_config(model={"name_or_path": str(tiny_model)})

    found = ftcli_losses(config, *FIFTY, "training.dropout=fast")

    expected = plain_losses(tiny_model, rows, num_updates=54)
    assert np.abs(np.subtract(found, expected)).max() > 1e-3


def test_in_bf16_the_first_losses_stay_close_to_fp32(write_config: ConfigWriter) -> None:
    twenty = ("training.max_steps=20", "training.epochs=9")
    half = ftcli_losses(write_config(), *twenty, "training.precision=bf16")

    exact = ftcli_losses(write_config(), *twenty, "training.precision=fp32")
    np.testing.assert_allclose(half, exact, rtol=0, atol=0.01)
    assert half != exact


def test_another_order_gives_other_losses(
    write_config: ConfigWriter, still_model: Path, rows: list[dict[str, str]]
) -> None:
    """Negative control: two rows that change places are seen."""
    rows[0], rows[1] = rows[1], rows[0]
    found = ftcli_losses(write_config(), *FIFTY)

    expected = plain_losses(still_model, rows, num_updates=54)
    assert np.abs(np.subtract(found, expected)).max() > 1e-4


@pytest.mark.parametrize("micro_batch_size", [2, 1])
def test_27_a_short_update_weighs_by_its_own_targets(micro_batch_size: int) -> None:
    features = line_features([1, 2, 4], weights=[1, 3, 2])
    learner = line_learner(WeightedSum(), micro_batch_size=micro_batch_size)

    learner.update(features, np.array([0, 1]))  # gradient (1 * 1 + 3 * 2) / (1 + 3) = 1.75
    learner.update(features, np.array([2]))  # gradient (2 * 4) / 2 = 4

    assert learner.model.w.item() == -5.75


def test_a_mean_of_means_is_not_the_mean() -> None:
    """Negative control: with micro-batches of 1 the means of 1 and 2 average to 1.5, not 1.75."""
    learner = line_learner(MeanOfMeans(), micro_batch_size=1)

    learner.update(line_features([1, 2], weights=[1, 3]), np.array([0, 1]))

    assert learner.model.w.item() == -1.5


def test_the_clipped_gradient_is_that_of_the_whole_update() -> None:
    learner = line_learner(WeightedSum(), micro_batch_size=1, max_grad_norm=0.5)

    outcome = learner.update(line_features([1, 2], weights=[1, 3]), np.array([0, 1]))

    assert outcome.grad_norm.item() == 1.75
    assert learner.model.w.item() == pytest.approx(-0.5, rel=1e-5)


def test_an_update_without_targets_changes_nothing() -> None:
    learner = line_learner(WeightedSum(), micro_batch_size=1)

    outcome = learner.update(line_features([1, 2], weights=[0, 0]), np.array([0, 1]))

    assert bool(outcome.is_finite)
    assert learner.model.w.item() == 0


def run_line(values: list[float], **how: Any) -> tuple[Learner, Any]:
    features = line_features(values, weights=[1.0] * len(values))
    learner = line_learner(WeightedSum(), micro_batch_size=2)
    plan = UpdatePlan(features.lengths, batch_size=2, sampling="random", epochs=1, max_steps=None, seed=0)
    return learner, run_updates(learner, plan, features, **how)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_stops_the_run_and_names_step_and_rows(bad: float) -> None:
    order = plan_epoch(np.ones(6), batch_size=2, sampling="random", seed=0, epoch=0)
    values = [1.0] * 6
    values[order[1][0]] = bad
    learner, updates = run_line(values)

    with pytest.raises(TrainingStoppedError, match=rf"step 2: .*{min(order[1])}, {max(order[1])}"):
        list(updates)

    assert torch.isfinite(learner.model.w)


def test_a_paused_step_is_yielded_before_the_next_is_computed() -> None:
    learner, updates = run_line([1.0] * 6, pause_at=lambda step: step == 2)

    seen = [(record.step, learner.model.w.item()) for record in updates]

    assert seen == [(1, -2.0), (2, -2.0), (3, -3.0)]


def test_records_come_in_order_with_the_rate_that_was_used(write_config: ConfigWriter) -> None:
    experiment = prepare_experiment(load_config(write_config(), ["training.max_steps=4"]), ["train"])
    accelerator = start(experiment.execution, experiment.processes)
    learner = experiment.learner(experiment.build_model().model, accelerator)

    records = list(run_updates(learner, experiment.plan, experiment.splits["train"].features))

    assert [record.step for record in records] == [1, 2, 3, 4]
    assert [record.learning_rate for record in records] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])
