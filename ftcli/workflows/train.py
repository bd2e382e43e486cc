"""`train`: from a config to a run directory."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ftcli.config.loading import load_config
from ftcli.config.schema import Config
from ftcli.console import Console
from ftcli.errors import FtcliError, TrainingStoppedError
from ftcli.experiments import Experiment, prepare_experiment
from ftcli.hardware import start
from ftcli.launching import check_devices, check_launch
from ftcli.learner import Learner
from ftcli.metrics.scoring import check_hub_metrics
from ftcli.modeling import BuiltModel
from ftcli.optimization import check_schedule
from ftcli.resuming import find_start, tell_finished
from ftcli.runs import check_free
from ftcli.tracking import check_trackers
from ftcli.workflows.description import data_warnings, header
from ftcli.workflows.recording import TrainingRun

# DDP, taken down at once, holds Python's lock while it waits for a thread of gloo's, which may be waiting for that lock
# to let go of a last tensor: with torch 2.13 that was a deadlock now and then. It needs the lock for microseconds.
_GLOO_SECONDS = 0.1


def train(
    config: str | Path | Config,
    overrides: Iterable[str] = (),
    *,
    overwrite: bool = False,
    resume: str | None = None,
    allow_inexact: bool = False,
    num_processes: int | None = None,
    allow_remote_code: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Fine-tune a model as a config says, into a run directory.

    config: a file or a Config. overrides: `key=value` texts laid over it. overwrite: replace an earlier run.
    resume: go on with the run in output_dir, from its newest whole checkpoint ("auto") or the one that is named; what
    has saved nothing starts at update 0, and what is finished stays as it is. allow_inexact: even with another number
    of processes, which changes digits. num_processes: what a launcher was asked for, to be checked; this function
    starts no processes itself.
    Returns, on every process, a record with the run directory, the steps, and the best evaluation.
    Raises an FtcliError for whatever the user can mend; TrainingInterruptedError when SIGINT or SIGTERM ended it.
    """
    console = console or Console()
    check_launch(num_processes)
    config = load_config(config, overrides)
    begin = find_start(config, resume, console, overwrite=overwrite)
    if begin.finished:
        return tell_finished(config, console)
    experiment = prepare_training(config, console, allow_remote_code=allow_remote_code)
    started = time.perf_counter()
    with _kernels(deterministic=config.training.deterministic):
        learner, built = _build(experiment, probes=begin.checkpoint is None)
        run = TrainingRun(experiment, learner, console, begin)
        warnings = [] if begin.checkpoint is None else list(run.check_start(allow_inexact=allow_inexact))
        with run.recorded():
            console.fields("ftcli train", [*header(experiment, built, learner.pass_size.limit), *run.told_start()])
            for warning in (*warnings, *data_warnings(experiment)):
                console.warn(warning)
            run.fit()
            record = run.finish(time.perf_counter() - started)
        # Behind it, as the run is finished whether or not anybody reads of it.
        run.tell(record)
        learner.accelerator.end_training()
        if experiment.processes.world_size > 1:
            time.sleep(_GLOO_SECONDS)
    return record


def check_train(config: Config, *, num_processes: int, allow_remote_code: bool, console: Console) -> None:
    """Check the data, and fill the cache, before several workers are started."""
    experiment = prepare_training(config, console, allow_remote_code=allow_remote_code)
    check_devices(num_processes, experiment.execution.device)


def dry_run(
    config: str | Path | Config,
    overrides: Iterable[str] = (),
    *,
    num_processes: int | None = None,
    allow_remote_code: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Do everything that training does once, and write nothing: one forward and backward, one evaluation batch."""
    console = console or Console()
    check_launch(num_processes)
    config = load_config(config, overrides)
    try:
        check_free(Path(config.output_dir), overwrite=False)
    except FtcliError as error:
        console.warn(str(error))
    experiment = prepare_training(config, console, allow_remote_code=allow_remote_code)
    with _kernels(deterministic=experiment.config.training.deterministic):
        learner, built = _build(experiment, probes=True)
        console.fields("ftcli train --dry-run", header(experiment, built, learner.pass_size.limit))
        for warning in data_warnings(experiment):
            console.warn(warning)
        features = experiment.splits[experiment.config.data.train_split].features
        plan = experiment.plan
        indices = next(iter(plan)).features
        micro_batch = learner.cut(plan.lengths, indices)[experiment.processes.rank][0]
        batch = learner.batch(features, micro_batch)
        loss_sum, weight_sum = learner.explained(
            lambda: learner.accumulate(batch, counts=micro_batch.counts), plan.lengths, indices
        )
        record: dict[str, Any] = {"num_updates": plan.num_updates, "loss": float(loss_sum / weight_sum)}
        judge = experiment.judge(learner.accelerator)
        if judge.split is not None:
            first = judge.split.features.take(judge.evaluator.plan(judge.split.features)[0])
            _, record["evaluation_loss"] = judge.evaluator.run_model(learner.model, first)
    if not all(math.isfinite(value) for value in record.values()):
        raise TrainingStoppedError(f"dry run: {_told(record)}; a loss is not finite, so training would stop")
    console.result(record, f"dry run: {_told(record)}; no run was written")
    learner.accelerator.end_training()
    return record


def _told(record: dict[str, Any]) -> str:
    updates, *losses = record.items()
    names = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in losses)
    return f"one of {updates[1]:,} updates tried, {names}"


@contextmanager
def _kernels(*, deterministic: bool) -> Iterator[None]:
    """Compute with kernels that give the same bits every time, if asked to. A CPU has no others that we use."""
    if not deterministic:
        yield
        return
    # Read by cuBLAS when it is first used; one of the two values that it documents for this.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The switch is one of the process, and a notebook may go on with something else.
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def prepare_training(config: Config, console: Console, *, allow_remote_code: bool) -> Experiment:
    """Prepare the splits that training needs, and see that every metric can be computed."""
    console.calm_libraries()
    check_trackers(config.logging.trackers)
    names = [config.data.train_split]
    if config.evaluation.every != "never":
        names.append(config.data.validation_split)
    experiment = prepare_experiment(config, names, allow_remote_code=allow_remote_code)
    check_schedule(config.scheduler, num_updates=experiment.plan.num_updates)
    if experiment.processes.is_main:
        check_hub_metrics(experiment.metrics)
    return experiment


def _build(experiment: Experiment, *, probes: bool) -> tuple[Learner, BuiltModel]:
    """Join the process group, load the weights, and build what changes them. probes: whether to look at memory."""
    accelerator = start(experiment.execution, experiment.processes)
    built = experiment.build_model()
    learner = experiment.learner(built.model, accelerator)
    # Dropout differs between processes, as their examples do, and no two seeds share a stream.
    stream = np.random.SeedSequence([experiment.config.seed, experiment.processes.rank])
    torch.manual_seed(int(stream.generate_state(1)[0]))
    if learner.pass_size.adapts and probes:
        learner.probe(experiment.splits[experiment.config.data.train_split].features, experiment.plan)
    return learner, built
