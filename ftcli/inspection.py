"""One batch, shown to a person: its tensors, one example token by token, its split, and one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from ftcli.data.collation import model_inputs, to_device
from ftcli.data.preparation import PreparedSplit, SplitStatistics, label_counts
from ftcli.errors import ConfigError
from ftcli.experiments import Experiment
from ftcli.modeling import BuiltModel

if TYPE_CHECKING:
    from rich.console import Group

MAX_TOKENS_SHOWN = 512


def first_batch(experiment: Experiment, split: PreparedSplit, index: int) -> list[int]:
    """Return the features of the batch to show: the one that starts at `index`, in file order."""
    num_features = len(split.features)
    if not 0 <= index < num_features:
        raise ConfigError(f"--index {index}: the split {split.name!r} has examples 0 to {num_features - 1}")
    return list(range(index, min(index + experiment.config.training.batch_size, num_features)))


def inspect(
    experiment: Experiment, split: PreparedSplit, built: BuiltModel, device: torch.device, index: int
) -> dict[str, Any]:
    """Describe a batch and what the model makes of it, as one JSON-able record."""
    indices = first_batch(experiment, split, index)
    batch = experiment.collation(split.features, indices)
    built.model.eval()
    with torch.inference_mode():
        moved = to_device(batch, device)
        outputs = built.model(**model_inputs(moved, experiment.collation.fields))
        loss_sum, weight_sum = experiment.task.loss(outputs, moved)
    mask = batch["attention_mask"]
    statistics = SplitStatistics.of(split.features)
    return {
        "split": split.name,
        "source": split.rows.source,
        "tensors": {
            name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in batch.items()
        },
        "padding_efficiency": float(mask.sum() / mask.numel()),
        "example": _example(experiment, split, batch, index),
        **asdict(statistics),
        "labels": label_counts(split.features, experiment.labels),
        "loss": float(loss_sum / weight_sum),
        "logits_shape": list(outputs.logits.shape),
        "new_parameters": list(built.new_parameters),
    }


def _example(
    experiment: Experiment, split: PreparedSplit, batch: Mapping[str, torch.Tensor], index: int
) -> dict[str, Any]:
    """Decode the first example of the batch, token by token, padding included."""
    tokenizer = experiment.tokenization.tokenizer
    tokens = tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
    columns = {
        name: batch[name][0].tolist() for name in ("input_ids", "token_type_ids", "attention_mask") if name in batch
    }
    target = {
        name: value[index].tolist()
        for name, value in split.features.columns.items()
        if experiment.collation.fields[name].is_target
    }
    row = int(split.features.rows[index])
    return {
        "index": index,
        "row": row,
        "where": split.rows.places([row])[0],
        "truncated": bool(split.features.truncated[index]),
        "target": experiment.task.describe(target, experiment.labels),
        "tokens": tokens,
        **columns,
    }


def render(record: Mapping[str, Any]) -> Group:
    """Lay the record of `inspect` out as tables."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    tensors = Table("tensor", "shape", "dtype", title=f"Batch of {record['split']}", title_justify="left")
    for name, tensor in record["tensors"].items():
        tensors.add_row(name, " x ".join(map(str, tensor["shape"])), tensor["dtype"])
    example = record["example"]
    names = [name for name in ("input_ids", "token_type_ids", "attention_mask") if name in example]
    title = f"Example {example['index']} ({example['where']}): {'; '.join(example['target'])}"
    tokens = Table("position", "token", *names, title=title, title_justify="left")
    shown = min(len(example["tokens"]), MAX_TOKENS_SHOWN)
    num_real = sum(example["attention_mask"])
    for position in range(shown):
        if num_real < position < shown - 1:
            if position == num_real + 1:
                tokens.add_row("…", "…", *("…" for _ in names))  # one padded slot looks like the next
            continue
        cells = [str(example[name][position]) for name in names]
        tokens.add_row(str(position), Text(example["tokens"][position]), *cells)
    quantiles = "  ".join(f"{name} {length}" for name, length in record["length_quantiles"].items())
    total = sum(record["labels"].values())
    balance = "  ".join(f"{name} {count} ({count / total:.1%})" for name, count in record["labels"].items())
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("examples", f"{record['num_rows']:,}"),
        ("tokens", f"{record['num_tokens']:,}; an example: {quantiles}"),
        ("truncated", f"{record['truncated_share']:.2%}"),
        ("labels", balance),
        ("padding efficiency", f"{record['padding_efficiency']:.4f} in this batch"),
        ("forward pass", f"loss {record['loss']:.4f}, logits {' x '.join(map(str, record['logits_shape']))}"),
        ("new parameters", ", ".join(record["new_parameters"]) or "none"),
    ):
        facts.add_row(name, Text(value))
    return Group(tensors, tokens, facts)
