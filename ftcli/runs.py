"""A run directory: every path and record of a run, in one place. Only the main process holds a writer."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from safetensors import SafetensorError

from ftcli.console import to_json
from ftcli.errors import RunError

CONFIG = "config.yaml"
MODEL = "model"
CHECKPOINTS = "checkpoints"


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


@dataclass(frozen=True)
class RunWriter:
    """Writes the records of a run. `create` makes the directory."""

    run: RunDirectory

    @classmethod
    def create(cls, path: str | Path, *, overwrite: bool) -> RunWriter:
        """Make a new run directory; with `overwrite` an earlier run gives way, and only a run does.

        Raises RunError if the place is taken or cannot be written.
        """
        run = RunDirectory(Path(path))
        check_free(run.path, overwrite=overwrite)
        try:
            if run.is_run():
                _remove_run(run)
            run.path.mkdir(parents=True, exist_ok=True)
            run.status.touch(exist_ok=False)  # of two runs that start at once, one gets the directory
            (run.path / CHECKPOINTS).mkdir(exist_ok=True)
            writer = cls(run)
            host = {"host": platform.node(), "pid": os.getpid()}
            write_json(run.status, {"status": "running", "started": _now(), "updated": _now(), **host})
        except FileExistsError:
            raise RunError(f"{path}: another run has just started here; choose another output_dir") from None
        except OSError as error:
            raise _cannot_write(run.path, error) from None
        return writer

    def set_status(self, status: str, **details: Any) -> None:
        """Record what became of the run."""
        earlier = read_json(self.run.status) if self.run.status.exists() else {}
        write_json(self.run.status, {**earlier, "status": status, "updated": _now(), **details})

    def write(self, name: str, record: Any) -> None:
        """Write one JSON file, whole or not at all."""
        write_json(self.run.path / name, record)

    def write_config(self, text: str) -> None:
        """Write the resolved config."""
        write_text(self.run.config, text)

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Add one line to a JSON-lines file."""
        self._add(name, to_json(record) + "\n")

    def _add(self, name: str, text: str) -> None:
        try:
            with (self.run.path / name).open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise _cannot_write(self.run.path / name, error) from None

    def write_lines(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Write one JSON-lines file, whole or not at all."""
        lines = "".join(to_json(record) + "\n" for record in records)
        write_text(self.run.path / name, lines)

    def log(self, line: str) -> None:
        """Add a line to the run's log."""
        self._add("log.txt", f"{_now()} {line}\n")


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise RunError unless a run can be made here: before data and model are loaded, and again when it starts."""
    run = RunDirectory(path)
    try:
        exists = path.exists()
    except OSError as error:
        raise RunError(f"{path}: cannot be a run directory: {error.strerror}; choose another output_dir") from None
    if path.is_symlink():
        raise RunError(f"{path}: a symbolic link; give the directory that it points to as output_dir")
    if exists and not path.is_dir():
        raise RunError(f"{path}: not a directory; choose another output_dir")
    if path.is_dir() and any(path.iterdir()):
        if not run.is_run():
            raise RunError(f"{path}: holds files that are no ftcli run; choose another output_dir")
        known = read_json(run.status)
        if overwrite and is_alive(known):
            raise RunError(f"{path}: process {known['pid']} is still writing this run; stop it first")
        if not overwrite:
            status = known.get("status", "unknown")
            raise RunError(
                f"{path}: holds a run already ({status}). Pass --overwrite to replace it, or choose another "
                f"directory with output_dir={path}-2"
            )
    parent = next(folder for folder in (path, *path.parents) if folder.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(f"{path}: {parent} is read-only for this user; choose another output_dir")


def write_whole_directory(target: Path, fill: Callable[[Path], None]) -> None:
    """Make a directory whole or not at all: filled aside, flushed to disk, then renamed over the old one."""
    aside = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        fill(aside)
        for file in sorted(aside.rglob("*")):
            if file.is_file():
                _follow_umask(file)
                _flush(file)
        _flush(aside)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        _flush(target.parent)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError):
            raise _cannot_write(target, error) from None
        raise


def write_json(path: Path, record: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, to_json(record, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with explained(path, _cannot_write):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, _cannot_write) as file, explained(path, _cannot_write):
        file.write(text)


@contextmanager
def whole_file(path: Path, explain: Callable[[Path, Exception], Exception]) -> Iterator[TextIO]:
    """Open a file to write that takes its place when all went well, and leaves no trace otherwise.

    explain: makes the error to raise of one that opening, flushing or renaming met.
    """
    target = path.resolve()  # a link stays one
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with explained(path, explain):
            file = aside.open("w", encoding="utf-8", newline="")
        with file:
            yield file
            with explained(path, explain):
                file.flush()
                os.fsync(file.fileno())
        with explained(path, explain):
            aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def explained(path: Path, explain: Callable[[Path, Exception], Exception]) -> Iterator[None]:
    """Raise what `explain` makes of an OSError."""
    try:
        yield
    except OSError as error:
        raise explain(path, error) from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON record of a run. Raises RunError if it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}. Choose another checkpoint") from None
    if not isinstance(record, dict):
        raise RunError(f"{path}: expected a JSON object. Choose another checkpoint")
    return record


def _remove_run(run: RunDirectory) -> None:
    """Move an old run aside before deleting it, so that a crash never leaves half of it in place."""
    aside = run.path.with_name(f".{run.path.name}.old-{os.getpid()}")
    run.path.rename(aside)
    shutil.rmtree(aside)


def is_alive(status: Mapping[str, Any]) -> bool:
    """Whether another process, on this machine, is known to be writing a run."""
    return status.get("pid") != os.getpid() and _process_exists(status) is True


def has_died(status: Mapping[str, Any]) -> bool:
    """Whether a run says that it is running, and its process on this machine is gone."""
    return _process_exists(status) is False


def _process_exists(status: Mapping[str, Any]) -> bool | None:
    """Look for the process of a running run; None where nothing can be said."""
    if status.get("status") != "running" or status.get("host") != platform.node():
        return None
    import psutil

    try:
        created = psutil.Process(int(status["pid"])).create_time()
        started = datetime.fromisoformat(status["started"]).timestamp()
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return False
    except psutil.AccessDenied:
        return True
    # A process that is younger than the run has only inherited the number.
    return created <= started + 1


def _cannot_write(path: Path, error: Exception) -> RunError:
    reason = getattr(error, "strerror", None) or error
    return RunError(f"{path}: cannot be written: {reason}. Free space or choose another output_dir")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _follow_umask(file: Path) -> None:
    """Undo the private mode that safetensors gives its files: ours are as readable as any other file of the user's."""
    umask = os.umask(0)
    os.umask(umask)
    file.chmod(0o666 & ~umask)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
