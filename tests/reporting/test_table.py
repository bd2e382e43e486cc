"""`ftcli runs`: one line a run, whatever became of it."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import ConfigWriter, run_ftcli
from filelock import FileLock

from ftcli.console import Console
from ftcli.errors import RunError
from ftcli.reporting.table import list_runs
from ftcli.workflows import train


def make_run(folder: Path, name: str, status: dict[str, Any], **records: Any) -> Path:
    """Lay down what a run leaves, as far as the table reads it."""
    run = folder / name
    run.mkdir(parents=True)
    (run / "status.json").write_text(json.dumps({"started": f"2026-01-0{len(name)}T10:00:00+00:00", **status}))
    (run / "config.yaml").write_text("model: {name_or_path: tiny/bert}\ndata: {path: nyu-mll/glue}\nseed: 7\n")
    for file, record in records.items():
        (run / f"{file}.json").write_text(json.dumps(record))
    return run


def test_a_finished_run_is_listed_with_its_best_scores(write_config: ConfigWriter, tmp_path: Path) -> None:
    record = train(write_config(output_dir=str(tmp_path / "runs" / "mine")), console=Console(quiet=True))

    [run] = list_runs(tmp_path / "runs")

    assert (run["run"], run["status"], run["steps"], run["seed"]) == ("mine", "finished", record["steps"], 42)
    assert (run["scores"], run["num_examples"]) == (record["best"]["scores"], 17)
    assert run["data"] == str(tmp_path / "pairs")


def test_runs_are_sorted_by_their_start_and_other_folders_left_out(tmp_path: Path) -> None:
    make_run(tmp_path, "ccc", {"status": "finished"})
    make_run(tmp_path, "a", {"status": "failed", "reason": "no space"})
    (tmp_path / "notes").mkdir()

    assert [(run["run"], run["status"]) for run in list_runs(tmp_path)] == [("a", "failed"), ("ccc", "finished")]


def test_a_running_run_shows_its_last_whole_step(tmp_path: Path) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run = make_run(tmp_path, "a", {"status": "running", "host": platform.node(), "pid": os.getpid(), "started": now})
    (run / "steps.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')

    with FileLock(run / ".lock"):
        [listed] = list_runs(tmp_path)

    assert (listed["status"], listed["steps"]) == ("running", 2)


def test_a_run_that_nobody_locks_has_died_whoever_has_its_process_number_now(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", {"status": "running", "host": platform.node(), "pid": os.getpid()})
    (run / ".lock").touch()

    assert list_runs(tmp_path)[0]["status"] == "died"


def test_of_a_run_on_another_machine_nothing_is_known(tmp_path: Path) -> None:
    make_run(tmp_path, "a", {"status": "running", "host": "elsewhere", "pid": 2**22 + 1})

    assert list_runs(tmp_path)[0]["status"] == "running"


def test_a_damaged_run_does_not_hide_the_others(tmp_path: Path) -> None:
    make_run(tmp_path, "a", {"status": "finished"})
    (make_run(tmp_path, "bb", {"status": "finished"}) / "status.json").write_text("{")
    make_run(tmp_path, "cccc", {"status": "finished"}, best={"scores": {}})
    (make_run(tmp_path, "ddddd", {"status": "finished"}) / "config.yaml").write_text("model: bert\n")

    assert {run["run"]: run["status"] for run in list_runs(tmp_path)} == {
        "a": "finished",
        "bb": "damaged",
        "cccc": "damaged",
        "ddddd": "damaged",
    }


def test_a_run_itself_can_be_named(tmp_path: Path) -> None:
    make_run(tmp_path, "a", {"status": "finished"})

    assert [run["run"] for run in list_runs(tmp_path / "a")] == ["a"]


@pytest.mark.parametrize(("name", "words"), [("nowhere", "no such directory"), ("empty", "holds no runs")])
def test_a_directory_without_runs_is_an_error(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(RunError, match=words):
        list_runs(tmp_path / name)


def test_the_table_and_the_json_say_the_same(tmp_path: Path) -> None:
    best = {"step": 5, "num_examples": 40, "scores": {"accuracy": 0.75, "loss": None}}
    make_run(tmp_path, "a", {"status": "finished", "step": 1234}, best=best)

    table, record = run_ftcli("runs", tmp_path), run_ftcli("runs", tmp_path, "--json")

    words = ("accuracy 0.7500, n = 40", "1,234", "finished", "nyu-mll/glue")
    assert [word for word in words if word not in table.stdout] == []
    assert json.loads(record.stdout)["runs"][0]["scores"] == best["scores"]
