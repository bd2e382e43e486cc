"""`predict`: label the rows of a file or of standard input, as a stream."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from ftcli.checkpoints import SavedModel, config_of, find_saved_model
from ftcli.config.schema import Config
from ftcli.console import Console, Progress
from ftcli.data.formats import BadRow
from ftcli.data.inputs import Input, TextRow, WrongRow, windows
from ftcli.data.outputs import Output, RowDoesNotFitError, RowWriter, SetAside
from ftcli.data.preparation import encode_texts
from ftcli.errors import ConfigError, DataError, LaunchError, TrainingStoppedError
from ftcli.evaluation import Evaluator
from ftcli.experiments import Experiment, prepare_experiment, without_scores
from ftcli.hardware import choose_execution, start
from ftcli.launching import check_devices, check_launch
from ftcli.processes import Processes
from ftcli.tasks.base import Prediction

# The keys that predicting reads from the config; the weights and the labels are the run's for good.
PREDICTED_KEYS = (
    "data.columns.",
    "data.empty_text",
    "data.quoting",
    "data.max_length",
    "data.padding",
    "data.pad_to_multiple_of",
    "evaluation.batch_size",
    "evaluation.tokens_per_batch",
    "training.device",
    "training.precision",
)
# Rows of like lengths share a batch, among so many batches of each process, but so many rows at most, as the first ones
# wait for the last, and long texts fill a batch by their tokens before it has its number.
_BATCHES_A_WINDOW, _ROWS_A_WINDOW = 16, 4096


def predict(
    checkpoint: str | Path,
    source: str | Path,
    overrides: Iterable[str] = (),
    *,
    output: str | Path | None = None,
    top_k: int | None = None,
    skip_bad_rows: bool = False,
    input_format: str | None = None,
    num_processes: int | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Label the rows of a file, or with `-` of standard input, in order and never all of them in memory.

    checkpoint: as for `evaluate`. output: a .jsonl, .csv or .tsv file, which appears when all went well; None is
    standard output, as JSON lines. Each row keeps its own columns and gets `predicted` and its probabilities, of
    the top_k labels or of all. skip_bad_rows: set rows that cannot be predicted aside in a file of their own
    instead of stopping. input_format: lines, csv, tsv or jsonl; by default as the file's suffix says.
    Returns, on every process, a record that counts the rows. Raises an FtcliError for whatever the user can mend.
    """
    console = console or Console()
    console.calm_libraries()
    check_launch(num_processes)
    saved, config, rows_from, rows_to = find_all(checkpoint, source, overrides, output, top_k, input_format)
    if rows_from.path is None and Processes.from_environment().world_size > 1:
        raise LaunchError("standard input can be read by one process only; give a file, or leave --num-processes out")
    experiment = prepare_experiment(config, [], trained=True)
    accelerator = start(experiment.execution, experiment.processes)
    model = accelerator.prepare_model(experiment.build_model().model, evaluation_mode=True)
    started = time.perf_counter()
    aside_path = SetAside.path_beside(rows_to)
    if skip_bad_rows and rows_from.path is not None and aside_path.exists() and aside_path.samefile(rows_from.path):
        raise ConfigError(
            f"{aside_path}: is the input, and where rows are set aside; rename it, or give another output"
        )
    with ExitStack() as stack:
        is_main = experiment.processes.is_main
        aside = stack.enter_context(SetAside.open(aside_path)) if is_main and skip_bad_rows else None
        writer = stack.enter_context(rows_to.open()) if is_main else None
        # Rows on a terminal tell themselves how far they are.
        shown = replace(console, quiet=True) if rows_to.path is None and sys.stdout.isatty() else console
        progress = stack.enter_context(shown.progress("predicting", None, every=10))
        stream = _Stream(experiment, model, accelerator, rows_from, writer, aside)
        stream.run(progress)
    seconds = time.perf_counter() - started
    record = {
        "checkpoint": str(saved.path),
        "input": rows_from.name,
        "output": rows_to.name,
        "num_rows": stream.num_rows,
        "num_set_aside": stream.num_bad,
        "set_aside": str(aside_path) if stream.num_bad else None,
        "num_processes": experiment.processes.world_size,
        "seconds": round(seconds, 2),
    }
    _tell(record, console, rows_are_on_stdout=rows_to.path is None)
    accelerator.end_training()
    return record


def find_all(
    checkpoint: str | Path,
    source: str | Path,
    overrides: Iterable[str],
    output: str | Path | None,
    top_k: int | None,
    input_format: str | None,
) -> tuple[SavedModel, Config, Input, Output]:
    """Find checkpoint, config, input and output, or raise the error that tells which is wrong."""
    saved = find_saved_model(Path(checkpoint))
    config = without_scores(config_of(saved, overrides, PREDICTED_KEYS))
    rows_from = Input.find(str(source), input_format)
    rows_to = Output.find(None if output is None else str(output), rows_from.path, top_k)
    return saved, config, rows_from, rows_to


