"""From a guess to a short config with comments; the help of each key is the schema's."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

from ftcli.config.yaml import dump_inline
from ftcli.locations import DEFAULT_CONFIG
from ftcli.scaffolding.guessing import Guess
from ftcli.scaffolding.looking import SAMPLE, Found, Sample

# Fewer rows than this get more passes: the more updates, the more stable (Mosbach et al. 2021, arXiv:2006.04884).
_FEW_ROWS = 2_000
_HELD_OUT = 0.1


class Line(NamedTuple):
    """A line of YAML, and what to say behind it."""

    text: str
    comment: str = ""


def write_config(found: Found, guess: Guess, *, model: str, data: str, file: str) -> str:
    """Write the config. data: what was looked at. file: the config's name, for the commands in its head."""
    train = found.samples["train"]
    epochs = 5 if train.num_rows < _FEW_ROWS else 3
    text = guess.texts[0] if len(guess.texts) == 1 else list(guess.texts)
    lines = [
        *(Line(f"# {_printable(line)}".rstrip()) for line in _head(found, data, file)),
        Line(""),
        Line("model:"),
        Line(f"  name_or_path: {dump_inline(model)}", "Hub id, directory, or package:MODULE/PATH"),
        Line(""),
        Line("data:"),
        *_source_lines(found),
        Line("  columns:"),
        Line(f"    text: {dump_inline(text)}", guess.reasons["text"]),
        Line(f"    label: {dump_inline(guess.label)}", f"{guess.reasons['label']}: {_label_kinds(guess)}"),
    ]
    if guess.has_negative_labels:
        lines.append(Line(f"  labels: {dump_inline(list(guess.labels))}", "names, -1 among them, in this order"))
    elif len(guess.labels) == 2:
        names = dump_inline(list(guess.labels))
        lines.append(Line(f"  # labels: {names}", "of two labels the last is the positive class"))
    if "validation" not in found.samples:
        why = "of train, of every label alike: there is no validation split"
        lines.append(Line(f"  validation_fraction: {_HELD_OUT}", why))
    lines.append(Line(f"  max_length: {guess.max_length}", "tokens; enough for nearly all rows (an estimate)"))
    if guess.num_empty_texts:
        lines.append(Line("  empty_text: drop", f"{_count(guess.num_empty_texts, train)} without a text"))
    if guess.num_empty_labels:
        lines.append(Line("  empty_label: drop", f"{_count(guess.num_empty_labels, train)} without a label"))
    lines += [
        Line(""),
        Line("# What keeps fine-tuning on small data stable"),
        Line("training:"),
        Line(f"  epochs: {epochs}", f"for {_rows(train)} rows; few rows need more (arXiv:2006.04884)"),
        Line("  batch_size: 16", "examples an update, over all processes"),
        Line("  max_grad_norm: 1.0", "as BERT's released code clips (google-research/bert, optimization.py)"),
        Line("optimizer:"),
        Line("  learning_rate: 5e-5", "the largest that BERT's authors tried (arXiv:1810.04805, appendix A.3)"),
        Line("  weight_decay: 0.01", "arXiv:1810.04805, appendix A.2"),
        Line("scheduler:"),
        Line("  warmup_steps: 0.1", "a share of all updates (arXiv:2006.04884; RoBERTa has 0.06, arXiv:1907.11692)"),
        Line(""),
        Line(f"output_dir: {dump_inline(f'runs/{found.name}')}"),
    ]
    return "\n".join(_aligned(lines)) + "\n"


def _head(found: Found, data: str, file: str) -> list[str]:
    run = shlex.quote(f"runs/{found.name}")
    return [
        shlex.join(("ftcli", "init", data)),
        "",
        f"  ftcli train{'' if file == DEFAULT_CONFIG else f' {shlex.quote(file)}'}",
        f"  ftcli eval {run}",
        f"  ftcli predict {run} INPUT -o OUTPUT.csv",
        "",
        "ftcli config reference explains every key.",
    ]


def _rows(sample: Sample) -> str:
    return f"more than {sample.num_rows:,}" if sample.has_more else f"{sample.num_rows:,}"


def _source_lines(found: Found) -> list[Line]:
    lines = []
    for name, value in found.keys.items():
        if isinstance(value, dict):
            lines.append(Line(f"  {name}:"))
            lines += [Line(f"    {inner}: {dump_inline(path)}") for inner, path in value.items()]
        else:
            lines.append(Line(f"  {name}: {dump_inline(value)}"))
    return lines


def _label_kinds(guess: Guess) -> str:
    total = sum(guess.labels.values())
    shown = [f"{name} {count / total:.0%}" for name, count in list(guess.labels.items())[:6]]
    return ", ".join(shown) + (f", … ({len(guess.labels)} labels)" if len(guess.labels) > 6 else "")


def _count(number: int, train: Sample) -> str:
    return f"{number:,} of {'the first ' if train.has_more else ''}{min(train.num_rows, SAMPLE):,} rows"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _aligned(lines: list[Line]) -> list[str]:
    """Write the comments behind values in one column; whatever the data says, a comment is one line."""
    width = min(44, max(len(line.text) for line in lines if line.comment))
    written = []
    for text, comment in lines:
        plain = _printable(comment)
        written.append(f"{text:<{width}}  # {plain}" if comment else text)
    return written


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
