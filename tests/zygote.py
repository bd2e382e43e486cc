"""Trains in forked children, so that a crash costs a second and not the import of the libraries.

`python zygote.py` reads jobs from standard input, a JSON object a line, and answers each with one. A job has:
config, overrides, arguments: for `ftcli.train`. num_processes. log: a file for what the children print.
fault: what happens in which rank: {"rank", "what", and when}. What: kill, interrupt, interrupt_twice, terminate,
full_disk, no_space or vanish. When: "event", the number of the disk operation, or "update" or "evaluation", the
number of the update or of the batch that is evaluated. {"rank", "seconds"} is SIGKILL so long after the first record
of a step.
sabotage: "cursor", to resume one update too late; "order", to resume with gradients in the order of a first pass;
"nan", to spoil the loss of rank 1 in the third update; "nan_gradient", only its gradient, from then on.
unprivileged: whether the child may write only what its user may.
The answer has the exit code of each child, negative for a signal. Beside the log lie the disk operations of each rank,
a line each: seconds since the start, before or after, what, and the path.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What every child would otherwise import for itself.
import transformers.models.bert.modeling_bert  # noqa: F401

import ftcli.metrics.classification  # noqa: F401
from ftcli import durable
from ftcli.console import Console
from ftcli.data.batching import Update, UpdatePlan
from ftcli.errors import FtcliError
from ftcli.evaluation import Evaluator
from ftcli.learner import Learner
from ftcli.tasks.text_classification import TextClassification
from ftcli.workflows import train

# The largest file that a full disk takes here: the JSON files fit, the tensors do not.
SMALL = 60_000


class Events:
    """The disk operations of a child, one line each, and the fault that comes at one of them."""

    def __init__(self, job: dict[str, Any], rank: int) -> None:
        self.file = Path(f"{job['log']}.{rank}.events").open("a", buffering=1, encoding="utf-8")  # noqa: SIM115
        fault = job.get("fault") or {}
        self.fault = fault if fault.get("rank", 0) == rank else {}
        self.tells_parent = rank == 0 and "seconds" in fault
        self.count = self.updates = self.evaluations = 0
        self.run = next(text.partition("=")[2] for text in job["overrides"] if text.startswith("output_dir="))
        self.started = time.monotonic()

    def watch(self, what: str, path: Path) -> None:
        self.file.write(f"{time.monotonic() - self.started:.4f} {what} {path}\n")
        self.count += 1
        if self.tells_parent and "steps.jsonl" in str(path):
            self.tells_parent = False
            os.kill(os.getppid(), signal.SIGUSR1)
        if self.fault.get("event") == self.count:
            self.strike()

    def update(self) -> None:
        self.updates += 1
        if self.fault.get("update") == self.updates:
            self.strike()

    def evaluation(self) -> None:
        self.evaluations += 1
        if self.fault.get("evaluation") == self.evaluations:
            self.strike()

    def strike(self) -> None:
        what = self.fault["what"]
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "vanish":
            shutil.rmtree(self.run)
        elif what == "full_disk":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, resource.RLIM_INFINITY))
        elif what == "no_space":
            for descriptor in Path("/proc/self/fd").iterdir():
                if os.path.realpath(descriptor).endswith(".partial"):
                    os.dup2(os.open("/dev/full", os.O_WRONLY), int(descriptor.name))
        else:
            number = signal.SIGTERM if what == "terminate" else signal.SIGINT
            for _ in range(2 if what == "interrupt_twice" else 1):
                os.kill(os.getpid(), number)


def sabotage_cursor() -> None:
    updates = UpdatePlan.updates

    def late(plan: UpdatePlan, after: int = 0) -> Iterator[Update]:
        return updates(plan, after + 1 if after else 0)

    UpdatePlan.updates = late  # type: ignore[method-assign]


def sabotage_loss(events: Events, what: str) -> None:
    loss = TextClassification.loss

    def spoilt(self: TextClassification, *args: Any) -> Any:
        loss_sum, weight_sum = loss(self, *args)
        if what == "nan" and events.updates == 3:
            loss_sum = loss_sum * float("nan")
        if what == "nan_gradient" and events.updates >= 3:
            loss_sum.register_hook(lambda gradient: gradient * float("nan"))
        return loss_sum, weight_sum

    TextClassification.loss = spoilt  # type: ignore[method-assign]


def drop_privileges() -> None:
    """Give up what lets root write everywhere; who has no such privileges keeps what there is. Linux alone has this."""
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, nothing) == 0


def child(job: dict[str, Any], rank: int, port: int) -> int:
    """Train, and return the exit code that the command line would."""
    if job["num_processes"] > 1:
        size = str(job["num_processes"])
        os.environ.update(WORLD_SIZE=size, LOCAL_WORLD_SIZE=size, RANK=str(rank), LOCAL_RANK=str(rank))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    events = Events(job, rank)
    durable.watch = events.watch
    update, run_batch = Learner.update, Evaluator.run_batch

    def counted(self: Learner, *args: Any, **kwargs: Any) -> Any:
        events.update()
        return update(self, *args, **kwargs)

    def counted_batch(self: Evaluator, *args: Any, **kwargs: Any) -> Any:
        events.evaluation()
        return run_batch(self, *args, **kwargs)

    Learner.update = counted  # type: ignore[method-assign]
    Evaluator.run_batch = counted_batch  # type: ignore[method-assign]
    if job["unprivileged"]:
        drop_privileges()
    if job.get("sabotage") == "cursor":
        sabotage_cursor()
    if job.get("sabotage") == "order":
        Learner.settle = lambda *_: None  # type: ignore[method-assign]
    if job.get("sabotage") in ("nan", "nan_gradient") and rank == 1:
        sabotage_loss(events, job["sabotage"])
    try:
        train(job["config"], job["overrides"], console=Console(), **job["arguments"])
    except FtcliError as error:
        if rank == 0:
            sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def fork(job: dict[str, Any], ranks: dict[int, int]) -> None:
    """Start the children of a job, and note the rank of each."""
    port = free_port()
    for rank in range(job["num_processes"]):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = child(job, rank, port)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        ranks[pid] = rank


def kill(ranks: dict[int, int], exits: dict[int, int], *wanted: int) -> None:
    """Kill the children of some ranks, if they still run."""
    for pid, rank in ranks.items():
        if rank in wanted and rank not in exits:
            os.kill(pid, signal.SIGKILL)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run the children of a job; when one ends badly the others are ended, as launchers do."""
    ranks: dict[int, int] = {}
    exits: dict[int, int] = {}
    fault = job["fault"] or {}
    signal.signal(signal.SIGALRM, lambda *_: kill(ranks, exits, fault["rank"]))
    # The main process's word that it has recorded its first step.
    signal.signal(signal.SIGUSR1, lambda *_: signal.setitimer(signal.ITIMER_REAL, fault["seconds"]))
    fork(job, ranks)
    while len(exits) < len(ranks):
        pid, status = os.wait()
        code = exits[ranks[pid]] = os.waitstatus_to_exitcode(status)
        if code < 0:
            kill(ranks, exits, *ranks.values())
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {"exits": [exits[rank] for rank in range(job["num_processes"])]}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        answers.write(json.dumps(run(json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
