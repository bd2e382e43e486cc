"""From the config's `data` to the rows of a split: Hub data sets, save_to_disk folders, and files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ftcli.config.checks import is_on_hub
from ftcli.config.schema import DataSection
from ftcli.data import files
from ftcli.data.formats import cell
from ftcli.data.rows import SplitRows, complete_rows, cut_validation, digest, task_columns
from ftcli.errors import DataError, ModelError
from ftcli.hub import DATA, Repository, explain
from ftcli.locations import PACKAGE_PREFIX, package_path
from ftcli.tasks.base import Task

# Raise it when the same file would be read into other rows.
_READER_VERSION = 2


def load_split(data: DataSection, split: str, task: Task) -> SplitRows:
    """Read one split with the task's columns, and check its columns and texts.

    Where there is no validation split, `data.validation_fraction` holds it out of the train split.
    Raises DataError (no such split, column or file, broken format, empty text) or ModelError (the Hub).
    """
    try:
        return _load(data, split, task)
    except _NoSplitError as missing:
        raise DataError(_explain_no_split(data, missing)) from None


def _load(data: DataSection, split: str, task: Task) -> SplitRows:
    if data.validation_fraction is not None and split in (data.train_split, data.validation_split):
        try:
            validation = _read_split(data, data.validation_split, task)
        except _NoSplitError:
            return cut_validation(_load_whole(data, data.train_split, task), task, data, split)
        if split == data.validation_split:
            return complete_rows(validation, task, data)
    return _load_whole(data, split, task)


def load_splits(data: DataSection, task: Task) -> dict[str, SplitRows]:
    """Read every split that the config names and the data has, to look at them: empty texts are kept, not refused."""
    if data.empty_text == "error":
        data = data.model_copy(update={"empty_text": "keep"})
    found = {}
    for split in dict.fromkeys((data.train_split, data.validation_split, data.test_split)):
        with suppress(_NoSplitError):
            found[split] = _load(data, split, task)
    return found


def _load_whole(data: DataSection, split: str, task: Task) -> SplitRows:
    return complete_rows(_read_split(data, split, task), task, data)


def _read_split(data: DataSection, split: str, task: Task) -> SplitRows:
    try:
        if data.files is not None:
            return _from_file(_named_file(data, split), split, data, task)
        if data.path is not None and not is_on_hub(data.path):
            return _from_local(_located(data.path), split, data, task)
        return _from_hub(data, split, task)
    except OSError as error:
        raise DataError(f"{error.filename or data.path}: cannot be read: {error.strerror or error}") from None


def _named_file(data: DataSection, split: str) -> Path:
    """Find the file of a split among `data.files`."""
    assert data.files is not None
    named = (
        (data.test_split, "test", data.files.test),
        (data.validation_split, "validation", data.files.validation),
        (data.train_split, "train", data.files.train),
    )
    # One split may play two roles, for example be trained and validated on: any of its files will do.
    by_split = {name: (role, path) for name, role, path in named if path is not None}
    if split not in by_split:
        raise _NoSplitError("data.files", split, list(by_split))
    role, path = by_split[split]
    return _existing(_located(path), f"data.files.{role}")


def _from_local(path: Path, split: str, data: DataSection, task: Task) -> SplitRows:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check data.path")
    if path.is_file():
        raise DataError(f"{path}: a file; name it as data.files={{train: {path}}}, or give its folder")
    if (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists():
        return _from_saved(path, split, task)
    found = sorted(file for file in path.iterdir() if file.suffix in files.SUFFIXES)
    matching = [file for file in found if file.stem == split]
    if not matching:
        raise _NoSplitError(str(path), split, sorted({file.stem for file in found}))
    if len(matching) > 1:
        names = ", ".join(file.name for file in matching)
        raise DataError(f"{path}: split {split!r} could be any of {names}; name one in data.files")
    return _from_file(matching[0], split, data, task)


def _from_file(path: Path, split: str, data: DataSection, task: Task) -> SplitRows:
    """Read a file into memory-mapped columns, cached under the hash of the file's content."""
    from datasets import Dataset, Features, Value
    from datasets.exceptions import DatasetGenerationError

    names = task_columns(path.name, files.column_names(path, data.quoting), task)
    declared = files.parquet_class_names(path) if path.suffix == ".parquet" else {}
    fingerprint = digest(_hash(path), path.suffix, data.quoting, names, _READER_VERSION)

    def generate() -> Iterator[dict[str, Any]]:
        for index, row in enumerate(files.read_rows(path, data.quoting)):
            try:
                yield {name: cell(row, name) for name in names}
            except ValueError as error:
                raise DataError(f"{path}: {files.place(row.line, index)}: {error}") from None

    try:
        dataset = Dataset.from_generator(
            generate,
            features=Features({name: Value("large_string") for name in names}),
            fingerprint=fingerprint,
            cache_dir=str(cache_directory() / "rows"),
        )
    except DatasetGenerationError as error:
        cause = error.__cause__
        if isinstance(cause, OSError):
            raise cannot_cache(cause) from None
        raise cause if isinstance(cause, DataError) else error from None
    except OSError as error:
        raise cannot_cache(error) from None
    return SplitRows(split, str(path), dataset, fingerprint, declared, file=path, quoting=data.quoting)


