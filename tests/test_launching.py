"""One process or several, whoever starts them: the same numbers, one error, the workers' exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from signal import Signals
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ConfigWriter, run_ftcli

from ftcli import train
from ftcli.console import Console
from ftcli.errors import LaunchError
from ftcli.launching import _report_failed, check_launch

ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
# 43 rows in batches of 8 are 6 updates an epoch, so these are 54.
OVERRIDES = ["training.epochs=9", "evaluation.every=27"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def losses(run: Path) -> list[float]:
    return [step["loss"] for step in lines(run / "steps.jsonl")]


def scores(run: Path) -> list[dict[str, float]]:
    return [record["scores"] for record in lines(run / "evaluations.jsonl")]


def environment_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "environment.json").read_text())
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture
def config(write_config: ConfigWriter) -> Path:
    return write_config()


@pytest.fixture
def alone(config: Path, tmp_path: Path) -> Path:
    """The run that the others are compared with: in this process."""
    return Path(train(config, [*OVERRIDES, f"output_dir={tmp_path / 'alone'}"], console=Console(quiet=True))["run"])


def assert_same_run(found: Path, expected: Path, *, num_processes: int) -> None:
    assert environment_of(found)["num_processes"] == num_processes
    np.testing.assert_allclose(losses(found)[:50], losses(expected)[:50], rtol=0, atol=1e-6)
    for scored, wanted in zip(scores(found), scores(expected), strict=True):
        assert scored == pytest.approx(wanted, abs=1e-6)


def test_num_processes_gives_the_losses_and_scores_of_one_process(config: Path, alone: Path, tmp_path: Path) -> None:
    done = run_ftcli("train", config, *OVERRIDES, f"output_dir={tmp_path / 'two'}", "--num-processes", 2)

    assert done.returncode == 0, done.stderr
    assert "8 examples an update over 2 processes; group by length" in done.stderr
    assert done.stderr.count("ftcli train") == 1
    assert_same_run(tmp_path / "two", alone, num_processes=2)
    assert len(lines(tmp_path / "two" / "predictions" / "validation.jsonl")) == 17


def test_accelerate_launch_gives_the_losses_and_scores_of_one_process(
    config: Path, alone: Path, tmp_path: Path
) -> None:
    command = [*ACCELERATE, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    done = subprocess.run(
        [*command, "-m", "ftcli", "train", str(config), *OVERRIDES, f"output_dir={tmp_path / 'two'}"],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "two", alone, num_processes=2)


def test_plain_accelerate_launch_gives_the_digits_threads_and_precision_of_ftcli_train(
    config: Path, alone: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [*ACCELERATE, "-m", "ftcli", "train", str(config), *OVERRIDES, f"output_dir={tmp_path / 'plain'}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "plain") == losses(alone)
    found, expected = environment_of(tmp_path / "plain"), environment_of(alone)
    for name in ("device", "precision", "num_threads"):
        assert found["execution"][name] == expected["execution"][name]


def test_notebook_launcher_runs_two_processes(config: Path, alone: Path, tmp_path: Path) -> None:
    script = tmp_path / "notebook.py"
    overrides = [*OVERRIDES, f"output_dir={tmp_path / 'two'}"]
    script.write_text(
        "from accelerate import notebook_launcher\n"
        "from ftcli import load_config, train\n"
        f"config = load_config({str(config)!r}, {overrides!r})\n"
        f"notebook_launcher(train, args=(config,), num_processes=2, use_port='{free_port()}')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "two", alone, num_processes=2)


def test_an_error_in_the_workers_is_told_once_and_keeps_its_exit_code(config: Path) -> None:
    done = run_ftcli("train", config, "optimizer.learning_rate=1e38", "--num-processes", 2)

    assert done.returncode == 6
    assert done.stderr.count("error: step 2") == 1
    assert "Traceback" not in done.stderr


def test_when_one_process_dies_alone_all_end_and_its_error_is_told(config: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('RANK') == '1':\n"
        "    from ftcli.tasks.text_classification import TextClassification\n"
        "    def loss(*_):\n"
        "        raise ZeroDivisionError('only here')\n"
        "    TextClassification.loss = loss\n"
    )
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))

    done = run_ftcli("train", config, "--num-processes", 2, PYTHONPATH=path)

    assert done.returncode == 1
    assert done.stderr.count("ZeroDivisionError: only here") == 1
    assert done.stderr.count("error: ") == 1


@pytest.mark.parametrize(
    ("override", "code"),
    [("training.epoch=1", 2), ("data.columns.label=lable", 3), ("model.name_or_path=./no", 5)],
)
def test_an_error_that_can_be_found_first_starts_no_workers(config: Path, override: str, code: int) -> None:
    done = run_ftcli("train", config, override, "--num-processes", 2)

    assert done.returncode == code
    assert done.stderr.count("error: ") == 1
    assert done.stdout == ""


def test_under_accelerate_launch_the_error_is_told_by_the_main_process_alone(config: Path) -> None:
    command = [*ACCELERATE, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    done = subprocess.run(
        [*command, "-m", "ftcli", "train", str(config), "data.columns.label=lable"],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode != 0
    assert done.stderr.count("no column 'lable'") == 1


@pytest.mark.parametrize("num_processes", [1, 2])
def test_ctrl_c_ends_with_130_and_no_traceback(config: Path, tmp_path: Path, num_processes: int) -> None:
    command = [
        sys.executable,
        "-m",
        "ftcli",
        "train",
        str(config),
        "training.epochs=1000",
        "evaluation.every=never",
    ]
    told = []
    with subprocess.Popen(
        [*command, "--num-processes", str(num_processes)],
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background inherits an ignored SIGINT, and would hand it on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            told.append(line)
            if line.startswith("training 10/") and told.count(line) == 1:
                process.send_signal(signal.SIGINT)

    assert process.returncode == 130
    assert len([line for line in told if line.startswith("error: stopped by Ctrl-C after update ")]) == 1
    assert not [line for line in told if "Traceback" in line or "signal" in line]
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(
    ("environment", "asked", "message"),
    [
        (
            {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"},
            None,
            "asked for several processes and started one",
        ),
        ({"WORLD_SIZE": "2"}, 3, "--num-processes 3, but the launcher started 2"),
        ({"ACCELERATE_USE_FSDP": "true"}, None, "FSDP"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, None, "DeepSpeed"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, None, "dynamo"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, None, "training.micro_batch_size"),
    ],
)
def test_30_what_runs_must_be_what_was_asked_for(environment: dict[str, str], asked: int | None, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        check_launch(asked, environment)


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, None),
        ({}, 1),
        ({"MASTER_ADDR": "login-node"}, None),  # a cluster's own export, without accelerate launch
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "ACCELERATE_MIXED_PRECISION": "no"}, 2),
        ({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO"}, None),
    ],
)
def test_what_fits_is_let_through(environment: dict[str, str], asked: int | None) -> None:
    check_launch(asked, environment)


def failure(code: int, message: str, moment: int) -> SimpleNamespace:
    """What torch's launcher keeps of a worker that failed."""
    told = {"message": message, "extraInfo": {"timestamp": "1", "nanoseconds": moment}}
    return SimpleNamespace(exitcode=code, message=told, timestamp=1, signal_name=lambda: Signals(-code).name)


