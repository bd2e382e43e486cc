"""`inspect-data`: what a data set holds, and what is odd about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcli.config.loading import load_config
from ftcli.config.schema import Config
from ftcli.console import Console
from ftcli.data.preparation import SplitStatistics, encode_texts
from ftcli.data.quality import SplitQuality, examine, truncation_warnings
from ftcli.data.rows import SplitRows, is_empty
from ftcli.data.sources import load_splits
from ftcli.errors import DataError
from ftcli.hub import check_hub, needed_repositories
from ftcli.modeling import load_tokenization, read_architecture
from ftcli.tasks.base import LabelSet, Task
from ftcli.tasks.tokenization import Tokenization

if TYPE_CHECKING:
    from rich.console import Group


def inspect_data(
    config: str | Path | Config, overrides: Iterable[str] = (), *, console: Console | None = None
) -> dict[str, Any]:
    """Look at every split of a config: counts, labels, lengths, and what is odd in and between them.

    Returns a record of it. Raises an FtcliError for whatever the user can mend; labels are not checked, but counted.
    """
    console = console or Console()
    console.calm_libraries()
    config = load_config(config, overrides)
    check_hub(needed_repositories(config))
    task = config.build_task()
    architecture = read_architecture(config.model, task)
    tokenization = load_tokenization(config.model, architecture, config.data.max_length)
    splits = load_splits(config.data, task)
    if not splits:
        raise DataError(f"{config.data.path or 'data.files'}: none of the splits that the config names")
    quality = examine(splits, task, config.data)
    lengths = {name: _lengths(rows, task, tokenization) for name, rows in splits.items()}
    shares = {name: length.truncated_share for name, length in lengths.items()}
    record = {
        "splits": {
            name: _record(splits[name], found, lengths[name], tokenization.max_length)
            for name, found in quality.splits.items()
        },
        "warnings": [*quality.warnings, *truncation_warnings(shares, tokenization.max_length)],
    }
    console.result(record, _render(record))
    return record


def _lengths(rows: SplitRows, task: Task, tokenization: Tokenization) -> SplitStatistics:
    """Count the tokens of the rows that have a text."""
    columns = {name: rows.column(name) for name in task.text_columns}
    kept = [i for i in range(len(rows)) if not any(is_empty(values[i]) for values in columns.values())]
    texts = {name: [values[i] for i in kept] for name, values in columns.items()}
    if not kept:
        return SplitStatistics(len(rows), 0, 0, 0.0, {})
    return SplitStatistics.of(encode_texts(texts, task, LabelSet(()), tokenization))


def _record(rows: SplitRows, found: SplitQuality, lengths: SplitStatistics, max_length: int) -> dict[str, Any]:
    return {
        "source": rows.source,
        "num_rows": found.num_rows,
        "num_left_out": rows.num_left_out,
        "labels": found.labels,
        "majority_accuracy": found.majority_share,
        "num_unlabelled": found.num_unlabelled,
        "num_empty": found.num_empty,
        "num_repeated": found.num_repeated,
        "num_contradicted": found.num_contradicted,
        "length_quantiles": lengths.length_quantiles,
        "max_length": max_length,
        "truncated_share": lengths.truncated_share,
        "examples": found.examples,
    }


def _render(record: Mapping[str, Any]) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    splits = record["splits"]
    table = Table("", *splits)

    def row(title: str, values: Iterable[str]) -> None:
        table.add_row(title, *(Text(value) for value in values))

    row("rows", (f"{split['num_rows']:,}" for split in splits.values()))
    row("labels", map(_labels, splits.values()))
    row(
        "majority class",
        (f"accuracy {split['majority_accuracy']:.4f}" if split["labels"] else "-" for split in splits.values()),
    )
    row("tokens a row", map(_quantiles, splits.values()))
    row("truncated", (f"{split['truncated_share']:.2%} after {split['max_length']}" for split in splits.values()))
    for title, name in (
        ("left out", "num_left_out"),
        ("without a label", "num_unlabelled"),
        ("with an empty text", "num_empty"),
        ("repeated texts", "num_repeated"),
        ("contradicted texts", "num_contradicted"),
    ):
        row(title, (f"{split[name]:,}" for split in splits.values()))
    warnings = [Text(f"! {warning}") for warning in record["warnings"]] or [Text("nothing odd was found")]
    return Group(table, *warnings)


def _labels(split: Mapping[str, Any]) -> str:
    total = max(1, sum(split["labels"].values()))
    shown = [f"{name} {count:,} ({count / total:.1%})" for name, count in list(split["labels"].items())[:10]]
    return "\n".join(shown) + (f"\n… ({len(split['labels'])})" if len(split["labels"]) > 10 else "")


def _quantiles(split: Mapping[str, Any]) -> str:
    return "\n".join(f"{name} {length}" for name, length in split["length_quantiles"].items())
