"""`init`: the config that it writes trains as it stands, whatever the file looks like."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import pair_rows, run_ftcli, write_table

from ftcli.config.loading import load_config
from ftcli.console import Console
from ftcli.errors import ConfigError, DataError
from ftcli.scaffolding import init
from ftcli.workflows.train import dry_run

QUIET = Console(quiet=True)
Write = Callable[[Path], str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reviews(count: int = 60) -> list[tuple[str, str]]:
    return [(first, ("bad", "good", "mixed")[n % 3]) for n, (first, _, _) in enumerate(pair_rows(count))]


def one_text(folder: Path) -> str:
    return str(write_table(folder / "reviews.csv", ("review", "stars_label"), reviews()))


def label_first(folder: Path) -> str:
    rows = [(n, label, text) for n, (text, label) in enumerate(reviews())]
    return str(write_table(folder / "first.csv", ("id", "kind", "words"), rows))


def labels_as_text(folder: Path) -> str:
    names = {"bad": "not good at all", "good": "quite good", "mixed": "so-so, I say"}
    rows = [(text, names[label]) for text, label in reviews()]
    return str(write_table(folder / "named.csv", ("text", "opinion"), rows))


def tsv_with_quotes(folder: Path) -> str:
    lines = [f'{"positive" if n % 2 else "negative"}\tthey said "{text}' for n, (text, _) in enumerate(reviews())]
    (folder / "quotes.tsv").write_text("\n".join(["label\tsentence", *lines]) + "\n", encoding="utf-8")
    return str(folder / "quotes.tsv")


def nested_jsonl(folder: Path) -> str:
    rows = [
        {"id": n, "doc": {"body": text, "lang": "en"}, "meta": {"annotation": {"label": label}, "tags": ["x"]}}
        for n, (text, label) in enumerate(reviews())
    ]
    (folder / "nested.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(folder / "nested.jsonl")


def gaps(folder: Path) -> str:
    rows = [*reviews(), ("", "bad"), ("no label here", "")]
    return str(write_table(folder / "gaps.csv", ("text", "label"), rows))


def folder_of_pairs(folder: Path) -> str:
    for name, first in (("train", 0), ("dev", 100), ("test", 200)):
        write_table(folder / "pairs" / f"{name}.csv", ("premise", "hypothesis", "label"), pair_rows(40, first=first))
    return "pairs"


def numbered_pair(folder: Path) -> str:
    return str(write_table(folder / "numbered.csv", ("left1", "left2", "same"), pair_rows(40)))


@pytest.mark.parametrize(
    ("write", "text", "label"),
    [
        (one_text, ("review",), "stars_label"),
        (label_first, ("words",), "kind"),
        (labels_as_text, ("text",), "opinion"),
        (tsv_with_quotes, ("sentence",), "label"),
        (nested_jsonl, ("doc.body",), "meta.annotation.label"),
        (gaps, ("text",), "label"),
        (folder_of_pairs, ("premise", "hypothesis"), "label"),
        (numbered_pair, ("left1", "left2"), "same"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_config_is_guessed_right_and_trains(
    write: Write, text: tuple[str, ...], label: str, folder: Path, tiny_model: Path
) -> None:
    record = init(write(folder), model=str(tiny_model), console=QUIET)

    columns: Any = load_config("ftcli.yaml").data.columns
    assert (columns.text, columns.label) == (text, label)
    assert dry_run("ftcli.yaml", console=QUIET)["num_updates"] > 0
    assert record["config"] == "ftcli.yaml"


def test_without_a_validation_split_a_share_is_held_out(folder: Path, tiny_model: Path) -> None:
    init(one_text(folder), model=str(tiny_model), console=QUIET)

    config = load_config("ftcli.yaml")
    assert config.data.validation_fraction == 0.1
    assert (config.training.max_grad_norm, config.optimizer.weight_decay) == (1.0, 0.01)
    assert 0.06 <= config.scheduler.warmup_steps <= 0.1


def test_splits_under_other_names_get_their_roles(folder: Path, tiny_model: Path) -> None:
    init(folder_of_pairs(folder), model=str(tiny_model), console=QUIET)

    data = load_config("ftcli.yaml").data
    assert (data.train_split, data.validation_split, data.test_split) == ("train", "dev", "test")
    assert data.validation_fraction is None


def test_gaps_are_told_and_left_out(folder: Path, tiny_model: Path) -> None:
    init(gaps(folder), model=str(tiny_model), console=QUIET)

    text = Path("ftcli.yaml").read_text(encoding="utf-8")
    assert "empty_text: drop" in text
    assert "1 of 62 rows without a label" in text


def test_long_texts_get_a_longer_limit(folder: Path, tiny_model: Path) -> None:
    words = random.Random(0)  # noqa: S311 - no secret
    rows = [(" ".join(words.choices(["lorem", "ipsum", "dolor"], k=600)), "ab"[n % 2]) for n in range(30)]
    init(str(write_table(folder / "long.csv", ("text", "label"), rows)), model=str(tiny_model), console=QUIET)

    assert load_config("ftcli.yaml").data.max_length == 512


def test_what_is_said_is_not_guessed(folder: Path, tiny_model: Path) -> None:
    table = write_table(folder / "two.csv", ("title", "body", "a", "b"), [(*row, row[1]) for row in pair_rows(40)])

    record = init(str(table), text=["body"], label="a", model=str(tiny_model), console=QUIET)

    assert (record["text"], record["label"], record["reasons"]["text"]) == (["body"], "a", "as you said")


def test_a_saved_data_set_is_looked_at(folder: Path, tiny_model: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    texts, labels = zip(*[(first, label) for first, _, label in pair_rows(40)], strict=True)
    features = Features({"text": Value("string"), "label": ClassLabel(names=["other", "same"])})
    saved = Dataset.from_dict({"text": list(texts), "label": list(labels)}, features=features)
    DatasetDict({"train": saved, "validation": saved}).save_to_disk(str(folder / "saved"))

    record = init("saved", model=str(tiny_model), console=QUIET)

    assert record["labels"] == {"other": labels.count(0), "same": labels.count(1)}
    assert dry_run("ftcli.yaml", console=QUIET)["num_updates"] > 0


def test_an_existing_config_is_not_overwritten(folder: Path) -> None:
    Path("ftcli.yaml").write_text("mine", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"ftcli\.yaml: is there already, and is not overwritten"):
        init(one_text(folder), console=QUIET)

    assert Path("ftcli.yaml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("header", "rows", "told"),
    [
        (("text",), [("one column",), ("no label",)], "no column looks like a label"),
        (("a", "b"), [("x", 1.5), ("y", 2.5), ("x", 1.5)], r"b \(numbers with fractions\)"),
        (("id", "label"), [(1, "x"), (2, "y"), (3, "x"), (4, "y")], "no column looks like a text: id, label"),
    ],
)
def test_what_cannot_be_guessed_is_told_and_nothing_is_written(
    folder: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]], told: str
) -> None:
    table = write_table(folder / "table.csv", header, rows)

    with pytest.raises(DataError, match=told):
        init(str(table), console=QUIET)

    assert not Path("ftcli.yaml").exists()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("none.csv", "none.csv: no such file or folder"),
        ("notes.docx", "unknown kind of file; expected one of .csv"),
        ("empty", "no file for train among no file that can be read"),
    ],
)
def test_what_is_no_data_is_told(folder: Path, source: str, told: str) -> None:
    (folder / "notes.docx").touch()
    (folder / "empty").mkdir()

    with pytest.raises(DataError, match=told):
        init(source, console=QUIET)


@pytest.mark.parametrize(
    ("name", "labels"),
    [("a\nb", ("x\nseed: 7 #", "y")), ("a  # b", ("u\x85v", "w")), ("a: b", ("'q'", '"r"')), ("#", ("no", "~"))],
)
def test_whatever_the_data_says_the_config_says_it_too(
    folder: Path, tiny_model: Path, name: str, labels: tuple[str, str]
) -> None:
    table = write_table(folder / "odd.csv", ("text", name), [(f"a cat {n}", labels[n % 2]) for n in range(20)])

    record = init(str(table), text=["text"], label=name, model=str(tiny_model), console=QUIET)

    config = load_config("ftcli.yaml")
    columns: Any = config.data.columns
    assert (columns.label, config.seed, set(record["labels"])) == (name, 42, set(labels))


def test_minus_one_is_a_class_where_it_is_one(folder: Path, tiny_model: Path) -> None:
    rows = [(f"a cat {n}", n % 3 - 1) for n in range(30)]
    init(str(write_table(folder / "t.csv", ("text", "sentiment"), rows)), model=str(tiny_model), console=QUIET)

    assert load_config("ftcli.yaml").data.labels == ("-1", "0", "1")
    assert dry_run("ftcli.yaml", console=QUIET)["num_updates"] > 0


@pytest.mark.parametrize(
    ("rows", "label", "told"),
    [
        ([(f"a cat {n}", f"{n % 2}.0") for n in range(20)], "label", "labels are fractional numbers"),
        ([(f"a cat {n}", f"name {n}") for n in range(30)], "label", "different labels in 30 rows"),
        ([(f"a cat {n}", "same") for n in range(30)], "label", "a classifier needs at least two"),
        ([(f"a cat {n}", n % 2) for n in range(30)], "text", "each a column of its own"),
    ],
)
def test_what_would_not_train_is_told_and_leaves_nothing(
    folder: Path, tiny_model: Path, rows: list[tuple[Any, ...]], label: str, told: str
) -> None:
    table = write_table(folder / "t.csv", ("text", "label"), rows)

    with pytest.raises(DataError, match=told):
        init(str(table), text=["text"], label=label, model=str(tiny_model), console=QUIET)

    assert [path.name for path in folder.iterdir()] == ["t.csv"]


def test_a_validation_file_without_the_label_is_told(folder: Path, tiny_model: Path) -> None:
    write_table(folder / "d" / "train.csv", ("text", "label"), reviews())
    write_table(folder / "d" / "validation.csv", ("text", "other"), reviews())

    with pytest.raises(DataError, match=r"validation\.csv: no column 'label'"):
        init("d", model=str(tiny_model), console=QUIET)


@pytest.mark.parametrize("output", ["nowhere/x.yaml", "a" * 300 + ".yaml"])
def test_an_output_that_cannot_be_written_is_one_error(folder: Path, tiny_model: Path, output: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        init(one_text(folder), output=output, model=str(tiny_model), console=QUIET)


def test_the_command_says_what_it_guessed_and_why(folder: Path) -> None:
    done = run_ftcli("init", one_text(folder), "-o", "mine.yaml", cwd=folder)

    assert done.returncode == 0, done.stderr
    assert "  text    review (its name)" in done.stdout
    assert "  label   stars_label (its name): bad 20, good 20, mixed 20" in done.stdout
    assert "train: ftcli train mine.yaml" in done.stdout
