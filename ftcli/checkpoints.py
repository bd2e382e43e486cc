"""Save models, point at the best and the last, publish one, and find what the user names.

A saved model is whole or absent: it is written aside, flushed and renamed, and only then pointed at.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcli.config.loading import load_config
from ftcli.config.schema import Config
from ftcli.errors import ConfigError, RunError
from ftcli.runs import CHECKPOINTS, CONFIG, MODEL, RunDirectory, read_json, write_json, write_whole_directory
from ftcli.tasks.tokenization import Tokenization

# What a saved model says of itself: its step and scores.
RECORD = "checkpoint.json"
CARD = "README.md"


@dataclass(frozen=True)
class SavedModel:
    """A model on disk that can be evaluated: its directory, the config of its run, and its own record."""

    path: Path
    config: Path
    record: dict[str, Any]


@dataclass(frozen=True)
class Saver:
    """Saves the models of one run; only the main process holds one that it uses."""

    run: RunDirectory
    tokenization: Tokenization
    config_text: str

    def save(self, model: Any, record: dict[str, Any], *, as_best: bool) -> None:
        """Save a model as the checkpoint of `record["step"]`, and point `last`, and perhaps `best`, at it."""
        target = self.run.checkpoint(record["step"])
        if not (target / RECORD).exists():

            def fill(folder: Path) -> None:
                model.save_pretrained(folder)
                tokenizer = self.tokenization.tokenizer
                # What the last call set would be saved too; whoever truncates finds the length in model_max_length.
                tokenizer.backend_tokenizer.no_truncation()
                tokenizer.backend_tokenizer.no_padding()
                tokenizer.model_max_length = self.tokenization.max_length
                tokenizer.save_pretrained(folder)
                (folder / CONFIG).write_text(self.config_text, encoding="utf-8")
                write_json(folder / RECORD, record)

            write_whole_directory(target, fill)
        write_json(self.run.pointer("last"), record)
        if as_best:
            write_json(self.run.pointer("best"), record)
        self._prune()

    def publish(self, *, card: str) -> Path:
        """Put the best model, or the last where nothing was evaluated, and its card into `model/`."""
        chosen = self.run.pointed("best") or self.run.pointed("last")
        assert chosen is not None, "a run ends with a saved model"
        source = self.run.checkpoint(chosen["step"])

        def fill(folder: Path) -> None:
            shutil.copytree(source, folder, dirs_exist_ok=True)
            (folder / CARD).write_text(card, encoding="utf-8")

        write_whole_directory(self.run.model, fill)
        return self.run.model

    def _prune(self) -> None:
        """Remove checkpoints that nothing points at; only ever after the new one stands."""
        pointers = (self.run.pointed("best"), self.run.pointed("last"))
        kept = {self.run.checkpoint(record["step"]) for record in pointers if record is not None}
        for folder in (self.run.path / CHECKPOINTS).iterdir():
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)


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
    return SavedModel(path, path / CONFIG, read_json(path / RECORD) if (path / RECORD).is_file() else {})


def config_of(saved: SavedModel, overrides: Iterable[str], keys: tuple[str, ...]) -> Config:
    """Return the config of a saved model, with that model in the place of the pretrained one.

    overrides: laid over it. keys: the beginnings of those that may be overridden. Raises ConfigError for others.
    """
    overrides = list(overrides)
    for override in overrides:
        key = override.partition("=")[0]
        if key.startswith("model"):
            raise ConfigError(f"{override}: the model is the checkpoint, {saved.path}; give another CHECKPOINT")
        if not key.startswith(keys) or key == "data.labels":
            raise ConfigError(
                f"{override}: changes nothing here, where labels and weights are the run's; what can be set is "
                f"{', '.join(keys)}"
            )
    config = load_config(saved.config, overrides)
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
