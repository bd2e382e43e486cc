"""Start several workers on this machine, and check that what runs is what was asked for.

The engine is torch's elastic launcher, the one that `accelerate launch` uses.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ftcli.console import Console
from ftcli.errors import EXIT_INTERRUPTED, FtcliError, LaunchError, TrainingInterruptedError, TrainingTerminatedError
from ftcli.processes import Processes

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

# Set in the workers that our own launcher starts: it prints their error, they keep quiet.
_OURS = "FTCLI_LAUNCHER_PID"
# What a process that is not the main one waits for the main one to report the error that both of them met.
_GRACE_SECONDS = 15
_UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor or sequence parallelism",
}


def is_worker(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher started this process as one of several."""
    return "WORLD_SIZE" in environment


def check_launch(num_processes: int | None, environment: Mapping[str, str] = os.environ) -> None:
    """Compare what a launcher started with what was asked for. Raises LaunchError for a mismatch.

    num_processes: what the command line asks for, if it does.
    """
    for variable, name in _UNSUPPORTED.items():
        if environment.get(variable, "false").lower() in ("true", "1"):
            raise LaunchError(
                f"accelerate launch asks for {name}, which ftcli does not support; encoders fit one device. Launch "
                "with --multi_gpu, or use ftcli train --num-processes"
            )
    if environment.get("ACCELERATE_DYNAMO_BACKEND", "NO").upper() != "NO":
        raise LaunchError("accelerate launch asks for a dynamo backend; remove it, and set training.compile=true")
    steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps != "1":
        raise LaunchError(
            f"accelerate launch asks for {steps} accumulation steps; here training.batch_size is the whole update and "
            "training.micro_batch_size says how it is cut"
        )
    world_size = environment.get("WORLD_SIZE")
    if world_size is not None:
        if num_processes is not None and int(world_size) != num_processes:
            raise LaunchError(
                f"--num-processes {num_processes}, but the launcher started {world_size}; leave the number to one"
            )
    elif "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment:
        # The only trace that `accelerate launch --cpu --num_processes 2` leaves of its number.
        raise LaunchError(
            "accelerate launch was asked for several processes and started one, as it does on a machine without "
            "GPUs; use ftcli train CONFIG --num-processes N, or ACCELERATE_USE_CPU=true accelerate launch "
            "--multi_gpu --num_processes N -m ftcli train CONFIG"
        )


def check_devices(num_processes: int, device: str) -> None:
    """Raise LaunchError for more processes than accelerators."""
    import torch

    if device != "cpu" and num_processes > torch.accelerator.device_count():
        raise LaunchError(
            f"--num-processes {num_processes}, but there are {torch.accelerator.device_count()} {device} devices; "
            "ask for fewer, or set training.device=cpu"
        )


def launch(arguments: Sequence[str], num_processes: int, console: Console) -> int:
    """Run `ftcli ARGUMENTS` in several workers, print the error of the main one once, and return its exit code."""
    import logging

    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):  # each of these sets a level of its own at import
            logging.getLogger(name).setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=f"ftcli-{uuid4()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(),
    )
    os.environ[_OURS] = str(os.getpid())
    try:
        elastic_launch(config, sys.executable)("-m", "ftcli", *arguments)
    except ChildFailedError as failed:
        return _report_failed(failed, console)
    except (KeyboardInterrupt, SignalException) as interrupted:
        number = getattr(interrupted, "sigval", signal.SIGINT)
        return EXIT_INTERRUPTED if number == signal.SIGINT else 128 + int(number)
    finally:
        del os.environ[_OURS]
        _end_workers()
    return 0


def _end_workers() -> None:
    """End what is left of the workers, as after a second Ctrl-C, which torch's launcher does not wait out."""
    import psutil

    for worker in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            worker.kill()


def _report_failed(failed: ChildFailedError, console: Console) -> int:
    """Print the error that ended the run, once, and return the exit code of its process.

    An error that is explained comes before a bug or a death, and what came first before what it caused: when one
    process dies, the others fail too, for want of a partner, or because torch ends them by SIGTERM.
    """
    failures: dict[int, Any] = failed.failures

    def precedence(rank: int) -> tuple[bool, bool, int, int]:
        code = failures[rank].exitcode
        was_ended = code in (-signal.SIGTERM, EXIT_INTERRUPTED, TrainingTerminatedError.exit_code)
        return was_ended, code <= 1, _moment(failures[rank]), rank

    rank = min(failures, key=precedence)
    failure = failures[rank]
    code = int(failure.exitcode)
    if code in (EXIT_INTERRUPTED, TrainingTerminatedError.exit_code):
        return code  # which the worker has told
    message = failure.message if isinstance(failure.message, str) else failure.message["message"]
    console.error(message if code > 0 else f"process {rank} was ended by {failure.signal_name()}")
    return code if code > 0 else 128 - code


def _moment(failure: Any) -> int:
    """Return when a process reported, in nanoseconds where it says so itself."""
    if isinstance(failure.message, dict):
        return int(failure.message["extraInfo"].get("nanoseconds", 0))
    return int(failure.timestamp) * 10**9


def report(error: BaseException, console: Console) -> None:
    """Make sure that an error is told once, by the main process if it meets the error too."""
    bug = not isinstance(error, FtcliError)
    message = "".join(traceback.format_exception(error)) if bug else str(error)
    processes = Processes.from_environment()
    if isinstance(error, TrainingInterruptedError):
        if processes.is_main:
            console.error(message)
        return
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if _OURS in os.environ and error_file:
        extra = {"timestamp": str(int(time.time())), "nanoseconds": time.time_ns()}
        record = {"message": {"message": message, "extraInfo": extra}}
        Path(error_file).write_text(json.dumps(record), encoding="utf-8")
        return
    if not processes.is_main and not bug:
        # The main process is about to meet the same error; its launcher then ends this process.
        time.sleep(_GRACE_SECONDS)
        message = f"process {processes.rank}: {message}"
    console.error(message)
