"""One training run while it goes on: what it shows, and what it writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcli.checkpoints import Saver
from ftcli.config.showing import config_text
from ftcli.console import Console
from ftcli.errors import FtcliError, RunError
from ftcli.experiments import Experiment
from ftcli.learner import Learner
from ftcli.metrics.scoring import compute_scores
from ftcli.reporting.card import model_card
from ftcli.runs import RunDirectory, RunWriter
from ftcli.tracking import Trackers
from ftcli.training import EvaluationRecord, Judge, StepRecord, fit
from ftcli.workflows.description import describe_data, describe_environment

if TYPE_CHECKING:
    from rich.table import Table


# What trackers get of a step.
_TRACKED = ("loss", "learning_rate", "grad_norm", "examples_per_second", "padding_efficiency", "epoch")


class TrainingRun:
    """One training run while it goes on: what it shows, and what it writes on the main process."""

    def __init__(self, experiment: Experiment, learner: Learner, console: Console) -> None:
        self.experiment, self.learner, self.console = experiment, learner, console
        self.processes = experiment.processes
        self.device = learner.accelerator.device
        self.judge: Judge = experiment.judge(learner.accelerator)
        self.directory = RunDirectory(Path(experiment.config.output_dir))
        self.writer: RunWriter | None = None
        self.best: EvaluationRecord | None = None
        self.baseline: dict[str, float] = {}
        self.saver: Saver | None = None
        self.trackers: Trackers | None = None
        self.steps = 0
        self.pass_limit = learner.pass_size.limit

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
        if self.trackers is not None:
            self.trackers.finish(succeeded=False)
        if self.writer is not None:
            with suppress(RunError):
                self.writer.set_status(status, step=self.steps, reason=reason)

    def _open(self, overwrite: bool) -> None:
        config = self.experiment.config
        self.writer = RunWriter.create(config.output_dir, overwrite=overwrite)
        text = config_text(config)
        self.writer.write_config(text)
        self.writer.write("environment.json", describe_environment(self.experiment))
        self.writer.write("data.json", describe_data(self.experiment))
        self.saver = Saver(self.directory, self.experiment.tokenization, text)
        self.trackers = Trackers(config.logging.trackers, self.directory.path, self.console)
        self.trackers.start(config)

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
            max_length = self.experiment.tokenization.max_length
            self.saver.publish(card=model_card(self.directory, self.experiment.config, max_length))

        self.processes.on_main(publish, self.device)
        record = {
            "run": str(self.directory.path),
            "model": str(self.directory.model),
            "steps": self.steps,
            "num_processes": self.processes.world_size,
            "seconds": round(seconds, 2),
            "best": None if self.best is None else self._row(self.best),
            "majority_class": self.baseline,
        }
        if self.writer is not None:
            self.writer.set_status("finished", step=self.steps, seconds=record["seconds"])
        if self.trackers is not None:
            self.trackers.finish(succeeded=True)
        self.console.result(record, self._closing_text())
        self.console.info(f"model: {self.directory.model}")
        if self.judge.split is not None:
            self.console.info(f"evaluate it: ftcli eval {self.directory.path}")
        self.console.info(f"use it: ftcli predict {self.directory.path} INPUT -o OUTPUT.csv")
        return record

    def _on_step(self, record: StepRecord) -> None:
        self.steps = record.step
        if self.learner.pass_size.limit != self.pass_limit:
            self.pass_limit = self.learner.pass_size.limit
            line = f"step {record.step}: out of memory; from here on at most {self.pass_limit} examples a pass"
            self.console.warn(line)
            if self.writer is not None:
                self.writer.log(line)
        if self.writer is not None:
            rates = {
                "examples_per_second": round(record.examples_per_second, 2),
                "padding_efficiency": round(record.padding_efficiency, 4),
            }
            self.writer.append("steps.jsonl", {**asdict(record), **rates})
        if self.trackers is not None and record.step % self.experiment.config.logging.every_steps == 0:
            shown = {name: getattr(record, name) for name in _TRACKED}
            self.trackers.log({f"train/{name}": value for name, value in shown.items()}, record.step)

    def _on_evaluation(self, record: EvaluationRecord) -> None:
        scores = "  ".join(f"{name} {score:.4f}" for name, score in record.evaluation.scores.items())
        mark = "  * best" if record.is_best else ""
        line = f"step {record.step}  epoch {record.epoch:.2f}  {record.evaluation.split}: {scores}{mark}"
        self.console.info(line)
        if record.is_best:
            self.best = record
        if self.writer is not None:
            self.writer.log(line)
            self.writer.append("evaluations.jsonl", self._row(record))
            if record.is_best:
                self.writer.write_lines(f"predictions/{record.evaluation.split}.jsonl", record.evaluation.predictions)
        if self.trackers is not None:
            values = {f"{record.evaluation.split}/{name}": value for name, value in record.evaluation.scores.items()}
            self.trackers.log(values, record.step)

    def _row(self, record: EvaluationRecord) -> dict[str, Any]:
        """Return what is recorded of an evaluation, on the main process."""
        self.baseline = self.baseline or self._score_baseline(record)
        return {
            "step": record.step,
            "epoch": round(record.epoch, 4),
            "split": record.evaluation.split,
            "num_examples": record.evaluation.num_rows,
            "scores": record.evaluation.scores,
            "majority_class": self.baseline,
            "best_metric": self.judge.metric,
            "is_best": record.is_best,
            "seconds": round(record.seconds, 3),
        }

    def _score_baseline(self, record: EvaluationRecord) -> dict[str, float]:
        """Score what a model without input would predict."""
        if not record.evaluation.predictions:  # they are on the main process
            return {}
        task, labels = self.experiment.task, self.experiment.labels
        train = self.experiment.splits[self.experiment.config.data.train_split].features
        _, references = task.metric_inputs(record.evaluation.predictions, labels)
        guesses = task.baseline(train, references)
        if guesses is None:
            return {}
        return compute_scores(self.experiment.metrics, guesses, references, num_labels=len(labels))

    def _save(self, evaluation: EvaluationRecord | None, step: int, as_best: bool) -> None:
        def write() -> None:
            assert self.saver is not None
            row: dict[str, Any] = {"step": step} if evaluation is None else self._row(evaluation)
            self.saver.save(self.learner.model, row | self._of_the_data(), as_best=as_best)

        self.processes.on_main(write, self.device)

    def _of_the_data(self) -> dict[str, Any]:
        """Return what a saved model must know of the data that it learned from."""
        train = self.experiment.splits[self.experiment.config.data.train_split]
        known: dict[str, Any] = {"learned_from": train.rows.whole_fingerprint}
        if self.experiment.labels.numbered:
            # Numbers in other data will stand for these names too.
            known["numbered_labels"] = self.experiment.labels.names
        validation = self.experiment.splits.get(self.experiment.config.data.validation_split)
        if validation is not None and validation.rows.held_out_of:
            # So that `eval` can tell whether it would hold out the same rows.
            known["held_out"] = validation.rows.fingerprint
        return known

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


def _progress_values(record: StepRecord) -> dict[str, str]:
    return {
        "loss": f"{record.loss:.4f}",
        "lr": f"{record.learning_rate:.1e}",
        "ex/s": f"{record.examples_per_second:.1f}",
        "pad": f"{record.padding_efficiency:.2f}",
    }