def check_predict(checkpoint: str | Path, overrides: Iterable[str], num_processes: int) -> None:
    """Check config and devices before several workers are started."""
    config = config_of(find_saved_model(Path(checkpoint)), overrides, PREDICTED_KEYS)
    check_devices(num_processes, choose_execution(config.training, Processes()).device)


class _Stream:
    """One pass over the rows. Every process reads them all and computes its share; the main one writes."""

    def __init__(
        self,
        experiment: Experiment,
        model: torch.nn.Module,
        accelerator: Accelerator,
        rows_from: Input,
        writer: RowWriter | None,
        aside: SetAside | None,
    ) -> None:
        self.experiment, self.model, self.rows_from = experiment, model, rows_from
        self.evaluator: Evaluator = experiment.evaluator(accelerator)
        self.writer, self.aside = writer, aside
        self.num_rows = self.num_bad = 0

    def run(self, progress: Progress) -> None:
        """Read, predict and write, window by window."""
        config = self.experiment.config
        batch_size = config.evaluation.batch_size
        size = max(batch_size, min(_BATCHES_A_WINDOW * batch_size, _ROWS_A_WINDOW))
        size *= self.experiment.processes.world_size
        rows = self.rows_from.rows(
            self.experiment.task.text_columns,
            quoting=config.data.quoting,
            keep_empty=config.data.empty_text == "keep",
        )
        for window in windows(rows, 1 if self.rows_from.is_terminal else size):
            predictions = self._predict([row for row in window if isinstance(row, TextRow)])
            written = self.experiment.processes.on_main(
                partial(self._write, window, predictions), self.evaluator.device
            )
            if written is None:
                raise BrokenPipeError
            self.num_rows += written
            self.num_bad += len(window) - written
            progress.advance(rows=f"{self.num_rows:,}")

    def _predict(self, rows: Sequence[TextRow]) -> list[Prediction]:
        """Return one prediction a row; outside the main process there is nothing to do with them."""
        if not rows:
            return []
        task, labels = self.experiment.task, self.experiment.labels
        texts = {column: [row.texts[column] for row in rows] for column in task.text_columns}
        features = encode_texts(texts, task, labels, self.experiment.tokenization)
        reduced, _ = self.evaluator.run_model(self.model, features)
        if not all(np.isfinite(values).all() for values in reduced.values()):
            # The argmax of NaN is a label like any other.
            raise TrainingStoppedError(
                "the model's outputs are not finite, so its labels would mean nothing; set training.precision=fp32, or "
                "choose another checkpoint"
            )
        return task.decode(reduced, features, labels)

    def _write(self, window: list[TextRow | WrongRow], predictions: list[Prediction]) -> int | None:
        """Write a window, on the main process; return how many rows were predicted, None if nobody reads them.

        Raises DataError for a row that cannot be predicted, unless such rows are set aside.
        """
        assert self.writer is not None
        remaining, written = iter(predictions), 0
        try:
            for row in window:
                wrong = row if isinstance(row, WrongRow) else self._write_row(row, next(remaining))
                if wrong is None:
                    written += 1
                elif self.aside is not None:
                    self.aside.write(wrong.number, wrong.row)
                else:
                    raise DataError(self._explain(wrong))
            self.writer.flush()
        except BrokenPipeError:
            return None
        return written

    def _write_row(self, row: TextRow, prediction: Prediction) -> WrongRow | None:
        assert self.writer is not None
        try:
            self.writer.write(row.values, {name: value for name, value in prediction.items() if name != "row"})
        except RowDoesNotFitError as error:
            if error.is_about_columns and row.number == 0:
                raise DataError(f"{self.rows_from.name}: {error}") from None
            return WrongRow(row.number, BadRow(row.line, str(error), row.values))
        return None

    def _explain(self, wrong: WrongRow) -> str:
        is_unreadable = isinstance(wrong.row.content, str)
        mending = self.rows_from.mending(wrong.row, self.experiment.config.data.quoting) if is_unreadable else ""
        told = f"{self.rows_from.where(wrong)}: {wrong.row.problem}{mending or '. Correct the row'}"
        return f"{told}, or set such rows aside with --on-error skip"


def _tell(record: dict[str, Any], console: Console, *, rows_are_on_stdout: bool) -> None:
    rate = record["num_rows"] / max(record["seconds"], 0.01)
    text = (
        f"{record['num_rows']:,} rows predicted in {record['seconds']:.1f} s ({rate:,.0f} rows/s): {record['output']}"
    )
    if rows_are_on_stdout:
        console.info(text)
    else:
        console.result(record, text)
    if record["num_set_aside"]:
        console.warn(f"rows that could not be predicted: {record['num_set_aside']:,}; see {record['set_aside']}")
