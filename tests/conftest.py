"""A tiny model, a tiny tokenizer and tiny data, all made here: no test needs the network or a download."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Read when the libraries are imported, so set before any of them is.
# Threads that wait must sleep: those of two test processes would take the cores from each other, at twice the time.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_WAIT_POLICY="PASSIVE")

# The same examples in every run, and no clock: what fails here fails everywhere.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

pytest_plugins = ["faults"]

WORDS = (
    "the a cat dog bird fish runs sleeps eats sings sees red green blue small large and or not "
    "on under near house tree river good bad happy sad"
).split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session", autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep caches out of the user's home, and child processes with us."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTCLI_CACHE", str(home / "ftcli"))
        patch.setenv("HF_HOME", str(home / "huggingface"))
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "OMP_NUM_THREADS"):
            patch.delenv(name, raising=False)
        import datasets.config

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "huggingface" / "datasets")
        yield home


def save_tiny_model(folder: Path, *, dropout: float = 0.1, seed: int = 0, **changes: Any) -> Path:
    """Save a two-layer BERT encoder of 32 dimensions, and its word-level tokenizer, without a head."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a token, no secret
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    settings = {
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    BertModel(BertConfig(**{**settings, **changes})).save_pretrained(folder)
    return folder


SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
COMMON = {"vocab_size": len(SPECIAL) + len(WORDS), "pad_token_id": 0}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "albert": {**SIZE, "embedding_size": 16},
    "deberta-v2": {**SIZE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "bert": SIZE,
    "camembert": {**SIZE, "max_position_embeddings": 34, "type_vocab_size": 1},
    "electra": {**SIZE, "embedding_size": 16},
    "modernbert": {**SIZE, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "mpnet": SIZE,
    "roberta": {**SIZE, "max_position_embeddings": 34, "type_vocab_size": 1},
    "xlm-roberta": {**SIZE, "max_position_embeddings": 34, "type_vocab_size": 1},
}


def tiny_architecture(folder: Path, name: str, **settings: Any) -> Path:
    """Save a tiny encoder of one architecture beside the tiny tokenizer."""
    from transformers import AutoConfig, AutoModel

    save_tiny_model(folder)
    config = AutoConfig.for_model(name, **{**COMMON, **ARCHITECTURES[name], **settings})
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder with dropout 0.1, as checkpoints usually have it."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def still_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder without dropout: what is computed does not depend on random numbers."""
    return save_tiny_model(tmp_path_factory.mktemp("still"), dropout=0.0)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """Write a csv or tsv file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
        writer.writerows([header, *rows])
    return path


def pair_rows(count: int, *, first: int = 0) -> list[tuple[str, str, int]]:
    """Make rows of two texts of different lengths and a label that the texts decide."""
    rows = []
    for number in range(first, first + count):
        words = [WORDS[(number * 7 + step * 3) % len(WORDS)] for step in range(2 + number % 9)]
        same = number % 3 != 0
        other = list(reversed(words)) if same else [WORDS[(number + step) % len(WORDS)] for step in range(3)]
        rows.append((" ".join(words), " ".join(other), int(same)))
    return rows


PAIR_HEADER = ("sentence1", "sentence2", "label")


@pytest.fixture
def pair_data(tmp_path: Path) -> Path:
    """A folder with 43 train and 17 validation rows of sentence pairs."""
    write_table(tmp_path / "pairs" / "train.csv", PAIR_HEADER, pair_rows(43))
    write_table(tmp_path / "pairs" / "validation.csv", PAIR_HEADER, pair_rows(17, first=100))
    return tmp_path / "pairs"


ConfigWriter = Callable[..., Path]


@pytest.fixture
def write_config(tmp_path: Path, still_model: Path, pair_data: Path) -> ConfigWriter:
    """Return a function that writes a config for the pair data; keyword arguments replace whole sections."""
    from ftcli.config.yaml import dump

    def write(name: str = "config.yaml", **sections: Any) -> Path:
        config: dict[str, Any] = {
            "model": {"name_or_path": str(still_model)},
            "data": {
                "path": str(pair_data),
                "columns": {"text": ["sentence1", "sentence2"], "label": "label"},
            },
            "training": {"epochs": 2, "batch_size": 8},
            "optimizer": {"learning_rate": 1e-3},
            "output_dir": str(tmp_path / "run"),
        }
        config.update(sections)
        # Machines differ in what they multiply natively, and most tests compare digits.
        config["training"] = {"precision": "fp32", **config["training"]}
        path = tmp_path / name
        path.write_text(dump(config), encoding="utf-8")
        return path

    return write


def run_ftcli(
    *arguments: object, timeout: int = 300, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `ftcli ARGUMENTS` as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ftcli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )


def load_rows(split: str = "train", *, text: Any = "text", label: str = "label", **data: Any) -> Any:
    """Load a split as a config with this `data` section would."""
    from ftcli.config.schema import config_type
    from ftcli.data.sources import load_split

    config = config_type("text-classification").model_validate(
        {
            "task": "text-classification",
            "model": {"name_or_path": "unused"},
            "data": {"columns": {"text": text, "label": label}, **data},
            "output_dir": "unused",
        }
    )
    return load_split(config.data, split, config.build_task())
