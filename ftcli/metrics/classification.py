"""Metrics over label ids: `evaluate.Metric` classes with scikit-learn underneath, imported, never downloaded."""

from __future__ import annotations

import warnings
from typing import Any

import datasets
import evaluate
from sklearn import metrics as sklearn_metrics

_IDS = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})


class _LabelMetric(evaluate.Metric):
    """A metric over label ids. score_name: the key of its result. average: scikit-learn's, where it has one."""

    def __init__(self, *, score_name: str, num_labels: int, average: str | None = None, **options: Any) -> None:
        self.score_name, self.num_labels, self.average = score_name, num_labels, average
        super().__init__(config_name=score_name, keep_in_memory=True, **options)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "", citation="", inputs_description="", features=_IDS
        )

    def _averaged(self, function: Any, predictions: Any, references: Any) -> dict[str, float]:
        labels = None if self.average == "binary" else list(range(self.num_labels))
        score = function(references, predictions, average=self.average, labels=labels, zero_division=0)
        return {self.score_name: float(score)}


class Accuracy(_LabelMetric):
    """The share of predictions that equal their references."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {self.score_name: float(sklearn_metrics.accuracy_score(references, predictions))}


class F1(_LabelMetric):
    """The harmonic mean of precision and recall."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return self._averaged(sklearn_metrics.f1_score, predictions, references)


class Precision(_LabelMetric):
    """The share of predicted positives that are positive."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return self._averaged(sklearn_metrics.precision_score, predictions, references)


class Recall(_LabelMetric):
    """The share of positives that are found."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return self._averaged(sklearn_metrics.recall_score, predictions, references)


class MatthewsCorrelation(_LabelMetric):
    """The correlation of predictions and references (Matthews, 1975)."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        with warnings.catch_warnings():
            # Where all is of one label it is 0, which needs no words about a confusion matrix.
            warnings.filterwarnings("ignore", message="A single label was found")
            return {self.score_name: float(sklearn_metrics.matthews_corrcoef(references, predictions))}
