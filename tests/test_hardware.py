"""The decision table: what is chosen for which machine, launcher and config."""

from __future__ import annotations

import pytest
import torch

from ftcli import hardware
from ftcli.config.schema import TrainingSection
from ftcli.errors import LaunchError
from ftcli.hardware import choose_execution
from ftcli.processes import Processes

ACCELERATE = {"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(hardware.psutil, "cpu_count", lambda logical: 8 if logical else 4)


@pytest.mark.parametrize(
    ("environment", "local_world_size", "threads"),
    [
        ({}, 1, 4),
        ({}, 2, 2),
        ({}, 8, 1),
        ({"OMP_NUM_THREADS": "3"}, 1, 3),
        ({"OMP_NUM_THREADS": "1"}, 1, 1),
        (ACCELERATE, 1, 4),
        (ACCELERATE, 2, 2),
        ({"TORCHELASTIC_RUN_ID": "x", "OMP_NUM_THREADS": "1"}, 2, 2),
        ({**ACCELERATE, "OMP_NUM_THREADS": "3"}, 2, 3),
    ],
)
@pytest.mark.usefixtures("four_cores")
def test_threads_are_physical_cores_by_process_unless_a_person_set_them(
    environment: dict[str, str], local_world_size: int, threads: int
) -> None:
    processes = Processes(world_size=local_world_size, local_world_size=local_world_size)

    assert choose_execution(TrainingSection(), processes, environment).num_threads == threads


@pytest.mark.parametrize(
    ("asked", "environment", "precision"),
    [
        ("auto", {}, "fp32"),
        ("bf16", {}, "bf16"),
        ("bf16", {"ACCELERATE_MIXED_PRECISION": "no"}, "bf16"),
        ("auto", {"ACCELERATE_MIXED_PRECISION": "bf16"}, "bf16"),
        ("bf16", {"ACCELERATE_MIXED_PRECISION": "bf16"}, "bf16"),
    ],
)
def test_a_launcher_precision_stands_for_auto_and_no_counts_as_unset(
    asked: str, environment: dict[str, str], precision: str
) -> None:
    training = TrainingSection(precision=asked, device="cpu")

    assert choose_execution(training, Processes(), environment).precision == precision


@pytest.mark.parametrize(
    ("asked", "environment", "message"),
    [
        ("fp32", {"ACCELERATE_MIXED_PRECISION": "bf16"}, "asks for bf16 and training.precision for fp32"),
        ("auto", {"ACCELERATE_MIXED_PRECISION": "fp8"}, "asks for fp8"),
        ("fp16", {}, "fp16 needs a GPU"),
    ],
)
def test_contradictions_and_impossible_precisions_are_errors(
    asked: str, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(LaunchError, match=message):
        choose_execution(TrainingSection(precision=asked, device="cpu"), Processes(), environment)


@pytest.mark.parametrize(
    ("device", "environment", "expected"),
    [("auto", {}, "cuda"), ("cpu", {}, "cpu"), ("auto", {"ACCELERATE_USE_CPU": "true"}, "cpu")],
)
def test_an_accelerator_is_taken_unless_the_cpu_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, device: str, environment: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))

    execution = choose_execution(TrainingSection(device=device), Processes(), environment)

    assert execution.device == expected


def test_the_summary_says_what_was_chosen_and_why() -> None:
    execution = choose_execution(TrainingSection(device="cpu"), Processes(), {"OMP_NUM_THREADS": "1"})

    assert execution.summary() == "cpu (training.device), fp32, 1 thread (OMP_NUM_THREADS)"
