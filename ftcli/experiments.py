"""From a config to everything a verb needs before there are weights: task, labels, tokenizer, splits, batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from ftcli import fast_cpu, first_token, half_weights
from ftcli.config.schema import Config, DataSection
from ftcli.data.batching import UpdatePlan
from ftcli.data.collation import Collation
from ftcli.data.preparation import PreparedSplit, bare, input_fields, prepare
from ftcli.data.rows import digest
from ftcli.data.sources import load_split
from ftcli.errors import ConfigError
from ftcli.evaluation import Evaluator
from ftcli.hardware import Execution, choose_execution, fit_to_model
from ftcli.hub import check_hub, needed_repositories
from ftcli.learner import Learner, PassSize
from ftcli.metrics.names import HUB_PREFIX, LOSS
from ftcli.modeling import Architecture, BuiltModel, build_model, load_tokenization, read_architecture
from ftcli.optimization import build_optimizer, build_schedule
from ftcli.processes import Processes
from ftcli.tasks.base import LabelSet, Task
from ftcli.tasks.tokenization import Tokenization
from ftcli.training import Judge, direction_of

if TYPE_CHECKING:
    from accelerate import Accelerator


# Of a model's config: where and by what it was written, and what comes from our own config and is compared there.
_DECIDES_NOTHING = (
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "problem_type",
    "torch_dtype",
    "transformers_version",
)
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Experiment:
    """A config, made ready: nothing here has weights or needs a process group.

    metrics: the names to compute, resolved. splits: by name, prepared.
    """

    config: Config
    task: Task
    labels: LabelSet
    metrics: tuple[str, ...]
    tokenization: Tokenization
    architecture: Architecture
    execution: Execution
    processes: Processes
    splits: dict[str, PreparedSplit]

    @property
    def encoder(self) -> str:
        """A fingerprint of the model's config and of its tokenizer, but for names, places and versions."""
        config = self.architecture.config.to_dict()
        decides = {name: value for name, value in config.items() if name not in _DECIDES_NOTHING and name[0] != "_"}
        return digest(json.dumps(decides, sort_keys=True, default=str), bare(self.tokenization.tokenizer))

    @property
    def collation(self) -> Collation:
        """How features become batches of training."""
        return self._collation(self.execution.length_multiple, self.execution.finer_below)

    def _collation(self, multiple_of: int, finer_below: int = 0) -> Collation:
        data = self.config.data
        return Collation(
            fields={**input_fields(self.tokenization), **self.task.target_fields},
            fixed_length=self.tokenization.max_length if data.padding == "max_length" else None,
            multiple_of=data.pad_to_multiple_of or multiple_of,
            finer_below=0 if data.pad_to_multiple_of else finer_below,
            limit=self.architecture.max_positions,
            padding_side=self.tokenization.tokenizer.padding_side,
            # What is compiled is compiled for a batch with a mask.
            full_masks=self.execution.full_masks or self.config.training.compile,
        )

    @cached_property
    def plan(self) -> UpdatePlan:
        """The updates of the run."""
        training, data = self.config.training, self.config.data
        return UpdatePlan(
            lengths=self.splits[data.train_split].features.lengths,
            batch_size=training.batch_size,
            tokens_per_batch=training.tokens_per_batch,
            sampling=training.sampling,
            epochs=training.epochs,
            max_steps=training.max_steps,
            seed=self.config.seed,
        )

    def describe_cut(self, limit: int | None) -> str:
        """Say how large an update is, and how it is cut over processes and passes. limit: most examples a pass."""
        training, world_size = self.config.training, self.processes.world_size
        tokens = training.tokens_per_batch
        size = f"{training.batch_size} examples" if tokens is None else f"up to {tokens:,} tokens"
        shared = f" over {world_size} processes" if world_size > 1 else ""
        passes = "" if limit is None else f", at most {limit} a pass"
        return f"{size} an update{shared}{passes}; {training.sampling.replace('_', ' ')}"

    def evaluator(self, accelerator: Accelerator) -> Evaluator:
        """Return what evaluates a model on any split."""
        tokens = self.config.evaluation.tokens_per_batch
        return Evaluator(
            task=self.task,
            labels=self.labels,
            metrics=self.metrics,
            collation=self._collation(self.execution.evaluation_length_multiple),
            batch_size=self.config.evaluation.batch_size,
            tokens_per_batch=self.execution.evaluation_tokens if tokens == "auto" else tokens,
            processes=self.processes,
            accelerator=accelerator,
            packs_weights=self.execution.packs_weights,
        )

    def judge(self, accelerator: Accelerator) -> Judge:
        """Return what evaluates while training."""
        section = self.config.evaluation
        return Judge(
            evaluator=self.evaluator(accelerator),
            split=self.splits.get(self.config.data.validation_split),
            every=section.every,
            metric=self.best_metric,
            direction=direction_of(section, self.best_metric),
            patience=section.early_stopping_patience,
        )

    def learner(self, model: torch.nn.Module, accelerator: Accelerator) -> Learner:
        """Place a model on its device, and return what trains it."""
        config, training = self.config, self.config.training
        if training.gradient_checkpointing:
            _checkpoint_gradients(model, config.model.name_or_path)
        if training.compile:
            model.compile()
        wrapped = accelerator.prepare_model(model)
        optimizer = build_optimizer(model, config.optimizer, fused=self.execution.fused_optimizer)
        return Learner(
            model=model,
            wrapped=wrapped,
            optimizer=optimizer,
            schedule=build_schedule(optimizer, config.scheduler, num_updates=self.plan.num_updates),
            accelerator=accelerator,
            processes=self.processes,
            task=self.task,
            collation=self.collation,
            max_grad_norm=training.max_grad_norm,
            pass_size=PassSize(None, adapts=True)
            if training.micro_batch_size == "auto"
            else PassSize(training.micro_batch_size),
        )

    @property
    def best_metric(self) -> str:
        """The score that decides: the config's, else the last metric."""
        return self.config.evaluation.best_metric or (self.metrics or (LOSS,))[-1]

    def build_model(self) -> BuiltModel:
        """Load the weights and draw what is new from the config's seed."""
        torch.manual_seed(self.config.seed)
        attention = self.execution.attention
        built = build_model(self.config.model, self.architecture, self.task, self.labels, attention=attention)
        if self.execution.dropout == "fast":
            fast_cpu.install(built.model)
            first_token.install(built.model)
        if self.execution.casts_at_once:
            half_weights.install(built.model, _DTYPES[self.execution.precision])
        return built


