"""A config shown: whole, with origins, as a difference, and as a reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcli.config.loading import compose, load_config
from ftcli.config.reference import as_markdown, as_text, find_keys, records
from ftcli.config.schema import DEFAULT_TASK, config_type, keys
from ftcli.config.showing import Difference, config_text, differences, told_origin
from ftcli.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted([*(ROOT / "configs").glob("*.yaml"), ROOT / "ftcli" / "quickstart" / "quickstart.yaml"])


@pytest.fixture
def three_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config over a base over another, as a team has them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "company.yaml").write_text(
        "model: {name_or_path: bert-base-uncased}\ntraining:\n  epochs: 3\n  batch_size: 16\nseed: 1\n"
    )
    (tmp_path / "team.yaml").write_text("extends: company.yaml\ntraining:\n  epochs: 5\nseed: 2\n")
    (tmp_path / "mine.yaml").write_text(
        "extends: team.yaml\ndata: {path: nyu-mll/glue, columns: {text: sentence}}\nseed: 3\n"
    )
    return tmp_path / "mine.yaml"


def test_each_value_says_where_it_was_written(three_levels: Path) -> None:
    config, composition = compose("mine.yaml", ["training.max_steps=7"])

    lines = config_text(config, lambda key: told_origin(key, composition)).splitlines()
    told = {line.partition(":")[0].strip(): line.partition("# ")[2] for line in lines}
    assert told["name_or_path"] == "company.yaml:1"
    assert told["batch_size"] == "default"  # the one of evaluation, which comes last
    assert told["epochs"] == "team.yaml:3"
    assert told["seed"] == "mine.yaml:3"
    assert told["max_steps"] == "command line: training.max_steps=7"
    assert told["learning_rate"] == "default"
    assert "  batch_size: 16" in "\n".join(lines)


def test_a_shown_config_with_origins_is_a_config(three_levels: Path, tmp_path: Path) -> None:
    config, composition = compose("mine.yaml", ["training.max_steps=7"])
    (tmp_path / "shown.yaml").write_text(config_text(config, lambda key: told_origin(key, composition)))

    assert load_config("shown.yaml") == config


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_config_that_is_shown_saved_and_shown_again_is_the_same(path: Path, tmp_path: Path) -> None:
    once = config_text(load_config(path))
    (tmp_path / "again.yaml").write_text(once, encoding="utf-8")

    assert config_text(load_config(tmp_path / "again.yaml")) == once


def test_the_difference_is_what_was_overridden(three_levels: Path) -> None:
    one, two = load_config("mine.yaml"), load_config("mine.yaml", ["seed=9", "data.columns.text=[a, b]"])

    assert differences(one, two) == [
        Difference("seed", 3, 9),
        Difference("data.columns.text", ["sentence"], ["a", "b"]),
    ]
    assert differences(one, one) == []


def test_a_key_of_one_side_only_is_a_difference(three_levels: Path) -> None:
    one, two = load_config("mine.yaml"), load_config("mine.yaml", ["scheduler.options.num_cycles=2"])

    assert differences(one, two) == [Difference("scheduler.options", {}, {"num_cycles": 2})]


def test_a_section_that_one_side_lacks_is_null_there(three_levels: Path) -> None:
    one, two = load_config("mine.yaml"), load_config("mine.yaml", ["data.path=null", "data.files.train=/a.csv"])

    assert differences(one, two) == [
        Difference("data.path", "nyu-mll/glue", None),
        Difference("data.files.train", None, "/a.csv"),
    ]


def test_a_mapping_of_several_origins_names_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("scheduler: {name: polynomial, options: {num_cycles: 2, power: 3}}\n")
    (tmp_path / "b.yaml").write_text(
        "extends: a.yaml\nmodel: {name_or_path: m}\ndata: {path: p, columns: {text: t}}\n"
        "scheduler: {options: {power: 9}}\n"
    )

    _, composition = compose("b.yaml", ["scheduler.options.lr_end=0"])

    assert told_origin("scheduler.options", composition) == (
        "a.yaml:1, b.yaml:4, command line: scheduler.options.lr_end=0"
    )


def test_the_reference_has_every_key_once() -> None:
    schema, found = find_keys(None, DEFAULT_TASK)
    rows = records(schema, found)

    names = [key.path for key in keys(config_type(DEFAULT_TASK)) if key.section is None]
    text, table = as_text(rows).splitlines(), as_markdown(rows)
    assert sorted(line.strip() for line in text if line.strip() in names) == sorted(names)
    assert all(table.count(f"| `{name}` |") == 1 for name in names)


def test_one_key_is_explained_with_all_that_is_known() -> None:
    schema, found = find_keys("evaluation.batch_size", DEFAULT_TASK)

    assert as_text(records(schema, found)).splitlines() == [
        "evaluation.batch_size",
        "  Most examples in one forward pass",
        "  takes    a whole number from 1 to 2147483647",
        "  default  1024",
        "  changes nothing in the result of a run",
        "  called per_device_eval_batch_size by transformers' TrainingArguments and scripts",
    ]


def test_a_section_is_explained_with_its_keys() -> None:
    schema, found = find_keys("logging", DEFAULT_TASK)

    assert [row["key"] for row in records(schema, found)] == ["logging", "logging.every_steps", "logging.trackers"]


def test_a_key_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^training\.epoch: unknown key; did you mean epochs\?$"):
        find_keys("training.epoch", DEFAULT_TASK)


def test_a_recipe_of_a_package_is_named_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "extends: package:ftcli/recipes/small-data.yaml\n"
        "model: {name_or_path: m}\ndata: {path: p, columns: {text: t}}\n"
    )

    _, composition = compose("mine.yaml")

    assert told_origin("optimizer.weight_decay", composition) == "package:ftcli/recipes/small-data.yaml:6"
