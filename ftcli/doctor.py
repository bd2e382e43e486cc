"""`doctor`: is this machine ready? Versions, device, threads, disk, caches, the Hub, and a tiny model trained."""

from __future__ import annotations

import math
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from ftcli import __version__
from ftcli.config.schema import OptimizerSection, TrainingSection
from ftcli.console import Console
from ftcli.data.sources import cache_directory
from ftcli.errors import FtcliError
from ftcli.hardware import Execution, choose_execution, start
from ftcli.hub import hub_cache, is_online, why_offline
from ftcli.optimization import build_optimizer
from ftcli.processes import Processes

# A checkpoint of BERT-base with its optimizer takes 1.3 GB, and two are kept.
_NEEDED_BYTES = 4 * 2**30
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. remedy: what to do where it is not as it should be."""

    name: str
    found: str
    is_good: bool = True
    remedy: str = ""


def examine_machine() -> Iterator[Check]:
    """Yield what was found, check by check; the slow ones come last."""
    yield Check("ftcli", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    yield _guarded("packages", _packages)
    yield _guarded("device", lambda: _device(_execution()))
    yield _guarded("threads", lambda: Check("threads", f"{_execution().num_threads} for the work on the CPU"))
    yield _guarded("working directory", lambda: _folder("working directory", Path.cwd(), "change into another one"))
    remedy = "set FTCLI_CACHE to a folder that you may write to"
    yield _guarded("cache of ftcli", lambda: _folder("cache of ftcli", cache_directory(), remedy))
    yield _guarded("cache of the Hub", lambda: _folder("cache of the Hub", hub_cache(), "set HF_HOME to such a folder"))
    yield _guarded("the Hub", _hub)
    yield _guarded("login", _login)
    yield _guarded("a tiny training step", lambda: _step(_execution()))


def _execution() -> Execution:
    return choose_execution(TrainingSection(), Processes.from_environment())


def _packages() -> Check:
    """Compare what is installed with what ftcli asks for."""
    from packaging.requirements import Requirement

    wrong, found = [], []
    for line in requires("ftcli") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        found.append(f"{requirement.name} {installed}")
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} {installed} is not {requirement.specifier}")
    remedy = f"pip install --upgrade {' '.join(repr(text.split()[0]) for text in wrong)}"
    return Check("packages", "; ".join(wrong) or ", ".join(found), not wrong, remedy if wrong else "")


def _device(execution: Execution) -> Check:
    import torch

    name = torch.cuda.get_device_name() if execution.device == "cuda" else execution.device
    reasons = "; ".join(execution.reasons.values())
    return Check("device", f"{name}, precision {execution.precision}" + (f" ({reasons})" if reasons else ""))


def _folder(name: str, folder: Path, remedy: str) -> Check:
    """See that a folder can be written, or made, and that the disk has room."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):  # os.access promises root everything
            pass
    except OSError as error:
        return Check(name, f"{folder}: not writable: {error.strerror}", is_good=False, remedy=remedy)
    free = shutil.disk_usage(there).free
    found = f"{folder}: {free / _GIB:.1f} GiB free"
    if free < _NEEDED_BYTES:
        return Check(
            name, found, is_good=False, remedy=f"make room: a run of BERT-base needs {_NEEDED_BYTES // _GIB} GiB"
        )
    return Check(name, found)


def _hub() -> Check:
    # Not to reach the Hub is no fault: local models and what is cached work without it.
    return Check("the Hub", "answers" if is_online() else f"{why_offline()}: only what is cached or local can be used")


def _login() -> Check:
    from huggingface_hub import get_token

    return Check("login", "a token is set" if get_token() else "no token; gated models and push need hf auth login")


def _step(execution: Execution) -> Check:
    """Train a tiny BERT for two updates, as a run would: the second shows what the first did."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    accelerator = start(execution, Processes())
    sizes: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = BertForSequenceClassification(BertConfig(**sizes, max_position_embeddings=16))
    model = accelerator.prepare_model(model)
    optimizer = build_optimizer(model, OptimizerSection(), fused=execution.fused_optimizer)
    ids = torch.arange(64, device=accelerator.device).reshape(4, 16)
    labels = torch.tensor([0, 1, 0, 1], device=accelerator.device)
    losses = []
    for _ in range(2):
        with accelerator.autocast():
            loss = model(input_ids=ids, labels=labels).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    found = f"loss {losses[0]:.4f}, then {losses[1]:.4f}"
    if not (math.isfinite(losses[0]) and losses[1] < losses[0]):
        return Check("a tiny training step", found, is_good=False, remedy="set training.precision=fp32")
    return Check("a tiny training step", found)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """Turn whatever a check raises into what it found: finding that out is what it is for."""
    try:
        return check()
    except FtcliError as error:
        return Check(name, str(error), is_good=False, remedy="see the message")
    except Exception as error:
        found = f"{type(error).__name__}: {error}".splitlines()[0]
        remedy = "reinstall torch for this machine (https://pytorch.org), or set training.device=cpu"
        return Check(name, found, is_good=False, remedy=remedy if name.endswith("step") else "see the message")


def doctor(console: Console | None = None) -> dict[str, Any]:
    """Look at the machine, and tell what was found. Returns a record, with `is_good` for the whole."""
    console = console or Console()
    console.calm_libraries()
    checks = list(examine_machine())
    record = {"is_good": all(check.is_good for check in checks), "checks": [asdict(check) for check in checks]}
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{'ok' if check.is_good else '!!'}  {check.name:<{width}}  {check.found}")
        if check.remedy:
            lines.append(f"{'':<{width + 6}}-> {check.remedy}")
    console.result(record, "\n".join(lines))
    return record
