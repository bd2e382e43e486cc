"""The last layer of a classifier whose head reads the first token alone: the other tokens end behind its attention.

Keys and values need every token; what follows them (weights, output projection, feed-forward, norms, dropout) is then
computed for one token a feature. Logits and gradients are the same: what is left out had no way to either.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

# The architectures whose classifiers are built like that: each of them is tested.
KNOWN = frozenset({"bert", "camembert", "electra", "roberta", "xlm-roberta"})


def install(model: Any) -> None:
    """Let the last layer compute only what the head reads; a model of another kind stays as it is."""
    is_classifier = type(model).__name__.endswith("ForSequenceClassification")
    if is_classifier and model.config.model_type in KNOWN:
        attention = model.base_model.encoder.layer[-1].attention
        attention.output.register_forward_pre_hook(_keep_first)
        # Our own attention looks at this; any other computes every query.
        attention.self.serves_first_token = True


def _keep_first(_: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Cut the attention's output and the residual, (B, T, D) each, to (B, 1, D)."""
    attended, residual = inputs
    return attended[:, :1], residual[:, :1]
