"""What the distributed tests run in every process: `python -m torch.distributed.run … tests/worker.py JOBS OUT`.

JOBS is a JSON object with folder, model and counts; rank 0 writes what it found to OUT.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from awkward import Awkward, AwkwardColumns, awkward_rows
from conftest import PAIR_HEADER, pair_rows, write_table

from ftcli.config.loading import load_config
from ftcli.experiments import Experiment, prepare_experiment
from ftcli.hardware import start
from ftcli.learner import Learner
from ftcli.metrics.names import METRICS
from ftcli.tasks import TASKS
from ftcli.training import run_updates

# Of the evaluations of pairs; of the awkward task, each number of rows has one of its own.
BATCH_SIZES = (1, 3, 8)


def prepare(folder: Path, model: str, num_rows: int, **training: Any) -> Experiment:
    """Prepare the awkward task on some rows, through the same path as any task."""
    name = f"rows-{num_rows}"
    write_once(folder / name / "train.csv", ("text", "tags"), awkward_rows(num_rows))
    config = {
        "task": "awkward",
        "model": {"name_or_path": model},
        "data": {"path": str(folder / name), "columns": AwkwardColumns().model_dump()},
        "training": {"device": "cpu", "precision": "fp32", **training},
        "optimizer": {"learning_rate": 1e-3},
        "evaluation": {"every": "never", "batch_size": training.pop("evaluation_batch_size", 4)},
        "output_dir": str(folder / "never-written"),
    }
    config["training"].pop("evaluation_batch_size", None)
    return prepare_config(folder / f"{name}-{id(config)}.yaml", config, "train")


def prepare_pairs(folder: Path, model: str, num_rows: int) -> Experiment:
    """Prepare pairs of texts to be scored by every metric that needs no download; the train split has the labels."""
    name = f"pairs-{num_rows}"
    write_once(folder / name / "train.csv", PAIR_HEADER, pair_rows(20))
    write_once(folder / name / "validation.csv", PAIR_HEADER, pair_rows(num_rows))
    config = {
        "model": {"name_or_path": model},
        "data": {
            "path": str(folder / name),
            "columns": {"text": ["sentence1", "sentence2"], "label": "label"},
            "labels": ["different", "same"],
        },
        "training": {"device": "cpu", "precision": "fp32"},
        "evaluation": {"every": "never", "metrics": list(METRICS)},
        "output_dir": str(folder / "never-written"),
    }
    return prepare_config(folder / f"{name}-{os.getpid()}.yaml", config, "validation")


def prepare_config(path: Path, config: dict[str, Any], split: str) -> Experiment:
    from ftcli.config.yaml import dump

    path.write_text(dump(config), encoding="utf-8")
    return prepare_experiment(load_config(path), [split])


def write_once(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if not path.exists():
        write_table(path, header, rows)


def updates(folder: Path, model: str, **training: Any) -> dict[str, Any]:
    """Train on 13 rows, so that the last update of an epoch is short; return losses and final weights."""
    experiment = prepare(folder, model, 13, **training)
    accelerator = start(experiment.execution, experiment.processes)
    learner = experiment.learner(experiment.build_model().model, accelerator)
    records = list(run_updates(learner, experiment.plan, experiment.splits["train"].features))
    return {
        "losses": [record.loss for record in records],
        "weights": torch.cat([p.detach().flatten() for p in learner.model.parameters()]).tolist(),
        "largest_pass": max(record.largest_pass for record in records),
        "world_size": experiment.processes.world_size,
    }


def updates_short_of_memory(folder: Path, model: str) -> dict[str, Any]:
    """Train where the last process has memory for one example in a pass, and the others for all of theirs."""
    accumulate = Learner.accumulate

    def with_little_memory(learner: Learner, batch: dict[str, torch.Tensor], *, counts: bool) -> torch.Tensor:
        processes = learner.processes
        if processes.rank == processes.world_size - 1 and len(batch["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return accumulate(learner, batch, counts=counts)

    with patch.object(Learner, "accumulate", with_little_memory):
        return updates(folder, model, batch_size=8, micro_batch_size="auto")


def evaluations(folder: Path, model: str, counts: list[int]) -> Iterator[dict[str, Any]]:
    """Evaluate 1..N rows; return the scores and which features each row was given."""
    for count in counts:
        experiment = prepare(folder, model, count, evaluation_batch_size=1 + count % 4)
        accelerator = start(experiment.execution, experiment.processes)
        built = experiment.build_model()
        evaluation = experiment.evaluator(accelerator)(built.model, experiment.splits["train"])
        yield {
            "rows": count,
            "scores": evaluation.scores,
            "features": [feature for p in evaluation.predictions for feature in p["features"]],
            "predicted": [p["predicted"] for p in evaluation.predictions],
        }


def scores(folder: Path, model: str, counts: list[int]) -> Iterator[dict[str, Any]]:
    """Score 1..N pairs by every metric, in batches of several sizes."""
    for count in counts:
        experiment = prepare_pairs(folder, model, count)
        evaluator = experiment.evaluator(start(experiment.execution, experiment.processes))
        built = experiment.build_model()
        # A new head says the same of all; moved by the mean, it tells them apart.
        logits = evaluator.run_model(built.model, experiment.splits["validation"].features)[0]["logits"]
        built.model.classifier.bias.data -= torch.from_numpy(logits.mean(axis=0))
        for size in BATCH_SIZES:
            evaluation = replace(evaluator, batch_size=size)(built.model, experiment.splits["validation"])
            predicted = [prediction["predicted"] for prediction in evaluation.predictions]
            yield {"rows": count, "batch_size": size, "scores": evaluation.scores, "predicted": predicted}


def main() -> None:
    """Do all jobs in one process group: starting one takes longer than any of them."""
    jobs, out = json.loads(sys.argv[1]), Path(sys.argv[2])
    folder, model = Path(jobs["folder"]), jobs["model"]
    found = {
        "updates": updates(folder, model, batch_size=8),
        "short_of_memory": updates_short_of_memory(folder, model),
        "evaluations": list(evaluations(folder, model, jobs["counts"])),
        "scores": list(scores(folder, model, jobs["counts"])),
    }
    if torch.distributed.get_rank() == 0:
        out.write_text(json.dumps(found), encoding="utf-8")
    # Together and at once: the threads of a process group that is still there make some exits end with an abort.
    torch.distributed.barrier()
    os._exit(0)


if __name__ == "__main__":
    TASKS["awkward"] = Awkward
    main()
