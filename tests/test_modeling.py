"""transformers' sdpa under a name of ours: the same attention, without a question to the GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ARCHITECTURES, tiny_architecture
from transformers import AutoModelForSequenceClassification, masking_utils

from ftcli.hardware import SDPA_WITHOUT_WAITING
from ftcli.modeling import register_attentions

PADDED = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


def logits(folder: Path, attention: str, mask_BT: torch.Tensor | None) -> torch.Tensor:
    register_attentions()
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation=attention).eval()
    ids_BT = torch.arange(5, 5 + PADDED.numel()).view(PADDED.shape)
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids_BT, attention_mask=mask_BT).logits
    return found


@pytest.mark.parametrize("name", ["bert", "distilbert", "electra", "modernbert", "roberta"])
@pytest.mark.parametrize("mask_BT", [PADDED, torch.ones_like(PADDED)], ids=["padded", "full"])
def test_it_attends_as_transformers_own(tmp_path: Path, name: str, mask_BT: torch.Tensor) -> None:
    folder = tiny_architecture(tmp_path, name)

    torch.testing.assert_close(logits(folder, SDPA_WITHOUT_WAITING, mask_BT), logits(folder, "sdpa", mask_BT))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_mask_is_one_that_masks_nothing(tmp_path: Path, name: str) -> None:
    folder = tiny_architecture(tmp_path, name)
    attention = "eager" if name in ("deberta-v2", "mpnet") else SDPA_WITHOUT_WAITING  # which have no sdpa

    torch.testing.assert_close(logits(folder, attention, None), logits(folder, attention, torch.ones_like(PADDED)))


def test_nobody_asks_whether_a_mask_masks_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(mask: torch.Tensor | None, *_: Any) -> bool:
        assert mask is None, "the host would wait for the answer"
        return True

    folder = tiny_architecture(tmp_path, "bert")
    monkeypatch.setattr(masking_utils, "_ignore_bidirectional_mask_sdpa", look)

    assert logits(folder, SDPA_WITHOUT_WAITING, PADDED).shape == (2, 2)
    assert logits(folder, SDPA_WITHOUT_WAITING, None).shape == (2, 2)
    with pytest.raises(AssertionError, match="would wait"):  # negative control: transformers' own name
        logits(folder, "sdpa", PADDED)
