"""One training run while it goes on: what it shows, and what it writes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ftcli.checkpoints import Checkpoint, Saver
from ftcli.config.showing import config_text
from ftcli.console import Console
from ftcli.data.batching import UpdatePlan
from ftcli.errors import FtcliError, RunError, TrainingInterruptedError, TrainingTerminatedError
from ftcli.experiments import Experiment
from ftcli.interruption import Interruption
from ftcli.learner import Learner
from ftcli.metrics.scoring import compute_scores
from ftcli.reporting.card import model_card
from ftcli.resuming import Start, check_experiment, state_of_data
from ftcli.runs import EVALUATIONS, STEPS, RunDirectory, RunWriter
from ftcli.state import capture, restore
from ftcli.tracking import Trackers
from ftcli.training import EvaluationRecord, Judge, Standing, StepRecord, fit, is_due
from ftcli.workflows.description import describe_data, describe_environment, outcome

if TYPE_CHECKING:
    pass


_NOTICE = "stopping after this update, which is saved; Ctrl-C again leaves at once"
# What trackers get of a step.
_TRACKED = ("loss", "learning_rate", "grad_norm", "examples_per_second", "padding_efficiency", "epoch")


class TrainingRun:
    """One training run while it goes on: what it shows, and what it writes on the main process."""

    def __init__(self, experiment: Experiment, learner: Learner, console: Console, start: Start) -> None:
        self.experiment, self.learner, self.console, self.start = experiment, learner, console, start
        self.processes = experiment.processes
        self.device = learner.accelerator.device
        self.judge: Judge = experiment.judge(learner.accelerator)
        self.directory = RunDirectory(Path(experiment.config.output_dir))
        self.interruption = Interruption()
        self.writer: RunWriter | None = None
        self.saver: Saver | None = None
        self.trackers: Trackers | None = None
        self.environment = describe_environment(experiment)
        state = {} if start.checkpoint is None else start.checkpoint.state
        self.standing = Standing(**{field.name: state[field.name] for field in fields(Standing) if field.name in state})
        # The record of the best evaluation so far.
        self.best: dict[str, Any] | None = state.get("best")
        self.baseline: dict[str, float] = {} if self.best is None else self.best["majority_class"]
        self.pass_limit = learner.pass_size.limit
        # The step of the last checkpoint.
        self.saved = self.standing.step

    def check_start(self, *, allow_inexact: bool) -> Iterator[str]:
        """Yield warnings of what makes a resumed run differ; raise an error for what makes it another run."""
        assert self.start.checkpoint is not None
        state = self.start.checkpoint.state
        yield from check_experiment(self.experiment, self.environment, state, allow_inexact=allow_inexact)
        updates = f"{self.experiment.plan.num_updates:,} updates; from here on the learning rate is that of so many"
        for key, was, now in self.start.changed:
            then = "; scores may differ in their last digits" if key.startswith("evaluation.") else f", so {updates}"
            yield f"{key}: {was} before, {now} now{then}"

    def told_start(self) -> list[tuple[str, str]]:
        """Say where a resumed run goes on, for the header."""
        if self.start.checkpoint is None:
            return []
        rate = self.learner.schedule.get_last_lr()[0]
        where = f"after update {self.standing.step:,} ({self.start.checkpoint.path.name}), learning rate {rate:.1e}"
        return [("resumed", where)]

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Open the run directory, put the learner where the run stood, and record how the run ended."""
        try:
            self.processes.on_main(self._lock, self.device)
            if self.start.checkpoint is not None:
                self._restore(self.start.checkpoint)
            self.processes.on_main(self._open, self.device)
            with self.interruption.listening(_NOTICE if self.console.speaks and not self.console.quiet else ""):
                yield
        except (KeyboardInterrupt, TrainingInterruptedError) as error:
            self._close("interrupted", str(error) or "interrupted by the user")
            raise
        except BaseException as error:
            self._close("failed", str(error) if isinstance(error, FtcliError) else repr(error))
            if isinstance(error, RunError) and self.saved:
                # What has been saved is worth going on with, once there is room again.
                self.console.info(f"saved up to update {self.saved:,}; go on with: ftcli resume {self.directory.path}")
            raise
        finally:
            if self.writer is not None:
                self.writer.close()

    def _close(self, status: str, reason: str) -> None:
        """Record how the run ended, if it can be recorded: the error that ended it matters more."""
        if self.trackers is not None:
            self.trackers.finish(succeeded=False)
        if self.writer is not None:
            with suppress(RunError):
                self.writer.set_status(status, step=self.standing.step, reason=reason)

    def _lock(self) -> None:
        start, path = self.start, self.directory.path
        if start.checkpoint is None:
            self.writer = RunWriter.create(path, overwrite=start.replaces, unless_saved=start.unless_saved)
        else:
            self.writer = RunWriter.reopen(path, last=start.last)

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Put the learner of every process where the main one's checkpoint was taken."""
        step = self.processes.on_main(lambda: checkpoint.step, self.device)
        if not self.processes.all(step == checkpoint.step, self.device):
            raise RunError(
                f"{self.directory.path}: the processes see different checkpoints; output_dir must be on a disk that "
                "all of them share"
            )
        experiment = self.experiment
        features = experiment.splits[experiment.config.data.train_split].features
        self.learner.settle(features, next(iter(experiment.plan)).features)
        restore(self.learner, checkpoint.path, checkpoint.state)
        self.pass_limit = self.learner.pass_size.limit

    def _open(self) -> None:
        assert self.writer is not None
        config, checkpoint = self.experiment.config, self.start.checkpoint
        text = config_text(config)
        self.saver = Saver(self.directory, self.experiment.tokenization, text, config.checkpoint.keep)
        if checkpoint is not None:
            # Nothing goes before what is needed has been loaded.
            self.saver.rewind(checkpoint, self.start.kept)
            self.writer.keep_until(steps=checkpoint.step, evaluations=self.standing.evaluated)
            self.writer.log(f"resumed after step {checkpoint.step}")
        self.writer.write_config(text)
        self.writer.write("environment.json", self.environment)
        self.writer.write("data.json", describe_data(self.experiment))
        self.trackers = Trackers(config.logging.trackers, self.directory.path, self.console)
        self.trackers.start(config, after=0 if checkpoint is None else checkpoint.step)

    def fit(self) -> None:
        """Run the loop to its end, telling and writing what it yields. Raises TrainingInterruptedError if asked to."""
        features = self.experiment.splits[self.experiment.config.data.train_split].features
        plan, every = self.experiment.plan, self.experiment.config.logging.every_steps
        loop = fit(
            self.learner,
            plan,
            features,
            judge=self.judge,
            standing=self.standing,
            saver=self,
            interruption=self.interruption,
        )
        with self.console.progress("training", plan.num_updates, every, done=self.standing.step) as progress:
            for record in loop:
                if isinstance(record, StepRecord):
                    self._on_step(record)
                    progress.advance(**_progress_values(record))
                else:
                    self._on_evaluation(record)
        if self.interruption.agreed is not None:
            self._tell_interruption(self.interruption.agreed)

    def _tell_interruption(self, by: signal.Signals) -> NoReturn:
        terminated = by == signal.SIGTERM
        what = "SIGTERM" if terminated else "Ctrl-C"
        saved = "saved" if self.saved == self.standing.step else "not saved"
        raise (TrainingTerminatedError if terminated else TrainingInterruptedError)(
            f"stopped by {what} after update {self.standing.step:,} of {self.experiment.plan.num_updates:,}, {saved}; "
            f"go on with: ftcli resume {self.directory.path}"
        )

    def due(self, step: int, plan: UpdatePlan) -> bool:
        """Whether to save after a step, whatever was evaluated."""
        return is_due(self.experiment.config.checkpoint.every, step, plan)

    def save(self, standing: Standing, evaluation: EvaluationRecord | None) -> None:
        """Save a checkpoint, from which the run could go on, on the main process."""
        is_best = evaluation is not None and evaluation.is_best
        may_stop = self.interruption.agreed is not None and self.experiment.config.checkpoint.on_signal == "stop"
        if may_stop and not is_best and not self.due(standing.step, self.experiment.plan):
            return
        state = capture(self.learner)
        row: dict[str, Any] = {"step": standing.step} if evaluation is None else self._row(evaluation)
        if is_best:
            self.best = row

        def write() -> None:
            assert self.saver is not None
            assert self.writer is not None
            known = {
                **asdict(standing),
                "best": self.best,
                "num_processes": self.processes.world_size,
                "environment": {name: self.environment[name] for name in ("packages", "execution", "platform")},
                **state_of_data(self.experiment),
            }
            self.writer.flush()
            predictions = evaluation.evaluation.predictions if evaluation is not None and is_best else None
            self.saver.save(self.learner.model, state, row | self._of_the_data(), known, predictions)

            self.writer.set_status("running", step=standing.step)

        self.processes.on_main(write, self.device)
        self.saved = standing.step

    def finish(self, seconds: float) -> dict[str, Any]:
        """Publish the model, close the run, and return its record."""

        def publish() -> None:
            assert self.saver is not None
            max_length = self.experiment.tokenization.max_length
            self.saver.publish(card=model_card(self.directory, self.experiment.config, max_length))

        self.processes.on_main(publish, self.device)
        record = {
            "run": str(self.directory.path),
            "model": str(self.directory.model),
            "steps": self.standing.step,
            "num_processes": self.processes.world_size,
            "seconds": round(seconds, 2),
            "best": self.best,
            "majority_class": self.baseline,
        }
        if self.writer is not None:
            self.writer.set_status("finished", step=self.standing.step, seconds=record["seconds"])
        if self.trackers is not None:
            self.trackers.finish(succeeded=True)
        return record

    def tell(self, record: dict[str, Any]) -> None:
        """Show the outcome."""
        self.console.result(record, outcome(record))
        self.console.info(f"model: {self.directory.model}")
        if self.judge.split is not None:
            self.console.info(f"evaluate it: ftcli eval {self.directory.path}")
        self.console.info(f"use it: ftcli predict {self.directory.path} INPUT -o OUTPUT.csv")

    def _on_step(self, record: StepRecord) -> None:
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
            self.writer.append(STEPS, {**asdict(record), **rates})
        if self.trackers is not None and record.step % self.experiment.config.logging.every_steps == 0:
            shown = {name: getattr(record, name) for name in _TRACKED}
            self.trackers.log({f"train/{name}": value for name, value in shown.items()}, record.step)

    def _on_evaluation(self, record: EvaluationRecord) -> None:
        scores = "  ".join(f"{name} {score:.4f}" for name, score in record.evaluation.scores.items())
        mark = "  * best" if record.is_best else ""
        line = f"step {record.step}  epoch {record.epoch:.2f}  {record.evaluation.split}: {scores}{mark}"
        self.console.info(line)
        if self.writer is not None:
            self.writer.log(line)
            self.writer.append(EVALUATIONS, self._row(record))
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


def _progress_values(record: StepRecord) -> dict[str, str]:
    return {
        "loss": f"{record.loss:.4f}",
        "lr": f"{record.learning_rate:.1e}",
        "ex/s": f"{record.examples_per_second:.1f}",
        "pad": f"{record.padding_efficiency:.2f}",
    }
