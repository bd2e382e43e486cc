"""The encoders that people name: each trains, saves, and gets the score it had when it is loaded again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SPECIAL, WORDS, ConfigWriter, save_tiny_model
from transformers import AutoConfig, AutoModel

from ftcli import evaluate, train
from ftcli.console import Console

QUIET = Console(quiet=True)
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
COMMON = {"vocab_size": len(SPECIAL) + len(WORDS), "pad_token_id": 0}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "albert": {**SIZE, "embedding_size": 16},
    "deberta-v2": {**SIZE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "electra": {**SIZE, "embedding_size": 16},
    "modernbert": {**SIZE, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "mpnet": SIZE,
    "roberta": {**SIZE, "max_position_embeddings": 34, "type_vocab_size": 1},
    "xlm-roberta": {**SIZE, "max_position_embeddings": 34, "type_vocab_size": 1},
}


def save_architecture(folder: Path, name: str) -> Path:
    """Save a tiny encoder of one architecture beside the tiny tokenizer."""
    save_tiny_model(folder)
    AutoModel.from_config(AutoConfig.for_model(name, **COMMON, **ARCHITECTURES[name])).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_encoder_trains_and_evaluates_to_the_score_it_had(
    name: str, write_config: ConfigWriter, tmp_path: Path
) -> None:
    config = write_config(model={"name_or_path": str(save_architecture(tmp_path / name, name))})

    run = Path(train(config, ["training.max_steps=3"], console=QUIET)["run"])

    best = json.loads((run / "best.json").read_text())
    assert evaluate(run, console=QUIET)["scores"] == best["scores"]


@pytest.mark.parametrize(("name", "limit"), [("roberta", 33), ("xlm-roberta", 33), ("electra", 64)])
def test_texts_are_truncated_to_what_the_positions_allow(
    name: str, limit: int, write_config: ConfigWriter, tmp_path: Path
) -> None:
    """RoBERTa counts positions from behind the padding index 0, so of its 34 it loses one."""
    from ftcli import inspect_batch

    config = write_config(model={"name_or_path": str(save_architecture(tmp_path / name, name))})

    found = inspect_batch(config, ["data.padding=max_length"], console=QUIET)

    assert found["tensors"]["input_ids"]["shape"] == [8, limit]
