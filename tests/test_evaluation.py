"""An evaluation: order, and what is computed once for all of its batches."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ConfigWriter
from torch.utils._python_dispatch import TorchDispatchMode

from ftcli.config.loading import load_config
from ftcli.errors import TrainingStoppedError
from ftcli.evaluation import Evaluator
from ftcli.experiments import prepare_experiment
from ftcli.hardware import start


class Casts(TorchDispatchMode):
    """Counts how often one tensor is cast."""

    def __init__(self, watched: torch.Tensor) -> None:
        super().__init__()
        self.watched, self.count = watched, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._to_copy.default and args[0].data_ptr() == self.watched.data_ptr():
            self.count += 1
        return function(*args, **(kwargs or {}))


def ready(config: Any, precision: str, **changes: Any) -> tuple[Evaluator, Any, Any]:
    """Return evaluator, model and features: 17 of them, in batches of at most 4."""
    loaded = load_config(config, [f"training.precision={precision}", "evaluation.batch_size=4"])
    experiment = prepare_experiment(loaded, ["train", "validation"])
    accelerator = start(experiment.execution, experiment.processes)
    model = accelerator.prepare_model(experiment.build_model().model, evaluation_mode=True)
    return (
        replace(experiment.evaluator(accelerator), **changes),
        model,
        experiment.splits["validation"].features,
    )


def test_in_bf16_a_weight_is_cast_once_an_evaluation(write_config: ConfigWriter) -> None:
    evaluator, model, features = ready(write_config(), "bf16")
    with Casts(model.classifier.weight) as casts:
        evaluator.run_model(model, features)

    assert evaluator.num_batches(features) == 5
    assert casts.count == 1


def test_without_that_it_is_cast_for_each_batch(write_config: ConfigWriter) -> None:
    """Negative control of the count."""
    evaluator, model, features = ready(write_config(), "bf16")
    with Casts(model.classifier.weight) as casts:
        for indices in evaluator.plan(features):
            evaluator.run_batch(model, features, indices)

    assert casts.count == 5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_casting_once_changes_no_bit(
    write_config: ConfigWriter, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator, model, features = ready(write_config(), precision)
    found, loss = evaluator.run_model(model, features)
    monkeypatch.setattr(evaluator.accelerator, "autocast", nullcontext)
    expected, expected_loss = evaluator.run_model(model, features)

    np.testing.assert_array_equal(found["logits"], expected["logits"])
    assert loss == expected_loss


def test_results_come_in_the_order_of_the_features_whatever_the_batches(write_config: ConfigWriter) -> None:
    evaluator, model, features = ready(write_config(), "fp32")
    found, _ = evaluator.run_model(model, features)

    one_by_one = [evaluator.run_batch(model, features, [index])[0]["logits"] for index in range(len(features))]

    np.testing.assert_allclose(found["logits"], torch.cat(one_by_one), rtol=0, atol=1e-6)
    assert np.concatenate(evaluator.plan(features)).tolist() != list(range(len(features)))


def test_another_order_is_seen(write_config: ConfigWriter) -> None:
    """Negative control: no two neighbours have the same logits."""
    evaluator, model, features = ready(write_config(), "fp32")
    found, _ = evaluator.run_model(model, features)

    assert np.abs(np.diff(found["logits"], axis=0)).max(axis=1).min() > 1e-5


class Short:
    """The memory of a device that holds so many features of a batch, put before a model's forward."""

    def __init__(self, model: Any, room: int, error: Exception) -> None:
        self.forward, self.room, self.error = model.forward, room, error
        self.sizes: list[int] = []

    def __call__(self, input_ids: torch.Tensor, **inputs: Any) -> Any:
        self.sizes.append(len(input_ids))
        if len(input_ids) > self.room:
            raise self.error
        return self.forward(input_ids=input_ids, **inputs)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError("Unable to allocate")])
def test_a_batch_that_is_too_large_for_the_memory_is_computed_in_halves(
    write_config: ConfigWriter, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    evaluator, model, features = ready(write_config(), "fp32")
    expected, expected_loss = evaluator.run_model(model, features)
    short = Short(model, 2, error)
    monkeypatch.setattr(model, "forward", short)

    found, loss = evaluator.run_model(model, features)

    assert short.sizes == [4, 2, 2] * 4 + [1]
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=0, atol=1e-6)
    assert loss == pytest.approx(expected_loss, abs=1e-6)


def test_one_feature_that_is_too_large_is_told(write_config: ConfigWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, model, features = ready(write_config(), "fp32")
    monkeypatch.setattr(model, "forward", Short(model, 0, torch.OutOfMemoryError("CUDA out of memory.")))

    with pytest.raises(TrainingStoppedError, match=r"single example in a pass \(CUDA out of memory\.\); lower data"):
        evaluator.run_model(model, features)


def test_another_error_is_not_taken_for_memory(write_config: ConfigWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, model, features = ready(write_config(), "fp32")
    short = Short(model, 0, RuntimeError("shapes do not match"))
    monkeypatch.setattr(model, "forward", short)

    with pytest.raises(RuntimeError, match="shapes do not match"):
        evaluator.run_model(model, features)
    assert short.sizes == [4]


def test_how_an_evaluation_is_padded_does_not_depend_on_the_updates(write_config: ConfigWriter) -> None:
    evaluator, _, _ = ready(write_config(training={"batch_size": 64}), "bf16")

    assert [evaluator.collation.padded_length(length) for length in (3, 9, 31, 33)] == [4, 10, 32, 34]
