"""What a run says of itself: its header, its data, and its environment (no variables: nothing secret)."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcli import __version__
from ftcli.config.checks import is_on_hub
from ftcli.data.preparation import PreparedSplit, SplitStatistics, label_counts
from ftcli.data.quality import examine, truncation_warnings
from ftcli.experiments import Experiment
from ftcli.modeling import BuiltModel

if TYPE_CHECKING:
    from rich.table import Table

_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "tokenizers",
    "numpy",
    "scikit-learn",
)


def describe_environment(experiment: Experiment) -> dict[str, Any]:
    """Return the record that goes into environment.json."""
    execution, processes = experiment.execution, experiment.processes
    return {
        "ftcli": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "execution": asdict(execution),
        "num_processes": processes.world_size,
        "model_commit": _model_commit(experiment),
        "git_commit": _git_commit(),
        "command": sys.argv,
    }


def describe_data(experiment: Experiment) -> dict[str, Any]:
    """Return the record that goes into data.json."""
    return {
        name: {
            "source": split.rows.source,
            "fingerprint": split.rows.fingerprint,
            "held_out_of": split.rows.held_out_of,
            "num_left_out": split.rows.num_left_out,
            "labels": label_counts(split.features, experiment.labels),
            **asdict(SplitStatistics.of(split.features)),
        }
        for name, split in experiment.splits.items()
    }


def header(experiment: Experiment, built: BuiltModel, pass_limit: int | None) -> list[tuple[str, str]]:
    """Say what is about to run, and how. pass_limit: the most examples in one forward pass."""
    config, labels, plan = experiment.config, experiment.labels, experiment.plan
    num_parameters = sum(parameter.numel() for parameter in built.model.parameters())
    names = ", ".join(labels.names[:8]) + (f", … ({len(labels)})" if len(labels) > 8 else "")
    positive = f"; positive: {labels.positive}" if labels.positive else ""
    limit = experiment.tokenization.max_length
    shortened = f" (the model's limit; asked for {config.data.max_length})" if limit < config.data.max_length else ""
    new = f"; new: {', '.join(built.new_parameters)}" if built.new_parameters else ""
    return [
        ("model", f"{config.model.name_or_path}, {num_parameters:,} parameters{new}"),
        ("data", f"{config.data.path or 'files'}: {', '.join(map(_describe_split, experiment.splits.values()))}"),
        ("labels", f"{names}{positive}"),
        ("max length", f"{limit} tokens{shortened}"),
        ("batch", experiment.describe_cut(pass_limit)),
        ("updates", f"{plan.num_updates:,} ({plan.epoch_ends[0]:,} an epoch)"),
        ("execution", experiment.execution.summary()),
        ("run", config.output_dir),
    ]


def data_warnings(experiment: Experiment) -> list[str]:
    """Say what is odd about the data, one line each; on the main process, which tells it."""
    if not experiment.processes.is_main:
        return []
    splits = experiment.splits
    rows = {name: split.rows for name, split in splits.items()}
    quality = examine(rows, experiment.task, experiment.config.data)
    train = splits[experiment.config.data.train_split]
    absent = [label for label, count in label_counts(train.features, experiment.labels).items() if not count]
    unseen = [f"{train.name}: no row of {', '.join(map(repr, absent))}, which data.labels names"] if absent else []
    shares = {name: float(split.features.truncated.mean()) for name, split in splits.items()}
    return [*unseen, *quality.warnings, *truncation_warnings(shares, experiment.tokenization.max_length)]


def _describe_split(split: PreparedSplit) -> str:
    facts = [f"{split.features.truncated.mean():.1%} truncated"]
    if split.rows.held_out_of:
        facts.append(f"held out of {split.rows.held_out_of}")
    if split.rows.num_left_out:
        rows = "row" if split.rows.num_left_out == 1 else "rows"
        facts.append(f"{split.rows.num_left_out:,} incomplete {rows} left out")
    return f"{split.name} {split.features.num_rows:,} ({', '.join(facts)})"


def _model_commit(experiment: Experiment) -> str | None:
    """Return the commit of a model from the Hub, as the Hub's cache knows it."""
    model = experiment.config.model
    if not is_on_hub(model.name_or_path):
        return None
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model.name_or_path, "config.json", revision=model.revision)
    return Path(path).parent.name if isinstance(path, str) else None


def _git_commit() -> str | None:
    """Return the commit of the working directory, where there is one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def outcome(record: Mapping[str, Any]) -> Table | str:
    """Return what a finished run shows: its best scores beside those of the majority class."""
    title, best = f"{Path(record['run']).name}: {record['steps']} updates", record["best"]
    if best is None:
        return f"{title}, not evaluated"
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    split, step = best["split"], f"best (step {best['step']})"
    for heading in (f"{split}, n = {best['num_examples']}", step, "majority class"):
        table.add_column(heading, justify="left" if heading.startswith(split) else "right")
    for name, score in best["scores"].items():
        baseline = record["majority_class"].get(name)
        table.add_row(name, f"{score:.4f}", "" if baseline is None else f"{baseline:.4f}")
    return table
