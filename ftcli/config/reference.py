"""Every key of a config with its type, its default and its help: the schema, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftcli.config.explanations import default_text, unknown_key
from ftcli.config.json_schema import describe_type, key_schemas
from ftcli.config.schema import Config, Key, config_type, keys
from ftcli.errors import ConfigError
from ftcli.tasks import TASKS


def find_keys(name: str | None, task: str) -> tuple[type[Config], list[Key]]:
    """Return a key and those below it; all of them without a name. Raises ConfigError if there is none."""
    if task not in TASKS:
        raise ConfigError(f"unknown task {task!r}; known are {', '.join(TASKS)}")
    schema = config_type(task)
    everything = list(keys(schema))
    found = [key for key in everything if name is None or key.path == name or key.path.startswith(f"{name}.")]
    if name is not None and not found:
        raise ConfigError(unknown_key(tuple(name.split(".")), schema).told)
    return schema, found


def records(schema: type[Config], found: Sequence[Key]) -> list[dict[str, Any]]:
    """Return what the schema says of each key, for programs."""
    types = key_schemas(schema)
    return [
        {
            "key": key.path,
            "type": describe_type(types[key.path]) if key.section is None else "section",
            "required": key.field.is_required(),
            "default": None if key.field.is_required() or key.section else default_text(key),
            "help": key.field.description,
            "changes_result": key.field.json_schema_extra["changes_result"],
            "training_arguments": key.field.json_schema_extra["trainer"],
        }
        for key in found
    ]


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Write keys as one Markdown table a section."""
    lines: list[str] = []
    for row in rows:
        if row["type"] == "section":
            lines += ["", f"## {row['key']}", "", f"{row['help']}.", *_TABLE]
            continue
        if not lines:
            lines += _TABLE[1:]
        default = "required" if row["required"] else f"`{row['default']}`"
        cells = (f"`{row['key']}`", row["type"], default, row["help"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines).strip()


_TABLE = ["", "| key | takes | default | |", "| --- | --- | --- | --- |"]


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """Write keys as a page of text; of a single key all that is known."""
    if len(rows) == 1:
        return _one(rows[0])
    lines: list[str] = []
    for row in rows:
        if row["type"] == "section":
            lines += ["", f"{row['key']}: {row['help']}"]
        else:
            default = "required" if row["required"] else f"default {row['default']}"
            lines += [f"  {row['key']}", f"      {row['help']}", f"      {row['type']}; {default}"]
    return "\n".join(lines).strip("\n")


def _one(row: dict[str, Any]) -> str:
    lines = [row["key"], f"  {row['help']}", f"  takes    {row['type']}"]
    lines.append("  required" if row["required"] else f"  default  {row['default']}")
    if not row["changes_result"]:
        lines.append("  changes nothing in the result of a run")
    if row["training_arguments"]:
        lines.append(f"  called {', '.join(row['training_arguments'])} by transformers' TrainingArguments and scripts")
    return "\n".join(lines)
