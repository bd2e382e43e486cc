"""`inspect-batch`: look at one batch before training on it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftcli.config.loading import load_config
from ftcli.config.schema import Config
from ftcli.console import Console
from ftcli.experiments import named_split, prepare_experiment
from ftcli.hardware import start
from ftcli.inspection import first_batch, inspect, render
from ftcli.launching import check_launch


def inspect_batch(
    config: str | Path | Config,
    overrides: Iterable[str] = (),
    *,
    split: str | None = None,
    index: int = 0,
    console: Console | None = None,
) -> dict[str, Any]:
    """Show the batch that starts at example `index` of a split, by default the train split, and its forward pass.

    Returns the record that `--json` prints. Raises an FtcliError for whatever the user can mend.
    """
    console = console or Console()
    console.calm_libraries()
    check_launch(None)
    config = load_config(config, overrides)
    name = named_split(config.data, split, default=config.data.train_split)
    experiment = prepare_experiment(config, [name])
    prepared = experiment.splits[name]
    first_batch(experiment, prepared, index)
    accelerator = start(experiment.execution, experiment.processes)
    built = experiment.build_model()
    accelerator.prepare_model(built.model, evaluation_mode=True)
    record = inspect(experiment, prepared, built, accelerator.device, index)
    console.result(record, render(record))
    accelerator.end_training()
    return record
