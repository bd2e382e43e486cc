"""What is wrong with a config, in words: Pydantic's findings as problems a person can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from ftcli.config import yaml
from ftcli.config.excerpts import Path, Problem
from ftcli.config.json_schema import describe_type, key_schemas, list_and, list_or
from ftcli.config.schema import Config, Key, keys
from ftcli.errors import MAX_PROBLEMS_SHOWN
from ftcli.tasks.options import JsonSchema, Section


def explain(error: ValidationError, values: Mapping[str, Any], schema: type[Config]) -> list[Problem]:
    """Turn a validation error into one problem a key, in the order of the schema.

    A key that allows several kinds of values fails once for each; those findings become one problem.
    """
    return _explain(error.errors(include_url=False), values, schema)


def _explain(findings: Sequence[Any], values: Mapping[str, Any], schema: type[Config]) -> list[Problem]:
    by_path: dict[Path, set[str]] = {}
    known = {key.path for key in keys(schema)}
    for finding in findings:
        path = _key_path(finding["loc"], values, known)
        # An item that a list lacks is a matter of the list.
        is_item = isinstance(finding["loc"][-1], int)
        kind = "" if is_item else finding["type"]
        by_path.setdefault(path, set()).add("key" if finding["loc"][-1] == "[key]" else kind)
    # A list with a wrong item is not wrong beside it.
    of_items = {path[:-1] for path in by_path if path and isinstance(path[-1], int)}
    told = [path for path in by_path if path not in of_items]
    meant: set[Path] = set()
    problems = []
    for number, path in enumerate(told):
        if _is_unknown(by_path[path]) and number >= MAX_PROBLEMS_SHOWN:
            problems.append(Problem(path, "unknown key", is_about_key=True))  # it is only counted
        elif _is_unknown(by_path[path]):
            problem, name = unknown_key(path, schema)
            problems += [problem, *_inside(path, name, values, schema)]
            meant.add((*path[:-1], name))
        else:
            problems.append(_problem(path, by_path[path], values, schema))
    # What a misspelt key was meant to be is not missing as well.
    return [problem for problem in problems if not (problem.path in meant and problem.message == _MISSING)]


def _inside(path: Path, meant: str, values: Mapping[str, Any], schema: type[Config]) -> list[Problem]:
    """Check what stands in a misspelt section as the section that was meant."""
    name = str(path[0])
    if len(path) > 1 or not isinstance(values[name], dict) or meant not in schema.model_fields or meant in values:
        return []
    renamed = {**{key: value for key, value in values.items() if key != name}, meant: values[name]}
    try:
        schema.model_validate(renamed)
    except ValidationError as error:
        findings = [finding for finding in error.errors(include_url=False) if finding["loc"][0] == meant]
        found = _explain(findings, renamed, schema)
        return [problem._replace(path=(name, *problem.path[1:])) for problem in found]
    return []


_MISSING = "required, and missing"


def _is_unknown(kinds: set[str]) -> bool:
    return "extra_forbidden" in kinds


def _key_path(location: Sequence[str | int], values: Any, known: set[str]) -> Path:
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


def _problem(path: Path, kinds: set[str], values: Any, schema: type[Config]) -> Problem:
    if "key" in kinds:
        return Problem(path, "an empty key; expected a name", help=_help(path, schema), is_about_key=True)
    if "missing" in kinds:
        return Problem(path, _MISSING, help=_help(path, schema))
    for part in path:
        values = values[part]
    return wrong_value(path, values, schema)


def wrong_value(path: Path, value: Any, schema: type[Config]) -> Problem:
    """Say what was found, what may be written, and what was probably meant."""
    key = _schema_of(path, key_schemas(schema))
    message = f"found {describe(value)}; expected {describe_type(key)}{_hint(value, key)}"
    return Problem(path, message, help=_help(path, schema))


def _schema_of(path: Path, known: Mapping[str, JsonSchema]) -> JsonSchema:
    """Find the JSON Schema of a key, or of an item of the list or mapping that it is in."""
    end = next(end for end in range(len(path), 0, -1) if ".".join(map(str, path[:end])) in known)
    found = known[".".join(map(str, path[:end]))]
    for part in path[end:]:
        for option in _options(found):
            if isinstance(part, int) and "prefixItems" in option:
                found = option["prefixItems"][part]
            elif isinstance(part, int) and "items" in option:
                found = option["items"]
            elif isinstance(part, str) and isinstance(option.get("additionalProperties"), dict):
                found = option["additionalProperties"]
    return found


def _options(schema: JsonSchema) -> Sequence[JsonSchema]:
    return schema.get("anyOf") or [schema]


def takes_text(path: Path, schema: type[Config]) -> bool:
    """Whether a key takes any text, and neither numbers nor truth values: `revision=012` is a text."""
    key = key_schemas(schema).get(".".join(map(str, path)))
    if key is None:
        return False
    kinds = {option.get("type") for option in _options(key) if "enum" not in option}
    return "string" in kinds and not kinds & {"integer", "number", "boolean"}


def _hint(value: Any, key: JsonSchema) -> str:
    options = _options(key)
    kinds = {option.get("type") for option in options}
    if isinstance(value, str):
        if "properties" in key or any("properties" in option for option in options):
            first = next(iter(next(option for option in (key, *options) if "properties" in option)["properties"]))
            return f"; write {{{first}: {value}}}" if value.isprintable() and len(value) <= 60 else ""
        synonym = key.get("synonyms", {}).get(value.lower())
        if synonym:
            return f"; write {synonym}"
        words = [word for option in options for word in option.get("enum", [option.get("const")]) if word]
        near = get_close_matches(value, words, 1)
        if near:
            return f"; did you mean {near[0]}?"
        if kinds & {"integer", "number"} and _is_number(value):
            return "; remove the quotes"
        if value and "array" in kinds and "string" not in kinds:
            return f"; write [{value}]"
    elif isinstance(value, float) and "integer" in kinds and "number" not in kinds and value.is_integer():
        return f"; write {int(value)}"
    elif (
        isinstance(value, int | float)
        and "string" in kinds
        and not any(option.keys() & {"enum", "const"} for option in options)
    ):
        return "; put it in quotes"
    return ""


def _is_number(text: str) -> bool:
    try:
        return isinstance(yaml.parse(text).value, int | float)
    except yaml.YamlError:
        return False


def _help(path: Path, schema: type[Config]) -> str:
    """Return the help and the default of a key, or of the key whose list or mapping it is in."""
    known = {key.path: key for key in keys(schema)}
    for end in range(len(path), 0, -1):
        key = known.get(".".join(map(str, path[:end])))
        if key is not None:
            return help_text(key)
    return ""


def help_text(key: Key) -> str:
    """Return the help of a key, and its default if it has one."""
    default = "" if key.section is not None or key.field.is_required() else f"; default {default_text(key)}"
    return f"{key.field.description}{default}"


def default_text(key: Key) -> str:
    """Return the default of a key as it is written in YAML, in one line."""
    default = key.field.default
    if isinstance(default, Section):
        return ""
    # PyYAML writes 5.0e-05, for readers of YAML 1.1.
    return repr(default) if isinstance(default, float) else yaml.dump_inline(key.field.get_default())


def unknown_key(path: Path, schema: type[Config]) -> tuple[Problem, str]:
    """Say that a key does not exist and which one was probably meant; return the name that was, in that section."""
    message, explained, meant = _meant(path, list(keys(schema)))
    help_of_it = help_text(explained) if explained else ""
    return Problem(path, f"unknown key; {message}", help=help_of_it, is_about_key=True), meant


def _meant(path: Path, known: list[Key]) -> tuple[str, Key | None, str]:
    """Return what to do instead, the key to explain, and the name that was meant in the same section."""
    leaf, section = str(path[-1]), ".".join(map(str, path[:-1]))
    if leaf == "<<":
        text = "YAML 1.2 has no merge keys; write the keys out, or put them into a file of their own and name it with"
        return f"{text} extends", None, ""
    for key in known:
        if leaf in key.field.json_schema_extra["trainer"]:
            return f"TrainingArguments' {leaf} is {key.path} here", key, ""
        if leaf == key.path and "." in leaf:
            above, _, name = leaf.rpartition(".")
            return f"write {name} under {above}, without the dot", None, above
    siblings = [_leaf(key) for key in known if key.path.rpartition(".")[0] == section]
    nearest = [name for name in siblings if name.startswith(f"{leaf}_") or f"{name}s" == leaf or name == f"{leaf}s"]
    if nearest:
        return f"did you mean {nearest[0]}?", None, nearest[0]
    elsewhere = [key.path.rpartition(".")[0] for key in known if _leaf(key) == leaf]
    if elsewhere:
        homes = [f"under {home}" if home else "at the top" for home in elsewhere]
        return f"{leaf} belongs {list_or(homes).replace(', under ', ', ').replace(' or under ', ' or ')}", None, ""
    if leaf.partition(":")[0] in siblings:
        name = leaf.partition(":")[0]
        return f"write a blank behind the colon of {name}", None, name
    near = get_close_matches(leaf, siblings, 1)
    if near:
        return f"did you mean {near[0]}?", None, near[0]
    anywhere = {_leaf(key): key.path for key in known}
    near = get_close_matches(leaf, anywhere, 1, cutoff=0.75)
    if near:
        return f"did you mean {anywhere[near[0]]}?", None, ""
    return f"{section or 'the config'} takes {list_and(siblings)}", None, ""


def _leaf(key: Key) -> str:
    return key.path.rpartition(".")[2]


def keys_called(word: str, schema: type[Config]) -> list[str]:
    """Return the dotted keys of a name: ours, dotted or not, or that of TrainingArguments; dashes count as _."""
    word = word.replace("-", "_")
    known = [key for key in keys(schema) if key.section is None]
    return [key.path for key in known if word in (key.path, _leaf(key), *key.field.json_schema_extra["trainer"])]


def near_keys(word: str, schema: type[Config]) -> list[str]:
    """Return the dotted key whose name is nearest to a word, if one is near."""
    leaves = {_leaf(key): key.path for key in keys(schema) if key.section is None}
    return [leaves[leaf] for leaf in get_close_matches(word.replace("-", "_"), leaves, 1, cutoff=0.75)]


def describe(value: Any) -> str:
    """Say what kind of value was found, and which."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"text {value!r:.60}" if value else "an empty text"
    if isinstance(value, int | float):
        return f"the number {value}"
    return f"a list of {len(value)}" if isinstance(value, list | tuple) else "keys and values"
