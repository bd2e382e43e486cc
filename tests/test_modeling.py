"""transformers' sdpa under a name of ours: the same attention, without a question to the GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_architecture
from transformers import AutoModelForSequenceClassification, masking_utils

from ftcli.hardware import SDPA_ALWAYS_MASKED
from ftcli.modeling import register_attentions


def logits(folder: Path, attention: str, mask_BT: torch.Tensor) -> torch.Tensor:
    register_attentions()
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation=attention).eval()
    ids_BT = torch.arange(5, 5 + mask_BT.numel()).view(mask_BT.shape) * mask_BT
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids_BT, attention_mask=mask_BT).logits
    return found


PADDED = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


@pytest.mark.parametrize("name", ["bert", "distilbert", "electra", "modernbert", "roberta"])
@pytest.mark.parametrize("mask_BT", [PADDED, torch.ones_like(PADDED)], ids=["padded", "full"])
def test_it_attends_as_transformers_own(tmp_path: Path, name: str, mask_BT: torch.Tensor) -> None:
    folder = tiny_architecture(tmp_path, name)

    torch.testing.assert_close(logits(folder, SDPA_ALWAYS_MASKED, mask_BT), logits(folder, "sdpa", mask_BT))


def test_nobody_asks_whether_anything_is_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any, **__: Any) -> bool:
        raise AssertionError("the host would wait for the answer")

    folder = tiny_architecture(tmp_path, "bert")
    monkeypatch.setattr(masking_utils, "_ignore_bidirectional_mask_sdpa", asked)

    assert logits(folder, SDPA_ALWAYS_MASKED, PADDED).shape == (2, 2)
    with pytest.raises(AssertionError, match="would wait"):  # negative control: transformers' own name
        logits(folder, "sdpa", PADDED)
