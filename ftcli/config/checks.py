"""What the schema of single keys cannot see: values that are fine alone and wrong together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from ftcli.config.schema import Config
from ftcli.locations import PACKAGE_PREFIX
from ftcli.metrics.names import HUB_PREFIX, LOSS
from ftcli.tasks import TASKS


def cross_check(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (key, problem) for values that are fine alone and wrong together."""
    data, warmup = config.data, config.scheduler.warmup_steps
    if data.path is None and data.files is None:
        yield "data", "says neither path nor files; set one of them"
    if data.path is not None and data.files is not None:
        yield "data.files", "data.path is set too; keep one, and set the other to null"
    if data.labels and len(set(data.labels)) < len(data.labels):
        yield "data.labels", "names a label twice; give each name once"
    if data.validation_fraction is not None and data.validation_split == data.train_split:
        yield "data.validation_fraction", "the train split is the validation split; set it to null or name another"
    if warmup >= 1 and warmup != int(warmup):
        yield "scheduler.warmup_steps", f"{warmup} is neither a whole number of updates nor a share below 1"
    if warmup and config.scheduler.name == "constant":
        yield "scheduler.warmup_steps", "the schedule constant has no warm-up; choose constant_with_warmup"
    yield from _check_idle_keys(config)
    yield from _check_metrics(config)


def _check_idle_keys(config: Config) -> Iterator[tuple[str, str]]:
    """Find keys that were set and would do nothing."""
    data = config.data
    if data.path is not None and not is_on_hub(data.path):
        for name in ("name", "revision"):
            if getattr(data, name) is not None:
                yield f"data.{name}", f"is for data sets of the Hub, and {data.path} is local; set data.{name}=null"
    if config.model.revision is not None and not is_on_hub(config.model.name_or_path):
        yield "model.revision", f"is for models of the Hub, and {config.model.name_or_path} is local; remove it"
    if config.evaluation.early_stopping_patience is not None and config.evaluation.every == "never":
        yield "evaluation.early_stopping_patience", "nothing is evaluated with evaluation.every=never; remove one"


def is_on_hub(name: str) -> bool:
    """Whether a model's or a data set's name is one of the Hub: no path, and nothing of an installed package."""
    return not name.startswith(PACKAGE_PREFIX) and not looks_local(name)


def looks_local(path: str) -> bool:
    """Whether a path is meant on this machine: it exists, or starts as a path and never reaches the Hub."""
    # os.path.exists says no to a name that is too long or odd for a path; Path.exists raises.
    return path.startswith(("./", "../", "/", "~")) or os.path.exists(path)  # noqa: PTH110


def _check_metrics(config: Config) -> Iterator[tuple[str, str]]:
    known, section = TASKS[config.task].metrics, config.evaluation
    for name in section.metrics or ():
        if name.startswith(HUB_PREFIX) and name not in section.directions:
            hint = f"evaluation.directions={{'{name}': higher}} or lower"
            yield "evaluation.metrics", f"{name} needs a stated direction: {hint}"
        elif not name.startswith(HUB_PREFIX) and name not in known:
            yield "evaluation.metrics", _unknown_metric(name, known)
    best = section.best_metric
    if best is None or best == LOSS:
        return
    if section.metrics is None and best not in known:
        yield "evaluation.best_metric", _unknown_metric(best, known)
    elif section.metrics is not None and best not in section.metrics:
        choices = ", ".join((*section.metrics, LOSS))
        text = f"{best} is not computed; choose one of {choices}, or add it to metrics"
        yield "evaluation.best_metric", text


def _unknown_metric(name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}, and hub:NAME"
    return f"unknown metric {name}; {hint}"
