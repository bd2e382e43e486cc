"""From a table of one's own to predictions in three commands, as the README says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import pair_rows, run_ftcli

from ftcli.console import Console
from ftcli.errors import DataError
from ftcli.workflows import evaluate, train

QUIET = Console(quiet=True)

TEMPLATE = Path(__file__).parents[1] / "configs" / "text-classification.yaml"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """60 reviews with labels in words, a quote, a comma, a text that is missing, and a label that is."""
    rows = [(first, ("bad", "good", "mixed")[number % 3]) for number, (first, _, _) in enumerate(pair_rows(57))]
    rows += [('they said "good", and it is', "good"), ("", "bad"), ("the fish sleeps", "")]
    with (tmp_path / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("review", "stars_label"), *rows])
    return tmp_path / "reviews.csv"


def test_three_commands_lead_from_a_table_to_predictions(table: Path, tmp_path: Path, tiny_model: Path) -> None:
    overrides = [
        "data.files.train=reviews.csv",
        "data.columns.text=review",
        "data.columns.label=stars_label",
        "output_dir=runs/reviews",
        f"model.name_or_path={tiny_model}",
    ]
    trained = run_ftcli("train", TEMPLATE, *overrides, cwd=tmp_path)
    scored = run_ftcli("eval", "runs/reviews", "--json", cwd=tmp_path)
    predicted = run_ftcli(
        "predict", "runs/reviews", "reviews.csv", "-o", "labelled.csv", "--on-error", "skip", cwd=tmp_path
    )

    assert [done.returncode for done in (trained, scored, predicted)] == [0, 0, 0], trained.stderr + predicted.stderr
    assert "2 incomplete rows left out" in trained.stderr
    assert "held out of train" in trained.stderr
    assert json.loads(scored.stdout)["num_examples"] == 6
    with (tmp_path / "labelled.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 59
    assert rows[57]["review"] == 'they said "good", and it is'
    assert {row["predicted"] for row in rows} <= {"bad", "good", "mixed"}
    assert "rows that could not be predicted: 1; see labelled.csv.errors.jsonl" in predicted.stderr


def test_the_run_says_what_was_left_out_and_held_out(table: Path, tmp_path: Path, tiny_model: Path) -> None:
    overrides = [f"data.files.train={table}", "data.columns.text=review", "data.columns.label=stars_label"]
    more = [f"model.name_or_path={tiny_model}", "training.epochs=1", f"output_dir={tmp_path / 'run'}"]
    train(TEMPLATE, [*overrides, *more], console=QUIET)

    data = json.loads((tmp_path / "run" / "data.json").read_text(encoding="utf-8"))
    assert {name: (split["num_rows"], split["held_out_of"]) for name, split in data.items()} == {
        "train": (52, None),
        "validation": (6, "train"),
    }
    assert [split["num_left_out"] for split in data.values()] == [2, 0]
    assert data["validation"]["labels"] == {"bad": 2, "good": 2, "mixed": 2}


def test_a_table_that_grew_is_not_scored_on_rows_that_were_learned(
    table: Path, tmp_path: Path, tiny_model: Path
) -> None:
    overrides = [f"data.files.train={table}", "data.columns.text=review", "data.columns.label=stars_label"]
    more = [f"model.name_or_path={tiny_model}", "training.epochs=1", f"output_dir={tmp_path / 'run'}"]
    train(TEMPLATE, [*overrides, *more], console=QUIET)
    before = evaluate(tmp_path / "run", console=QUIET)
    with table.open("a", encoding="utf-8") as file:
        file.write("a new row,good\n")

    with pytest.raises(DataError, match=r"reviews\.csv: not as it was when the model was trained"):
        evaluate(tmp_path / "run", console=QUIET)
    other = evaluate(tmp_path / "run", [f"data.files.validation={table}"], console=QUIET)

    assert (before["num_examples"], other["num_examples"]) == (6, 59)


def test_a_score_on_learned_rows_is_told_as_such(
    table: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [f"data.files.train={table}", "data.columns.text=review", "data.columns.label=stars_label"]
    more = [f"model.name_or_path={tiny_model}", "training.epochs=1", f"output_dir={tmp_path / 'run'}"]
    train(TEMPLATE, [*overrides, *more], console=QUIET)

    evaluate(tmp_path / "run", console=QUIET)
    held_out = capsys.readouterr().err
    evaluate(tmp_path / "run", [f"data.files.validation={table}"], console=QUIET)

    assert "the model learned from these rows" not in held_out
    assert f"warning: {table}: the model learned from these rows" in capsys.readouterr().err


def test_another_seed_is_scored_on_the_same_rows(table: Path, tmp_path: Path, tiny_model: Path) -> None:
    overrides = [f"data.files.train={table}", "data.columns.text=review", "data.columns.label=stars_label"]
    rows = []
    for seed in (1, 2):
        run = tmp_path / str(seed)
        more = [f"seed={seed}", f"output_dir={run}", f"model.name_or_path={tiny_model}", "training.epochs=1"]
        train(TEMPLATE, [*overrides, *more], console=QUIET)
        lines = (run / "predictions" / "validation.jsonl").read_text(encoding="utf-8")
        rows.append([json.loads(line)["row"] for line in lines.splitlines()])

    assert rows[0] == rows[1]
    assert len(rows[0]) == 6
