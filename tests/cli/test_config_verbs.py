"""`validate` and `config …` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ConfigWriter
from typer.testing import CliRunner, Result

from ftcli.cli import app
from ftcli.cli.overrides import complete_config, complete_overrides
from ftcli.console import Console
from ftcli.workflows import train

ROOT = Path(__file__).parents[2]
CONFIG = "model: {name_or_path: bert-base-uncased}\ndata: {path: nyu-mll/glue, columns: {text: sentence}}\n"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "bad.yaml").write_text(CONFIG + "seed: x\nsede: 1\n", encoding="utf-8")
    return tmp_path


def test_valid_configs_exit_with_0() -> None:
    done = invoke("validate", "good.yaml", ROOT / "configs" / "mrpc.yaml")

    assert (done.exit_code, done.stdout, done.stderr) == (0, "2 checked: all valid\n", "")


def test_each_config_that_is_wrong_is_told_and_the_others_are_checked() -> None:
    done = invoke("validate", "bad.yaml", "good.yaml", "none.yaml")

    assert (done.exit_code, done.stdout) == (2, "3 checked: 2 not valid\n")
    assert "error: bad.yaml: 2 problems" in done.stderr
    assert "error: none.yaml: no such config file" in done.stderr


def test_problems_can_be_read_by_programs() -> None:
    done = invoke("validate", "bad.yaml", "--json")

    [row] = json.loads(done.stdout)["configs"]
    assert (done.exit_code, row["is_valid"]) == (2, False)
    assert [(p["file"], p["line"], p["column"], p["key"]) for p in row["problems"]] == [
        ("bad.yaml", 3, 7, "seed"),
        ("bad.yaml", 4, 1, "sede"),
    ]


def test_without_a_config_nothing_is_valid() -> None:
    done = invoke("validate", "training.epochs=1")

    assert (done.exit_code, done.stdout) == (2, "")
    assert "error: no CONFIG to check" in done.stderr
    assert invoke("validate", "no=such.yaml").exit_code == 2


@pytest.mark.parametrize("name", ["a" * 300 + ".yaml", "sub", "\x1b.yaml", "x\ny.yaml"])
def test_a_name_that_is_no_file_is_one_error(name: str, folder: Path) -> None:
    (folder / "sub").mkdir()

    done = invoke("validate", name)

    assert (done.exit_code, type(done.exception)) == (2, SystemExit)


@pytest.mark.parametrize("override", ["\udcff=1", "a\nb=1", "tr\x1b[31mx=1"])
def test_an_override_that_cannot_be_printed_is_one_error(override: str) -> None:
    done = invoke("validate", "good.yaml", override)

    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert "\x1b" not in done.stderr


def test_data_in_the_place_of_a_config_is_recognised(pair_data: Path) -> None:
    assert (
        f"it looks like data: ftcli init {pair_data / 'train.csv'}"
        in invoke("validate", pair_data / "train.csv").stderr
    )


def test_overrides_are_laid_over_each() -> None:
    assert invoke("validate", "good.yaml", "seed=x").exit_code == 2


def test_deep_looks_at_data_and_model(write_config: ConfigWriter, pair_data: Path) -> None:
    config = write_config()
    assert invoke("validate", config, "--deep").exit_code == 0

    wrong = write_config("wrong.yaml", data={"path": str(pair_data), "columns": {"text": "sentence3"}})
    done = invoke("validate", wrong, "--deep", "--json")

    [row] = json.loads(done.stdout)["configs"]
    assert done.exit_code == 3
    [problem] = row["problems"]
    assert "no column 'sentence3'" in problem["message"]
    assert (problem["file"], problem["line"], problem["key"]) == (str(wrong), 6, "data.columns.text")


def test_a_config_is_shown_as_yaml_and_as_json() -> None:
    text, record = (
        invoke("config", "show", "good.yaml", "seed=7"),
        invoke("config", "show", "good.yaml", "--format=json"),
    )

    assert "seed: 7\n" in text.stdout
    assert json.loads(record.stdout)["optimizer"]["learning_rate"] == 5e-5


def test_origins_are_shown() -> None:
    text = invoke("config", "show", "good.yaml", "seed=7", "--origin").stdout
    record = json.loads(invoke("config", "show", "good.yaml", "seed=7", "--origin", "--format", "json").stdout)

    assert "  # command line: seed=7" in text
    place = {"source": "good.yaml", "line": 2, "column": 14}
    assert record["data.path"] == {"value": "nyu-mll/glue", "origins": [place]}
    default = {"source": "default", "line": None, "column": None}
    assert record["training.epochs"] == {"value": 3, "origins": [default]}


def test_a_runs_config_differs_from_its_source_only_in_the_overrides(write_config: ConfigWriter, folder: Path) -> None:
    config = write_config()
    train(config, ["training.epochs=1", "optimizer.learning_rate=2e-3"], console=Console(quiet=True))

    record = json.loads(invoke("config", "diff", config, folder / "run", "--json").stdout)

    assert record["differences"] == [
        {"key": "training.epochs", "first": 2, "second": 1},
        {"key": "optimizer.learning_rate", "first": 1e-3, "second": 2e-3},
    ]


def test_configs_without_a_difference_say_so() -> None:
    assert invoke("config", "diff", "good.yaml", "good.yaml").stdout == "no difference\n"


def test_the_printed_schema_is_the_committed_one() -> None:
    assert invoke("config", "schema").stdout == (ROOT / "ftcli" / "config" / "schema.json").read_text(encoding="utf-8")


def test_the_reference_of_a_misspelt_key_exits_with_2() -> None:
    done = invoke("config", "reference", "optimizer.lr")

    assert (done.exit_code, done.stdout) == (2, "")
    assert "optimizer.lr: unknown key" in done.stderr


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--learning-rate", "1e-5"], "optimizer.learning_rate=1e-5"),
        (["--learning_rate=1e-5"], "optimizer.learning_rate=1e-5"),
        (["--optimizer.learning-rate", "1e-5"], "optimizer.learning_rate=1e-5"),
        (["--num-train-epochs", "3"], "training.epochs=3"),
        (["--batch-size", "4"], "training.batch_size=4 or evaluation.batch_size=4"),
        (["--fp16"], "training.precision=VALUE"),
        (["--lerning-rate", "1e-5"], "optimizer.learning_rate=1e-5"),
        (["--overwite"], "--overwrite"),
    ],
)
def test_a_flag_that_is_a_setting_is_answered_with_the_override(flags: list[str], told: str) -> None:
    done = invoke("train", "good.yaml", *flags)

    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", "").split())


def test_config_files_and_keys_are_completed(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "notes.txt").touch()

    assert list(complete_config("")) == ["bad.yaml", "good.yaml", "sub/"]
    assert list(complete_config("goo")) == ["good.yaml"]
    assert [key for key, _ in complete_overrides("training.e")] == ["training.epochs="]


def test_an_error_about_the_data_shows_the_key_that_it_names(write_config: ConfigWriter, pair_data: Path) -> None:
    config = write_config(data={"path": str(pair_data), "columns": {"text": "sentence3"}})

    done = invoke("train", config, "scheduler.warmup_steps=0.1", "--dry-run")

    assert done.exit_code == 3
    assert done.stderr.splitlines()[-3:] == [
        f"{config}:6:11: data.columns.text",
        "  6 |     text: sentence3",
        "    |           ^^^^^^^^^",
    ]


def test_a_warm_up_that_is_longer_than_the_run_is_shown_with_its_keys(write_config: ConfigWriter) -> None:
    done = invoke("validate", write_config(), "--deep", "scheduler.warmup_steps=50")

    assert done.exit_code == 2
    assert "50 updates of warm-up in a run of 12: the learning rate would never reach its peak" in done.stderr
    assert "    | scheduler.warmup_steps=50\n" in done.stderr


def test_a_shorter_warm_up_is_fine(write_config: ConfigWriter) -> None:
    assert invoke("validate", write_config(), "--deep", "scheduler.warmup_steps=11").exit_code == 0
