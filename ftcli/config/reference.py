"""Every key of a config with its type, its default and its help: the schema, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ftcli.config.explanations import default_text, keys_called, unknown_key
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
        called = keys_called(name, schema)
        found = [key for key in everything if key.path in called]
    if name is not None and not found:
        raise ConfigError(unknown_key(tuple(name.split(".")), schema)[0].told)
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


def _by_section(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
    """Yield each section with its own keys, those without a section first; a section below it comes after it."""
    sections = [None, *(row for row in rows if row["type"] == "section")]
    names = {section["key"] for section in sections if section}
    for section in sections:
        name = section["key"] if section else None
        own = [row for row in rows if row["type"] != "section" and _section_of(row["key"], names) == name]
        if own:
            yield section, own


def _section_of(key: str, sections: set[str]) -> str | None:
    above = key.rpartition(".")[0]
    return above if above in sections else None


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Write keys as one Markdown table a section."""
    lines: list[str] = []
    for section, keys_of_it in _by_section(rows):
        if section:
            lines += ["", f"## {section['key']}", "", f"{section['help']}."]
        lines += ["", "| key | takes | default | |", "| --- | --- | --- | --- |"]
        for row in keys_of_it:
            default = "required" if row["required"] else f"`{row['default']}`"
            cells = (f"`{row['key']}`", row["type"], default, row["help"])
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines).strip()


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """Write keys as a page of text; of a single key all that is known."""
    if len(rows) == 1:
        return _one(rows[0])
    lines: list[str] = []
    for section, keys_of_it in _by_section(rows):
        if section:
            lines += ["", f"{section['key']}: {section['help']}"]
        for row in keys_of_it:
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
