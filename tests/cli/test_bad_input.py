"""The bad inputs that a user meets: each is one error with file, physical line and fix; nothing is written.

`python tests/cli/test_bad_input.py` prints the table of all of them as Markdown.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the script: pytest does it itself
from conftest import PAIR_HEADER, ConfigWriter, pair_rows, save_tiny_model, write_table

from ftcli.errors import DataError, FtcliError, ModelError

EXIT_CODES = {DataError: 3, ModelError: 5}


class Case(NamedTuple):
    """One bad input.

    spoil: changes a folder with good train and validation files. words: what the message must say.
    data: changes to the config's data section; {folder} stands for the folder.
    """

    name: str
    spoil: Callable[[Path], object]
    words: tuple[str, ...]
    data: dict[str, Any] = {}  # noqa: RUF012 - never changed
    error: type[FtcliError] = DataError


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    """Write a file; the header is added where the content is rows only."""
    encoded = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(encoded)


def append(line: str, name: str = "train.csv") -> Callable[[Path], object]:
    """Append to a file of 43 (train) or 17 (validation) rows: the line becomes 45 or 19."""

    def spoil(folder: Path) -> None:
        with (folder / name).open("a", encoding="utf-8", newline="") as file:
            file.write(line + "\n")

    return spoil


def relabel(change: Callable[[int], object], name: str = "train.csv") -> Callable[[Path], object]:
    """Rewrite a file with other labels; the change gets the row number."""

    def spoil(folder: Path) -> None:
        rows = pair_rows(12 if name == "train.csv" else 6)
        write_table(folder / name, PAIR_HEADER, [(a, b, change(i)) for i, (a, b, _) in enumerate(rows)])

    return spoil


def replace_train(name: str, content: str | bytes) -> Callable[[Path], object]:
    """Put another train file in the place of train.csv."""

    def spoil(folder: Path) -> None:
        (folder / "train.csv").unlink()
        write(name, content)(folder)

    return spoil


def jsonl(*rows: str) -> Callable[[Path], object]:
    good = json.dumps({"sentence1": "the cat", "sentence2": "a dog", "label": 1})
    return replace_train("train.jsonl", "\n".join([good, *rows]) + "\n")


def nothing(folder: Path) -> None:
    """Leave the files as they are."""


HEADER = "sentence1,sentence2,label\n"

CASES = [
    Case(
        "missing text column",
        nothing,
        ("train.csv: no column 'sent2'; found sentence1, sentence2, label.", "Set data.columns.text"),
        {"columns": {"text": ["sentence1", "sent2"], "label": "label"}},
    ),
    Case(
        "missing label column",
        nothing,
        ("train.csv: no column 'lable'", "Did you mean 'label'?", "Set data.columns.label"),
        {"columns": {"text": ["sentence1", "sentence2"], "label": "lable"}},
    ),
    Case(
        "empty text",
        append(",a dog,1"),
        ("train.csv", "line 45: column 'sentence1' is empty", "data.empty_text=drop (or keep)"),
    ),
    Case(
        "null text",
        jsonl('{"sentence1": null, "sentence2": "x", "label": 0}'),
        ("train.jsonl", "line 2: column 'sentence1' is empty", "data.empty_text=drop (or keep)"),
    ),
    Case(
        "empty label",
        append("the cat,a dog,"),
        ("train.csv", "line 45: no label", "Fill it in or remove the row"),
    ),
    Case(
        "unseen label",
        append("the cat,a dog,2", "validation.csv"),
        ("validation.csv", "line 19: unknown label '2'", "Correct it or list it in data.labels"),
    ),
    Case(
        "out-of-range label",
        append("the cat,a dog,2"),
        (
            "train.csv",
            "line 45: label 2 is out of range; expected 0 to 1 (different, same)",
            "name every label in data.labels",
        ),
        {"labels": ["different", "same"]},
    ),
    Case(
        "label -1 (unlabelled)",
        relabel(lambda i: -1, "validation.csv"),
        ("validation.csv", "line 2 and 5 more: label -1 marks an unlabelled row", "Choose a labelled split"),
    ),
    Case(
        "only one label in train",
        relabel(lambda i: 1),
        ("train.csv: every row of the train split has the label '1'", "Check data.columns.label"),
    ),
    Case(
        "float labels",
        relabel(lambda i: i % 2 + 0.5),
        ("train.csv", "fractional numbers, such as '0.5' (line 2)", "list their names in data.labels"),
    ),
    Case(
        "labels part numbers, part words",
        relabel(lambda i: "yes" if i == 3 else i % 2),
        ("train.csv", "part numbers and part words, such as '0' (line 2) and 'yes' (line 5)", "data.labels"),
    ),
    Case(
        "a cell too few",
        append("the cat,1"),
        ("train.csv: line 45: 2 cells; the header has 3", "Quote cells"),
    ),
    Case("a cell too many", append("a,b,c,1"), ("train.csv: line 45: 4 cells; the header has 3", "Quote cells")),
    Case(
        "open quote",
        append('"the cat,a dog,1'),
        ("train.csv: line 45: a quote opens and never closes", "Quote cells"),
    ),
    Case(
        "stray quote",
        append('"the" cat,a dog,1'),
        ("train.csv: line 45: a quote closes in the middle of a cell", "double quotes inside them"),
    ),
    Case(
        "line after a quoted line break",
        append('"the\ncat",a dog,1\nshort'),
        ("train.csv: line 47: 1 cells; the header has 3",),
    ),
    Case(
        "column twice",
        write("train.csv", "sentence1,sentence1,label\na,b,1\n"),
        ("line 1", "stands twice; rename"),
    ),
    Case("empty file", write("train.csv", ""), ("train.csv: holds nothing; expected rows", "Check data.path")),
    Case("header only", write("train.csv", HEADER), ("train.csv: holds only a header", "Check data.path")),
    Case(
        "not UTF-8",
        write("train.csv", (HEADER + "caf\xe9,a,1\n").encode("latin-1")),
        ("train.csv: line 2, byte 29: not UTF-8", "iconv -f LATIN1 -t UTF-8"),
    ),
    Case(
        "UTF-16",
        write("train.csv", (HEADER + "a,b,1\n").encode("utf-16")),
        ("is UTF-16", "iconv -f UTF-16 -t UTF-8"),
    ),
    Case(
        "bad JSON line",
        jsonl('{"sentence1": '),
        ("train.jsonl: line 2: not JSON", "expected one object a line"),
    ),
    Case("JSON line that is no object", jsonl("[1]"), ("train.jsonl: line 2: expected an object such as",)),
    Case(
        "lone surrogate",
        jsonl(r'{"sentence1": "\ud83d"}'),
        ("train.jsonl: line 2: half of a surrogate pair",),
    ),
    Case("key missing in a JSON line", jsonl('{"sentence1": "x"}'), ("train.jsonl: line 2: no 'sentence2'",)),
    Case("not a parquet file", replace_train("train.parquet", "a,b"), ("train.parquet: not a parquet file",)),
    Case(
        "no validation split",
        lambda folder: (folder / "validation.csv").unlink(),
        ("no split 'validation'; found train.", "set evaluation.every=never"),
    ),
    Case(
        "no train split",
        lambda folder: (folder / "train.csv").rename(folder / "training.csv"),
        ("no split 'train'; found training, validation.", "Did you mean 'training'?", "Set data.train_split"),
    ),
    Case(
        "two files for one split",
        write("train.jsonl", "{}"),
        ("could be any of train.csv, train.jsonl", "name one in data.files"),
    ),
    Case(
        "no such folder",
        nothing,
        ("nowhere: no such file or folder; check data.path",),
        {"path": "./nowhere"},
    ),
    Case(
        "no such file",
        nothing,
        ("no.csv: no such file. Check data.files.train",),
        {"path": None, "files": {"train": "{folder}/no.csv"}},
    ),
    Case(
        "unknown kind of file",
        write("train.xlsx", "x"),
        ("train.xlsx: unknown kind of file; expected one of .csv",),
        {"path": None, "files": {"train": "{folder}/train.xlsx"}},
    ),
    Case(
        "Hub data set, offline",
        nothing,
        ("has no data set 'nobody/nothing'", "name local ones with model.name_or_path and data.path"),
        {"path": "nobody/nothing"},
        ModelError,
    ),
]


def data_section(case: Case, folder: Path) -> dict[str, Any]:
    """Lay a case's changes over a good data section."""
    section = {
        "path": str(folder),
        "columns": {"text": ["sentence1", "sentence2"], "label": "label"},
        **case.data,
    }
    return json.loads(json.dumps(section).replace("{folder}", str(folder)))