def prepare_experiment(
    config: Config, split_names: Sequence[str], *, trained: bool = False, allow_remote_code: bool = False
) -> Experiment:
    """Read, check and tokenize all that a verb needs; what was prepared before comes from the cache.

    trained: the config's model is one of our own, and its labels are the run's; otherwise they come from the
    train split. Raises ConfigError, DataError or ModelError.
    """
    check_hub(needed_repositories(config, reads_data=bool(split_names)))
    processes = Processes.from_environment()
    execution = choose_execution(config.training, processes, fused=config.optimizer.fused)
    _check_remote_code(config, allow_remote_code)
    task = config.build_task()
    architecture = read_architecture(config.model, task)
    tokenization = load_tokenization(config.model, architecture, config.data.max_length)
    rows = {name: load_split(config.data, name, task) for name in dict.fromkeys(split_names)}
    if trained:
        labels = _labels_of(architecture.config, numbered=config.data.labels is not None)
    else:
        train = config.data.train_split
        labels = task.labels_from(rows.get(train) or load_split(config.data, train, task), config.data.labels)
    return Experiment(
        config=config,
        task=task,
        labels=labels,
        metrics=_resolve_metrics(config, task, labels),
        tokenization=tokenization,
        architecture=architecture,
        execution=fit_to_model(
            execution,
            config.model.attention,
            architecture.config.model_type,
            supports_sdpa=architecture.model_class._supports_sdpa,
            supports_names=architecture.model_class._can_set_attn_implementation(),
        ),
        processes=processes,
        splits={name: prepare(split, task, labels, tokenization) for name, split in rows.items()},
    )


def _checkpoint_gradients(model: Any, name: str) -> None:
    if not model.supports_gradient_checkpointing:
        raise ConfigError(f"training.gradient_checkpointing: {name} does not support it; set it to false")
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})


def without_scores(config: Config) -> Config:
    """Return the config of somebody who computes no score, and so needs no metric."""
    evaluation = config.evaluation.model_copy(update={"metrics": (), "best_metric": None})
    return config.model_copy(update={"evaluation": evaluation})


def named_split(data: DataSection, name: str | None, default: str) -> str:
    """Return the split that a person names: by its own name, or by its role (train, validation, test)."""
    own = (data.train_split, data.validation_split, data.test_split)
    roles = dict(zip(("train", "validation", "test"), own, strict=True))
    if name is None or name in own:
        return name or default
    return roles.get(name, name)


def _labels_of(model_config: Any, *, numbered: bool) -> LabelSet:
    names = tuple(model_config.id2label[index] for index in range(len(model_config.id2label)))
    return LabelSet(names, numbered=numbered)


def _resolve_metrics(config: Config, task: Task, labels: LabelSet) -> tuple[str, ...]:
    """Fill in the default metrics, and refuse those that do not fit the number of labels."""
    section = config.evaluation
    names = task.default_metrics(labels) if section.metrics is None else section.metrics
    usable = task.usable_metrics(labels)
    for name in names:
        if name not in usable and not name.startswith(HUB_PREFIX):
            raise ConfigError(
                f"evaluation.metrics: {name} is for two labels; the data has {len(labels)}. "
                f"Choose from {', '.join(usable)}"
            )
    if section.best_metric not in (None, "loss", *names):
        raise ConfigError(
            f"evaluation.best_metric: {section.best_metric} is not computed; choose one of {', '.join(names)}, loss"
        )
    return names


def _check_remote_code(config: Config, allowed: bool) -> None:
    foreign = [name for name in config.evaluation.metrics or () if name.startswith(HUB_PREFIX)]
    if foreign and not allowed:
        raise ConfigError(
            f"evaluation.metrics: {foreign[0]} runs code that is downloaded from the Hub; if you trust it, pass "
            "--allow-remote-code"
        )
