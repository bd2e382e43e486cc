"""`eval`: score a saved model again, on the data of its run or on other data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftcli.checkpoints import SavedModel, config_of, find_saved_model
from ftcli.console import Console
from ftcli.errors import ConfigError, DataError
from ftcli.experiments import Experiment, named_split, prepare_experiment
from ftcli.hardware import start
from ftcli.hub import tell_hub
from ftcli.launching import check_devices, check_launch

# The keys that an evaluation reads from the config; data.labels is the run's for good.
_EVALUATED_KEYS = ("data.", "evaluation.", "training.device", "training.precision")


def evaluate(
    checkpoint: str | Path,
    overrides: Iterable[str] = (),
    *,
    split: str | None = None,
    num_processes: int | None = None,
    allow_remote_code: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Evaluate a saved model on a split, by default the validation split of its run.

    checkpoint: a run directory (its best model, or its last where nothing was evaluated), one of its
    checkpoints, or its `model/`. overrides: laid over the run's config. The labels are the run's.
    Returns, on every process, a record with the scores. Raises an FtcliError for whatever the user can mend.
    """
    console = console or Console()
    saved, experiment, name = _prepare(checkpoint, overrides, split, num_processes, allow_remote_code, console)
    accelerator = start(experiment.execution, experiment.processes)
    built = experiment.build_model()
    model = accelerator.prepare_model(built.model, evaluation_mode=True)
    evaluator, prepared = experiment.evaluator(accelerator), experiment.splits[name]
    num_batches = evaluator.num_batches(prepared.features)
    with console.progress(f"evaluating {name}", num_batches, every=max(1, num_batches // 10)) as progress:
        evaluation = evaluator(model, prepared, on_batch=progress.advance)
    record = {
        "checkpoint": str(saved.path),
        "step": saved.record.get("step"),
        "split": name,
        "source": prepared.rows.source,
        "num_examples": evaluation.num_rows,
        "num_processes": experiment.processes.world_size,
        "scores": evaluation.scores,
    }
    console.result(record, _text(record))
    accelerator.end_training()
    return record


def check_evaluate(
    checkpoint: str | Path,
    overrides: Iterable[str] = (),
    *,
    split: str | None = None,
    num_processes: int,
    allow_remote_code: bool = False,
    console: Console,
) -> None:
    """Check checkpoint, config and data, and fill the cache, before several workers are started."""
    _, experiment, _ = _prepare(checkpoint, overrides, split, None, allow_remote_code, console)
    check_devices(num_processes, experiment.execution.device)


def _prepare(
    checkpoint: str | Path,
    overrides: Iterable[str],
    split: str | None,
    num_processes: int | None,
    allow_remote_code: bool,
    console: Console,
) -> tuple[SavedModel, Experiment, str]:
    console.calm_libraries()
    check_launch(num_processes)
    saved = find_saved_model(Path(checkpoint))
    config = config_of(saved, _without_another_cut(overrides), _EVALUATED_KEYS)
    tell_hub(config, console)
    name = named_split(config.data, split, default=config.data.validation_split)
    experiment = prepare_experiment(config, [name], trained=True, allow_remote_code=allow_remote_code)
    rows = experiment.splits[name].rows
    if rows.held_out_of and rows.fingerprint != saved.record.get("held_out"):
        raise DataError(
            f"{rows.source}: not as it was when the model was trained, so that other rows would be held out of it, "
            "most of them learned; restore it, or name other data with data.files.validation=FILE"
        )
    if not rows.held_out_of and rows.whole_fingerprint == saved.record.get("learned_from"):
        console.warn(f"{rows.source}: the model learned from these rows; their score says little about others")
    return saved, experiment, name


def _without_another_cut(overrides: Iterable[str]) -> list[str]:
    """Refuse to hold other rows out than training did: most of them it has learned."""
    overrides = list(overrides)
    for override in overrides:
        if override.startswith(("data.validation_fraction", "data.split_seed")):
            raise ConfigError(
                f"{override}: another cut would score the model on rows that it was trained on; name other data with "
                "data.files.validation=FILE"
            )
    return overrides


def _text(record: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table

    table = Table()
    table.add_column(f"{record['split']}, n = {record['num_examples']}")
    table.add_column("score", justify="right")
    for name, score in record["scores"].items():
        table.add_row(name, f"{score:.4f}")
    return Group(record["checkpoint"], table)
