"""Save checkpoints, point at the best and the last, publish one model, and find what the user names.

A checkpoint is whole or absent: it is written aside, sealed with a manifest, flushed, renamed, and only then pointed
at. It exists if and only if its manifest agrees with its files.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcli.config.loading import load_config
from ftcli.config.schema import Config
from ftcli.console import to_json
from ftcli.durable import (
    MANIFEST,
    delete,
    find_damage,
    operation,
    read_json,
    seal,
    write_json,
    write_text,
    write_whole_directory,
)
from ftcli.errors import ConfigError, RunError
from ftcli.runs import CHECKPOINTS, CONFIG, MODEL, OPTIMIZER, PREDICTIONS, RANDOM, RunDirectory
from ftcli.tasks.tokenization import Tokenization

if TYPE_CHECKING:
    from ftcli.state import TrainingState

# What a saved model says of itself: its step and scores.
RECORD = "checkpoint.json"
# What a run needs to go on, beside the tensors.
STATE = "state.json"
PREDICTED = "predictions.jsonl"
CARD = "README.md"
_NAME = re.compile(r"step-\d{8,}")


@dataclass(frozen=True)
class SavedModel:
    """A model on disk that can be evaluated: its directory, the config of its run, and its own record."""

    path: Path
    config: Path
    record: dict[str, Any]


@dataclass(frozen=True)
class Saver:
    """Saves the checkpoints of one run; only the main process holds one that it uses.

    keep: how many of the newest stay; the best that each refers to stays besides.
    """

    run: RunDirectory
    tokenization: Tokenization
    config_text: str
    keep: int

    def save(
        self,
        model: Any,
        state: TrainingState,
        record: dict[str, Any],
        standing: dict[str, Any],
        predictions: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        """Save a checkpoint, and point `last` at it, and `best`, if it is.

        record: what the model says of itself, its step among it. standing: what else a run needs to go on.
        predictions: of the evaluation, if it is the best so far.
        """
        target = self.run.checkpoint(record["step"])

        def fill(folder: Path) -> None:
            with operation("write", folder):
                self._write_model(model, folder)
            state.write(folder)
            write_json(folder / RECORD, record)
            write_json(folder / STATE, {**standing, **state.record})
            if predictions is not None:
                write_text(folder / PREDICTED, "".join(to_json(line) + "\n" for line in predictions))
            seal(folder)

        write_whole_directory(target, fill)
        write_json(self.run.pointer("last"), record)
        if predictions is not None:
            self.point_at_best(record, target)
        self._prune()

    def _write_model(self, model: Any, folder: Path) -> None:
        # Under the names that the model has, and not those of the checkpoint that it came from.
        model.save_pretrained(folder, save_original_format=False)
        tokenizer = self.tokenization.tokenizer
        # What the last call set would be saved too; whoever truncates finds the length in model_max_length.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.model_max_length = self.tokenization.max_length
        tokenizer.save_pretrained(folder)
        (folder / CONFIG).write_text(self.config_text, encoding="utf-8")

    def point_at_best(self, record: Mapping[str, Any], checkpoint: Path) -> None:
        """Make a checkpoint the best, and its predictions those of the run."""
        write_json(self.run.pointer("best"), record)
        predictions = (checkpoint / PREDICTED).read_text(encoding="utf-8")
        write_text(self.run.path / PREDICTIONS / f"{record['split']}.jsonl", predictions)

    def rewind(self, checkpoint: Checkpoint, kept: Collection[Path]) -> None:
        """Put the run back to where it was at a checkpoint. kept: those that stay; what came later or is damaged goes.

        The pointers first, the newest before the older: wherever this ends, what is left is a run.
        """
        write_json(self.run.pointer("last"), read_json(checkpoint.path / RECORD))
        best = checkpoint.state["best"]
        if best is None:
            self.run.pointer("best").unlink(missing_ok=True)
        else:
            folder = self.run.checkpoint(best["step"])
            self.point_at_best(read_json(folder / RECORD), folder)
        for folder in reversed(_folders(self.run)):
            if folder not in kept:
                delete(folder)
        self._prune()

    def publish(self, *, card: str) -> Path:
        """Put the best model, or the last where nothing was evaluated, and its card into `model/`."""
        chosen = self.run.pointed("best") or self.run.pointed("last")
        assert chosen is not None, "a run ends with a saved model"
        source = self.run.checkpoint(chosen["step"])
        check_whole(source)

        def fill(folder: Path) -> None:
            with operation("write", folder):
                unpublished = shutil.ignore_patterns(OPTIMIZER, RANDOM, STATE, PREDICTED, MANIFEST)
                shutil.copytree(source, folder, dirs_exist_ok=True, ignore=unpublished)
                (folder / CARD).write_text(card, encoding="utf-8")
            # Everything else there may be edited.
            seal(folder, "*.safetensors")

        write_whole_directory(self.run.model, fill)
        return self.run.model

    def _prune(self) -> None:
        """Remove all but the newest checkpoints and the best that they refer to; only after the new one stands."""
        folders = _folders(self.run)
        newest = folders[-self.keep :]
        kept = {*newest, *(_best_of(self.run, folder) for folder in newest)}
        for folder in folders:
            if folder not in kept:
                delete(folder)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint from which a run can go on, and its record of that."""

    path: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """The updates that went into it."""
        return int(self.state["step"])


