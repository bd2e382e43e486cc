"""The strict, frozen Pydantic base of every part of a config, and how a key is declared."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticUndefined


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
    **limits: Any,
) -> Any:
    """Declare one key: the one place where its default, its help and its limits are written.

    changes_result: False for a key that may differ between two runs with the same numbers.
    trainer: the names that transformers' TrainingArguments uses for it, offered as a correction.
    limits: Pydantic's constraints, such as ge and lt.
    """
    extra: dict[str, Any] = {"changes_result": changes_result, "trainer": list(trainer)}
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


Columns = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]
