"""One contender in a process of its own: it reads what to do from standard input, and answers in JSON lines.

`python -m ftcli.benchmark.worker CONFIG CONTENDER FOLDER`, where CONFIG is a config as JSON, and FOLDER takes what the
contender writes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ftcli.config.schema import Config, config_type
from ftcli.console import Console
from ftcli.errors import FtcliError, to_record


def main(config_text: str, name: str, folder: str) -> None:
    """Prepare, learn from one update, and then do what is asked, until nothing is asked any more."""
    # What libraries print must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(record: dict[str, Any]) -> None:
        answers.write(json.dumps(record) + "\n")
        answers.flush()

    try:
        values = json.loads(config_text)
        _serve(config_type(values["task"]).model_validate_json(config_text), name, Path(folder), answer)
    except FtcliError as error:
        answer({"error": to_record(error)})


def _serve(config: Config, name: str, folder: Path, answer: Any) -> None:
    started = psutil.Process().create_time()
    from ftcli.benchmark.contenders import CONTENDERS
    from ftcli.benchmark.measuring import encoder_parameters, matrix_rate
    from ftcli.experiments import prepare_experiment, without_scores

    Console(quiet=True).calm_libraries()
    train, validation = config.data.train_split, config.data.validation_split
    never_evaluates = config.evaluation.every == "never"
    if never_evaluates:
        validation = train
    experiment = prepare_experiment(without_scores(config), [train, validation])
    device = experiment.execution.device
    contender = CONTENDERS[name](experiment, folder)
    features = experiment.splits[train].features
    contender.train(features.take(np.arange(config.training.batch_size) % len(features)))
    answer(
        {
            "seconds_to_first_update": time.time() - started,
            "num_train": len(features),
            "num_validation": None if never_evaluates else len(experiment.splits[validation].features),
            "execution": experiment.execution.summary(),
            "encoder_parameters": encoder_parameters(contender.model),
        }
    )
    for line in sys.stdin:
        asked = json.loads(line)
        if "matrix_rate" in asked:
            answer({"rate": matrix_rate(device)})
            continue
        split = features if "train" in asked else experiment.splits[validation].features
        chosen = split.take(np.asarray(asked.get("train", asked.get("evaluate"))))
        _forget_peak(device)
        seconds, slots = contender.train(chosen) if "train" in asked else contender.evaluate(chosen)
        tokens = int(chosen.lengths.sum())
        answer({"seconds": seconds, "examples": len(chosen), "tokens": tokens, "slots": slots, "peak": _peak(device)})


def _forget_peak(device: str) -> None:
    """Count an accelerator's memory anew: not what the matrix rate was measured with."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak(device: str) -> int:
    """Return the most bytes that this process has held: on its accelerator, if it has one, else in memory."""
    import torch

    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
