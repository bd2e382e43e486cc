"""What happens to a launcher, and what is left of its workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ConfigWriter, run_ftcli

Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def config(write_config: ConfigWriter) -> Path:
    """A run that takes longer than any test waits."""
    return write_config(
        training={"epochs": 100_000, "batch_size": 8}, checkpoint={"every": 50}, evaluation={"every": "never"}
    )


@pytest.fixture
def started(config: Path) -> Iterator[Started]:
    """Return a function that starts two workers and returns when they are training."""
    launchers: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ftcli", *map(str, arguments), "--num-processes", "2"]
        launcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
        launchers.append(launcher)
        assert launcher.stderr is not None
        seen = []
        for line in launcher.stderr:
            seen.append(line)
            if line.startswith("training "):
                return launcher
        raise AssertionError("".join(seen))

    yield start
    for launcher in launchers:
        # The workers first: what is left of them would hold on to the pipe.
        if launcher.poll() is None:
            for worker in psutil.Process(launcher.pid).children(recursive=True):
                worker.kill()
        launcher.kill()
        launcher.wait()
        assert launcher.stderr is not None
        launcher.stderr.close()


def status_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "status.json").read_text())
    return found


def test_05_while_orphans_write_a_run_nobody_else_may(config: Path, started: Started, tmp_path: Path) -> None:
    launcher = started("train", config)
    workers = psutil.Process(launcher.pid).children(recursive=True)
    launcher.kill()
    launcher.wait()
    writer = status_of(tmp_path / "run")["pid"]
    assert writer in [worker.pid for worker in workers]

    refused = run_ftcli("train", config, "--resume")
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers)
    again = started("resume", tmp_path / "run")

    assert refused.returncode == 4
    assert f"process {writer} on " in refused.stderr
    assert "is writing this run" in refused.stderr
    assert again.poll() is None


def test_04_when_a_worker_is_killed_all_end_and_the_error_says_so(
    config: Path, started: Started, tmp_path: Path
) -> None:
    launcher = started("train", config)
    workers = psutil.Process(launcher.pid).children(recursive=True)
    writer = status_of(tmp_path / "run")["pid"]
    next(worker for worker in workers if worker.pid != writer).kill()
    _, errors = launcher.communicate()

    assert launcher.returncode in (1, 128 + signal.SIGKILL, 128 + signal.SIGTERM), errors
    assert "was ended by SIGKILL" in errors
    assert not psutil.wait_procs(workers, timeout=60)[1]


def test_when_whoever_reads_the_messages_goes_the_run_goes_on(write_config: ConfigWriter, tmp_path: Path) -> None:
    """As in `ftcli train CONFIG 2>&1 | head`, and with tee, which Ctrl-C ends too."""
    config = write_config(logging={"every_steps": 1})
    command = [sys.executable, "-m", "ftcli", "train", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert any(line.startswith("training 1/") for line in process.stdout)
        process.stdout.close()

    assert process.returncode == 0
    assert status_of(tmp_path / "run")["status"] == "finished"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_16_18_a_signal_to_the_launcher_saves_and_is_told_once(
    config: Path, started: Started, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    launcher = started("train", config)
    workers = psutil.Process(launcher.pid).children(recursive=True)
    launcher.send_signal(number)
    _, errors = launcher.communicate()
    status = status_of(tmp_path / "run")

    assert launcher.returncode == code, errors
    assert errors.count("go on with: ftcli resume") == 1
    assert "Traceback" not in errors
    assert status["status"] == "interrupted"
    assert json.loads((tmp_path / "run" / "last.json").read_text())["step"] == status["step"]
    assert not psutil.wait_procs(workers, timeout=60)[1]
