"""Dropout on a CPU without torch's serial generator, and attention with it: exact in distribution, reproducible."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

NAME = "ftcli_fast"
# The architectures whose attention is this one, and whose embeddings may be rounded: each of them is tested.
KNOWN = frozenset({"albert", "bert", "camembert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta"})


def dropout(x: Tensor, rate: float) -> Tensor:
    """Set values to zero at a rate, met to 2**-17, and scale the others so that the expectation stays."""
    dropped = round(rate * 2**16)
    generator = np.random.SFC64(int(torch.empty((), dtype=torch.int64).random_()))
    bits = torch.from_numpy(generator.random_raw(-(-x.numel() // 4)).view(np.int16))[: x.numel()]
    keep = torch.ge(bits, dropped - 2**15, out=bits).to(x.dtype).view(x.shape)
    return (x * keep).mul_(2**16 / (2**16 - dropped))


class Dropout(nn.Dropout):
    """nn.Dropout with these masks."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x itself outside training."""
        return dropout(x, self.p) if self.training and self.p else x


def attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **how: Any) -> Any:
    """Attend as transformers' eager attention does: (B, H, T, D) tensors and a (B, 1, T, T) mask to be added."""
    queries = slice(1 if getattr(module, "serves_first_token", False) else None)  # see first_token.py
    q, k, v = (tensor.to(value.dtype).flatten(0, 1) for tensor in (query[:, :, queries], key, value))
    scores = torch.bmm(q, k.mT).mul_(how.get("scaling") or q.shape[-1] ** -0.5)
    if mask is not None:
        scores = scores.view(*query.shape[:2], -1, k.shape[1]).add_(mask[:, :, queries]).flatten(0, 1)
    # Over odd lengths a bf16 softmax takes twice the time of one in fp32.
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(v.dtype)
    if how.get("dropout"):
        weights = dropout(weights, how["dropout"])
    attended = torch.bmm(weights, v).view(*query.shape[:2], -1, v.shape[2]).transpose(1, 2)
    return attended.expand(-1, query.shape[2], -1, -1), None


def install(model: Any) -> None:
    """Put the dropout in the place of every nn.Dropout, and keep the residual stream in autocast's precision."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout and child.p < 1:
                setattr(module, name, Dropout(child.p).train(child.training))
    if model.config.model_type in KNOWN:
        # A CPU's autocast leaves the embeddings in fp32, and with them every sum: three casts a layer.
        cast = torch.get_autocast_dtype("cpu")
        model.base_model.embeddings.register_forward_hook(
            lambda _, __, output: output.to(cast) if torch.is_autocast_enabled("cpu") else output
        )
