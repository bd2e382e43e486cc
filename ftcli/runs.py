"""A run directory: every path and record of a run, in one place. Only the main process holds a writer."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ftcli.console import to_json
from ftcli.durable import append_line, explained, flush, read_json, sweep, write_json, write_text
from ftcli.errors import RunError

CONFIG = "config.yaml"
MODEL = "model"
CHECKPOINTS = "checkpoints"
PREDICTIONS = "predictions"
STEPS = "steps.jsonl"
EVALUATIONS = "evaluations.jsonl"
# Of a checkpoint, beside the model: tensors of the optimizer and of the generators.
OPTIMIZER, RANDOM = "optimizer.safetensors", "random.safetensors"
_LOCK = ".lock"
# How long a process waits for the lock, in seconds: others hold it for a moment to see whether it is held.
_GLANCE = 0.5


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run. Progress is read from its JSON files, never from directory names."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config; itself a valid CONFIG."""
        return self.path / CONFIG

    @property
    def model(self) -> Path:
        """The published model: absent until the run is finished."""
        return self.path / MODEL

    @property
    def status(self) -> Path:
        """Whether the run is running, finished, interrupted or failed."""
        return self.path / "status.json"

    def checkpoint(self, step: int) -> Path:
        """Return the directory of the checkpoint of one step."""
        return self.path / CHECKPOINTS / f"step-{step:08d}"

    def pointer(self, name: str) -> Path:
        """Return the file that points at the `best` or the `last` checkpoint."""
        return self.path / f"{name}.json"

    def pointed(self, name: str) -> dict[str, Any] | None:
        """Read a pointer: its step and, where it was evaluated, its scores. None where there is none."""
        return read_json(self.pointer(name)) if self.pointer(name).exists() else None

    def is_run(self) -> bool:
        """Whether the directory holds a run of ours, finished or not."""
        return self.status.is_file()

    def is_locked(self) -> bool:
        """Whether some process is writing this run. A lock ends with its process, however that ends."""
        if not (self.path / _LOCK).is_file():
            return False
        try:
            with FileLock(self.path / _LOCK, timeout=_GLANCE):
                return False
        except Timeout:
            return True
        except OSError:
            return False  # read-only for us: then nothing can be written either, which is told elsewhere


