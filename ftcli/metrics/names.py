"""The metrics by name: which way is better, and what they need. Light: the config is checked against this table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

HUB_PREFIX = "hub:"
LOSS = "loss"

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class MetricName:
    """What is known of a metric without computing it.

    family: the class in `ftcli.metrics` that computes it. average: scikit-learn's word for how it is pooled
    over labels, where that applies. two_labels_only: it scores one positive class against one negative class.
    """

    family: str
    average: str | None = None
    two_labels_only: bool = False
    direction: Direction = "higher"


METRICS: dict[str, MetricName] = {
    "accuracy": MetricName("accuracy"),
    "matthews_correlation": MetricName("matthews_correlation"),
    **{family: MetricName(family, average="binary", two_labels_only=True) for family in ("f1", "precision", "recall")},
    **{
        f"{family}_{average}": MetricName(family, average=average)
        for family in ("f1", "precision", "recall")
        for average in ("macro", "micro", "weighted")
    },
}


def is_better(score: float, best: float, direction: Direction) -> bool:
    """Whether a score beats the best so far; an equal or undefined (NaN) score never does."""
    return score > best if direction == "higher" else score < best


def for_any_number_of_labels(names: Sequence[str]) -> list[str]:
    """List those metric names that also score more than two labels."""
    return [name for name in names if not METRICS[name].two_labels_only]
