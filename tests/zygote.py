"""Trains in forked children, so that a crash costs a second and not the import of the libraries.

`python zygote.py` reads jobs from standard input, a JSON object a line, and answers each with one. A job has:
config, overrides, arguments: for `ftcli.train`. num_processes. log: a file for what the children print.
fault: what happens in which rank: {"rank", "what": kill | interrupt | interrupt_twice | terminate | full_disk | end,
"event": the number of the disk operation, or "update": the number of the update, or "seconds"}.
sabotage: "cursor", to resume one update too late; "nan", to spoil the loss of rank 1 in the third update.
The answer has the exit code of each child, negative for a signal, and the events of rank 0.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
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
from ftcli.learner import Learner
from ftcli.tasks.text_classification import TextClassification
from ftcli.workflows import train

# The largest file that a full disk takes here: the JSON files fit, the tensors do not.
SMALL = 12_000


class Events:
    """The disk operations of a child, one line each, and the fault that comes at one of them."""

    def __init__(self, job: dict[str, Any], rank: int) -> None:
        self.file = Path(f"{job['log']}.{rank}.events").open("a", buffering=1, encoding="utf-8")  # noqa: SIM115
        fault = job.get("fault") or {}
        self.fault = fault if fault.get("rank", 0) == rank else {}
        self.count = self.updates = 0
        if "seconds" in self.fault:
            # The default of SIGALRM ends the process at once, wherever it is.
            signal.setitimer(signal.ITIMER_REAL, self.fault["seconds"])

    def watch(self, what: str, path: Path) -> None:
        self.file.write(f"{what} {path}\n")
        self.count += 1
        if self.fault.get("event") == self.count:
            self.strike()

    def update(self) -> None:
        self.updates += 1
        if self.fault.get("update") == self.updates:
            self.strike()

    def strike(self) -> None:
        what = self.fault["what"]
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "end":
            os._exit(9)
        elif what == "full_disk":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, resource.RLIM_INFINITY))
        else:
            number = signal.SIGTERM if what == "terminate" else signal.SIGINT
            for _ in range(2 if what == "interrupt_twice" else 1):
                os.kill(os.getpid(), number)


def sabotage_cursor() -> None:
    updates = UpdatePlan.updates

    def late(plan: UpdatePlan, after: int = 0) -> Iterator[Update]:
        return updates(plan, after + 1 if after else 0)

    UpdatePlan.updates = late  # type: ignore[method-assign]


def sabotage_loss(events: Events) -> None:
    loss = TextClassification.loss

    def spoilt(self: TextClassification, *args: Any) -> Any:
        loss_sum, weight_sum = loss(self, *args)
        return loss_sum * (float("nan") if events.updates == 3 else 1), weight_sum

    TextClassification.loss = spoilt  # type: ignore[method-assign]


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
    update = Learner.update

    def counted(self: Learner, *args: Any, **kwargs: Any) -> Any:
        events.update()
        return update(self, *args, **kwargs)

    Learner.update = counted  # type: ignore[method-assign]
    if job.get("sabotage") == "cursor":
        sabotage_cursor()
    if job.get("sabotage") == "nan" and rank == 1:
        sabotage_loss(events)
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


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Fork the children of a job; when one ends badly the others are ended, as launchers do."""
    port = free_port()
    pids = {}
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
        pids[pid] = rank
    exits: dict[int, int] = {}
    while len(exits) < len(pids):
        pid, status = os.wait()
        exits[pids[pid]] = os.waitstatus_to_exitcode(status)
        if exits[pids[pid]] < 0 or exits[pids[pid]] == 9:
            for other, rank in pids.items():
                if rank not in exits:
                    os.kill(other, signal.SIGKILL)
    return {"exits": [exits[rank] for rank in range(job["num_processes"])]}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        answers.write(json.dumps(run(json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
