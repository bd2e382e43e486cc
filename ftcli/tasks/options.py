"""The strict, frozen Pydantic base of every part of a config, and how a key is declared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticUndefined, core_schema

JsonSchema = dict[str, Any]


class Section(BaseModel):
    """One section of a config: unknown keys, wrong types, empty texts and non-finite numbers are errors."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        str_min_length=1,
        validate_default=True,
    )


def setting(
    default: Any = PydanticUndefined,
    *,
    help: str,  # noqa: A002 - the field's own word for it
    changes_result: bool = True,
    trainer: tuple[str, ...] = (),
    expected: str | None = None,
    synonyms: dict[str, str] | None = None,
    **limits: Any,
) -> Any:
    """Declare one key: the one place where its default, its help and its limits are written.

    changes_result: False for a key that may differ between two runs with the same numbers.
    trainer: the names that transformers' TrainingArguments uses for it, offered as a correction.
    expected: what may be written, where its type does not say it. synonyms: what people write, and what it is called
    here. limits: Pydantic's constraints, such as ge and lt.
    """
    extra: dict[str, Any] = {"changes_result": changes_result, "trainer": list(trainer)}
    if expected is not None:
        extra["expected"] = expected
    if synonyms is not None:
        extra["synonyms"] = synonyms
    return Field(default, description=help, json_schema_extra=extra, **limits)


def _as_tuple(value: Any) -> Any:
    """Accept a single text where a list of texts is meant, and a YAML list where we keep a tuple."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _as_names(value: Any) -> Any:
    """Accept `[0, 1]` as names: a label that looks like a number is a name all the same."""
    if isinstance(value, list):
        return tuple(str(item) if type(item) is int else item for item in value)
    return value


class Written:
    """What may be written in YAML for a tuple: how it is converted, and how the JSON Schema says so.

    describe: turns the JSON Schema of the list into that of everything that may be written. Stands behind the
    limits in an annotation, so that they are those of the list.
    """

    def __init__(self, convert: Callable[[Any], Any], describe: Callable[[JsonSchema], JsonSchema]) -> None:
        self.convert, self.describe = convert, describe

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Convert before the tuple is checked."""
        return core_schema.no_info_before_validator_function(self.convert, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> JsonSchema:
        """Describe what may be written."""
        return self.describe(handler(schema["schema"]))


A_LIST = Written(lambda value: tuple(value) if isinstance(value, list) else value, lambda listed: listed)
ONE_OR_A_LIST = Written(_as_tuple, lambda listed: {"anyOf": [listed["items"], listed]})
NAMES = Written(_as_names, lambda listed: {**listed, "items": {"anyOf": [listed["items"], {"type": "integer"}]}})
