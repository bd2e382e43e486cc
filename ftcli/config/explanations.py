"""What is wrong with a config, in words: Pydantic's findings as problems a person can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import ValidationError

from ftcli.config.schema import Config, Key, keys

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "string": "text",
    "string_too_short": "text that is not empty",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "keys with values",
    "model": "keys with values",
}


class Problem(NamedTuple):
    """One thing that is wrong, and the key that it is about."""

    path: tuple[str | int, ...]
    message: str

    def text(self) -> str:
        """Return the dotted key and the message."""
        return f"{'.'.join(map(str, self.path))}: {self.message}" if self.path else self.message


def explain(error: ValidationError, values: Mapping[str, Any], schema: type[Config]) -> list[Problem]:
    """Turn a validation error into one problem a key, in the order of the schema.

    A key that allows several kinds of values fails once for each; those findings become one problem.
    """
    by_path: dict[tuple[str | int, ...], list[Any]] = {}
    known = {key.path: key for key in keys(schema)}
    for finding in error.errors(include_url=False):
        by_path.setdefault(_key_path(finding["loc"], values, known), []).append(finding)
    return [Problem(path, _message(path, findings, schema, known)) for path, findings in by_path.items()]


def _key_path(location: Sequence[str | int], values: Any, known: Mapping[str, Key]) -> tuple[str | int, ...]:
    """Keep the parts of a Pydantic location that are keys; the rest name branches of a union."""
    path: list[str | int] = []
    for part in location:
        in_values = isinstance(values, dict) and part in values
        in_schema = ".".join(map(str, (*path, part))) in known
        in_list = isinstance(part, int) and isinstance(values, list) and part < len(values)
        if not (in_values or in_schema or in_list):
            break
        path.append(part)
        values = values[part] if in_values or in_list else None
    return tuple(path)


def _message(path: tuple[str | int, ...], findings: list[Any], schema: type[Config], known: Mapping[str, Key]) -> str:
    kinds = {finding["type"] for finding in findings}
    if "extra_forbidden" in kinds:
        return unknown_key(path, schema)
    help_text = _help(path, known)
    too_few_items = isinstance(findings[0]["loc"][-1], int)
    if "missing" in kinds and not too_few_items:
        return f"required; {help_text[:1].lower()}{help_text[1:]}"
    found = f"found {describe(findings[0]['input'])}"
    if "missing" in kinds or len(findings) > 1:
        return f"{found}; expected: {help_text}"
    return _single(findings[0], found, help_text)


def _help(path: Sequence[str | int], known: Mapping[str, Key]) -> str:
    """Return the help of a key, or of the key whose list or mapping it is in."""
    for end in range(len(path), 0, -1):
        key = known.get(".".join(map(str, path[:end])))
        if key is not None:
            return str(key.field.description)
    return ""


def _single(finding: Any, found: str, help_text: str) -> str:
    kind, context = finding["type"], finding.get("ctx", {})
    if kind in ("too_short", "too_long"):
        limit = "at least" if kind == "too_short" else "at most"
        return f"{found}; expected {limit} {context.get('min_length', context.get('max_length'))}"
    if kind == "literal_error":
        near = get_close_matches(str(finding["input"]), _quoted(context["expected"]), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{found}; expected {context['expected'].replace(chr(39), '')}{hint}"
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        limit = context.get("ge", context.get("gt", context.get("le", context.get("lt"))))
        side = {
            "greater_than_equal": "below",
            "greater_than": "not above",
            "less_than_equal": "above",
            "less_than": "not below",
        }[kind]
        return f"{finding['input']} is {side} {limit}; {help_text}"
    expected = _EXPECTED.get(kind.removesuffix("_type"))
    if expected:
        return f"{found}; expected {expected}"
    return f"{found}; {finding['msg'][:1].lower()}{finding['msg'][1:]}"


def unknown_key(path: tuple[str | int, ...], schema: type[Config]) -> str:
    """Say that a key does not exist, and which one was probably meant."""
    leaf = str(path[-1])
    section = ".".join(map(str, path[:-1]))
    all_keys = list(keys(schema))
    for key in all_keys:
        if leaf in key.field.json_schema_extra["trainer"]:
            return f"unknown key; TrainingArguments' {leaf} is {key.path} here: {key.field.description}"
        if leaf == key.path:
            section, _, leaf = leaf.rpartition(".")
            return f"unknown key; write {leaf} below {section}, without the dot"
    elsewhere = [key.path for key in all_keys if key.path.split(".")[-1] == leaf]
    if elsewhere:
        return f"unknown key; did you mean {' or '.join(elsewhere)}?"
    paths = [key.path for key in all_keys]
    siblings = {path.split(".")[-1]: path for path in paths if path.rpartition(".")[0] == section}
    near = get_close_matches(leaf, siblings, 1)
    if near:
        return f"unknown key; did you mean {siblings[near[0]]}?"
    anywhere = {path.split(".")[-1]: path for path in paths}
    near = get_close_matches(leaf, anywhere, 1, cutoff=0.75)
    if near:
        return f"unknown key; did you mean {anywhere[near[0]]}?"
    return f"unknown key; {section or 'the config'} takes {', '.join(siblings)}"


def _quoted(expected: str) -> list[str]:
    return expected.split("'")[1::2]


def describe(value: Any) -> str:
    """Say what kind of value was found, and which."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"text {value!r:.60}"
    if isinstance(value, int | float):
        return f"the number {value}"
    return f"a list of {len(value)}" if isinstance(value, list | tuple) else "keys with values"
