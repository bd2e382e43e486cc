from pathlib import Path
from typing import Any, get_args

import pytest

from ftcli.config.loading import load_config
from ftcli.config.schema import Key, Schedule, config_type, keys
from ftcli.metrics.names import METRICS, for_any_number_of_labels, is_better
from ftcli.tasks import TASKS

SCHEMA_KEYS = {key.path: key for task in TASKS for key in keys(config_type(task))}
MRPC = Path(__file__).parents[2] / "configs" / "mrpc.yaml"

# The contract of the issue "The house, and the main job on real data"; `...` marks what is required.
CONTRACT: dict[str, Any] = {
    "task": "text-classification",
    "seed": 42,
    "model.name_or_path": ...,
    "model.revision": None,
    "data.path": None,
    "data.name": None,
    "data.revision": None,
    "data.files": None,
    "data.columns.text": ...,
    "data.columns.label": "label",
    "data.labels": None,
    "data.train_split": "train",
    "data.validation_split": "validation",
    "data.test_split": "test",
    "data.max_length": 512,
    "data.padding": "longest",
    "data.quoting": "auto",
    "data.pad_to_multiple_of": None,
    "data.empty_text": "error",
    "training.epochs": 3,
    "training.max_steps": None,
    "training.device": "auto",
    "training.batch_size": 8,
    "training.micro_batch_size": None,
    "training.precision": "auto",
    "training.max_grad_norm": None,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 5e-5,
    "optimizer.weight_decay": 0.0,
    "optimizer.betas": (0.9, 0.999),
    "optimizer.epsilon": 1e-8,
    "scheduler.name": "linear",
    "scheduler.warmup_steps": 0,
    "scheduler.options": {},
    "evaluation.every": "epoch",
    "evaluation.batch_size": 1024,
    "evaluation.metrics": None,
    "evaluation.best_metric": None,
    "evaluation.early_stopping_patience": None,
    "logging.every_steps": 10,
}
# What configs/mrpc.yaml sets beside the defaults: the values of the example.
MRPC_VALUES = {
    "model.name_or_path": "bert-base-uncased",
    "data.path": "nyu-mll/glue",
    "data.name": "mrpc",
    "data.columns.text": ("sentence1", "sentence2"),
    "evaluation.metrics": ("accuracy", "f1"),
    "evaluation.best_metric": "f1",
}


def value_at(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = getattr(config, part)
    return config


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A config of nothing but what is required."""
    path = tmp_path_factory.mktemp("smallest") / "c.yaml"
    path.write_text("model: {name_or_path: m}\ndata: {path: d, columns: {text: t}}\n", encoding="utf-8")
    return load_config(path)


@pytest.mark.parametrize("key", SCHEMA_KEYS.values(), ids=SCHEMA_KEYS)
def test_a_key_has_a_description_of_one_line(key: Key) -> None:
    description = key.field.description
    assert description
    assert description.strip() == description
    assert "\n" not in description


@pytest.mark.parametrize("key", SCHEMA_KEYS.values(), ids=SCHEMA_KEYS)
def test_a_key_says_whether_it_changes_the_result(key: Key) -> None:
    assert isinstance(key.field.json_schema_extra["changes_result"], bool)


def test_what_does_not_change_the_result_is_this_and_no_more() -> None:
    marked = {path for path, key in SCHEMA_KEYS.items() if not key.field.json_schema_extra["changes_result"]}
    assert marked == {
        "checkpoint",
        "checkpoint.every",
        "checkpoint.keep",
        "checkpoint.on_signal",
        "data.test_split",
        "evaluation.batch_size",
        "evaluation.tokens_per_batch",
        "logging",
        "logging.every_steps",
        "logging.trackers",
        "output_dir",
    }


def test_a_name_of_training_arguments_belongs_to_one_key() -> None:
    names = [name for key in SCHEMA_KEYS.values() for name in key.field.json_schema_extra["trainer"]]
    assert sorted(names) == sorted(set(names))


def test_the_schedules_are_those_of_transformers_that_are_functions_of_the_step() -> None:
    from transformers.trainer_utils import SchedulerType

    by_score = {"reduce_lr_on_plateau", "greedy"}
    assert set(get_args(Schedule)) == {schedule.value for schedule in SchedulerType} - by_score


@pytest.mark.parametrize("path", CONTRACT)
def test_a_key_of_the_contract_exists(path: str) -> None:
    assert path in SCHEMA_KEYS


@pytest.mark.parametrize(
    "path", [path for path, default in CONTRACT.items() if default is not ... and path != "data.path"]
)
def test_a_key_of_the_contract_has_its_default(path: str, smallest: Any) -> None:
    found = value_at(smallest, path)
    assert (type(found), found) == (type(CONTRACT[path]), CONTRACT[path])


@pytest.mark.parametrize("path", CONTRACT)
def test_mrpc_has_the_values_of_the_contract(path: str) -> None:
    assert value_at(load_config(MRPC), path) == {**CONTRACT, **MRPC_VALUES}[path]


def test_mrpc_runs_in_a_directory_of_its_name() -> None:
    assert Path(load_config(MRPC).output_dir).parts[-2:] == ("runs", "mrpc")


# Metric names


def test_the_metrics_are_those_of_the_contract() -> None:
    assert set(METRICS) == {
        "accuracy",
        "f1",
        "precision",
        "recall",
        "f1_macro",
        "f1_micro",
        "f1_weighted",
        "precision_macro",
        "precision_micro",
        "precision_weighted",
        "recall_macro",
        "recall_micro",
        "recall_weighted",
        "matthews_correlation",
    }


@pytest.mark.parametrize(
    ("name", "family", "average"),
    [
        ("accuracy", "accuracy", None),
        ("matthews_correlation", "matthews_correlation", None),
        ("f1", "f1", "binary"),
        ("precision", "precision", "binary"),
        ("recall_macro", "recall", "macro"),
        ("f1_weighted", "f1", "weighted"),
        ("precision_micro", "precision", "micro"),
    ],
)
def test_a_metric_has_its_family_and_average(name: str, family: str, average: str | None) -> None:
    assert (METRICS[name].family, METRICS[name].average) == (family, average)


def test_plain_f1_precision_and_recall_are_for_two_labels_only() -> None:
    names = ["accuracy", "f1", "f1_macro", "precision", "recall", "recall_micro", "matthews_correlation"]
    assert for_any_number_of_labels(names) == ["accuracy", "f1_macro", "recall_micro", "matthews_correlation"]


def test_every_metric_is_better_when_higher() -> None:
    assert {metric.direction for metric in METRICS.values()} == {"higher"}


@pytest.mark.parametrize(
    ("score", "best", "direction", "expected"),
    [
        (0.8, 0.7, "higher", True),
        (0.7, 0.8, "higher", False),
        (0.7, 0.8, "lower", True),
        (0.8, 0.7, "lower", False),
        (0.7, 0.7, "higher", False),
        (0.7, 0.7, "lower", False),
        (float("nan"), 0.7, "higher", False),
        (float("nan"), 0.7, "lower", False),
    ],
)
def test_only_a_strictly_better_score_is_better(score: float, best: float, direction: Any, expected: bool) -> None:
    assert is_better(score, best, direction) is expected
