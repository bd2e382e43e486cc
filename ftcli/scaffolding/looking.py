"""What lies where a person points: splits, each with a sample of its rows, and the config keys that name it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ftcli.config.checks import is_on_hub
from ftcli.data.files import SUFFIXES, read_rows
from ftcli.data.formats import column_paths
from ftcli.errors import DataError, ModelError
from ftcli.hub import DATA, Repository, check_hub, explain

# Rows of a split that are looked at.
SAMPLE = 20_000
_ROLES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}


@dataclass
class Sample:
    """The first rows of a split, by column; a value that is no single text is None. columns: in their order.

    unusable: why a column cannot be used, where it cannot. has_more: whether the split is longer.
    """

    columns: dict[str, list[str | None]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    num_rows: int = 0
    has_more: bool = False

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Sample:
        """Read the first rows. Numbers and truth values become the texts that the loader makes of them."""
        from ftcli.data.formats import Row, cell

        sample = cls()
        iterator = iter(rows)
        for index, values in enumerate(islice(iterator, SAMPLE)):
            for name in column_paths(values):
                column = sample.columns.setdefault(name, [None] * index)
                try:
                    column.append(cell(Row(0, dict(values)), name))
                except ValueError as error:
                    column.append(None)
                    if not isinstance(values.get(name), dict):
                        sample.unusable.setdefault(name, str(error).partition(" holds ")[2].partition(";")[0])
                    else:
                        sample.unusable.setdefault(name, "an object")
            sample.num_rows = index + 1
            for column in sample.columns.values():
                column.extend([None] * (sample.num_rows - len(column)))
        sample.has_more = next(iterator, None) is not None
        return sample


@dataclass(frozen=True)
class Found:
    """Data that was found. keys: of the config's data section. samples: by role, train and perhaps others.

    name: a short one for the run. class_names: what the data itself calls its classes, by column.
    """

    name: str
    keys: dict[str, Any]
    samples: dict[str, Sample]
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)


def look(source: str, configuration: str | None = None) -> Found:
    """Look at a file, a folder, a save_to_disk folder or a data set of the Hub.

    configuration: of a data set of the Hub that has several. Raises DataError or ModelError if there is nothing.
    """
    path = Path(os.path.expanduser(source))  # noqa: PTH111 - Path.expanduser raises for the ~ of an unknown user
    if not os.path.exists(path) and (not is_on_hub(source) or path.suffix in SUFFIXES):  # noqa: PTH110 - any text
        raise DataError(f"{source}: no such file or folder")
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise DataError(f"{source}: unknown kind of file; expected one of {', '.join(SUFFIXES)}")
        return Found(path.stem, {"files": {"train": str(path)}}, {"train": _sample(path)})
    if path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists()):
        return _look_at_saved(path)
    if path.is_dir():
        return _look_at_folder(path)
    return _look_at_hub(source, configuration)


def _sample(path: Path) -> Sample:
    sample = Sample.of(row.values for row in read_rows(path, "auto"))
    if not sample.num_rows:
        raise DataError(f"{path}: holds no rows")
    return sample


def _look_at_folder(folder: Path) -> Found:
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    by_role = _by_role({file.stem: file for file in files})
    if "train" not in by_role and len(files) == 1:
        by_role = {"train": (files[0].stem, files[0])}
    if "train" not in by_role:
        names = ", ".join(file.name for file in files) or "no file that can be read"
        raise DataError(f"{folder}: no file for train among {names}; give one file, or call it train{SUFFIXES[0]}")
    samples = {role: _sample(file) for role, (_, file) in by_role.items()}
    if len({file.stem for file in files}) < len(files):
        keys: dict[str, Any] = {"files": {role: str(file) for role, (_, file) in by_role.items()}}
    else:
        keys = {"path": _as_path(folder), **_split_keys(by_role)}
    return Found(folder.resolve().name, keys, samples)


def _as_path(folder: Path) -> str:
    """Write a folder so that nobody takes it for a name of the Hub."""
    return str(folder) if folder.is_absolute() or str(folder).startswith((".", "~")) else f"./{folder}"


def _by_role(splits: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Find the split of each role among names, the likeliest name first."""
    found = {}
    for role, names in _ROLES.items():
        for name in names:
            match = next((split for split in splits if split.lower() == name), None)
            if match is not None and role not in found:
                found[role] = (match, splits[match])
    return found


def _split_keys(by_role: Mapping[str, tuple[str, Any]]) -> dict[str, str]:
    return {f"{role}_split": name for role, (name, _) in by_role.items() if name != role}


def _look_at_saved(folder: Path) -> Found:
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(str(folder))
    splits = saved if isinstance(saved, DatasetDict) else {str(saved.split or "train"): saved}
    return _of_datasets(folder.resolve().name, {"path": _as_path(folder)}, splits, str(folder))


def _look_at_hub(name: str, configuration: str | None) -> Found:
    check_hub([Repository(DATA, name)])
    from datasets import load_dataset

    try:
        splits = load_dataset(name, configuration)
    except Exception as error:
        # Whatever the Hub client raises: a dozen classes of three libraries.
        raise ModelError(explain(error, Repository(DATA, name), None)) from None
    keys = {"path": name} | ({"name": configuration} if configuration else {})
    return _of_datasets(configuration or name.rpartition("/")[2], keys, splits, name)


def _of_datasets(name: str, keys: dict[str, Any], splits: Mapping[str, Any], source: str) -> Found:
    from datasets import ClassLabel

    by_role = _by_role(dict(splits))
    if "train" not in by_role and len(splits) == 1:
        by_role = {"train": next(iter(splits.items()))}
    if "train" not in by_role:
        raise DataError(f"{source}: no train split among {', '.join(splits)}")
    samples = {role: Sample.of(_rows(split)) for role, (_, split) in by_role.items()}
    features = by_role["train"][1].features
    class_names = {
        column: tuple(feature.names) for column, feature in features.items() if isinstance(feature, ClassLabel)
    }
    return Found(name, keys | _split_keys(by_role), samples, class_names)


def _rows(dataset: Any) -> Iterator[Mapping[str, Any]]:
    yield from dataset.with_format(None)
