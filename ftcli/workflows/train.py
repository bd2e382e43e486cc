"""`train`: from a config to a run directory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ftcli.checkpoints import Saver
from ftcli.config.loading import config_text, load_config
from ftcli.config.schema import Config
from ftcli.console import Console
from ftcli.errors import FtcliError, RunError, TrainingStoppedError
from ftcli.experiments import Experiment, prepare_experiment
from ftcli.hardware import start
from ftcli.launching import check_devices, check_launch
from ftcli.metrics.scoring import check_hub_metrics, compute_scores
from ftcli.modeling import BuiltModel
from ftcli.runs import RunDirectory, RunWriter, check_free
from ftcli.training import EvaluationRecord, Judge, Learner, StepRecord, fit
from ftcli.workflows.description import describe_data, describe_environment, header

if TYPE_CHECKING:
    from rich.table import Table


def train(
    config: str | Path | Config,
    overrides: Iterable[str] = (),
    *,
    overwrite: bool = False,
    num_processes: int | None = None,
    allow_remote_code: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Fine-tune a model as a config says, into a new run directory.

    config: a file or a Config. overrides: `key=value` texts laid over it. overwrite: replace an earlier run.
    num_processes: what a launcher was asked for, to be checked; this function starts no processes itself.
    Returns, on every process, a record with the run directory, the steps, and the best evaluation.
    Raises an FtcliError for whatever the user can mend.
    """
    console = console or Console()
    check_launch(num_processes)
    config = load_config(config, overrides)
    check_free(Path(config.output_dir), overwrite=overwrite)
    experiment = prepare_training(config, console, allow_remote_code=allow_remote_code)
    started = time.perf_counter()
    learner, built = _build(experiment)
    run = _Run(experiment, learner, console)
    with run.recorded(overwrite=overwrite):
        console.fields("ftcli train", header(experiment, built))
        run.fit()
        record = run.finish(time.perf_counter() - started)
    learner.accelerator.end_training()
    return record


def check_train(
    config: Config, *, overwrite: bool, num_processes: int, allow_remote_code: bool, console: Console
) -> None:
    """Check run directory and data, and fill the cache, before several workers are started."""
    check_free(Path(config.output_dir), overwrite=overwrite)
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
    learner, built = _build(experiment)
    console.fields("ftcli train --dry-run", header(experiment, built))
    features = experiment.splits[experiment.config.data.train_split].features
    plan = experiment.plan
    micro_batch = learner.cut(next(iter(plan)).features)[experiment.processes.rank][0]
    loss_sum, weight_sum = learner.accumulate(learner.batch(features, micro_batch), counts=micro_batch.counts)
    record: dict[str, Any] = {"num_updates": plan.num_updates, "loss": float(loss_sum / weight_sum)}
    judge = experiment.judge(learner.accelerator.device)
    if judge.split is not None:
        indices = range(min(len(judge.split.features), experiment.config.evaluation.batch_size))
        _, sums = judge.evaluator.run_batch(learner.model, judge.split.features, indices)
        record["evaluation_loss"] = float(sums[0, 0] / sums[0, 1])
    if not all(math.isfinite(value) for value in record.values()):
        raise TrainingStoppedError(f"dry run: {_told(record)}; a loss is not finite, so training would stop")
    console.result(record, f"dry run: {_told(record)}; no run was written")
    learner.accelerator.end_training()
    return record


def _told(record: dict[str, Any]) -> str:
    updates, *losses = record.items()
    names = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in losses)
    return f"one of {updates[1]:,} updates tried, {names}"


def prepare_training(config: Config, console: Console, *, allow_remote_code: bool) -> Experiment:
    """Prepare the splits that training needs, and see that every metric can be computed."""
    console.calm_libraries()
    names = [config.data.train_split]
    if config.evaluation.every != "never":
        names.append(config.data.validation_split)
    experiment = prepare_experiment(config, names, allow_remote_code=allow_remote_code)
    if experiment.processes.is_main:
        check_hub_metrics(experiment.metrics)
    return experiment


def _build(experiment: Experiment) -> tuple[Learner, BuiltModel]:
    """Join the process group, load the weights, and build what changes them."""
    accelerator = start(experiment.execution, experiment.processes)
    built = experiment.build_model()
    learner = experiment.learner(built.model, accelerator)
    # Dropout differs between processes, as their examples do, and no two seeds share a stream.
    stream = np.random.SeedSequence([experiment.config.seed, experiment.processes.rank])
    torch.manual_seed(int(stream.generate_state(1)[0]))
    return learner, built


