"""A model, a task and features so small that every gradient can be worked by hand."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ftcli.config.schema import TrainingSection
from ftcli.data.collation import Collation
from ftcli.data.preparation import Features, Ragged
from ftcli.hardware import choose_execution, start
from ftcli.learner import Learner, PassSize
from ftcli.processes import Processes
from ftcli.tasks.base import Field


class Line(torch.nn.Module):
    """Predicts w * x for the first token x of a feature: every gradient can be worked by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(()))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.w * input_ids[:, 0].float())


class WeightedSum:
    """The loss of feature i is weight_i * w * x_i."""

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return (batch["weights"] * outputs.logits).sum(), batch["weights"].sum()


class MeanOfMeans(WeightedSum):
    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        loss_sum, weight_sum = super().loss(outputs, batch)
        return loss_sum / weight_sum, torch.ones(())


def line_features(values: list[float], weights: list[float]) -> Features:
    count = len(values)
    ids = Ragged(np.asarray(values, "float32"), np.arange(count + 1))
    return Features(
        {"input_ids": ids, "weights": np.asarray(weights, "float32")},
        rows=np.arange(count),
        truncated=np.zeros(count, bool),
        num_rows=count,
    )


def line_learner(
    task: WeightedSum,
    *,
    micro_batch_size: int | None,
    max_grad_norm: float | None = None,
    adapts: bool = False,
    model: Line | None = None,
) -> Learner:
    """Learn by plain gradient descent with rate 1, so that w moves by exactly the gradient."""
    processes = Processes()
    model = model or Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, fused=True)
    fields = {
        "input_ids": Field(pad=0, dtype="float32"),
        "weights": Field(pad=0, per_token=False, is_target=True, dtype="float32"),
    }
    return Learner(
        model=model,
        wrapped=model,
        optimizer=optimizer,
        schedule=torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
        accelerator=start(choose_execution(TrainingSection(device="cpu", precision="fp32"), processes), processes),
        processes=processes,
        task=task,
        collation=Collation(fields),
        pass_size=PassSize(micro_batch_size, adapts=adapts),
        max_grad_norm=max_grad_norm,
    )
