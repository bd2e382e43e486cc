"""The embedded example: what its rows promise, and that they need a language model."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import run_ftcli

import ftcli.quickstart
from ftcli.config.loading import load_config

FOLDER = Path(ftcli.quickstart.__file__).parent
Pair = tuple[str, str, str]


def read(split: str) -> list[Pair]:
    with (FOLDER / f"{split}.csv").open(encoding="utf-8", newline="") as file:
        return [(row["first"], row["second"], row["label"]) for row in csv.DictReader(file)]


TRAIN, VALIDATION = read("train"), read("validation")


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def overlap(pair: Pair) -> float:
    """Shared words over all words of a pair."""
    first, second = set(words(pair[0])), set(words(pair[1]))
    return len(first & second) / len(first | second)


def sentences(pairs: list[Pair]) -> set[str]:
    return {text for first, second, _ in pairs for text in (first, second)}


def runs_of_words(texts: set[str], length: int) -> set[tuple[str, ...]]:
    split = [words(text) for text in texts]
    return {tuple(found[start : start + length]) for found in split for start in range(len(found) - length + 1)}


def test_there_are_enough_pairs() -> None:
    assert (len(TRAIN) >= 600, len(VALIDATION) >= 200) == (True, True)


@pytest.mark.parametrize("pairs", [TRAIN, VALIDATION], ids=["train", "validation"])
def test_both_labels_are_equally_common(pairs: list[Pair]) -> None:
    assert Counter(label for _, _, label in pairs) == {"same": len(pairs) // 2, "different": len(pairs) // 2}


@pytest.mark.parametrize("pairs", [TRAIN, VALIDATION], ids=["train", "validation"])
def test_no_pair_comes_twice(pairs: list[Pair]) -> None:
    assert len({frozenset(pair[:2]) for pair in pairs}) == len(pairs)


def test_the_splits_share_no_sentence() -> None:
    assert not {text.lower() for text in sentences(TRAIN)} & {text.lower() for text in sentences(VALIDATION)}


def test_the_splits_share_no_run_of_five_words() -> None:
    assert not runs_of_words(sentences(TRAIN), 5) & runs_of_words(sentences(VALIDATION), 5)


def test_no_sentence_is_unseen_by_name_only() -> None:
    """The lines that `make demo` predicts are in neither split."""
    unseen = (FOLDER / "unseen.tsv").read_text(encoding="utf-8").splitlines()[1:]

    assert not set("\t".join(unseen).split("\t")) & (sentences(TRAIN) | sentences(VALIDATION))


@pytest.mark.parametrize("pairs", [TRAIN, VALIDATION], ids=["train", "validation"])
def test_shared_words_do_not_give_the_label_away(pairs: list[Pair]) -> None:
    """Many pairs that differ share a third of their words or more, and many that are the same share few."""
    different = [overlap(pair) for pair in pairs if pair[2] == "different"]
    same = [overlap(pair) for pair in pairs if pair[2] == "same"]

    assert np.median(same) < 0.25
    assert sum(share >= 1 / 3 for share in different) >= 0.05 * len(pairs)
    assert abs(np.median(same) - np.median(different)) < 0.05


def score_without_a_language_model(train: list[Pair], validation: list[Pair]) -> float:
    """Fit a logistic regression on what words alone tell of a pair, and return its accuracy.

    Features: |a - b| and a * b of the two texts' TF-IDF, their cosine, and their overlap.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    vectorizer.fit([text for first, second, _ in train for text in (first, second)])

    def features(pairs: list[Pair]) -> sparse.csr_matrix:
        firsts, seconds = (vectorizer.transform([pair[side] for pair in pairs]) for side in (0, 1))
        product = firsts.multiply(seconds)
        shares = np.array([[overlap(pair)] for pair in pairs])
        return sparse.hstack([abs(firsts - seconds), product, product.sum(axis=1), shares]).tocsr()

    labels = [pair[2] for pair in train]
    accuracies = []
    for strength in (0.1, 1.0, 10.0):
        model = LogisticRegression(C=strength, max_iter=5000).fit(features(train), labels)
        accuracies.append(float(model.score(features(validation), [pair[2] for pair in validation])))
    return max(accuracies)


def test_words_alone_do_not_solve_it() -> None:
    assert score_without_a_language_model(TRAIN, VALIDATION) < 0.75


def test_that_baseline_learns_what_words_do_tell() -> None:
    """Control: pairs whose label is their overlap are solved by it."""

    def relabelled(pairs: list[Pair]) -> list[Pair]:
        middle = np.median([overlap(pair) for pair in pairs])
        return [(*pair[:2], "same" if overlap(pair) > middle else "different") for pair in pairs]

    assert score_without_a_language_model(relabelled(TRAIN), relabelled(VALIDATION)) > 0.9


def test_the_config_of_the_example_names_nothing_outside_installed_packages() -> None:
    config = load_config(ftcli.quickstart.CONFIG)

    assert config.model.name_or_path.startswith("package:")
    assert config.data.path == "package:ftcli/quickstart"


# --- ftcli train without CONFIG


def test_without_a_config_the_example_is_trained_and_that_is_said(tmp_path: Path, tiny_model: Path) -> None:
    done = run_ftcli("train", f"model.name_or_path={tiny_model}", "training.max_steps=2", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert f"no CONFIG given and no ftcli.yaml here: the example, {ftcli.quickstart.CONFIG}" in done.stderr
    assert (tmp_path / "runs" / "quickstart" / "model" / "config.json").is_file()


def test_without_a_config_ftcli_yaml_comes_first(tmp_path: Path) -> None:
    (tmp_path / "ftcli.yaml").write_text("training: {epoch: 1}\n", encoding="utf-8")

    done = run_ftcli("train", cwd=tmp_path)

    assert done.returncode == 2
    assert "no CONFIG given: ftcli.yaml" in done.stderr
    assert "ftcli.yaml:1:12: training.epoch: unknown key; did you mean epochs?" in done.stderr


def test_a_package_that_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    done = run_ftcli("train", "model.name_or_path=package:no_such_package/model", cwd=tmp_path)

    assert done.returncode == 5
    assert "no installed package 'no_such_package'; install it, perhaps with pip install no-such-package" in done.stderr


def test_nothing_in_a_package_is_an_error_of_the_data(tmp_path: Path, tiny_model: Path) -> None:
    done = run_ftcli("train", f"model.name_or_path={tiny_model}", "data.path=package:ftcli/quickest", cwd=tmp_path)

    assert done.returncode == 3
    assert "package:ftcli/quickest: the package has no 'quickest'" in done.stderr
