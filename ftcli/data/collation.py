"""From arrays to padded tensors: one function for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ftcli.data.preparation import Features, Ragged
from ftcli.tasks.base import Field


@dataclass(frozen=True)
class Collation:
    """How features become a batch.

    fields: what each column is and how it is padded. fixed_length: pad to this many tokens; None pads to the
    longest of the batch. multiple_of: round the padded length up, but not above limit, the most tokens that
    the model takes. finer_below: up to this length half of that multiple is enough, up to half of this a quarter, and
    so on, as short batches would be mostly padding. padding_side: where the tokenizer pads. full_masks: whether a mask
    that masks nothing stays in a batch on its way to the device.
    """

    fields: Mapping[str, Field]
    fixed_length: int | None = None
    multiple_of: int = 1
    finer_below: int = 0
    limit: int | None = None
    padding_side: str = "right"
    full_masks: bool = True

    def __call__(self, features: Features, indices: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Return the tensors of B features: (B, T) per-token fields, (B,) others, and the attention mask.

        Features without answers give a batch without targets.
        """
        indices_B = np.asarray(indices)
        ids = features.columns["input_ids"]
        assert isinstance(ids, Ragged)
        lengths_B = ids.offsets[indices_B + 1] - ids.offsets[indices_B]
        slots_T = np.arange(self.padded_length(int(lengths_B.max())))
        before_B = len(slots_T) - lengths_B if self.padding_side == "left" else np.zeros_like(lengths_B)
        positions_BT = slots_T - before_B[:, None]
        filled_BT = (positions_BT >= 0) & (positions_BT < lengths_B[:, None])
        batch = {}
        for name, field in self.fields.items():
            column = features.columns.get(name)
            if isinstance(column, Ragged):
                padded_BT = np.full(filled_BT.shape, field.pad, dtype=field.dtype)
                padded_BT[filled_BT] = column.values[(column.offsets[indices_B][:, None] + positions_BT)[filled_BT]]
                batch[name] = torch.from_numpy(padded_BT)
            elif column is not None:
                batch[name] = torch.from_numpy(np.asarray(column[indices_B], dtype=field.dtype))
        batch["attention_mask"] = torch.from_numpy(filled_BT.astype("int64"))
        return batch

    def on_device(
        self, features: Features, indices: Sequence[int] | np.ndarray, device: torch.device
    ) -> dict[str, torch.Tensor]:
        """Return what the model is given of B features, on the device that computes."""
        batch = self(features, indices)
        return to_device(batch if self.full_masks else without_full_mask(batch), device)

    def padded_length(self, longest: int) -> int:
        """Return the tokens a feature takes in a batch whose longest feature has this many."""
        length, multiple, bound = self.fixed_length or longest, self.multiple_of, self.finer_below
        while multiple > 1 and length <= bound:
            multiple, bound = multiple // 2, bound // 2
        length = -(-length // multiple) * multiple
        return length if self.limit is None else min(length, self.limit)

    def padded_lengths(self, lengths: np.ndarray) -> np.ndarray:
        """Return (F,) the tokens that each feature takes in a batch in which none is longer."""
        different, places = np.unique(lengths, return_inverse=True)
        padded = np.array([self.padded_length(length) for length in different.tolist()], dtype=lengths.dtype)
        return padded[places]


def to_device(batch: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Return a batch on the device that computes; a GPU copies it in its turn, and nobody waits for that."""
    if device.type != "cuda":
        return {name: tensor.to(device) for name, tensor in batch.items()}
    return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()}


def without_full_mask(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leave out a mask that masks nothing: flash attention takes none, and the host can look without waiting."""
    return {name: tensor for name, tensor in batch.items() if name != "attention_mask" or not tensor.all()}


def model_inputs(batch: Mapping[str, torch.Tensor], fields: Mapping[str, Field]) -> dict[str, torch.Tensor]:
    """Return what the model sees of a batch: everything that is not a target."""
    return {name: tensor for name, tensor in batch.items() if name not in fields or not fields[name].is_target}
