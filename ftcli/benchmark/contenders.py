"""Who competes: ftcli's loop, the plain loop that a user writes by hand, and transformers' Trainer.

Each learns from the same examples of a round, in its own order, and evaluates the same split. Each is built from an
experiment and a folder, for what it writes.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, get_scheduler

from ftcli.console import to_json
from ftcli.data.preparation import Features, Ragged
from ftcli.durable import append_line
from ftcli.experiments import Experiment
from ftcli.hardware import start
from ftcli.runs import STEPS
from ftcli.training import run_updates


class Contender(Protocol):
    """What a worker measures. Both methods return the seconds that they took and the slots that they computed.

    Trainer does not tell its slots: 0.
    """

    model: Any

    def train(self, features: Features) -> tuple[float, int]:
        """Learn from each feature once."""

    def evaluate(self, features: Features) -> tuple[float, int]:
        """Compute a label for each feature."""


class Ours:
    """ftcli's own loop, with the settings of the config."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        self.experiment = experiment
        self.steps = folder / STEPS
        accelerator = start(experiment.execution, experiment.processes)
        self.model = experiment.build_model().model
        self.learner = experiment.learner(self.model, accelerator)
        self.evaluator = experiment.evaluator(accelerator)

    def train(self, features: Features) -> tuple[float, int]:
        """Run one epoch of updates over the features, and record each as a run does."""
        plan = replace(self.experiment.plan, lengths=features.lengths, epochs=1, max_steps=None)
        slots = 0
        started = time.perf_counter()
        for record in run_updates(self.learner, plan, features):
            append_line(self.steps, to_json(asdict(record)))
            slots += record.num_slots
        return time.perf_counter() - started, slots

    def evaluate(self, features: Features) -> tuple[float, int]:
        """Evaluate as training does, without the scores."""
        started = time.perf_counter()
        self.evaluator.run_model(self.model, features)
        taken = time.perf_counter() - started
        padded = self.evaluator.collation.padded_length
        return taken, sum(len(b) * padded(int(features.lengths[b].max())) for b in self.evaluator.plan(features))


class Plain:
    """The loop of a course: random order, padding by batch, fp32, unfused AdamW, a loss that is read every step."""

    def __init__(self, experiment: Experiment, _: Path) -> None:
        self.device = torch.device(experiment.execution.device)
        self.batch_size = experiment.config.training.batch_size
        self.model = _stock_model(experiment).to(self.device)
        self.collate = DataCollatorWithPadding(experiment.tokenization.tokenizer)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=experiment.config.optimizer.learning_rate, weight_decay=0.0
        )
        self.scheduler = get_scheduler("linear", self.optimizer, 0, experiment.plan.num_updates)

    def train(self, features: Features) -> tuple[float, int]:
        """Run one epoch over the features, in random order."""
        rows = _as_dataset(features).with_format("torch")
        batches = DataLoader(rows, shuffle=True, batch_size=self.batch_size, collate_fn=self.collate)
        self.model.train()
        slots = 0
        started = time.perf_counter()
        for batch in batches:
            batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
            loss = self.model(**batch).loss
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            loss.item()
            slots += batch["attention_mask"].numel()
        return time.perf_counter() - started, slots

    def evaluate(self, features: Features) -> tuple[float, int]:
        """Predict in file order, in the batches of training."""
        rows = _as_dataset(features).with_format("torch")
        self.model.eval()
        slots = 0
        started = time.perf_counter()
        for batch in DataLoader(rows, batch_size=self.batch_size, collate_fn=self.collate):
            batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
            with torch.no_grad():
                self.model(**batch).logits.argmax(dim=-1).tolist()
            slots += batch["attention_mask"].numel()
        return time.perf_counter() - started, slots


class Trainer:
    """transformers' Trainer, as it comes."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        from transformers import Trainer as StockTrainer
        from transformers import TrainerCallback, TrainingArguments

        class Clock(TrainerCallback):
            """From the first batch to the last: what Trainer sets up before is not counted."""

            def on_train_begin(self, *_: Any, **__: Any) -> None:
                self.started = time.perf_counter()

            def on_train_end(self, *_: Any, **__: Any) -> None:
                self.seconds = time.perf_counter() - self.started

        self.model = _stock_model(experiment)
        self.clock = Clock()
        on_cpu = experiment.execution.device == "cpu"
        arguments = TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=experiment.config.training.batch_size,
            learning_rate=experiment.config.optimizer.learning_rate,
            num_train_epochs=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=on_cpu,
            dataloader_pin_memory=not on_cpu,
            activation_checkpointing=experiment.config.training.gradient_checkpointing,
            **self.settings(experiment),
        )
        self.trainer = StockTrainer(
            model=self.model,
            args=arguments,
            data_collator=DataCollatorWithPadding(experiment.tokenization.tokenizer),
            callbacks=[self.clock],
        )
        self.round = 0

    def settings(self, experiment: Experiment) -> dict[str, Any]:
        """Return what differs from the defaults."""
        return {}

    def train(self, features: Features) -> tuple[float, int]:
        """Train for one epoch."""
        self.round += 1
        self.trainer.args.seed = self.trainer.args.data_seed = self.round
        # The lengths that group_by_length would otherwise count itself.
        self.trainer.train_dataset = _as_dataset(features).add_column("length", features.lengths.tolist())
        self.trainer.train()
        return self.clock.seconds, 0

    def evaluate(self, features: Features) -> tuple[float, int]:
        """Predict as Trainer does."""
        rows = _as_dataset(features)
        started = time.perf_counter()
        self.trainer.predict(rows)
        return time.perf_counter() - started, 0


class BestTrainer(Trainer):
    """transformers' Trainer with all that makes it fast here.

    Its `batch_rebalance` deals the examples of an update over processes, of which there is one.
    """

    def settings(self, experiment: Experiment) -> dict[str, Any]:
        """Return precision and compilation of ours, the fused optimizer, batches of like lengths, large evaluations."""
        precision = experiment.execution.precision
        return {
            "bf16": precision == "bf16",
            "fp16": precision == "fp16",
            "torch_compile": experiment.config.training.compile,
            "optim": "adamw_torch_fused",
            "train_sampling_strategy": "group_by_length",
            "per_device_eval_batch_size": 64,
        }


CONTENDERS: dict[str, type[Any]] = {"ftcli": Ours, "plain": Plain, "trainer": Trainer, "trainer-best": BestTrainer}


def _stock_model(experiment: Experiment) -> Any:
    """Load the model as a user does, in fp32."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(experiment.config.seed)
    return AutoModelForSequenceClassification.from_pretrained(
        experiment.architecture.location,
        revision=experiment.architecture.revision or "main",
        num_labels=len(experiment.labels),
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
    )


def _as_dataset(features: Features) -> Dataset:
    """Return the features as a tokenized data set."""
    columns: dict[str, Any] = {}
    for name, column in features.columns.items():
        ragged = isinstance(column, Ragged)
        columns[name] = [column[i].tolist() for i in range(len(features))] if ragged else np.asarray(column)
    columns["attention_mask"] = [[1] * length for length in features.lengths]
    return Dataset.from_dict(columns)
