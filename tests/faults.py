"""What the tests of faults share: runs that are made to fail, and what two runs must have in common."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import PAIR_HEADER, pair_rows, save_tiny_model, write_table

# What differs between two runs of the same: times and places.
_TIMES = ("seconds", "examples_per_second")


@dataclass(frozen=True)
class Ended:
    """How a job ended: exit codes by rank, what was printed, and the disk operations of the main process.

    moments: when each of them was, in seconds since the start.
    """

    exits: list[int]
    printed: str
    events: list[str]
    moments: list[float]

    @property
    def code(self) -> int:
        return self.exits[0]


class Zygote:
    """The process that trains in its children."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        self.config = self._write_config()

    def _write_config(self) -> Path:
        from ftcli.config.yaml import dump

        write_table(self.folder / "pairs" / "train.csv", PAIR_HEADER, pair_rows(43))
        write_table(self.folder / "pairs" / "validation.csv", PAIR_HEADER, pair_rows(17, first=100))
        # With dropout, as the random numbers must go on too; the model is large enough for tensors to be the big files.
        model = save_tiny_model(self.folder / "model", hidden_size=32)
        config = {
            "model": {"name_or_path": str(model)},
            "data": {
                "path": str(self.folder / "pairs"),
                "columns": {"text": ["sentence1", "sentence2"], "label": "label"},
            },
            "training": {"epochs": 2, "batch_size": 8, "precision": "fp32", "device": "cpu"},
            "optimizer": {"learning_rate": 1e-3},
            "checkpoint": {"every": 2},
        }
        path = self.folder / "faults.yaml"
        path.write_text(dump(config), encoding="utf-8")
        return path

    def train(
        self,
        run: Path,
        *overrides: str,
        num_processes: int = 1,
        fault: dict[str, Any] | None = None,
        sabotage: str | None = None,
        unprivileged: bool = False,
        **arguments: Any,
    ) -> Ended:
        """Train into a run directory, and say how that ended."""
        self.count += 1
        log = self.folder / f"job-{self.count}"
        job = {
            "config": str(self.config),
            "overrides": [*overrides, f"output_dir={run}"],
            "arguments": arguments,
            "num_processes": num_processes,
            "log": str(log),
            "fault": fault,
            "sabotage": sabotage,
            "unprivileged": unprivileged,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        exits = json.loads(self.process.stdout.readline())["exits"]
        lines = [line.split(" ", 1) for line in Path(f"{log}.0.events").read_text(encoding="utf-8").splitlines()]
        events, moments = [event for _, event in lines], [float(moment) for moment, _ in lines]
        return Ended(exits, log.read_text(encoding="utf-8"), events, moments)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def records(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines, without what differs between two runs of the same."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name not in _TIMES} for row in rows]


def tensors(run: Path) -> dict[str, str]:
    """Hash every tensor file of a run: models, optimizers, generators."""
    return {str(path.relative_to(run)): digest(path) for path in sorted(run.rglob("*.safetensors"))}


def outcome(run: Path) -> dict[str, Any]:
    """Return all of a finished run that must be the same, however it came about."""
    status = json.loads((run / "status.json").read_text(encoding="utf-8"))
    return {
        "status": (status["status"], status["step"]),
        "steps": records(run / "steps.jsonl"),
        "evaluations": records(run / "evaluations.jsonl"),
        "predictions": records(run / "predictions" / "validation.jsonl"),
        "tensors": tensors(run),
        "files": sorted(
            str(path.relative_to(run))
            for path in run.rglob("*")
            if path.name != ".lock" and "tensorboard" not in str(path)
        ),
    }


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("faults"))
    yield zygote
    zygote.close()


Undisturbed = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def undisturbed(zygote: Zygote) -> Undisturbed:
    """Return a function that gives the outcome of a run that nothing happens to, computed once for its settings."""
    known: dict[Any, dict[str, Any]] = {}

    def find(*overrides: str, num_processes: int = 1) -> dict[str, Any]:
        key = (overrides, num_processes)
        if key not in known:
            run = zygote.folder / f"undisturbed-{zygote.count}"
            ended = zygote.train(run, *overrides, num_processes=num_processes)
            assert ended.exits == [0] * num_processes, ended.printed
            known[key] = {**outcome(run), "events": ended.events, "moments": ended.moments}
        return known[key]

    return find


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"
