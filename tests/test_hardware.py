"""The decision table: what is chosen for which machine, launcher and config."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ftcli import hardware
from ftcli.config.schema import TrainingSection
from ftcli.errors import LaunchError
from ftcli.hardware import Execution, choose_execution, fit_to_model
from ftcli.processes import Processes

ACCELERATE = {"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(hardware.psutil, "cpu_count", lambda logical: 8 if logical else 4)
    monkeypatch.setattr(hardware, "_cpu_quota", lambda: None)


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
    ("files", "quota"),
    [
        ({"cpu.max": "250000 100000\n"}, 2.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_cpu_quota_of_a_container_is_read_in_both_versions_of_cgroups(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    assert hardware._cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("quota", "threads", "is_told"), [(2.5, 2, True), (0.5, 1, True), (4.0, 4, False), (64.0, 4, False)]
)
@pytest.mark.usefixtures("four_cores")
def test_threads_fit_into_the_quota_of_a_container(
    monkeypatch: pytest.MonkeyPatch, quota: float, threads: int, is_told: bool
) -> None:
    monkeypatch.setattr(hardware, "_cpu_quota", lambda: quota)

    found = choose_execution(TrainingSection(), Processes(), {})

    assert found.num_threads == threads
    assert ("CPU quota" in found.summary()) is is_told


@pytest.mark.parametrize(
    ("asked", "environment", "precision"),
    [
        ("bf16", {}, "bf16"),
        ("fp32", {}, "fp32"),
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

    training = TrainingSection(device=device, precision="fp32")

    assert choose_execution(training, Processes(), environment).device == expected


def test_the_summary_says_what_was_chosen_and_why() -> None:
    training = TrainingSection(device="cpu", precision="fp32")
    execution = choose_execution(training, Processes(), {"OMP_NUM_THREADS": "1"})

    assert fit_to_model(execution, "auto", "bert", supports_sdpa=True).summary() == (
        "cpu (training.device), fp32 (training.precision), 1 thread (OMP_NUM_THREADS), fast attention, fast dropout"
    )


# --- what the hardware multiplies natively


@pytest.mark.parametrize(
    ("capabilities", "precision", "reason"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bf16", "amx_bf16"),
        ({"amx_bf16": False, "avx512_bf16": True}, "bf16", "avx512_bf16"),
        ({"avx512_f": True, "avx512_bf16": False}, "fp32", "no bf16 instructions"),
        ({"architecture": "aarch64"}, "fp32", "no bf16 instructions"),
    ],
)
def test_a_cpu_computes_in_bf16_where_it_multiplies_it_natively(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], precision: str, reason: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    execution = choose_execution(TrainingSection(device="cpu"), Processes(), {})

    assert (execution.precision, execution.reasons["precision"]) == (precision, reason)


def accelerator_of(monkeypatch: pytest.MonkeyPatch, device: str, capability: tuple[int, int] = (0, 0)) -> Execution:
    """Choose for a fake accelerator."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(device))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    return choose_execution(TrainingSection(), Processes(), {})


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((9, 0), "bf16"), ((8, 6), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 1), "fp32")],
)
def test_an_nvidia_gpu_computes_in_bf16_from_ampere_on_and_in_fp16_from_volta_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    assert accelerator_of(monkeypatch, "cuda", capability).precision == precision


def test_apples_mps_computes_in_fp32_and_says_that_it_is_untested(monkeypatch: pytest.MonkeyPatch) -> None:
    assert accelerator_of(monkeypatch, "mps").summary().startswith("mps, fp32 (mps is untested)")