@pytest.fixture
def outcome(case: Case, write_config: ConfigWriter, pair_data: Path, tmp_path: Path) -> FtcliError:
    """Train on a case's data, and return the error."""
    from ftcli.workflows import train

    case.spoil(pair_data)
    with pytest.raises(FtcliError) as caught:
        train(write_config(data=data_section(case, pair_data)))
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_explained_and_writes_nothing(case: Case, outcome: FtcliError, tmp_path: Path) -> None:
    missing = [words for words in case.words if words not in str(outcome)]
    found = (type(outcome), outcome.exit_code, missing, (tmp_path / "run").exists())
    assert found == (case.error, EXIT_CODES[case.error], [], False), str(outcome)


def message_of(case: Case, home: Path) -> FtcliError:
    """Train on a case's data in a folder of its own, and return the error."""
    from ftcli.config.yaml import dump
    from ftcli.console import Console
    from ftcli.workflows import train

    folder = home / case.name.replace(" ", "-")
    for split, count in (("train", 43), ("validation", 17)):
        write_table(folder / "data" / f"{split}.csv", PAIR_HEADER, pair_rows(count))
    case.spoil(folder / "data")
    config = {
        "model": {"name_or_path": str(home / "model")},
        "data": data_section(case, folder / "data"),
        "output_dir": str(folder / "run"),
    }
    (folder / "config.yaml").write_text(dump(config), encoding="utf-8")
    try:
        train(folder / "config.yaml", console=Console(quiet=True))
    except FtcliError as error:
        return error
    raise AssertionError(f"{case.name}: no error")


def print_table() -> None:
    """Print case, exit code and message of every case as Markdown."""
    with TemporaryDirectory() as name:
        home = Path(name)
        os.environ.update(FTCLI_CACHE=f"{home}/cache", HF_HOME=f"{home}/huggingface")
        os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
        save_tiny_model(home / "model")
        print("| case | exit code | message |\n| --- | --- | --- |")  # noqa: T201 - a table for a person
        for case in CASES:
            error = message_of(case, home)
            told = str(error).replace("|", "\\|").replace("\n", "<br>")
            told = told.replace(f"{home}/{case.name.replace(' ', '-')}/", "").replace(f"{Path.cwd()}/", "")
            print(f"| {case.name} | {error.exit_code} | {told} |")  # noqa: T201


if __name__ == "__main__":
    print_table()