def whole_checkpoints(run: RunDirectory) -> tuple[list[Checkpoint], dict[Path, str]]:
    """Return the checkpoints of a run that are whole, the newest last, and what is wrong with the others.

    One whose best model is damaged is no good either: the run could not publish what it knows to be the best.
    """
    folders = _folders(run)
    damaged = {folder: damage for folder in folders if (damage := _damage(folder)) is not None}
    whole = [Checkpoint(folder, read_json(folder / STATE)) for folder in folders if folder not in damaged]
    steps = {checkpoint.step for checkpoint in whole}
    for checkpoint in whole:
        best = checkpoint.state["best"]
        if best is not None and best["step"] not in steps:
            damaged[checkpoint.path] = f"its best model, that of step {best['step']}, is missing or damaged"
    return [checkpoint for checkpoint in whole if checkpoint.path not in damaged], damaged


def _folders(run: RunDirectory) -> list[Path]:
    """List what has the name of a checkpoint, the oldest first."""
    named = (path for path in (run.path / CHECKPOINTS).glob("step-*") if _NAME.fullmatch(path.name))
    return sorted(named, key=lambda path: int(path.name.removeprefix("step-")))


def _best_of(run: RunDirectory, folder: Path) -> Path | None:
    """Return the checkpoint with the best model that one refers to, if it can be read and there is one."""
    try:
        best = read_json(folder / STATE)["best"]
    except RunError:
        return None
    return None if best is None else run.checkpoint(best["step"])


def _damage(folder: Path) -> str | None:
    if folder.is_symlink():
        return "a symbolic link"
    return find_damage(folder)


def check_whole(folder: Path) -> None:
    """Raise RunError for a model whose files are not those of its manifest; only a checkpoint must have one."""
    must = folder.absolute().parent.name == CHECKPOINTS
    damage = find_damage(folder) if must or (folder / MANIFEST).exists() else None
    if damage is not None:
        raise RunError(f"{folder}: damaged: {damage}; choose another checkpoint, or train again")


def find_saved_model(path: Path) -> SavedModel:
    """Find the model behind a run directory, one of its checkpoints, or a published `model/`.

    A run gives its best, or its last where nothing was evaluated. Raises RunError if there is none.
    """
    if not path.is_dir():
        raise RunError(f"{path}: no such directory; expected a run, one of its checkpoints, or its {MODEL}/")
    run = RunDirectory(path)
    if run.is_run():
        pointer = run.pointed("best") or run.pointed("last")
        if pointer is None:
            status = read_json(run.status).get("status", "unknown")
            raise RunError(f"{path}: the run ({status}) has saved no model yet; train it to its first evaluation")
        folder = run.checkpoint(pointer["step"])
        path = folder if folder.is_dir() else run.model
    if not (path / "config.json").is_file() or not (path / CONFIG).is_file():
        raise RunError(
            f"{path}: no model that ftcli saved (config.json and {CONFIG} are not both there); expected a run, "
            f"one of its checkpoints, or its {MODEL}/"
        )
    check_whole(path)
    return SavedModel(path, path / CONFIG, read_json(path / RECORD) if (path / RECORD).is_file() else {})


def config_of(saved: SavedModel, overrides: Iterable[str], keys: tuple[str, ...]) -> Config:
    """Return the config of a saved model, with that model in the place of the pretrained one.

    overrides: laid over it. keys: the beginnings of those that may be overridden. Raises ConfigError for others.
    """
    overrides = list(overrides)
    config = load_config(saved.config, overrides)
    for override in overrides:
        key = override.partition("=")[0]
        if key.startswith("model"):
            raise ConfigError(f"{override}: the model is the checkpoint, {saved.path}; give another CHECKPOINT")
        if not key.startswith(keys) or key == "data.labels":
            raise ConfigError(
                f"{override}: changes nothing here, where labels and weights are the run's; what can be set is "
                f"{', '.join(keys)}"
            )
    model = config.model.model_copy(update={"name_or_path": str(saved.path.absolute()), "revision": None})
    num_texts = len(load_config(saved.config).build_task().text_columns)
    if len(config.build_task().text_columns) != num_texts:
        raise ConfigError(
            f"data.columns.text names {len(config.build_task().text_columns)} columns; the model was trained on "
            f"{num_texts}, and means nothing by other inputs"
        )
    names = saved.record.get("numbered_labels")
    data = config.data if names is None else config.data.model_copy(update={"labels": tuple(names)})
    return config.model_copy(update={"model": model, "data": data})
