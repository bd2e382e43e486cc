"""The seams, held open by a task that no user has: updates, weights and gathering are exact for any task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worker

from ftcli import learner
from ftcli.data.batching import cut as real_cut
from ftcli.evaluation import Evaluator
from ftcli.metrics.names import METRICS
from ftcli.tasks import TASKS

COUNTS = list(range(1, 18))


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Let the task be one of ftcli's, for these tests only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "awkward", worker.Awkward)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("awkward")


@pytest.fixture(scope="module", params=[pytest.param(2, marks=pytest.mark.slow), 3])
def several(
    request: pytest.FixtureRequest, folder: Path, still_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What two and three processes found: the updates, and the evaluations of 1 to 17 rows."""
    out = tmp_path_factory.mktemp("several") / "out.json"
    jobs = {"folder": str(folder), "model": str(still_model), "counts": COUNTS}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(request.param)]
    command = [sys.executable, *launcher, worker.__file__, json.dumps(jobs), str(out)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "ACCELERATE_DEBUG_MODE": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    assert found["updates"]["world_size"] == request.param
    return found


@pytest.fixture(scope="module")
def alone(folder: Path, still_model: Path) -> list[dict[str, Any]]:
    """The evaluations of 1 to 17 rows in this process."""
    return list(worker.evaluations(folder, str(still_model), COUNTS))


@pytest.fixture(scope="module")
def whole(folder: Path, still_model: Path) -> dict[str, Any]:
    """The reference: each update in one pass, in this process."""
    return worker.updates(folder, str(still_model), batch_size=8, micro_batch_size=8)


def largest_difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    assert len(found["losses"]) == len(expected["losses"])
    return float(np.abs(np.subtract(found["losses"], expected["losses"])).max())


def test_rows_give_one_to_three_features(folder: Path, still_model: Path) -> None:
    features = worker.prepare(folder, str(still_model), 17).splits["train"].features

    assert set(np.bincount(features.rows)) == {1, 2, 3}


def test_the_last_update_of_an_epoch_is_short(folder: Path, still_model: Path) -> None:
    plan = worker.prepare(folder, str(still_model), 13, batch_size=8).plan

    assert [len(update.features) for update in plan][:4] == [8, 8, 8, 1]


@pytest.mark.parametrize("micro_batch_size", [4, 3, 1])
def test_micro_batches_do_not_change_the_updates(
    whole: dict[str, Any], folder: Path, still_model: Path, micro_batch_size: int
) -> None:
    found = worker.updates(folder, str(still_model), batch_size=8, micro_batch_size=micro_batch_size)

    assert largest_difference(found, whole) < 1e-6
    np.testing.assert_allclose(found["weights"], whole["weights"], rtol=0, atol=1e-5)


def test_processes_do_not_change_the_updates(whole: dict[str, Any], several: dict[str, Any]) -> None:
    assert largest_difference(several["updates"], whole) < 1e-6


def test_a_process_that_runs_out_of_memory_makes_the_passes_of_all_smaller_and_the_updates_stay(
    whole: dict[str, Any], several: dict[str, Any]
) -> None:
    found = several["short_of_memory"]

    assert largest_difference(found, whole) < 1e-6
    assert (found["largest_pass"], several["updates"]["largest_pass"] > 1) == (1, True)


def test_a_cut_that_drops_a_feature_changes_the_updates(
    whole: dict[str, Any], folder: Path, still_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the comparison above sees one lost feature."""
    monkeypatch.setattr(
        learner, "cut", lambda update, *more, **how: real_cut(update[:-1] if len(update) > 1 else update, *more, **how)
    )

    found = worker.updates(folder, str(still_model), batch_size=8, micro_batch_size=8)

    assert largest_difference(found, whole) > 1e-3


def test_a_mean_of_means_changes_the_updates(
    whole: dict[str, Any], folder: Path, still_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: averaging the micro-batches' means is not the mean, with unequal weights."""

    def mean_loss(self: Any, outputs: Any, batch: Any) -> Any:
        loss_sum, weight_sum = original(self, outputs, batch)
        return loss_sum / weight_sum, weight_sum / weight_sum

    original = worker.Awkward.loss
    monkeypatch.setattr(worker.Awkward, "loss", mean_loss)

    found = worker.updates(folder, str(still_model), batch_size=8, micro_batch_size=3)

    assert largest_difference(found, whole) > 1e-3


@pytest.mark.parametrize("count", COUNTS)
def test_each_feature_is_scored_exactly_once(several: dict[str, Any], count: int) -> None:
    num_features = sum(-(-len(text.split()) // 4) for text, _ in worker.awkward_rows(count))
    found = several["evaluations"][count - 1]

    assert found["rows"] == count
    assert sorted(found["features"]) == list(range(num_features))


def test_29_scores_and_predictions_do_not_depend_on_the_processes(
    several: dict[str, Any], alone: list[dict[str, Any]]
) -> None:
    assert several["evaluations"] == alone


def test_29_no_metric_depends_on_the_processes(several: dict[str, Any], folder: Path, still_model: Path) -> None:
    """Every metric, of 1 to 17 rows, in batches of 1, 3 and 8: to the last digit."""
    alone = list(worker.scores(folder, str(still_model), COUNTS))

    assert several["scores"] == json.loads(json.dumps(alone))
    assert len(alone) == len(COUNTS) * len(worker.BATCH_SIZES)
    assert alone[-1]["scores"].keys() == {*METRICS, "loss"}
    # They tell rows apart: both answers are given, and not all are right.
    assert set(alone[-1]["predicted"]) == {"different", "same"}
    assert 0 < alone[-1]["scores"]["accuracy"] < 1


def test_results_that_change_places_are_caught(
    folder: Path, still_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: each feature once, but two of them exchanged."""
    real = Evaluator._gather

    def exchange(self: Any, parts: Any, ids: Any, *rest: Any) -> Any:
        ids[[0, 1]] = ids[[1, 0]]
        return real(self, parts, ids, *rest)

    monkeypatch.setattr(Evaluator, "_gather", exchange)

    with pytest.raises(AssertionError):
        list(worker.evaluations(folder, str(still_model), [5]))


def test_a_deal_that_drops_a_batch_is_caught(folder: Path, still_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the evaluation itself refuses to score fewer features than there are."""
    monkeypatch.setattr("ftcli.evaluation.deal", lambda num_batches, **_: range(1, num_batches))

    with pytest.raises(RuntimeError, match="not exactly once"):
        list(worker.evaluations(folder, str(still_model), [5]))
