"""Trackers follow a run, and never end it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import ConfigWriter, run_ftcli
from faults import Zygote

from ftcli.console import Console
from ftcli.errors import ConfigError
from ftcli.tracking import check_trackers
from ftcli.workflows import train

QUIET = Console(quiet=True)


@pytest.fixture
def config(write_config: ConfigWriter) -> Path:
    return write_config(logging={"every_steps": 2, "trackers": ["tensorboard"]})


def test_tensorboard_gets_every_score_and_every_second_step(config: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Path(train(config, console=QUIET)["run"])
    recorded = EventAccumulator(str(run / "tensorboard"))
    recorded.Reload()

    steps = [json.loads(line) for line in (run / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluations = [json.loads(line) for line in (run / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = {event.step: event.value for event in recorded.Scalars("train/loss")}
    f1 = {event.step: event.value for event in recorded.Scalars("validation/f1")}
    assert losses == {row["step"]: pytest.approx(row["loss"]) for row in steps if row["step"] % 2 == 0}
    assert f1 == {row["step"]: pytest.approx(row["scores"]["f1"]) for row in evaluations}


def test_a_resumed_run_shows_no_step_twice(zygote: Zygote, tmp_path: Path) -> None:
    """Killed after step 5, resumed after the checkpoint of step 4."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = ["logging.trackers=[tensorboard]", "logging.every_steps=1"]
    zygote.train(tmp_path / "run", *settings, fault={"what": "kill", "update": 7})
    logged = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    logged.Reload()
    assert max(event.step for event in logged.Scalars("train/loss")) > 4

    assert zygote.train(tmp_path / "run", *settings, resume="auto").code == 0
    recorded = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    recorded.Reload()
    assert [event.step for event in recorded.Scalars("train/loss")] == list(range(1, 13))


def test_no_tracker_runs_unless_it_is_asked_for(write_config: ConfigWriter) -> None:
    assert not (Path(train(write_config(), console=QUIET)["run"]) / "tensorboard").exists()


def test_of_two_processes_only_the_main_one_tracks(config: Path, tmp_path: Path) -> None:
    done = run_ftcli("train", config, "--num-processes", 2, "-q", "training.max_steps=2")

    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "run" / "tensorboard").glob("events*"))) == 1


@pytest.mark.parametrize("moment", ["import", "start", "config", "log", "finish"])
def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(
    write_config: ConfigWriter,
    tmp_path: Path,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The tracker is a package called wandb that fails as the real one can: without a network, without a login."""
    failing = {
        name: f"raise OSError('no {name} today')" if name == moment else "pass"
        for name in ("import", "start", "config", "log", "finish")
    }
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(
        f"""
__version__ = "1"
{failing["import"]}
class Config:
    def update(self, *args, **kwargs):
        {failing["config"]}
config = Config()
class Run:
    def log(self, *args, **kwargs):
        {failing["log"]}
    def finish(self):
        {failing["finish"]}
def init(**kwargs):
    {failing["start"]}
    return Run()
""",
        encoding="utf-8",
    )
    config = write_config(logging={"trackers": ["wandb"], "every_steps": 1}, training={"max_steps": 4})

    monkeypatch.syspath_prepend(tmp_path / "fake")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)

    train(config, console=QUIET)

    warnings = [line for line in capsys.readouterr().err.splitlines() if "wandb" in line]
    assert warnings == [f"warning: wandb failed and is left out from here on: no {moment} today"]
    assert json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))["status"] == "finished"


def test_a_tracker_that_is_not_installed_is_told_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"logging\.trackers: nowhere not installed; pip install nowhere"):
        check_trackers(["nowhere"])
