"""The JSON Schema says what our own validation says, as far as JSON Schema can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_gallery import GALLERY, read_exhibit

import ftcli.config
from ftcli.config.json_schema import config_schema
from ftcli.config.loading import load_config
from ftcli.config.showing import config_text
from ftcli.config.yaml import YamlError, parse
from ftcli.errors import ConfigError

ROOT = Path(__file__).parents[2]
COMMITTED = Path(ftcli.config.__file__).parent / "schema.json"
SHIPPED = sorted([*(ROOT / "configs").glob("*.yaml"), ROOT / "ftcli" / "quickstart" / "quickstart.yaml"])
VALIDATOR = Draft202012Validator(config_schema())
# What is wrong only between keys, in what another file says, or before there are values at all.
NOT_OF_THE_SCHEMA = set(
    """
    best-metric-not-computed unknown-metric hub-metric-without-direction one-and-a-half-updates
    warm-up-that-the-schedule-ignores warm-up-longer-than-training path-and-files neither-path-nor-files
    hub-key-of-local-data label-named-twice patience-without-evaluations validation-split-is-the-train-split
    base-that-is-missing circle problem-in-a-base contradiction-with-a-base
    column-named-twice direction-of-a-known-metric package-that-is-missing base-that-is-empty
    duplicate-key duplicate-section base-sixty date
    override-of-a-misspelt-key override-with-a-wrong-value override-without-a-value override-that-is-not-yaml
    """.split()
)
# JSON has no such numbers, and takes 2.0 for a whole one.
NOT_IN_JSON = {"not-a-number", "out-of-the-range-of-floats", "whole-number-with-a-point"}


def test_the_committed_schema_is_current() -> None:
    told = "write it again: ftcli config schema > ftcli/config/schema.json"
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == config_schema(), told


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(config_schema())


def test_every_section_is_closed_and_every_key_is_described() -> None:
    for section in config_schema()["$defs"].values():
        assert section["additionalProperties"] is False
        for key in section["properties"].values():
            assert key["description"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_is_valid_and_names_the_schema(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")

    assert (path.parent / named).resolve() == COMMITTED
    assert list(VALIDATOR.iter_errors(parse(text).value)) == []
    assert list(VALIDATOR.iter_errors(parse(config_text(load_config(path))).value)) == []


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_a_broken_config_is_refused(path: Path) -> None:
    try:
        value = parse(read_exhibit(path).files[path.name]).value
    except YamlError:
        return  # an editor says so itself
    is_refused = next(VALIDATOR.iter_errors(value), None) is not None

    assert is_refused == (path.stem not in NOT_OF_THE_SCHEMA | NOT_IN_JSON)


def test_a_config_that_extends_may_leave_everything_to_its_base() -> None:
    assert VALIDATOR.is_valid({"extends": "base.yaml"})
    assert not VALIDATOR.is_valid({"extends": "base.yaml", "modle": {}})
    assert not VALIDATOR.is_valid({"seed": 1})


FULL = parse(config_text(load_config(ROOT / "configs" / "mrpc.yaml"))).value
LEAVES = [(section, key) for section, keys in FULL.items() if isinstance(keys, dict) for key in keys]
# No numbers that only JSON Schema takes for whole ones, such as 3.0.
VALUES = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "auto", "epoch", "f1", 0.25, 1.5, []])
)


@given(at=st.sampled_from(LEAVES), value=VALUES)
def test_what_the_schema_refuses_is_refused(at: tuple[str, str], value: Any, tmp_path_factory: Any) -> None:
    """The converse does not hold: some things are only wrong together."""
    from ftcli.config.yaml import dump

    section, key = at
    changed = {**FULL, section: {**FULL[section], key: value}}
    path = tmp_path_factory.getbasetemp() / "changed.yaml"
    path.write_text(dump(changed), encoding="utf-8")
    try:
        load_config(path)
    except ConfigError:
        return
    assert VALIDATOR.is_valid(changed)