@pytest.mark.parametrize(
    ("device", "training", "model_type", "asked", "attention", "dropout"),
    [
        ("cpu", {}, "bert", "auto", "ftcli_fast", "fast"),
        ("cpu", {"precision": "bf16"}, "modernbert", "auto", "ftcli_fast", "fast"),
        ("cpu", {}, "deberta-v2", "auto", "eager", "fast"),
        ("cpu", {}, "mobilebert", "auto", "sdpa", "fast"),
        ("cpu", {"precision": "bf16"}, "mobilebert", "auto", "eager", "fast"),
        ("cpu", {"dropout": "torch"}, "bert", "auto", "sdpa", "torch"),
        ("cpu", {"dropout": "torch", "precision": "bf16"}, "bert", "auto", "eager", "torch"),
        ("cpu", {"compile": True}, "bert", "auto", "sdpa", "torch"),
        ("cpu", {}, "bert", "sdpa", "sdpa", "fast"),
        ("cpu", {}, "bert", "eager", "eager", "fast"),
        ("cuda", {}, "bert", "auto", "ftcli_sdpa", "torch"),
        ("cuda", {}, "bert", "sdpa", "sdpa", "torch"),
        ("cuda", {"precision": "bf16"}, "deberta-v2", "auto", "eager", "torch"),
    ],
)
def test_attention_and_dropout_by_device_precision_and_architecture(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    training: dict[str, Any],
    model_type: str,
    asked: Any,
    attention: str,
    dropout: str,
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: device != "cpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(device))
    section = TrainingSection(**{"precision": "fp32", **training})
    supports_sdpa = model_type != "deberta-v2"

    found = fit_to_model(choose_execution(section, Processes(), {}), asked, model_type, supports_sdpa=supports_sdpa)

    assert (found.device, found.attention, found.dropout) == (device, attention, dropout)


def test_an_attention_that_is_not_looked_up_by_name_keeps_transformers_name(monkeypatch: pytest.MonkeyPatch) -> None:
    execution = accelerator_of(monkeypatch, "cuda", (8, 0))

    found = fit_to_model(execution, "auto", "falcon", supports_sdpa=True, supports_names=False)

    assert found.attention == "sdpa"


@pytest.mark.parametrize(("model_type", "full_masks"), [("bert", False), ("big_bird", True)])
def test_masks_that_mask_nothing_are_left_out_for_models_that_look_for_no_padding_then(
    monkeypatch: pytest.MonkeyPatch, model_type: str, full_masks: bool
) -> None:
    execution = accelerator_of(monkeypatch, "cuda", (8, 0))

    assert fit_to_model(execution, "auto", model_type, supports_sdpa=True).full_masks is full_masks
    assert fit_to_model(execution, "sdpa", model_type, supports_sdpa=True).full_masks


@pytest.mark.parametrize(
    ("device", "training", "world_size", "expected"),
    [
        ("cuda", {}, 1, True),
        ("cuda", {"precision": "fp16"}, 1, True),
        ("cuda", {"precision": "fp32"}, 1, False),
        ("cuda", {"compile": True}, 1, False),
        ("cuda", {"gradient_checkpointing": True}, 1, False),
        ("cuda", {"micro_batch_size": "auto"}, 1, False),
        ("cuda", {}, 2, False),
        ("cpu", {}, 1, False),
    ],
)
def test_weights_are_cast_at_once_where_a_gpu_waits_for_its_host_and_memory_is_there(
    monkeypatch: pytest.MonkeyPatch, device: str, training: dict[str, Any], world_size: int, expected: bool
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: device != "cpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(device))
    section = TrainingSection(**{"precision": "bf16", **training})

    found = choose_execution(section, Processes(world_size=world_size, local_world_size=world_size), {})

    assert found.casts_at_once is expected


@pytest.mark.parametrize(
    ("training", "capabilities", "expected"),
    [
        ({"precision": "bf16"}, {"avx512_bf16": True}, True),
        ({"precision": "bf16"}, {"amx_bf16": True}, True),
        ({"precision": "bf16"}, {}, False),
        ({"precision": "fp32"}, {"amx_bf16": True}, False),
        ({"precision": "bf16", "compile": True}, {"amx_bf16": True}, False),
    ],
)
def test_weights_are_packed_where_the_cpu_multiplies_bf16(
    monkeypatch: pytest.MonkeyPatch, training: dict[str, Any], capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    assert choose_execution(TrainingSection(device="cpu", **training), Processes(), {}).packs_weights is expected


@pytest.mark.parametrize(("fused", "expected"), [("auto", True), (False, False), (True, True)])
def test_the_fused_optimizer_can_be_forced(fused: Any, expected: bool) -> None:
    training = TrainingSection(device="cpu", precision="fp32")

    found = choose_execution(training, Processes(), {}, fused=fused)

    assert found.fused_optimizer is expected


@pytest.mark.parametrize(
    ("precision", "compiled", "training_multiple", "evaluation_multiple"),
    [("fp32", False, 1, 1), ("bf16", False, 8, 2), ("fp32", True, 64, 64), ("bf16", True, 64, 64)],
)
def test_lengths_are_rounded_up_where_kernels_are_made_for_shapes(
    precision: Any, compiled: bool, training_multiple: int, evaluation_multiple: int
) -> None:
    training = TrainingSection(device="cpu", precision=precision, compile=compiled)

    found = choose_execution(training, Processes(), {})

    assert (found.length_multiple, found.evaluation_length_multiple) == (training_multiple, evaluation_multiple)


@pytest.mark.parametrize(
    ("training", "bound"),
    [
        ({"batch_size": 8}, 8),
        ({"batch_size": 16}, 16),
        ({"batch_size": 64}, 32),
        ({"batch_size": 64, "micro_batch_size": 4}, 4),
        ({"batch_size": 64, "micro_batch_size": "auto"}, 32),
        ({"tokens_per_batch": 512}, 22),
        ({"tokens_per_batch": 4096}, 32),
        ({"batch_size": 64, "precision": "fp32"}, 0),
        ({"batch_size": 64, "compile": True}, 0),
    ],
)
def test_lengths_are_rounded_finer_the_more_examples_a_pass_has(training: dict[str, Any], bound: int) -> None:
    section = TrainingSection(**{"device": "cpu", "precision": "bf16", **training})

    assert choose_execution(section, Processes(), {}).finer_below == bound


def test_each_process_has_its_part_of_the_examples() -> None:
    section = TrainingSection(device="cpu", precision="bf16", batch_size=32)

    assert choose_execution(section, Processes(world_size=2), {}).finer_below == 16


def test_matrices_of_fp32_are_multiplied_in_fp32_whatever_the_switch_is_named() -> None:
    """On a machine with AMX the switch that is tried means bf16, whose error is 0.05 here."""
    a, b = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(1)).unbind()
    hardware._multiply_with_onednn_if_exact()

    assert (a @ b - (a.double() @ b.double()).float()).abs().max() < 1e-3


def test_a_kernel_that_is_not_exact_is_switched_off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = SimpleNamespace(fp32_precision="none")
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", kernels)
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded_matmul)

    hardware._multiply_with_onednn_if_exact()

    assert kernels.fp32_precision == "none"


def rounded_matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply as AMX does under the switch."""
    half = torch.bfloat16 if a.dtype == torch.float32 else a.dtype
    return torch.matmul(a.to(half), b.to(half)).to(a.dtype)
