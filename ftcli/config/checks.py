"""What the schema of single keys cannot see: values that are fine alone and wrong together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from ftcli.config.excerpts import Path, Problem
from ftcli.config.schema import Config
from ftcli.locations import PACKAGE_PREFIX
from ftcli.metrics.names import HUB_PREFIX, LOSS
from ftcli.tasks import TASKS


def cross_check(config: Config) -> Iterator[Problem]:
    """Yield the problems of values that are fine alone and wrong together."""
    data = config.data
    columns = config.build_task().text_columns, config.build_task().answer_columns
    for name in dict.fromkeys(name for name in columns[0] if name in columns[1] or columns[0].count(name) > 1):
        message = f"{name!r} is named twice; texts and labels stand in columns of their own"
        yield _problem("data.columns.text", message, "data.columns.label")
    if data.path is None and data.files is None:
        yield Problem(("data",), "says neither path nor files; set one of them", is_about_key=True)
    if data.path is not None and data.files is not None:
        yield _problem("data.files", "data.path is set too; keep one, and set the other to null", "data.path")
    for index, name in enumerate(data.labels or ()):
        if name in (data.labels or ())[:index]:
            yield Problem(("data", "labels", index), f"{name!r} is named twice; give each name once")
    if data.validation_fraction is not None and data.validation_split == data.train_split:
        message = "the train split is the validation split; set it to null, or name another split"
        yield _problem("data.validation_fraction", message, "data.validation_split", "data.train_split")
    yield from _check_warmup(config)
    yield from _check_idle_keys(config)
    yield from _check_metrics(config)


def _problem(key: str, message: str, *related: str) -> Problem:
    return Problem(_path(key), message, related=tuple(map(_path, related)))


def _path(key: str) -> Path:
    return tuple(key.split("."))


def _check_warmup(config: Config) -> Iterator[Problem]:
    key, warmup = "scheduler.warmup_steps", config.scheduler.warmup_steps
    if warmup >= 1 and warmup != int(warmup):
        yield _problem(key, f"{warmup} is neither a whole number of updates nor a share below 1")
    elif warmup and config.scheduler.name == "constant":
        yield _problem(key, "the schedule constant has no warm-up; choose constant_with_warmup", "scheduler.name")
    elif config.training.max_steps is not None and warmup >= max(1, config.training.max_steps):
        message = (
            f"{warmup} updates of warm-up in a run of at most {config.training.max_steps}: the learning rate would "
            "never reach its peak"
        )
        yield _problem(key, message, "training.max_steps")


def _check_idle_keys(config: Config) -> Iterator[Problem]:
    """Find keys that were set and would do nothing."""
    data = config.data
    if data.path is not None and not is_on_hub(data.path):
        for name in ("name", "revision"):
            if getattr(data, name) is not None:
                message = f"is for data sets of the Hub, and {data.path} is local; set it to null"
                yield _problem(f"data.{name}", message, "data.path")
    if config.model.revision is not None and not is_on_hub(config.model.name_or_path):
        message = f"is for models of the Hub, and {config.model.name_or_path} is local; set it to null"
        yield _problem("model.revision", message, "model.name_or_path")
    if config.evaluation.early_stopping_patience is not None and config.evaluation.every == "never":
        message = "nothing is evaluated with evaluation.every=never; remove one"
        yield _problem("evaluation.early_stopping_patience", message, "evaluation.every")


def is_on_hub(name: str) -> bool:
    """Whether a model's or a data set's name is one of the Hub: no path, and nothing of an installed package."""
    return not name.startswith(PACKAGE_PREFIX) and not looks_local(name)


def looks_local(path: str) -> bool:
    """Whether a path is meant on this machine: it exists, or starts as a path and never reaches the Hub."""
    # os.path.exists says no to a name that is too long or odd for a path; Path.exists raises.
    return path.startswith(("./", "../", "/", "~")) or os.path.exists(path)  # noqa: PTH110


def _check_metrics(config: Config) -> Iterator[Problem]:
    known, section = TASKS[config.task].metrics, config.evaluation
    for index, name in enumerate(section.metrics or ()):
        path = ("evaluation", "metrics", index)
        if name.startswith(HUB_PREFIX) and name not in section.directions:
            hint = f"set evaluation.directions={{'{name}': lower}} (or higher)"
            yield Problem(path, f"{name} needs a direction; {hint}")
        elif not name.startswith(HUB_PREFIX) and name not in known:
            yield Problem(path, _unknown_metric(name, known))
    for name in section.directions:
        if not name.startswith(HUB_PREFIX):
            yield Problem(("evaluation", "directions", name), "is known; only hub: metrics need a direction; remove it")
    best = section.best_metric
    if best is None or best == LOSS:
        return
    if section.metrics is None and best not in known:
        yield _problem("evaluation.best_metric", _unknown_metric(best, known))
    elif section.metrics is not None and best not in section.metrics:
        choices = ", ".join((*section.metrics, LOSS))
        message = f"{best} is not computed; choose one of {choices}"
        if best in known:
            message += ", or add it to evaluation.metrics"
        yield _problem("evaluation.best_metric", message, "evaluation.metrics")


def _unknown_metric(name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name.lower().removeprefix("eval_"), (*known, LOSS), 1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}, and hub:NAME"
    return f"unknown metric {name}; {hint}"
