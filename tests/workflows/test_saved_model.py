"""A published model loads where its users are: transformers, sentence-transformers, and the Hub's card reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WORDS, pair_rows, save_tiny_model, write_table

from ftcli.config.yaml import dump
from ftcli.console import Console
from ftcli.workflows import predict, train

QUIET = Console(quiet=True)
LABELS = ["different", "same"]
# Other batches and other paddings round float32 otherwise, and the weights here are large.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on pairs at max_length 24, below what tokenizer and model could take."""
    folder = tmp_path_factory.mktemp("published")
    rows = [(first, second, LABELS[label]) for first, second, label in pair_rows(60)]
    config = {
        "model": {"name_or_path": str(save_tiny_model(folder / "secret-place" / "tiny", initializer_range=0.5))},
        "data": {
            "files": {"train": str(write_table(folder / "all.csv", ("first", "second", "label"), rows))},
            "columns": {"text": ["first", "second"]},
            "validation_fraction": 0.25,
            "max_length": 24,
        },
        "training": {"epochs": 2, "precision": "fp32"},
        "optimizer": {"learning_rate": 3e-4},
        "output_dir": str(folder / "paraphrases"),
    }
    (folder / "config.yaml").write_text(dump(config), encoding="utf-8")
    train(folder / "config.yaml", console=QUIET)
    return folder / "paraphrases"


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    """Pairs of which some are longer than 24 tokens."""
    long = " ".join(WORDS)
    return [(first, second) for first, second, _ in pair_rows(30, first=900)] + [(long, "a cat"), ("a dog", long)]


@pytest.fixture(scope="module")
def probabilities(run: Path, pairs: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What `ftcli predict` says: (32, 2)."""
    folder = tmp_path_factory.mktemp("predicted")
    write_table(folder / "pairs.csv", ("first", "second"), pairs)
    predict(run, folder / "pairs.csv", output=folder / "out.jsonl", console=QUIET)
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    return np.array([[row["probabilities"][label] for label in LABELS] for row in rows])


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def logits_of(model: Any, tokenizer: Any, pairs: list[tuple[str, str]], **options: Any) -> np.ndarray:
    import torch

    firsts, seconds = zip(*pairs, strict=True)
    batch = tokenizer(list(firsts), list(seconds), padding=True, return_tensors="pt", **options)
    with torch.inference_mode():
        return np.asarray(model.eval()(**batch).logits)


def test_from_pretrained_computes_what_predict_does(
    run: Path, pairs: list[tuple[str, str]], probabilities: np.ndarray
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")

    logits = logits_of(model, tokenizer, pairs, truncation=True)

    assert np.abs(softmax(logits) - probabilities).max() < ROUNDING


def test_another_length_limit_is_found(run: Path, pairs: list[tuple[str, str]], probabilities: np.ndarray) -> None:
    """Negative control: the length inside the tokenizer matters."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")

    logits = logits_of(model, tokenizer, pairs, truncation=True, max_length=23)

    assert np.abs(softmax(logits) - probabilities).max() > 1e-3


def test_the_pipeline_of_transformers_says_what_predict_does(
    run: Path, pairs: list[tuple[str, str]], probabilities: np.ndarray
) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(run / "model"))
    found = classify([{"text": a, "text_pair": b} for a, b in pairs], top_k=None, truncation=True)

    got = np.array([[{one["label"]: one["score"] for one in row}[label] for label in LABELS] for row in found])
    assert np.abs(got - probabilities).max() < ROUNDING


def test_the_cross_encoder_of_sentence_transformers_says_what_predict_does(
    run: Path, pairs: list[tuple[str, str]], probabilities: np.ndarray
) -> None:
    from sentence_transformers import CrossEncoder

    got = CrossEncoder(str(run / "model")).predict(pairs, apply_softmax=True)

    assert np.abs(np.asarray(got) - probabilities).max() < ROUNDING


def test_labels_problem_type_and_length_are_inside(run: Path) -> None:
    config = json.loads((run / "model" / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((run / "model" / "tokenizer_config.json").read_text(encoding="utf-8"))

    assert config["id2label"] == {"0": "different", "1": "same"}
    assert config["label2id"] == {"different": 0, "same": 1}
    assert config["problem_type"] == "single_label_classification"
    assert tokenizer["model_max_length"] == 24


def test_the_tokenizer_keeps_no_truncation_or_padding_of_the_last_call(run: Path) -> None:
    tokenizer = json.loads((run / "model" / "tokenizer.json").read_text(encoding="utf-8"))

    assert [tokenizer["truncation"], tokenizer["padding"]] == [None, None]


# --- the card


@pytest.fixture(scope="module")
def card(run: Path) -> Any:
    from huggingface_hub import ModelCard

    return ModelCard.load(run / "model" / "README.md")


def test_the_card_has_the_metadata_that_a_local_run_knows(card: Any) -> None:
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["ftcli"],
        "metrics": ["accuracy", "f1"],
    }


def test_the_card_gives_scores_with_n_beside_the_majority_class(card: Any, run: Path) -> None:
    best = json.loads((run / "best.json").read_text(encoding="utf-8"))
    accuracy, majority = best["scores"]["accuracy"], best["majority_class"]["accuracy"]

    assert f"| accuracy | {accuracy:.4f} | {majority:.4f} |" in card.text
    assert f"(n = {best['num_examples']})" in card.text


def test_the_card_says_which_class_is_positive_and_how_it_was_trained(card: Any) -> None:
    assert "with 2 labels: `different`, `same`. The positive class is `same`." in card.text
    assert "| schedule | linear, warm-up over 0 updates |" in card.text
    assert "| computed on | one process, cpu, fp32 |" in card.text


def test_the_majority_class_has_the_score_of_always_answering_with_it(run: Path) -> None:
    best = json.loads((run / "best.json").read_text(encoding="utf-8"))
    predictions = (run / "predictions" / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    golds = [json.loads(line)["gold"] for line in predictions]

    assert best["majority_class"]["accuracy"] == golds.count("same") / len(golds)


def test_the_card_says_where_the_validation_rows_come_from(card: Any) -> None:
    assert "| validation | 15 | held out of `train` | different 5, same 10 |" in card.text


def test_the_card_names_no_place_on_this_machine(run: Path) -> None:
    assert "secret-place" not in (run / "model" / "README.md").read_text(encoding="utf-8")


def test_the_code_on_the_card_runs(card: Any, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = card.text.split("```python\n")[1].split("```")[0].replace("PATH-OR-REPO", str(run / "model"))

    exec(compile(code, "card", "exec"), {})  # noqa: S102 - our own card

    assert "different" in capsys.readouterr().out
