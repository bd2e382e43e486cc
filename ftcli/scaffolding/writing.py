"""From a guess to a short config with comments; the help of each key is the schema's."""

from __future__ import annotations

from typing import Any

from ftcli.config.yaml import dump_inline
from ftcli.scaffolding.guessing import Guess
from ftcli.scaffolding.looking import SAMPLE, Found, Sample

# Fewer rows than this get more passes: the more updates, the more stable (Mosbach et al. 2021, arXiv:2006.04884).
_FEW_ROWS = 2_000
_HELD_OUT = 0.1


def write_config(found: Found, guess: Guess, *, model: str, command: str, file: str) -> str:
    """Write the config. command: what made it. file: its name, for the commands in its head."""
    train = found.samples["train"]
    epochs = 5 if train.num_rows < _FEW_ROWS else 3
    text = guess.texts[0] if len(guess.texts) == 1 else list(guess.texts)
    config_name = "" if file == "ftcli.yaml" else f" {file}"
    lines = [
        f"# {command}",
        "#",
        f"#   ftcli train{config_name}",
        f"#   ftcli eval runs/{found.name}",
        f"#   ftcli predict runs/{found.name} INPUT -o OUTPUT.csv",
        "#",
        "# ftcli config reference explains every key.",
        "",
        "model:",
        f"  name_or_path: {dump_inline(model)}  # Hub id, directory, or package:MODULE/PATH",
        "",
        "data:",
        *_source_lines(found),
        "  columns:",
        f"    text: {dump_inline(text)}  # {guess.reasons['text']}",
        f"    label: {dump_inline(guess.label)}  # {guess.reasons['label']}: {_label_kinds(guess)}",
    ]
    if len(guess.labels) == 2:
        positive = list(guess.labels)[-1]
        lines.append(f"  # labels: {dump_inline(list(guess.labels))}  # the last is the positive class: {positive}")
    if "validation" not in found.samples:
        lines.append(
            f"  validation_fraction: {_HELD_OUT}  # of train, of every label alike: there is no validation split"
        )
    lines.append(f"  max_length: {guess.max_length}  # tokens; enough for nearly all rows (an estimate)")
    if guess.num_empty_texts:
        lines.append(f"  empty_text: drop  # {_count(guess.num_empty_texts, train)} without a text")
    if guess.num_empty_labels:
        lines.append(f"  empty_label: drop  # {_count(guess.num_empty_labels, train)} without a label")
    lines += [
        "",
        "# What keeps fine-tuning on small data stable",
        "training:",
        f"  epochs: {epochs}  # for {_rows(train)} rows; few rows need more (arXiv:2006.04884)",
        "  batch_size: 16  # examples an update, over all processes",
        "  max_grad_norm: 1.0  # as BERT's released code clips (google-research/bert, optimization.py)",
        "optimizer:",
        "  learning_rate: 5e-5  # of those that BERT's authors tried (arXiv:1810.04805, appendix A.3), the largest",
        "  weight_decay: 0.01  # arXiv:1810.04805, appendix A.2",
        "scheduler:",
        "  warmup_steps: 0.1  # a share of all updates (arXiv:2006.04884; RoBERTa has 0.06, arXiv:1907.11692)",
        "",
        f"output_dir: {dump_inline(f'runs/{found.name}')}",
    ]
    return "\n".join(_aligned(lines)) + "\n"


def _rows(sample: Sample) -> str:
    return f"more than {sample.num_rows:,}" if sample.has_more else f"{sample.num_rows:,}"


def _source_lines(found: Found) -> list[str]:
    lines = []
    for name, value in found.keys.items():
        if isinstance(value, dict):
            lines.append(f"  {name}:")
            lines += [f"    {inner}: {dump_inline(path)}" for inner, path in value.items()]
        else:
            lines.append(f"  {name}: {dump_inline(value)}")
    return lines


def _label_kinds(guess: Guess) -> str:
    total = sum(guess.labels.values())
    shown = [f"{name} {count / total:.0%}" for name, count in list(guess.labels.items())[:6]]
    return ", ".join(shown) + (f", … ({len(guess.labels)} labels)" if len(guess.labels) > 6 else "")


def _count(number: int, train: Sample) -> str:
    return f"{number:,} of {'the first ' if train.has_more else ''}{min(train.num_rows, SAMPLE):,} rows"


def _aligned(lines: list[str]) -> list[str]:
    """Move the comments behind values to one column, where they stay near."""
    cut = [line.partition("  # ") if not line.lstrip().startswith("#") else (line, "", "") for line in lines]
    width = min(44, max(len(value) for value, mark, _ in cut if mark))
    return [f"{value:<{width}}  # {comment}" if mark else value for value, mark, comment in cut]


def tell(found: Found, guess: Guess) -> dict[str, Any]:
    """Return what was guessed and why, for programs and for a person."""
    return {
        "splits": {
            role: {"num_rows": sample.num_rows, "has_more": sample.has_more} for role, sample in found.samples.items()
        },
        "text": list(guess.texts),
        "label": guess.label,
        "labels": guess.labels,
        "max_length": guess.max_length,
        "reasons": guess.reasons,
    }