class _Run:
    """One training run while it goes on: what it shows, and what it writes on the main process."""

    def __init__(self, experiment: Experiment, learner: Learner, console: Console) -> None:
        self.experiment, self.learner, self.console = experiment, learner, console
        self.processes = experiment.processes
        self.device = learner.accelerator.device
        self.judge: Judge = experiment.judge(self.device)
        self.directory = RunDirectory(Path(experiment.config.output_dir))
        self.writer: RunWriter | None = None
        self.best: EvaluationRecord | None = None
        self.baseline: dict[str, float] = {}
        self.saver: Saver | None = None
        self.steps = 0

    @contextmanager
    def recorded(self, *, overwrite: bool) -> Iterator[None]:
        """Open the run directory, and record there how the run ended."""
        try:
            self.processes.on_main(lambda: self._open(overwrite), self.device)
            yield
        except KeyboardInterrupt:
            self._close("interrupted", "interrupted by the user")
            raise
        except BaseException as error:
            self._close("failed", str(error) if isinstance(error, FtcliError) else repr(error))
            raise

    def _close(self, status: str, reason: str) -> None:
        """Record how the run ended, if it can be recorded: the error that ended it matters more."""
        if self.writer is not None:
            with suppress(RunError):
                self.writer.set_status(status, step=self.steps, reason=reason)

    def _open(self, overwrite: bool) -> None:
        config = self.experiment.config
        self.writer = RunWriter.create(config.output_dir, overwrite=overwrite)
        self.writer.write_config(config_text(self.experiment.resolved_config))
        self.writer.write("environment.json", describe_environment(self.experiment.execution, self.processes))
        self.writer.write("data.json", describe_data(self.experiment))
        self.saver = Saver(
            self.directory, self.experiment.tokenization.tokenizer, config_text(self.experiment.resolved_config)
        )

    def fit(self) -> None:
        """Run the loop to its end, telling and writing what it yields."""
        features = self.experiment.splits[self.experiment.config.data.train_split].features
        plan = self.experiment.plan
        every = self.experiment.config.logging.every_steps
        with self.console.progress("training", plan.num_updates, every) as progress:
            for record in fit(self.learner, plan, features, judge=self.judge, save=self._save):
                if isinstance(record, StepRecord):
                    self._on_step(record)
                    progress.advance(**_progress_values(record))
                else:
                    self._on_evaluation(record)

    def finish(self, seconds: float) -> dict[str, Any]:
        """Publish the model, close the run, and show the outcome."""

        def publish() -> None:
            assert self.saver is not None
            self.saver.publish()

        self.processes.on_main(publish, self.device)
        record = {
            "run": str(self.directory.path),
            "model": str(self.directory.model),
            "steps": self.steps,
            "num_processes": self.processes.world_size,
            "seconds": round(seconds, 2),
            "best": None if self.best is None else _evaluation_row(self.best),
            "majority_class": self.baseline,
        }
        if self.writer is not None:
            self.writer.set_status("finished", step=self.steps, seconds=record["seconds"])
        self.console.result(record, self._closing_text())
        self.console.info(f"model: {self.directory.model}")
        if self.judge.split is not None:
            self.console.info(f"evaluate it: ftcli eval {self.directory.path}")
        return record

    def _on_step(self, record: StepRecord) -> None:
        self.steps = record.step
        if self.writer is not None:
            rates = {
                "examples_per_second": round(record.examples_per_second, 2),
                "padding_efficiency": round(record.padding_efficiency, 4),
            }
            self.writer.append("steps.jsonl", {**asdict(record), **rates})

    def _on_evaluation(self, record: EvaluationRecord) -> None:
        scores = "  ".join(f"{name} {score:.4f}" for name, score in record.evaluation.scores.items())
        mark = "  * best" if record.is_best else ""
        line = f"step {record.step}  epoch {record.epoch:.2f}  {record.evaluation.split}: {scores}{mark}"
        self.console.info(line)
        if record.is_best:
            self.best = record
        if self.writer is not None:
            self.writer.log(line)
            self.writer.append("evaluations.jsonl", _evaluation_row(record))
            if record.is_best:
                self.writer.write_lines(f"predictions/{record.evaluation.split}.jsonl", record.evaluation.predictions)
                self.baseline = self._score_baseline(record)

    def _score_baseline(self, record: EvaluationRecord) -> dict[str, float]:
        """Score what a model without input would predict."""
        task, labels = self.experiment.task, self.experiment.labels
        train = self.experiment.splits[self.experiment.config.data.train_split].features
        _, references = task.metric_inputs(record.evaluation.predictions, labels)
        guesses = task.baseline(train, references)
        if guesses is None or self.baseline:
            return self.baseline
        return compute_scores(self.experiment.metrics, guesses, references, num_labels=len(labels))

    def _save(self, evaluation: EvaluationRecord | None, step: int, as_best: bool) -> None:
        row = {"step": step} if evaluation is None else _evaluation_row(evaluation)

        def write() -> None:
            assert self.saver is not None
            self.saver.save(self.learner.model, row, as_best=as_best)

        self.processes.on_main(write, self.device)

    def _closing_text(self) -> Table | str:
        if self.best is None:
            return f"{self.directory.path.name}: {self.steps} updates, not evaluated"
        from rich.table import Table

        table = Table(title=f"{self.directory.path.name}: {self.steps} updates", title_justify="left")
        evaluation = self.best.evaluation
        best = f"best (step {self.best.step})"
        for title in (f"{evaluation.split}, n = {evaluation.num_rows}", best, "majority class"):
            table.add_column(title, justify="left" if title.startswith(evaluation.split) else "right")
        for name, score in evaluation.scores.items():
            baseline = f"{self.baseline[name]:.4f}" if name in self.baseline else ""
            table.add_row(name, f"{score:.4f}", baseline)
        return table


def _evaluation_row(record: EvaluationRecord) -> dict[str, Any]:
    return {
        "step": record.step,
        "epoch": round(record.epoch, 4),
        "split": record.evaluation.split,
        "num_examples": record.evaluation.num_rows,
        "scores": record.evaluation.scores,
        "is_best": record.is_best,
        "seconds": round(record.seconds, 3),
    }


def _progress_values(record: StepRecord) -> dict[str, str]:
    return {
        "loss": f"{record.loss:.4f}",
        "lr": f"{record.learning_rate:.1e}",
        "ex/s": f"{record.examples_per_second:.1f}",
        "pad": f"{record.padding_efficiency:.2f}",
    }
