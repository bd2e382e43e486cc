"""The encoders that people name: each trains, saves, and gets the score it had when it is loaded again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ARCHITECTURES, ConfigWriter, tiny_architecture

from ftcli import evaluate, train
from ftcli.console import Console

QUIET = Console(quiet=True)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_encoder_trains_and_evaluates_to_the_score_it_had(
    name: str, write_config: ConfigWriter, tmp_path: Path
) -> None:
    config = write_config(model={"name_or_path": str(tiny_architecture(tmp_path / name, name))})

    run = Path(train(config, ["training.max_steps=3"], console=QUIET)["run"])

    best = json.loads((run / "best.json").read_text())
    assert evaluate(run, console=QUIET)["scores"] == best["scores"]


@pytest.mark.parametrize(("name", "limit"), [("roberta", 33), ("xlm-roberta", 33), ("electra", 64)])
def test_texts_are_truncated_to_what_the_positions_allow(
    name: str, limit: int, write_config: ConfigWriter, tmp_path: Path
) -> None:
    """RoBERTa counts positions from behind the padding index 0, so of its 34 it loses one."""
    from ftcli import inspect_batch

    config = write_config(model={"name_or_path": str(tiny_architecture(tmp_path / name, name))})

    found = inspect_batch(config, ["data.padding=max_length"], console=QUIET)

    assert found["tensors"]["input_ids"]["shape"] == [8, limit]
