"""The schema for machines, derived from `schema.py`: what editors read, and what describes a key in words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from ftcli.config.schema import Config, config_type
from ftcli.tasks import TASKS
from ftcli.tasks.options import JsonSchema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Marks of our own, which mean nothing to an editor.
_OURS = ("changes_result", "trainer", "expected", "synonyms")
_LIMITS = {
    ("minimum", "maximum"): "from {} to {}",
    ("minimum", "exclusiveMaximum"): "from {} to below {}",
    ("exclusiveMinimum", "exclusiveMaximum"): "between {} and {}",
    ("minimum",): "of at least {}",
    ("exclusiveMinimum",): "above {}",
}


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@cache
def _task_schema(task: str) -> JsonSchema:
    return config_type(task).model_json_schema(schema_generator=_Generator)


def config_schema() -> JsonSchema:
    """Return the JSON Schema (2020-12) of a config file: one union over the tasks."""
    definitions: JsonSchema = {}
    branches = []
    for task in TASKS:
        # Sections of one name differ between tasks.
        branch = _renamed(_task_schema(task), suffix=f".{task}")
        definitions |= branch.pop("$defs")
        definitions[f"Config.{task}"] = _with_required(branch, definitions)
        branches.append({"$ref": f"#/$defs/Config.{task}"})
    return {
        "$schema": DIALECT,
        "title": "ftcli",
        "description": "A config of ftcli, which fine-tunes Hugging Face encoders",
        **(branches[0] if len(branches) == 1 else {"oneOf": branches}),
        "$defs": definitions,
    }


def _renamed(schema: Any, suffix: str) -> Any:
    """Copy a schema, with the definitions renamed and without what only we read."""
    if isinstance(schema, list):
        return [_renamed(item, suffix) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {}
    for name, value in schema.items():
        if name in ("properties", "$defs"):
            end = suffix if name == "$defs" else ""
            copied[name] = {key + end: _renamed(item, suffix) for key, item in value.items()}
        elif name == "$ref":
            copied[name] = value + suffix
        elif name not in (*_OURS, "title") and not (name == "default" and "$ref" in schema):
            copied[name] = _renamed(value, suffix)
    return copied


def _with_required(config: JsonSchema, definitions: JsonSchema) -> JsonSchema:
    """Require keys only of a config that extends no other: it may find them there."""

    def required(section: JsonSchema) -> JsonSchema:
        names = section.pop("required", [])
        inner: JsonSchema = {}
        for name, key in section["properties"].items():
            if "$ref" in key:
                below = required(definitions[key["$ref"].rpartition("/")[2]])
                inner |= {name: below} if below else {}
        found = {"required": names} if names else {}
        return found | ({"properties": inner} if inner else {})

    missing = required(config)
    return {**config, "if": {"required": ["extends"]}, "else": missing}


@cache
def key_schemas(schema: type[Config]) -> Mapping[str, JsonSchema]:
    """Return the JSON Schema of each key of one task's config, by its dotted path."""
    whole = schema.model_json_schema(schema_generator=_Generator)
    found: dict[str, JsonSchema] = {}

    def visit(section: JsonSchema, prefix: str) -> None:
        for name, key in section["properties"].items():
            found[prefix + name] = key
            for option in (key, *key.get("anyOf", ())):
                if "$ref" in option:
                    inner = whole["$defs"][option["$ref"].rpartition("/")[2]]
                    option["properties"] = inner["properties"]
                    visit(inner, f"{prefix}{name}.")

    visit(whole, "")
    # Each task has a schema of its own; any of them may be written.
    found["task"] |= {"const": None, "enum": list(TASKS)}
    return found


def describe_type(schema: JsonSchema) -> str:
    """Say in words what may be written: "a whole number from 1 to 10, or null"."""
    if "expected" in schema:
        return str(schema["expected"])
    options = schema.get("anyOf")
    if options is None:
        return _describe_one(schema)
    described = list(dict.fromkeys(describe_type(option) for option in options))
    if "a number" in " ".join(described):
        # Every whole number is one.
        described = [text for text in described if not text.startswith("a whole number")]
    *others, last = described
    return last if not others else f"{', '.join(others)}, or {last}"


def _describe_one(schema: JsonSchema) -> str:
    if "enum" in schema or "const" in schema:
        return list_or([str(value) for value in schema.get("enum") or [schema["const"]]])
    if "properties" in schema:
        return f"keys and values: {', '.join(schema['properties'])}"
    kind = schema.get("type")
    if kind in ("integer", "number"):
        limits = next((names for names in _LIMITS if all(name in schema for name in names)), ())
        told = _LIMITS[limits].format(*(schema[name] for name in limits)) if limits else ""
        return f"a {'whole ' if kind == 'integer' else ''}number {told}".rstrip()
    if kind == "array":
        return _describe_list(schema)
    return {"string": "text", "boolean": "true or false", "null": "null", "object": "keys and values"}[str(kind)]


def _describe_list(schema: JsonSchema) -> str:
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    item = schema.get("items") or schema["prefixItems"][0]
    if "enum" in item:
        return f"a list of {describe_type(item)}"
    one = describe_type(item).removeprefix("a ").partition(",")[0]
    plural = one.replace("text", "texts").replace("number", "numbers")
    if least == most:
        return f"a list of {least} {plural}"
    if most is not None:
        return f"a list of {least} to {most} {plural}"
    return f"a list of at least {least} {plural}" if least else f"a list of {plural}"


def list_or(words: list[str]) -> str:
    """Write a list of choices: "a, b or c"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def list_and(words: list[str]) -> str:
    """Write a list of things: "a, b and c"."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
