"""The rounds: contenders in processes of their own, taking turns over the same examples, and what comes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import numpy as np

from ftcli.benchmark.measuring import FLOPS_OF_EVALUATION, FLOPS_OF_TRAINING
from ftcli.config.schema import Config
from ftcli.errors import FtcliError, from_record

MEASURED = ("train", "evaluate")
_DEVICES = "CUDA_VISIBLE_DEVICES"


class Worker:
    """A contender that waits for what to do."""

    def __init__(self, config: Config, name: str) -> None:
        self.name = name
        self.folder = TemporaryDirectory(ignore_cleanup_errors=True)
        self.messages = TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by close()
        self.process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "ftcli.benchmark.worker", config.model_dump_json(), name, self.folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            text=True,
            # On several GPUs Trainer would learn from as many batches at once, on all of them.
            env={**os.environ, _DEVICES: os.environ.get(_DEVICES, "0").split(",")[0]},
        )
        try:
            self.facts = self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, **what: Any) -> dict[str, Any]:
        """Have it do something, and return its answer."""
        assert self.process.stdin is not None
        # One that is gone reads nothing; it has no answer either, and that is told.
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self.messages.close()
        self.folder.cleanup()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.messages.seek(0)
            last = next(iter(self.messages.read().strip().splitlines()[::-1]), "without a word")
            raise FtcliError(f"the contender {self.name} ended with exit code {code}: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise from_record(answer["error"])
        return answer


@dataclass(frozen=True)
class Rounds:
    """What was measured. records: contender -> train and evaluate -> one record a round."""

    facts: Mapping[str, Mapping[str, Any]]
    records: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
    matrix_rates: Sequence[float]


def run_rounds(
    config: Config, names: Sequence[str], *, num_updates: int, num_rounds: int, on_turn: Callable[[], None]
) -> Rounds:
    """Let contenders learn and evaluate in turns; the first round warms up and is not counted.

    on_turn: called after each turn, `(num_rounds + 1) * len(names)` times.
    """
    workers: list[Worker] = []
    records: dict[str, dict[str, list[dict[str, Any]]]] = {name: {kind: [] for kind in MEASURED} for name in names}
    rates = []
    try:
        # One after the other, as each takes all cores; those that started are closed if one does not.
        workers.extend(Worker(config, name) for name in names)
        for number in range(num_rounds + 1):
            asked = _examples(workers[0].facts, num_updates * config.training.batch_size, number)
            rates.append(workers[0].ask(matrix_rate=True)["rate"])
            # Turns change their order, so that nobody always comes after the same one.
            for worker in workers if number % 2 else workers[::-1]:
                for kind in MEASURED:
                    answer = worker.ask(**{kind: asked[kind]})
                    if number:
                        records[worker.name][kind].append(answer)
                on_turn()
        return Rounds({worker.name: worker.facts for worker in workers}, records, rates[1:])
    finally:
        for worker in workers:
            worker.close()


def _examples(facts: Mapping[str, Any], num_train: int, number: int) -> dict[str, list[int]]:
    """Draw the examples of a round, the same for every contender.

    Those of the validation split are all evaluated; without one, those that were learned from.
    """
    generator = np.random.default_rng(number)
    train = generator.permutation(facts["num_train"])[:num_train].tolist()
    validation = facts["num_validation"]
    return {"train": train, "evaluate": train if validation is None else list(range(validation))}


def summarise(rounds: Rounds) -> dict[str, Any]:
    """Return the medians over the rounds, and the ratios of rates within a round, ours over the other's."""
    first = next(iter(rounds.records))
    parameters = rounds.facts[first]["encoder_parameters"]
    flops = {"train": FLOPS_OF_TRAINING, "evaluate": FLOPS_OF_EVALUATION}
    contenders = {}
    for name, kinds in rounds.records.items():
        contenders[name] = {
            "seconds_to_first_update": rounds.facts[name]["seconds_to_first_update"],
            "peak_bytes": max(record["peak"] for records in kinds.values() for record in records),
        }
        for kind, records in kinds.items():
            rates = [record["tokens"] / record["seconds"] for record in records]
            slots = sum(record["slots"] for record in records)
            contenders[name][kind] = {
                "examples_per_second": median(record["examples"] / record["seconds"] for record in records),
                "tokens_per_second": median(rates),
                "padding_efficiency": sum(record["tokens"] for record in records) / slots if slots else None,
                "mfu": median(
                    flops[kind] * parameters * rate / peak
                    for rate, peak in zip(rates, rounds.matrix_rates, strict=True)
                ),
                "ratio": median(
                    other["seconds"] / ours["seconds"]
                    for ours, other in zip(rounds.records[first][kind], records, strict=True)
                ),
            }
    return {
        "execution": rounds.facts[first]["execution"],
        "matrix_rate": median(rounds.matrix_rates),
        "encoder_parameters": parameters,
        "contenders": contenders,
    }
