"""From predictions and references to named scores, combined as `evaluate` combines metrics."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftcli.errors import ConfigError, ModelError
from ftcli.metrics.names import HUB_PREFIX, METRICS


def compute_scores(
    names: Sequence[str], predictions: Sequence[Any], references: Sequence[Any], *, num_labels: int
) -> dict[str, float]:
    """Compute metrics by name over the whole of the predictions; never batch by batch.

    Names with `hub:` run code that is downloaded: the caller has asked for permission.
    """
    import evaluate

    if not names:
        return {}
    # evaluate makes a directory for each metric even when all is kept in memory; ours goes away again.
    with tempfile.TemporaryDirectory() as scratch:
        own = [_own_metric(name, num_labels, scratch) for name in names if not name.startswith(HUB_PREFIX)]
        foreign = {name: _hub_metric(name) for name in names if name.startswith(HUB_PREFIX)}
        found: dict[str, Any] = {}
        if own:
            found |= evaluate.combine(own).compute(predictions=predictions, references=references)
        for name, metric in foreign.items():
            found[name] = _only_number(name, metric.compute(predictions=predictions, references=references))
    return {name: float(found[name]) for name in names}


def check_hub_metrics(names: Sequence[str]) -> None:
    """Load the metrics of the Hub once before anything depends on them. Raises ModelError or ConfigError."""
    for name in names:
        if name.startswith(HUB_PREFIX):
            _hub_metric(name)


def _own_metric(name: str, num_labels: int, scratch: str) -> Any:
    from ftcli.metrics import classification

    families = {
        "accuracy": classification.Accuracy,
        "f1": classification.F1,
        "precision": classification.Precision,
        "recall": classification.Recall,
        "matthews_correlation": classification.MatthewsCorrelation,
    }
    known = METRICS[name]
    return families[known.family](score_name=name, num_labels=num_labels, average=known.average, cache_dir=scratch)


def _hub_metric(name: str) -> Any:
    """Load a metric's code from the Hub, and from nowhere else: evaluate prefers a file of that name nearby."""
    import evaluate

    path = name.removeprefix(HUB_PREFIX)
    if Path(path).exists():
        raise ConfigError(
            f"evaluation.metrics: {name} would run the local {path!r} instead of the Hub's metric; rename that file"
        )
    try:
        return evaluate.load(path, module_type="metric", keep_in_memory=True)
    except Exception as error:
        # Whatever the download raises means one thing to the user.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{name}: the metric cannot be loaded from the Hub: {reason}") from None


def _only_number(name: str, result: Any) -> float:
    numbers = {key: value for key, value in result.items() if isinstance(value, int | float)}
    short = name.rpartition("/")[2].removeprefix(HUB_PREFIX)
    if short in numbers:
        return float(numbers[short])
    if len(numbers) != 1:
        raise ConfigError(f"evaluation.metrics: {name} gives {', '.join(result) or 'nothing'}; expected one number")
    return float(next(iter(numbers.values())))