def _from_saved(path: Path, split: str, task: Task) -> SplitRows:
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a save_to_disk folder: {error}") from None
    except IndexError:  # what datasets makes of a split that was saved without rows
        raise DataError(f"{path}: a split has no rows; save it without that split") from None
    # A data set saved alone is one split: as every split, it would judge a model on what it learned.
    splits = saved if isinstance(saved, DatasetDict) else {str(saved.split or "train"): saved}
    rows = _from_datasets(splits, str(path), split, task)
    contents = [_hash(Path(file["filename"])) for file in rows.dataset.cache_files]
    return replace(rows, fingerprint=digest(rows.fingerprint, contents))


def _from_hub(data: DataSection, split: str, task: Task) -> SplitRows:
    from datasets import load_dataset

    assert data.path is not None
    try:
        splits = load_dataset(data.path, data.name, revision=data.revision)
    except Exception as error:
        # Whatever the Hub client raises: a dozen classes of three libraries.
        reason = explain(error, Repository(DATA, data.path), data.revision)
        raise ModelError(f"{reason}. Or name a local folder as data.path, or data.files") from None
    return _from_datasets(splits, data.path, split, task)


def _from_datasets(splits: Any, source: str, split: str, task: Task) -> SplitRows:
    from datasets import ClassLabel

    if split not in splits:
        raise _NoSplitError(source, split, list(splits))
    dataset = splits[split]
    names = task_columns(source, dataset.column_names, task)
    if len(dataset) == 0:
        raise DataError(f"{source}: the split {split!r} has no rows")
    declared = {
        name: tuple(dataset.features[name].names) for name in names if isinstance(dataset.features[name], ClassLabel)
    }
    dataset = dataset.with_format(None).select_columns(names)
    return SplitRows(split, source, dataset, digest(splits[split]._fingerprint, names, declared), declared)


def _located(name: str) -> Path:
    """Return a local path, also that of something in an installed package."""
    if not name.startswith(PACKAGE_PREFIX):
        return Path(name)
    try:
        return package_path(name)
    except LookupError as error:
        raise DataError(str(error.args[0])) from None


def _existing(path: Path, key: str) -> Path:
    if not path.is_file():
        others = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, others, 1, cutoff=0.75)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{path}: no such file.{hint} Check {key}; relative paths start at the working directory")
    if path.suffix not in files.SUFFIXES:
        raise DataError(f"{path}: unknown kind of file; expected one of {', '.join(files.SUFFIXES)}")
    return path


class _NoSplitError(Exception):
    """A source has no split of that name."""

    def __init__(self, source: str, split: str, found: Sequence[str]) -> None:
        super().__init__(source)
        self.source, self.split, self.found = source, split, found


def _explain_no_split(data: DataSection, missing: _NoSplitError) -> str:
    """Say which splits there are, and which key to set for the one that is missing."""
    split = missing.split
    near = get_close_matches(split, missing.found, 1)
    held_out = [data.validation_split] if data.validation_fraction is not None else []
    found = ", ".join(dict.fromkeys((*missing.found, *held_out))) or "none"
    told = f"{missing.source}: no split {split!r}; found {found}."
    hint = f" Did you mean {near[0]!r}?" if near else ""
    roles = {data.test_split: "test", data.validation_split: "validation", data.train_split: "train"}
    role = roles.get(split)
    if role is None:
        return f"{told}{hint} Choose one of these"
    way = f"Add it with data.files.{role}=FILE" if data.files is not None else f"Set data.{role}_split to one of these"
    if role != "validation":
        return f"{told}{hint} {way}"
    return (
        f"{told}{hint} {way}, hold rows out of the train split with data.validation_fraction=0.1, or set "
        "evaluation.every=never"
    )


def cache_directory() -> Path:
    """Where rows and features are kept: FTCLI_CACHE, else ftcli in the user's cache directory (XDG_CACHE_HOME)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FTCLI_CACHE") or Path(home) / "ftcli")


def cannot_cache(error: OSError) -> DataError:
    """Explain that the cache cannot be written."""
    return DataError(
        f"{error.filename or cache_directory()}: the cache cannot be written: {error.strerror or error}. Free space, "
        "or set FTCLI_CACHE to another directory"
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
