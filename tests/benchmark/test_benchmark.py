"""What bench makes of what was measured, worked by hand, and one small measurement from end to end."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ConfigWriter, run_ftcli
from transformers import BertConfig, BertForSequenceClassification

from ftcli.benchmark.contenders import CONTENDERS
from ftcli.benchmark.measuring import encoder_parameters
from ftcli.benchmark.rounds import Rounds, Worker, summarise
from ftcli.benchmark.shapes import MRPC, SST2, Shape, write_shape
from ftcli.config.loading import load_config
from ftcli.errors import ConfigError, FtcliError
from ftcli.experiments import prepare_experiment
from ftcli.workflows.bench import bench


def record(seconds: float, *, tokens: int = 1000, slots: int = 0) -> dict[str, Any]:
    return {"seconds": seconds, "examples": 100, "tokens": tokens, "slots": slots, "peak": 2**20}


@pytest.fixture
def summary() -> dict[str, Any]:
    """Three rounds in which the other takes twice, three times and six times as long."""
    ours = [record(1, slots=1250), record(2, slots=1250), record(1, slots=1250)]
    other = [record(2), record(6), record(6)]
    facts = {
        "ftcli": {"encoder_parameters": 500, "seconds_to_first_update": 3.0, "execution": "cpu"},
        "plain": {"encoder_parameters": 500, "seconds_to_first_update": 4.0, "execution": "cpu"},
    }
    records = {"ftcli": {"train": ours, "evaluate": ours}, "plain": {"train": other, "evaluate": other}}
    return summarise(Rounds(facts, records, [1e7, 1e7, 2e7]))


def test_the_ratio_is_the_median_of_those_within_a_round(summary: dict[str, Any]) -> None:
    """Of 2, 3 and 6; the ratio of the medians of the times would be 6."""
    assert summary["contenders"]["plain"]["train"]["ratio"] == 3


def test_rates_are_medians_over_the_rounds(summary: dict[str, Any]) -> None:
    found = summary["contenders"]["ftcli"]["train"]
    assert (found["examples_per_second"], found["tokens_per_second"]) == (100, 1000)


def test_mfu_counts_six_operations_a_parameter_and_token_in_training_and_two_in_evaluation(
    summary: dict[str, Any],
) -> None:
    """6 x 500 x 1000 / 1e7, x 500 / 1e7, x 1000 / 2e7: 0.3, 0.15 and 0.15."""
    found = summary["contenders"]["ftcli"]
    assert found["train"]["mfu"] == pytest.approx(0.15)
    assert found["evaluate"]["mfu"] == pytest.approx(0.05)


def test_padding_efficiency_is_that_of_all_rounds_and_unknown_where_nobody_counts(summary: dict[str, Any]) -> None:
    assert summary["contenders"]["ftcli"]["train"]["padding_efficiency"] == pytest.approx(0.8)
    assert summary["contenders"]["plain"]["train"]["padding_efficiency"] is None


def test_the_parameters_that_compute_are_those_of_the_layers() -> None:
    """Worked by hand: a layer has 4 x 8 x 8 in attention and 2 x 8 x 16 behind it."""
    config = BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16)
    assert encoder_parameters(BertForSequenceClassification(config)) == 3 * (4 * 8 * 8 + 2 * 8 * 16)


@pytest.mark.parametrize("shape", [MRPC, SST2])
def test_made_up_texts_have_the_lengths_of_their_shape(shape: Shape, tmp_path: Path) -> None:
    write_shape(shape, tmp_path)

    with (tmp_path / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    texts = [[row[f"text{number}"] for number in range(shape.num_texts)] for row in rows]
    lengths = [sum(len(text.split()) for text in row) + 1 + shape.num_texts for row in texts]
    assert len(rows) == shape.num_train
    # The quartiles are the fifth to seventh of the quantiles that the shape lists.
    np.testing.assert_allclose(np.quantile(lengths, [0.25, 0.5, 0.75]), shape.train_lengths[4:7], atol=1)


def test_a_measurement_belongs_to_one_process(write_config: ConfigWriter) -> None:
    found = run_ftcli("bench", write_config(), WORLD_SIZE="2", RANK="0")

    assert found.returncode == 2
    assert "start it without a launcher" in found.stderr


def test_an_error_of_a_contender_is_told_as_ours(write_config: ConfigWriter, tmp_path: Path) -> None:
    found = run_ftcli("bench", write_config(model={"name_or_path": str(tmp_path / "none")}), "--steps", 1)

    assert found.returncode == 5
    assert "no model here" in found.stderr
    assert "Traceback" not in found.stderr


def test_updates_of_tokens_are_not_compared_with_those_of_examples(write_config: ConfigWriter) -> None:
    with pytest.raises(ConfigError, match=r"training\.tokens_per_batch"):
        bench(write_config(), ["training.tokens_per_batch=512"])


def test_a_contender_that_is_gone_is_an_error(
    write_config: ConfigWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may end one that is waiting, for want of memory."""
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\necho "{\\"sees\\": \\"$CUDA_VISIBLE_DEVICES\\"}"\nexec cat > /dev/null\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(stand_in))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    worker = Worker(load_config(write_config()), "plain")
    # Trainer would learn from more than ftcli with a GPU more.
    assert worker.facts == {"sees": "3"}
    worker.process.kill()
    worker.process.wait()

    with pytest.raises(FtcliError, match="the contender plain ended with exit code -9"):
        worker.ask(matrix_rate=True)
    worker.close()


@pytest.mark.parametrize("name", CONTENDERS)
def test_a_contender_learns_and_evaluates(write_config: ConfigWriter, tmp_path: Path, name: str) -> None:
    experiment = prepare_experiment(load_config(write_config(), ["training.device=cpu"]), ["train", "validation"])
    contender = CONTENDERS[name](experiment, tmp_path)
    before = {key: value.clone() for key, value in contender.model.state_dict().items()}

    seconds, _ = contender.train(experiment.splits["train"].features)
    evaluated, _ = contender.evaluate(experiment.splits["validation"].features)

    assert min(seconds, evaluated) > 0
    assert [key for key, value in contender.model.state_dict().items() if not torch.equal(value, before[key])]


def test_trainer_learns_in_updates_of_the_same_size(write_config: ConfigWriter, tmp_path: Path) -> None:
    experiment = prepare_experiment(load_config(write_config(), ["training.device=cpu"]), ["train"])
    contender = CONTENDERS["trainer-best"](experiment, tmp_path)

    contender.train(experiment.splits["train"].features)

    # 43 rows in updates of 8.
    assert contender.trainer.state.global_step == 6


@pytest.mark.slow
def test_bench_measures_all_contenders(write_config: ConfigWriter, capsys: pytest.CaptureFixture[str]) -> None:
    found = bench(write_config(), num_updates=2, num_rounds=1)

    contenders = found["measured"][0]["contenders"]
    assert list(contenders) == ["ftcli", "plain", "trainer", "trainer-best"]
    assert all(part["tokens_per_second"] > 0 for one in contenders.values() for part in (one["train"], one["evaluate"]))
    assert json.dumps(found)
    assert "ftcli is faster" in " ".join(capsys.readouterr().out.split())
