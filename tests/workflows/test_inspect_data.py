"""`inspect-data`, and the warnings at the head of `train`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ConfigWriter, write_table
from typer.testing import CliRunner

from ftcli.cli import app
from ftcli.console import Console
from ftcli.workflows.inspect_data import inspect_data
from ftcli.workflows.train import train


@pytest.fixture
def leaky(write_config: ConfigWriter, tmp_path: Path) -> Path:
    """A config whose validation split repeats a row of train, with an unlabelled test split."""
    rows = [(f"a cat {n}", n % 2) for n in range(20)]
    write_table(tmp_path / "leaky" / "train.csv", ("text", "label"), rows)
    write_table(tmp_path / "leaky" / "validation.csv", ("text", "label"), [rows[3], ("the dog sleeps", 0)])
    write_table(tmp_path / "leaky" / "test.csv", ("text", "label"), [("a bird", -1), ("", -1)])
    return write_config(data={"path": str(tmp_path / "leaky"), "columns": {"text": "text"}}, training={"max_steps": 1})


def test_every_split_is_described(leaky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = inspect_data(leaky, console=Console())

    assert {name: split["num_rows"] for name, split in record["splits"].items()} == {
        "train": 20,
        "validation": 2,
        "test": 2,
    }
    assert record["splits"]["train"]["labels"] == {"0": 10, "1": 10}
    assert (record["splits"]["test"]["num_unlabelled"], record["splits"]["test"]["num_empty"]) == (2, 1)
    # [CLS] a cat N [SEP]: five tokens, the number unknown to the tiny vocabulary.
    assert record["splits"]["train"]["length_quantiles"]["max"] == 5
    shown = capsys.readouterr().out
    assert "majority class" in shown
    assert "! validation: 1 of 2 rows (50.0%) have a text of train" in shown


def test_train_says_at_its_head_what_is_odd(leaky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(leaky, console=Console(quiet=True))

    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert told[0].startswith("warning: validation: 2 rows; one of them moves accuracy by 50.0 points")
    assert "have a text of train" in told[1]


def test_a_label_that_no_row_has_is_told(leaky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(leaky, ["data.labels=[bad, good, neither]"], console=Console(quiet=True))

    assert "warning: train: no row of 'neither', which data.labels names" in capsys.readouterr().err


def test_a_run_can_be_looked_at_by_its_directory(leaky: Path, tmp_path: Path) -> None:
    train(leaky, console=Console(quiet=True))

    done = CliRunner().invoke(app, ["inspect-data", str(tmp_path / "run"), "--json"])

    assert done.exit_code == 0
    assert json.loads(done.stdout)["splits"]["train"]["num_rows"] == 20


def test_truncation_is_told(leaky: Path) -> None:
    record = inspect_data(leaky, ["data.max_length=4"], console=Console(quiet=True))

    assert record["splits"]["train"]["truncated_share"] == 1.0
    assert any("100.0% of the rows are truncated after 4 tokens" in line for line in record["warnings"])


def test_a_split_of_empty_texts_is_described(write_config: ConfigWriter, tmp_path: Path) -> None:
    write_table(tmp_path / "gaps" / "train.csv", ("text", "label"), [("a cat", 0), ("a dog", 1)])
    write_table(tmp_path / "gaps" / "test.csv", ("text", "label"), [("", ""), ("", "")])
    config = write_config(data={"path": str(tmp_path / "gaps"), "columns": {"text": "text"}})

    record = inspect_data(config, console=Console())

    assert record["splits"]["test"]["num_empty"] == 2
    assert "test: 2 of 2 rows without a label" in record["warnings"]
