"""The config's schema: the one place where a key, its type, its default and its help are written.

Each key also says whether it changes the result of a run, and what transformers' TrainingArguments calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import Field as Limits
from pydantic import create_model

from ftcli.metrics.names import Direction
from ftcli.tasks import TASKS
from ftcli.tasks.base import Task
from ftcli.tasks.options import A_LIST, NAMES, ONE_OR_A_LIST, Section, setting

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Sampling = Literal["group_by_length", "random"]
Attention = Literal["auto", "eager", "sdpa"]
Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
]

Tracker = Literal["tensorboard", "wandb", "mlflow"]


# A split's name also names files; it is no path.
_SPLIT: dict[str, Any] = {"pattern": r"^\w+([.\-]\w+)*$", "expected": "letters and digits, with - . _ between them"}
Beta = Annotated[float, Limits(ge=0, lt=1)]
# Counts that a 32-bit integer holds: what is larger is a slip of the keyboard.
MAX_COUNT = 2**31 - 1
Positive = Annotated[int, Limits(ge=1, le=MAX_COUNT)]
NOT_NEGATIVE = Limits(ge=0, le=MAX_COUNT)
Scalar = bool | int | float | str | None


DEFAULT_TASK = "text-classification"


class ModelSection(Section):
    """Which encoder to fine-tune."""

    name_or_path: str = setting(
        help="Hub id, local directory, or package:MODULE/PATH for a model inside an installed package",
        trainer=("model_name_or_path",),
    )
    revision: str | None = setting(None, help="Branch, tag or commit of a Hub model", trainer=("model_revision",))
    attention: Attention = setting(
        "auto", help="Attention implementation; auto: the fastest for device, precision and dropout"
    )


class DataFiles(Section):
    """Files named one by one, instead of `data.path`."""

    train: str | None = setting(None, help="File of the train split", trainer=("train_file",))
    validation: str | None = setting(None, help="File of the validation split", trainer=("validation_file",))
    test: str | None = setting(None, help="File of the test split", trainer=("test_file",))


class DataSection(Section):
    """Which rows to read, and how they become features."""

    path: str | None = setting(
        None,
        help="Hub id, save_to_disk folder, or folder with train/validation/test files",
        trainer=("dataset_name",),
    )
    name: str | None = setting(
        None, help="Configuration of a Hub data set", trainer=("dataset_config_name", "task_name")
    )
    revision: str | None = setting(None, help="Branch, tag or commit of a Hub data set")
    files: DataFiles | None = setting(None, help="Files by split, instead of path")
    columns: Section = setting(help="Which columns hold the text and the answers")
    labels: Annotated[tuple[str, ...], Limits(min_length=2), NAMES] | None = setting(
        None,
        help="Ordered names; of two, the last is the positive class. null: the data's own order, else sorted",
    )
    train_split: str = setting("train", help="Split to learn from", **_SPLIT, trainer=("dataset_train_split",))
    validation_split: str = setting(
        "validation", help="Split to evaluate while training", **_SPLIT, trainer=("dataset_test_split",)
    )
    test_split: str = setting("test", help="Split kept for the end", **_SPLIT, changes_result=False)
    validation_fraction: float | None = setting(
        None,
        help="Share of the train split to hold out, of every label alike, where there is no validation split",
        gt=0,
        lt=1,
    )
    split_seed: int = setting(0, help="Seed of that cut; runs with another seed keep the same rows", ge=0, lt=2**32)
    max_length: int = setting(
        512,
        help="Tokens a feature, never above the model's limit; longer texts are truncated and counted",
        ge=4,
        le=MAX_COUNT,
        trainer=("max_seq_length",),
    )
    padding: Literal["longest", "max_length"] = setting(
        "longest",
        help="Pad to the longest of a batch, or to max_length for fixed shapes",
        trainer=("pad_to_max_length",),
    )
    pad_to_multiple_of: Positive | None = setting(
        None, help="Round padded lengths up to a multiple of this; null: by device and precision, 64 for compile"
    )
    quoting: Literal["auto", "none", "minimal"] = setting(
        "auto", help="Quotes in csv and tsv files; auto is none for a .tsv whose quotes do not pair"
    )
    empty_text: Literal["error", "drop", "keep"] = setting(
        "error", help="A row with a missing or empty text: stop, leave the row out, or keep it as an empty text"
    )
    empty_label: Literal["error", "drop"] = setting("error", help="A row without a label: stop, or leave the row out")


class TrainingSection(Section):
    """The updates: how many, how large, and what computes them."""

    epochs: Positive = setting(3, help="Passes over the train split", trainer=("num_train_epochs",))
    max_steps: Positive | None = setting(None, help="End after this many updates, if that is earlier")
    device: Literal["auto", "cpu"] = setting(
        "auto",
        help="auto takes an accelerator where there is one",
        trainer=("use_cpu", "no_cuda"),
        synonyms={"gpu": "auto", "cuda": "auto", "mps": "auto"},
    )
    batch_size: Positive = setting(
        8, help="Examples an update, over all processes", trainer=("per_device_train_batch_size",)
    )
    tokens_per_batch: Positive | None = setting(
        None,
        help="Fill each update up to this many tokens, counting every example as long as the longest of the update; "
        "null: batch_size examples",
    )
    sampling: Sampling = setting(
        "group_by_length",
        help="Form updates of examples of like length, from shuffled windows of 50 updates, or at random",
        trainer=("train_sampling_strategy", "group_by_length"),
    )
    micro_batch_size: Literal["auto"] | Positive | None = setting(
        None,
        help="Most examples in one forward pass; auto: as many as memory holds; null: what a process has of an update",
        trainer=("gradient_accumulation_steps", "auto_find_batch_size"),
    )
    precision: Precision = setting(
        "auto",
        help="Precision of the matrix products; weights stay fp32. auto: what the device multiplies natively",
        trainer=("fp16", "bf16", "tf32"),
        synonyms={"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "half": "fp16", "no": "fp32"},
    )
    dropout: Literal["fast", "torch"] = setting(
        "fast", help="fast, on a CPU: other masks and, for known encoders, a last layer of one token; torch: its own"
    )
    deterministic: bool = setting(
        False,
        help="Only kernels that give the same bits every time, where a GPU has others",
        trainer=("full_determinism",),
    )
    compile: bool = setting(False, help="Compile the model with torch.compile", trainer=("torch_compile",))
    gradient_checkpointing: bool = setting(
        False, help="Compute activations twice instead of keeping them: less memory, more time"
    )
    max_grad_norm: float | None = setting(None, help="Clip the gradient of the whole update to this norm", gt=0)


class OptimizerSection(Section):
    """AdamW; biases and norms are never decayed."""

    name: Literal["adamw"] = setting("adamw", help="The optimizer", trainer=("optim",))
    learning_rate: float = setting(5e-5, help="Peak learning rate", gt=0, trainer=("lr",))
    weight_decay: float = setting(0.0, help="Decoupled weight decay", ge=0)
    betas: Annotated[tuple[Beta, Beta], A_LIST] = setting(
        (0.9, 0.999), help="Decay rates of the two moments", trainer=("adam_beta1", "adam_beta2")
    )
    epsilon: float = setting(1e-8, help="Added to the denominator", gt=0, trainer=("adam_epsilon",))
    fused: Literal["auto"] | bool = setting("auto", help="One kernel for the whole step; auto: where it exists")


class SchedulerSection(Section):
    """The learning rate as a function of the step."""

    name: Schedule = setting("linear", help="A schedule of transformers", trainer=("lr_scheduler_type",))
    warmup_steps: Annotated[float, NOT_NEGATIVE] | Annotated[int, NOT_NEGATIVE] = setting(
        0, help="Updates of warm-up, or below 1 a share of all updates", trainer=("warmup_ratio",)
    )
    options: dict[str, Scalar] = setting(
        {}, help="Further arguments of the schedule, such as num_cycles", trainer=("lr_scheduler_kwargs",)
    )


class EvaluationSection(Section):
    """When to evaluate, on what terms, and which score decides."""

    every: Literal["epoch", "never"] | Positive = setting(
        "epoch",
        help="epoch, a number of updates, or never",
        trainer=("eval_strategy", "evaluation_strategy", "eval_steps"),
    )
    batch_size: Positive = setting(
        1024, help="Most examples in one forward pass", changes_result=False, trainer=("per_device_eval_batch_size",)
    )
    tokens_per_batch: Literal["auto"] | Positive = setting(
        "auto",
        help="Most tokens in one forward pass, padding included, which may move last digits; auto: by device",
        changes_result=False,
    )
    metrics: Annotated[tuple[str, ...], A_LIST] | None = setting(
        None, help="Metrics to compute; null: accuracy and f1, or f1_macro for more than two labels"
    )
    best_metric: str | None = setting(
        None,
        help="The score that decides which evaluation is best; null: the last metric",
        trainer=("metric_for_best_model", "greater_is_better", "load_best_model_at_end"),
    )
    directions: dict[str, Direction] = setting({}, help="For hub: metrics, which way is better: higher or lower")
    early_stopping_patience: Positive | None = setting(
        None, help="Stop after this many evaluations without a better score"
    )


class CheckpointSection(Section):
    """When the run is saved, so that it can go on after whatever ends it."""

    every: Literal["epoch"] | Positive = setting(
        "epoch", help="epoch, or a number of updates", changes_result=False, trainer=("save_strategy", "save_steps")
    )
    keep: Annotated[int, Limits(ge=2, le=MAX_COUNT)] = setting(
        2, help="The newest to keep; the best is kept besides", changes_result=False, trainer=("save_total_limit",)
    )
    on_signal: Literal["save", "stop"] = setting(
        "save", help="At Ctrl-C or SIGTERM, after the update at hand: save and stop, or stop", changes_result=False
    )


class LoggingSection(Section):
    """What is shown while training."""

    every_steps: Positive = setting(
        10,
        help="Updates between two plain progress lines, and two values of a tracker",
        changes_result=False,
        trainer=("logging_steps",),
    )
    trackers: Annotated[tuple[Tracker, ...], A_LIST] = setting(
        (),
        help="Programs that follow the run: tensorboard, wandb, mlflow",
        changes_result=False,
        trainer=("report_to",),
    )


class Config(Section):
    """One experiment."""

    extends: Annotated[tuple[str, ...], ONE_OR_A_LIST] = setting(
        (), help="Configs that this one is laid over, relative to it, the later over the earlier", exclude=True
    )
    task: str = setting(DEFAULT_TASK, help="The kind of problem")
    seed: int = setting(42, help="Seed of new weights, order and dropout", ge=0, lt=2**32)
    model: ModelSection = setting(help="Which encoder to fine-tune")
    data: DataSection = setting(help="Which rows to read, and how")
    training: TrainingSection = setting(TrainingSection(), help="The updates")
    optimizer: OptimizerSection = setting(OptimizerSection(), help="The optimizer")
    scheduler: SchedulerSection = setting(SchedulerSection(), help="The learning rate over time")
    evaluation: EvaluationSection = setting(EvaluationSection(), help="Scores while training")
    checkpoint: CheckpointSection = setting(CheckpointSection(), help="When the run is saved", changes_result=False)
    logging: LoggingSection = setting(LoggingSection(), help="What is shown", changes_result=False)
    output_dir: str = setting(
        "runs/config",
        help="The run directory; of a file that does not say it, runs/ and the file's name",
        changes_result=False,
    )

    def build_task(self) -> Task:
        """Return the task with its columns."""
        return TASKS[self.task](self.data.columns)


@cache
def config_type(task_name: str) -> type[Config]:
    """Derive the config class of one task: its name and its columns take their places in the schema."""
    task = TASKS[task_name]
    data = create_model(
        "DataSection",
        __base__=DataSection,
        __doc__=DataSection.__doc__,
        columns=(task.columns_type, setting(help="Which columns hold the text and the answers")),
    )
    return create_model(
        "Config",
        __base__=Config,
        __doc__=Config.__doc__,
        task=(cast(Any, Literal[task_name]), setting(task_name, help="The kind of problem")),
        data=(data, setting(help="Which rows to read, and how")),
    )


class Key(NamedTuple):
    """One key of the schema: its dotted path, its field, and the section that it opens, if it is one."""

    path: str
    field: Any
    section: type[Section] | None


def keys(section: type[Section], prefix: str = "") -> Iterator[Key]:
    """List every key of a section, depth first, in the order of the schema."""
    for name, field in section.model_fields.items():
        inner = _section_of(field.annotation)
        yield Key(prefix + name, field, inner)
        if inner is not None:
            yield from keys(inner, f"{prefix}{name}.")


def _section_of(annotation: Any) -> type[Section] | None:
    for option in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(option, type) and issubclass(option, Section):
            return option
    return None