@dataclass(frozen=True)
class RunWriter:
    """Writes the records of a run, and keeps others from it until it is closed."""

    run: RunDirectory
    lock: FileLock

    @classmethod
    def create(cls, path: str | Path, *, overwrite: bool, unless_saved: bool = False) -> RunWriter:
        """Make a new run directory; with `overwrite` an earlier run gives way, and only a run does.

        unless_saved: only if it has saved nothing. Raises RunError if the place is taken or cannot be written.
        """
        run = RunDirectory(Path(path))
        check_free(run.path, overwrite=overwrite)
        with explained(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            lock = _lock(run)
            if run.is_run():
                # Another one may have been quicker.
                check_free(run.path, overwrite=overwrite, is_ours=True)
                if unless_saved:
                    check_unchanged(run, last=None)
                aside = run.path.with_name(f".{run.path.name}.overwritten")
                shutil.rmtree(aside, ignore_errors=True)
                # Moved before it is deleted, so that a crash never leaves half of it in place.
                run.path.rename(aside)
                run.path.mkdir()
                lock.release()
                lock = _lock(run)
                shutil.rmtree(aside)
            sweep(run.path)
            # First of all: without it this would be no run.
            write_json(run.status, {"status": "running", "started": _now(), **_here()})
            _make_folders(run)
        return cls(run, lock)

    @classmethod
    def reopen(cls, path: str | Path, *, last: int | None) -> RunWriter:
        """Open a run that is to go on. last: the step of its last checkpoint when that was decided.

        Raises RunError if it cannot be written, another process writes it, or it has gone on meanwhile.
        """
        run = RunDirectory(Path(path))
        with explained(run.path):
            writer = cls(run, _lock(run))
            check_unchanged(run, last=last)
            _make_folders(run)
            for folder in (run.path, run.path / CHECKPOINTS, run.path / PREDICTIONS):
                sweep(folder)
        writer.set_status("running", **_here())
        return writer

    def close(self) -> None:
        """Let others write."""
        self.lock.release()

    def keep_until(self, *, steps: int, evaluations: int) -> None:
        """Cut what was recorded after the last step, and the last evaluation, to keep, and a line that was torn."""
        for name, step in ((STEPS, steps), (EVALUATIONS, evaluations)):
            path = self.run.path / name
            if path.exists():
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                write_text(path, "".join(line for line in lines if _step_of(line) <= step))

    def flush(self) -> None:
        """Wait until the records of steps and evaluations are on disk."""
        for name in (STEPS, EVALUATIONS):
            if (self.run.path / name).exists():
                with explained(self.run.path / name):
                    flush(self.run.path / name)

    def set_status(self, status: str, **details: Any) -> None:
        """Record what became of the run; a reason is only that of the last end."""
        earlier = read_json(self.run.status) if self.run.status.exists() else {}
        earlier.pop("reason", None)
        write_json(self.run.status, {**earlier, "status": status, "updated": _now(), **details})

    def write(self, name: str, record: Any) -> None:
        """Write one JSON file, whole or not at all."""
        write_json(self.run.path / name, record)

    def write_config(self, text: str) -> None:
        """Write the resolved config."""
        write_text(self.run.config, text)

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Add one line to a JSON-lines file."""
        append_line(self.run.path / name, to_json(record))

    def log(self, line: str) -> None:
        """Add a line to the run's log."""
        append_line(self.run.path / "log.txt", f"{_now()} {line}")


def check_free(path: Path, *, overwrite: bool, is_ours: bool = False) -> None:
    """Raise RunError unless a run can be made here: before data and model are loaded, and again when it starts.

    is_ours: the lock of the directory is this process's.
    """
    run = RunDirectory(path)
    try:
        exists = path.exists()
    except OSError as error:
        raise RunError(f"{path}: cannot be a run directory: {error.strerror}; choose another output_dir") from None
    if path.is_symlink():
        raise RunError(f"{path}: a symbolic link; give the directory that it points to as output_dir")
    if exists and not path.is_dir():
        raise RunError(f"{path}: not a directory; choose another output_dir")
    if path.is_dir() and not all(_is_trace(entry.name) for entry in path.iterdir()):
        if not run.is_run():
            raise RunError(f"{path}: holds files that are no ftcli run; choose another output_dir")
        if run.is_locked() and not is_ours:
            raise _is_taken(run)
        if not overwrite:
            status = read_json(run.status).get("status", "unknown")
            raise RunError(
                f"{path}: holds a run already ({status}). Pass --resume to go on with it, --overwrite to replace it, "
                f"or choose another directory with output_dir={path}-2"
            )
    parent = next(folder for folder in (path, *path.parents) if folder.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(f"{path}: {parent} is read-only for this user; choose another output_dir")


def check_unchanged(run: RunDirectory, *, last: int | None) -> None:
    """Raise RunError if a run's last checkpoint is another one than when it was looked at, before the lock."""
    found = run.pointed("last")
    if (None if found is None else found["step"]) != last:
        raise RunError(f"{run.path}: another process has gone on with this run meanwhile; start again")


def _is_trace(name: str) -> bool:
    """Whether a file is all that a run leaves which ends in the moment in which it begins."""
    return name == _LOCK or (name.startswith(".") and name.endswith(".partial"))


def _make_folders(run: RunDirectory) -> None:
    for name in (CHECKPOINTS, PREDICTIONS):
        (run.path / name).mkdir(exist_ok=True)


def has_died(run: RunDirectory, status: Mapping[str, Any]) -> bool:
    """Whether a run says that it is running, and its process on this machine is gone."""
    return status.get("status") == "running" and status.get("host") == platform.node() and not run.is_locked()


def _lock(run: RunDirectory) -> FileLock:
    lock = FileLock(run.path / _LOCK, timeout=_GLANCE)
    try:
        lock.acquire()
    except Timeout:
        raise _is_taken(run) from None
    return lock


def _is_taken(run: RunDirectory) -> RunError:
    status = read_json(run.status) if run.is_run() else {}
    who = f"process {status['pid']} on {status['host']}" if {"pid", "host"} <= status.keys() else "another process"
    return RunError(f"{run.path}: {who} is writing this run; wait for it, stop it, or choose another output_dir")


def _here() -> dict[str, Any]:
    return {"updated": _now(), "host": platform.node(), "pid": os.getpid()}


def _step_of(line: str) -> float:
    """Return the step of a record; infinity where the line is torn."""
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