@pytest.mark.parametrize(
    ("failures", "code", "told"),
    [
        ({0: failure(3, "a.csv: wrong", 2), 1: failure(3, "a.csv: wrong", 1)}, 3, "a.csv: wrong"),
        ({0: failure(1, "connection lost", 2), 1: failure(1, "the cause", 1)}, 1, "the cause"),
        ({0: failure(1, "connection lost", 1), 1: failure(6, "step 2: nan", 2)}, 6, "step 2: nan"),
        ({0: failure(-15, "", 0), 1: failure(4, "disk full", 5)}, 4, "disk full"),
        ({1: failure(-9, "", 0)}, 137, "process 1 was ended by SIGKILL"),
        ({0: failure(-15, "", 0), 1: failure(-9, "", 0)}, 137, "process 1 was ended by SIGKILL"),
        ({0: failure(143, "", 0), 1: failure(-9, "", 0)}, 137, "process 1 was ended by SIGKILL"),
        ({0: failure(1, "connection lost", 2), 1: failure(-9, "", 1)}, 137, "process 1 was ended by SIGKILL"),
        ({0: failure(1, "a bug", 1), 1: failure(-9, "", 30)}, 1, "a bug"),
    ],
    ids=[
        "both say the same",
        "the cause comes first",
        "explained before a bug",
        "ended by the launcher",
        "killed",
        "one killed, the other ended by the launcher",
        "one killed, the other stopped by the launcher",
        "one killed, the other without its partner",
        "a bug, the other killed by the launcher in the end",
    ],
)
def test_the_launcher_tells_the_error_that_ended_the_run(
    failures: dict[int, Any], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _report_failed(SimpleNamespace(failures=failures), Console()) == code
    assert capsys.readouterr().err == f"error: {told}\n"
