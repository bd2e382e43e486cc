"""Files and directories that are whole or absent, whatever happens: written aside, flushed to disk, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from safetensors import SafetensorError

from ftcli.console import to_json
from ftcli.errors import RunError

MANIFEST = "manifest.json"
_EARLIER = ".earlier"

Explain = Callable[[Path, Exception], Exception]


def _nobody(what: str, path: Path) -> None:
    """Let everything happen."""


# Called before and after each write, append, flush, rename and delete. The tests of crashes end the process in it.
watch: Callable[[str, Path], None] = _nobody


@contextmanager
def operation(name: str, path: Path) -> Iterator[None]:
    """Do something on disk, under the eyes of `watch`."""
    watch(f"before {name}", path)
    yield
    watch(f"after {name}", path)


def cannot_write(path: Path, error: Exception) -> RunError:
    """Explain why something could not be written."""
    reason = getattr(error, "strerror", None) or error
    first = "See who removed the directory" if isinstance(error, FileNotFoundError) else "Free space"
    return RunError(f"{path}: cannot be written: {reason}. {first}, or choose another output_dir")


@contextmanager
def explained(path: Path, explain: Explain = cannot_write) -> Iterator[None]:
    """Raise what `explain` makes of an OSError."""
    try:
        yield
    except OSError as error:
        raise explain(path, error) from None


@contextmanager
def whole_file(path: Path, explain: Explain = cannot_write) -> Iterator[TextIO]:
    """Open a file to write that takes its place when all went well, and leaves no trace otherwise.

    explain: makes the error to raise of one that opening, flushing or renaming met.
    """
    target = path.resolve()  # a link stays one
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with explained(path, explain):
            file = aside.open("w", encoding="utf-8", newline="")
        try:
            with operation("write", target):
                yield file
            with explained(path, explain), operation("flush", target):
                file.flush()
                os.fsync(file.fileno())
        finally:
            # On a full disk closing flushes once more, and fails once more.
            with suppress(OSError):
                file.close()
        with explained(path, explain), operation("rename", target):
            aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, into a directory that is there: one that has vanished stays away."""
    with whole_file(path) as file, explained(path):
        file.write(text)


def write_json(path: Path, record: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, to_json(record, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON record of a run. Raises RunError if it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}. Choose another checkpoint") from None
    if not isinstance(record, dict):
        raise RunError(f"{path}: expected a JSON object. Choose another checkpoint")
    return record


def append_line(path: Path, line: str) -> None:
    """Add one line to a file. It reaches the disk with the next `flush`."""
    with explained(path), operation("append", path), path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def flush(path: Path) -> None:
    """Wait until a file, or the entries of a directory, are on disk."""
    with operation("flush", path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole_directory(target: Path, fill: Callable[[Path], None]) -> None:
    """Make a directory whole or not at all: filled aside, flushed to disk, then renamed into its place.

    Its parent is there. An earlier directory in its place gives way when the new one is on disk; a crash between the
    two renames leaves it to `put_back`.
    """
    aside, earlier = target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}{_EARLIER}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        fill(aside)
        for file in sorted(aside.rglob("*")):
            if file.is_file():
                _follow_umask(file)
                flush(file)
        flush(aside)
        if target.exists():
            with operation("rename", earlier):
                target.rename(earlier)
        with operation("rename", target):
            aside.rename(target)
        flush(target.parent)
        delete(earlier)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        put_back(target.parent)
        if isinstance(error, OSError | SafetensorError):
            raise cannot_write(target, error) from None
        raise


def delete(folder: Path) -> None:
    """Remove a directory, if it is there; what a crash leaves of it has a name that `sweep` knows."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name.lstrip('.')}.doomed")
        with explained(folder), operation("delete", folder):
            folder.rename(doomed)
            watch("within delete", doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def put_back(parent: Path) -> None:
    """Give directories their places again that had given way to new ones, which never came."""
    for earlier in parent.glob(f".*{_EARLIER}"):
        target = earlier.with_name(earlier.name.removeprefix(".").removesuffix(_EARLIER))
        with suppress(OSError):  # another process of the run was quicker
            if not target.exists():
                earlier.rename(target)


def sweep(parent: Path) -> None:
    """Tidy a directory up after a process that ended while it wrote a file or a directory, or deleted one."""
    put_back(parent)
    for name in (".*.partial", f".*{_EARLIER}", ".*.doomed"):
        for left in parent.glob(name):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def seal(folder: Path, pattern: str = "*") -> None:
    """Write the manifest of a directory: size and SHA-256 of the files in it that match a pattern."""
    files = {
        path.name: {"size": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }
    write_json(folder / MANIFEST, {"files": files})


def find_damage(folder: Path) -> str | None:
    """Compare a directory with its manifest. Returns what is wrong with it, None if nothing is."""
    try:
        files = dict(read_json(folder / MANIFEST)["files"])
        for name, expected in files.items():
            path = folder / name
            if Path(name).name != name or path.is_symlink() or not path.is_file():
                return f"{name} is missing"
            size = path.stat().st_size
            if size != expected["size"]:
                return f"{name} has {size:,} bytes of {expected['size']:,}"
            if _digest(path) != expected["sha256"]:
                return f"{name} has changed since it was written"
    except (OSError, RunError, KeyError, TypeError, ValueError):
        return f"{MANIFEST} is missing or cannot be read"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _follow_umask(file: Path) -> None:
    """Undo the private mode that safetensors gives its files: ours are as readable as any other file of the user's."""
    umask = os.umask(0)
    os.umask(umask)
    file.chmod(0o666 & ~umask)
