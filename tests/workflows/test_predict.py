"""`predict`: rows in, the same rows out with their labels, in order; what cannot be predicted is told or set aside."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from conftest import PAIR_HEADER, pair_rows, run_ftcli, save_tiny_model, write_table

from ftcli.config.yaml import dump
from ftcli.console import Console
from ftcli.data.inputs import windows
from ftcli.errors import ConfigError, DataError, TrainingStoppedError
from ftcli.workflows import evaluate, predict, train

QUIET = Console(quiet=True)
PAIRS = ["sentence1", "sentence2"]


def make_run(folder: Path, *, text: Any, rows: list[tuple[object, ...]], header: tuple[str, ...]) -> Path:
    """Train a tiny model for a few updates: enough to tell rows apart."""
    config = {
        "model": {"name_or_path": str(save_tiny_model(folder / "tiny", dropout=0.0, initializer_range=0.5))},
        "data": {
            "files": {
                "train": str(write_table(folder / "train.csv", header, rows)),
                "validation": str(write_table(folder / "validation.csv", header, rows)),
            },
            "columns": {"text": text, "label": "label"},
        },
        "training": {"epochs": 6, "batch_size": 8},
        "optimizer": {"learning_rate": 3e-4},
        "evaluation": {"batch_size": 4},
        "output_dir": str(folder / "run"),
    }
    (folder / "config.yaml").write_text(dump(config), encoding="utf-8")
    train(folder / "config.yaml", console=QUIET)
    return folder / "run"


@pytest.fixture(scope="module")
def pair_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on sentence pairs, with the labels different and same."""
    names = ("different", "same")
    rows = [(first, second, names[label]) for first, second, label in pair_rows(43)]
    return make_run(tmp_path_factory.mktemp("pairs"), text=PAIRS, rows=rows, header=PAIR_HEADER)


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on single texts with three labels."""
    rows = [(first, "abc"[number % 3]) for number, (first, _, _) in enumerate(pair_rows(40))]
    return make_run(tmp_path_factory.mktemp("texts"), text="review", rows=rows, header=("review", "label"))


def run_predict(run: Path, source: Path | str, target: Path, *overrides: str, **options: Any) -> list[dict[str, Any]]:
    predict(run, source, overrides, output=target, console=QUIET, **options)
    return read(target)


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """150 rows: more than two windows of 16 batches of 4."""
    rows = [(first, second, number) for number, (first, second, _) in enumerate(pair_rows(150, first=500))]
    return write_table(tmp_path / "pairs.csv", (*PAIRS, "id"), rows)


@pytest.fixture
def one_row(tmp_path: Path) -> Path:
    """A table of one review."""
    return write_table(tmp_path / "rows.csv", ("review", "id"), [("a cat", 1)])


# --- rows in, rows out


def test_every_row_comes_out_once_in_order_with_its_own_columns(pair_run: Path, pairs: Path, tmp_path: Path) -> None:
    got = run_predict(pair_run, pairs, tmp_path / "out.jsonl")

    assert [{name: row[name] for name in (*PAIRS, "id")} for row in got] == read(pairs)


def test_probabilities_name_the_labels_and_add_up_to_one(pair_run: Path, pairs: Path, tmp_path: Path) -> None:
    got = run_predict(pair_run, pairs, tmp_path / "out.jsonl")

    assert all(list(row["probabilities"]) == ["different", "same"] for row in got)
    assert all(abs(sum(row["probabilities"].values()) - 1) < 1e-12 for row in got)
    assert all(row["predicted"] == max(row["probabilities"], key=row["probabilities"].get) for row in got)
    assert {row["predicted"] for row in got} == {"different", "same"}


def test_labels_and_probabilities_are_those_of_the_evaluation(pair_run: Path, tmp_path: Path) -> None:
    got = run_predict(pair_run, pair_run.parent / "validation.csv", tmp_path / "out.jsonl")
    recorded = read(pair_run / "predictions" / "validation.jsonl")

    assert [row["predicted"] for row in got] == [row["predicted"] for row in recorded]
    assert [row["probabilities"] for row in got] == [pytest.approx(row["probabilities"], abs=1e-6) for row in recorded]


def test_accuracy_over_the_predictions_is_the_score_of_eval(pair_run: Path, tmp_path: Path) -> None:
    got = run_predict(pair_run, pair_run.parent / "validation.csv", tmp_path / "out.jsonl")

    accuracy = sum(row["predicted"] == row["label"] for row in got) / len(got)
    assert accuracy == evaluate(pair_run, console=QUIET)["scores"]["accuracy"]


def test_two_processes_predict_what_one_does(pair_run: Path, pairs: Path, tmp_path: Path) -> None:
    one = run_predict(pair_run, pairs, tmp_path / "one.jsonl")
    done = run_ftcli("predict", pair_run, pairs, "-o", tmp_path / "two.jsonl", "--num-processes", 2, "--json")

    assert done.returncode == 0, done.stderr
    two = read(tmp_path / "two.jsonl")
    assert [row["id"] for row in two] == [row["id"] for row in one]
    assert [row["probabilities"] for row in two] == [pytest.approx(row["probabilities"], abs=1e-6) for row in one]
    assert json.loads(done.stdout)["num_processes"] == 2


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_the_kind_of_file_makes_no_difference(text_run: Path, tmp_path: Path, suffix: str) -> None:
    texts = ["the cat sleeps", 'a "dog", or not', "NA", "small fish"]
    source = tmp_path / f"rows{suffix}"
    if suffix == ".jsonl":
        source.write_text("".join(json.dumps({"review": text}) + "\n" for text in texts), encoding="utf-8")
    elif suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"review": texts}), source)
    else:
        write_table(source, ("review", "id"), [(text, number) for number, text in enumerate(texts)])

    got = run_predict(text_run, source, tmp_path / "out.jsonl")

    assert [row["review"] for row in got] == texts


def test_the_columns_of_a_json_row_keep_their_kinds(text_run: Path, tmp_path: Path) -> None:
    own = {"review": "a cat", "id": 7, "score": 1.5, "tags": ["x", {"y": None}], "seen": True, "note": None}
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(own), encoding="utf-8")

    [row] = run_predict(text_run, source, tmp_path / "out.jsonl")

    assert {name: row[name] for name in own} == own


def test_the_dates_of_a_parquet_file_come_out_as_text(text_run: Path, tmp_path: Path) -> None:
    from datetime import date

    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"review": ["a cat"], "day": [date(2024, 2, 29)]}), tmp_path / "rows.parquet")

    [row] = run_predict(text_run, tmp_path / "rows.parquet", tmp_path / "out.jsonl")

    assert row["day"] == "2024-02-29"


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_has_a_column_for_each_label(text_run: Path, tmp_path: Path, suffix: str) -> None:
    source = write_table(tmp_path / "rows.csv", ("id", "review"), [(1, "a cat, red"), (2, "the dog")])

    got = run_predict(text_run, source, tmp_path / f"out{suffix}")

    wanted = ["id", "review", "predicted", "probability_a", "probability_b", "probability_c"]
    assert [list(row) for row in got] == [wanted, wanted]
    assert [row["review"] for row in got] == ["a cat, red", "the dog"]


def test_top_k_keeps_the_most_probable_labels_best_first(text_run: Path, tmp_path: Path, one_row: Path) -> None:
    [whole] = run_predict(text_run, one_row, tmp_path / "all.jsonl")
    best, second, _ = sorted(whole["probabilities"], key=whole["probabilities"].get, reverse=True)

    [row] = run_predict(text_run, one_row, tmp_path / "two.jsonl", top_k=2)
    [cells] = run_predict(text_run, one_row, tmp_path / "two.csv", top_k=2)

    assert list(row["probabilities"].items()) == [(name, whole["probabilities"][name]) for name in (best, second)]
    assert (cells["predicted"], cells["predicted_2"]) == (best, second)
    assert float(cells["probability_2"]) == pytest.approx(whole["probabilities"][second])


def test_another_column_can_hold_the_text(text_run: Path, tmp_path: Path) -> None:
    source = write_table(tmp_path / "rows.csv", ("body", "id"), [("a cat", 1)])

    assert len(run_predict(text_run, source, tmp_path / "out.jsonl", "data.columns.text=body")) == 1


def test_as_many_texts_as_in_training_are_needed(text_run: Path, pair_run: Path, tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.columns\.text names 1 columns; the model was trained on 2"):
        run_predict(pair_run, pairs, tmp_path / "out.jsonl", "data.columns.text=sentence1")
    with pytest.raises(ConfigError, match=r"data\.columns\.text names 2 columns; the model was trained on 1"):
        run_predict(text_run, pairs, tmp_path / "out.jsonl", "data.columns.text=[sentence1, sentence2]")


def test_a_table_with_a_column_of_our_name_is_refused_as_a_whole(text_run: Path, tmp_path: Path) -> None:
    source = write_table(tmp_path / "rows.csv", ("review", "predicted"), [("a cat", "x")])

    with pytest.raises(DataError, match=r"rows\.csv: a column is called 'predicted', as one of the prediction is"):
        run_predict(text_run, source, tmp_path / "out.csv", skip_bad_rows=True)


def test_an_empty_table_is_an_error(text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").touch()

    with pytest.raises(DataError, match=r"rows\.csv: holds nothing; expected a header and rows"):
        run_predict(text_run, tmp_path / "rows.csv", tmp_path / "out.csv")


def test_a_misspelled_key_is_told_from_one_that_changes_nothing(text_run: Path, tmp_path: Path, one_row: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean tokens_per_batch"):
        predict(text_run, one_row, ["evaluation.token_per_batch=5"], output=tmp_path / "out.csv", console=QUIET)


def test_what_changes_nothing_in_a_prediction_is_refused(text_run: Path, tmp_path: Path, one_row: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.epochs=1: changes nothing here"):
        run_predict(text_run, one_row, tmp_path / "out.jsonl", "training.epochs=1")


# --- a stream


StandardInput = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandardInput:
    """Return a function that predicts what stands on standard input, in this process."""

    def run(text: str, run: Path, **options: Any) -> list[dict[str, Any]]:
        monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(text.encode())))
        return run_predict(run, "-", tmp_path / "out.jsonl", **options)

    return run


def test_lines_on_standard_input_become_rows_on_standard_output(text_run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ftcli", "predict", text_run, "-"],
        input='the cat\na "dog"\n',
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["review"] for row in rows] == ["the cat", 'a "dog"']
    assert "2 rows predicted" in done.stderr


def test_a_pair_on_standard_input_is_separated_by_a_tab(pair_run: Path, standard_input: StandardInput) -> None:
    [row] = standard_input("a cat\tthe dog\r\n", pair_run)

    assert [row["sentence1"], row["sentence2"]] == ["a cat", "the dog"]


def test_rows_come_out_before_the_input_ends(text_run: Path) -> None:
    """A window is 16 batches of 4: its rows must be out while the pipe is still open."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ftcli", "predict", text_run, "-", "-q"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for number in range(64):
            process.stdin.write(f"cat {number}\n")
        process.stdin.flush()
        early = [json.loads(process.stdout.readline())["review"] for _ in range(64)]
        rest, _ = process.communicate("the end\n")

    assert early == [f"cat {number}" for number in range(64)]
    assert [json.loads(line)["review"] for line in rest.splitlines()] == ["the end"]


@pytest.mark.parametrize(("batch_size", "expected"), [(4, 64), (1024, 4096), (5000, 5000)])
def test_a_window_is_a_few_batches_and_no_more_rows_than_should_wait(
    text_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, expected: int
) -> None:
    source = write_table(tmp_path / "rows.csv", ("review", "id"), [("a cat", number) for number in range(5)])
    sizes = []

    def cut(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
        sizes.append(size)
        return windows(rows, size)

    monkeypatch.setattr(sys.modules["ftcli.workflows.predict"], "windows", cut)

    run_predict(text_run, source, tmp_path / "out.jsonl", f"evaluation.batch_size={batch_size}")

    assert sizes == [expected]


def test_a_reader_that_has_enough_is_no_error(text_run: Path, tmp_path: Path) -> None:
    source = write_table(tmp_path / "rows.csv", ("review", "id"), [("a cat", number) for number in range(20_000)])

    done = subprocess.run(
        [
            "bash",
            "-c",
            f"{sys.executable} -m ftcli predict {text_run} {source} -q | head -n 1; echo ${{PIPESTATUS[0]}}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )

    first, code = done.stdout.splitlines()
    assert (json.loads(first)["id"], code, done.stderr) == ("0", "0", "")


def test_csv_on_standard_input_is_read_when_that_is_said(text_run: Path, standard_input: StandardInput) -> None:
    [row] = standard_input('id,review\n1,"a, b"\n', text_run, input_format="csv")

    assert row["review"] == "a, b"


# --- rows that cannot be predicted

BROKEN = 'review,id\nthe cat,1\n,2\na dog,3,4\n"red"fish,5\nthe bird,6\n'


def test_a_bad_row_is_an_error_with_its_line_and_leaves_no_file(text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(BROKEN, encoding="utf-8")

    with pytest.raises(DataError, match=r"rows\.csv: line 3: column 'review' is empty\. Correct the row, or set such"):
        run_predict(text_run, tmp_path / "rows.csv", tmp_path / "out.csv")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]


def test_bad_rows_are_set_aside_and_the_others_predicted(text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(BROKEN, encoding="utf-8")

    got = run_predict(text_run, tmp_path / "rows.csv", tmp_path / "out.csv", skip_bad_rows=True)

    assert [row["id"] for row in got] == ["1", "6"]
    assert read(tmp_path / "out.csv.errors.jsonl") == [
        {"line": 3, "number": 1, "error": "column 'review' is empty", "row": {"review": "", "id": "2"}},
        {"line": 4, "number": 2, "error": "3 cells; the header has 2", "text": "a dog,3,4"},
        {
            "line": 5,
            "number": 3,
            "error": "a quote closes in the middle of a cell; expected a comma behind it",
            "text": '"red"fish,5',
        },
    ]


def test_without_bad_rows_there_is_no_file_of_them_and_an_old_one_goes(
    text_run: Path, tmp_path: Path, one_row: Path
) -> None:
    (tmp_path / "out.csv.errors.jsonl").write_text("of an earlier run", encoding="utf-8")

    run_predict(text_run, one_row, tmp_path / "out.csv", skip_bad_rows=True)

    assert not (tmp_path / "out.csv.errors.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"review": ', "not JSON"),
        (b'{"text": "a cat"}', "no 'review'; every row needs it"),
        (b'{"review": ["a", "cat"]}', "column 'review' holds list"),
        (b'{"review": null}', "column 'review' is empty"),
        (b'{"review": "caf\xe9"}', "not UTF-8"),
        (b'{"review": "a cat", "predicted": "x"}', "a column is called 'predicted'"),
    ],
)
def test_a_bad_json_line_is_set_aside_with_its_reason(
    text_run: Path, tmp_path: Path, line: bytes, problem: str
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"review": "a cat"}\n' + line + b'\n{"review": "a dog"}\n')

    got = run_predict(text_run, tmp_path / "rows.jsonl", tmp_path / "out.jsonl", skip_bad_rows=True)
    [aside] = read(tmp_path / "out.jsonl.errors.jsonl")

    assert [row["review"] for row in got] == ["a cat", "a dog"]
    assert (aside["line"], problem in aside["error"]) == (2, True)


def test_a_pair_without_its_tab_is_a_bad_row(pair_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("a cat\tthe dog\nno tab\n", encoding="utf-8")

    with pytest.raises(
        DataError, match=r"line 2: 1 texts; expected 2 texts separated by tabs \(sentence1, sentence2\)"
    ):
        run_predict(pair_run, tmp_path / "rows.txt", tmp_path / "out.jsonl")


def test_an_open_quote_is_an_error_even_when_bad_rows_are_set_aside(text_run: Path, tmp_path: Path) -> None:
    """It may have swallowed any number of good rows."""
    (tmp_path / "rows.csv").write_text('review,id\na cat,1\n"a dog,2\nthe bird,3\n', encoding="utf-8")

    with pytest.raises(DataError, match="line 3: a quote opens and never closes"):
        run_predict(text_run, tmp_path / "rows.csv", tmp_path / "out.csv", skip_bad_rows=True)

    assert not (tmp_path / "out.csv").exists()


def test_empty_texts_are_predicted_where_the_config_keeps_them(text_run: Path, tmp_path: Path) -> None:
    source = write_table(tmp_path / "rows.csv", ("review", "id"), [("", 1)])

    assert len(run_predict(text_run, source, tmp_path / "out.jsonl", "data.empty_text=keep")) == 1


def test_a_missing_text_column_is_one_error_even_when_bad_rows_are_set_aside(text_run: Path, tmp_path: Path) -> None:
    source = write_table(tmp_path / "rows.csv", ("reviews", "id"), [("a cat", 1)])

    with pytest.raises(DataError, match=r"no column 'review'; found reviews, id\. Did you mean 'reviews'\?"):
        run_predict(text_run, source, tmp_path / "out.jsonl", skip_bad_rows=True)


def test_a_row_with_more_columns_than_the_first_does_not_fit_a_table(text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"review": "a cat"}\n{"review": "a dog", "id": 2}\n', encoding="utf-8")

    with pytest.raises(DataError, match="line 2: column 'id' is not in the first row"):
        run_predict(text_run, tmp_path / "rows.jsonl", tmp_path / "out.csv")


# --- what is refused before anything is loaded


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere.csv"], 3, "nowhere.csv: no such file"),
        (["."], 3, ".: a directory; give one file"),
        (["rows.xlsx"], 3, "rows.xlsx: unknown kind of file"),
        (["rows.csv", "-o", "out.xlsx"], 2, "out.xlsx: unknown kind of output"),
        (["rows.csv", "-o", "rows.csv"], 2, "rows.csv: is the input"),
        (["rows.csv", "-o", "nowhere/out.csv"], 2, "no directory nowhere"),
        (["rows.csv", "--json"], 2, "--json: standard output holds the rows"),
        (["-", "--num-processes", "2"], 2, "standard input can be read by one process only"),
    ],
)
def test_what_cannot_work_is_told_at_once(
    text_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "rows.csv").write_text("review,id\na cat,1\n", encoding="utf-8")
    (tmp_path / "rows.xlsx").touch()
    monkeypatch.chdir(tmp_path)

    done = run_ftcli("predict", text_run, *arguments, PYTHONPROFILEIMPORTTIME="1")

    told = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert (done.returncode, len(told), words in told[0]) == (code, 1, True)
    assert not [line for line in done.stderr.splitlines() if line.endswith("| torch")]


def test_predictions_need_nothing_of_the_training_data(text_run: Path, tmp_path: Path, one_row: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(text_run / "model", moved)

    assert len(run_predict(moved, one_row, tmp_path / "out.jsonl")) == 1


def test_an_output_that_cannot_be_written_is_told(text_run: Path, tmp_path: Path, one_row: Path) -> None:
    (tmp_path / "out.csv").mkdir()

    with pytest.raises(ConfigError, match=r"out\.csv: a directory; name a file"):
        run_predict(text_run, one_row, tmp_path / "out.csv")


def test_a_failed_prediction_leaves_an_earlier_one_alone(text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(BROKEN, encoding="utf-8")
    (tmp_path / "out.csv").write_text("earlier", encoding="utf-8")

    with pytest.raises(DataError):
        run_predict(text_run, tmp_path / "rows.csv", tmp_path / "out.csv")

    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "earlier"
    assert not (tmp_path / ".out.csv.partial").exists()


# --- what a careless input or place must not do


def test_the_file_of_set_aside_rows_can_be_an_input_and_survives(text_run: Path, tmp_path: Path) -> None:
    source = tmp_path / "out.csv.errors.jsonl"
    source.write_text('{"review": "a cat"}', encoding="utf-8")

    with pytest.raises(ConfigError, match="is the input, and where rows are set aside"):
        run_predict(text_run, source, tmp_path / "out.csv", skip_bad_rows=True)

    assert source.read_text(encoding="utf-8") == '{"review": "a cat"}'


def test_a_failure_leaves_the_set_aside_rows_of_an_earlier_prediction(text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('review,id\n,1\n"a dog,2\n', encoding="utf-8")
    (tmp_path / "out.csv.errors.jsonl").write_text("earlier", encoding="utf-8")

    with pytest.raises(DataError, match="line 3: a quote opens and never closes"):
        run_predict(text_run, tmp_path / "rows.csv", tmp_path / "out.csv", skip_bad_rows=True)

    assert (tmp_path / "out.csv.errors.jsonl").read_text(encoding="utf-8") == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv.errors.jsonl", "rows.csv"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json"])
def test_bytes_that_are_no_text_are_one_error_with_their_line(text_run: Path, tmp_path: Path, suffix: str) -> None:
    rows = {".csv": b"review,id\na cat,1\ncaf\xe9,2\n", ".tsv": b"review\tid\na cat\t1\ncaf\xe9\t2\n"}
    source = tmp_path / f"rows{suffix}"
    source.write_bytes(rows.get(suffix, b'[{"review": "caf\xe9"}]'))

    with pytest.raises(DataError, match=r"(line 3|byte 16): not UTF-8\. Convert it, for example: iconv"):
        run_predict(text_run, source, tmp_path / "out.jsonl")


def test_a_header_that_is_no_utf8_is_an_error_of_the_file(text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"review,caf\xe9\na cat,1\n")

    with pytest.raises(DataError, match="line 1: not UTF-8"):
        run_predict(text_run, tmp_path / "rows.csv", tmp_path / "out.csv", skip_bad_rows=True)


def test_a_broken_row_never_leaves_a_made_up_one_behind(text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('review,id\n"red"fish,"multi\nline",5\nthe bird,6\n', encoding="utf-8")

    with pytest.raises(DataError, match="line 2: a quote closes in the middle of a cell"):
        run_predict(text_run, tmp_path / "rows.csv", tmp_path / "out.csv", skip_bad_rows=True)


def test_a_wrong_column_is_one_error_also_behind_a_bad_row(text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("reviews,id\na,b,c\na cat,1\n", encoding="utf-8")

    with pytest.raises(DataError, match="no column 'review'"):
        run_predict(text_run, tmp_path / "rows.csv", tmp_path / "out.csv", skip_bad_rows=True)


def test_rows_are_utf8_whatever_the_locale(text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("日本 cat\n", encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "ftcli", "predict", text_run, tmp_path / "rows.txt", "-q"],
        capture_output=True,
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )

    assert json.loads(done.stdout.decode("utf-8"))["review"] == "日本 cat"


def test_a_list_of_dates_fits_a_table(text_run: Path, tmp_path: Path) -> None:
    from datetime import date

    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"review": ["a cat"], "days": [[date(2024, 2, 29)]]}), tmp_path / "rows.parquet")

    [row] = run_predict(text_run, tmp_path / "rows.parquet", tmp_path / "out.csv")

    assert row["days"] == '["2024-02-29"]'


def test_a_destroyed_model_labels_nothing(text_run: Path, tmp_path: Path, one_row: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(text_run / "model", tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    save_file(
        {name: tensor * float("nan") for name, tensor in weights.items()}, tmp_path / "model" / "model.safetensors"
    )
    (tmp_path / "model" / "manifest.json").unlink()  # else it would be told as damaged
    with pytest.raises(TrainingStoppedError, match="outputs are not finite"):
        run_predict(tmp_path / "model", one_row, tmp_path / "out.csv")


def test_a_longer_input_than_in_training_can_be_asked_for(text_run: Path, tmp_path: Path) -> None:
    """The length that is saved is what others truncate at; the model itself takes more."""
    shutil.copytree(text_run / "model", tmp_path / "model")
    tokenizer = tmp_path / "model" / "tokenizer_config.json"
    settings = json.loads(tokenizer.read_text(encoding="utf-8"))
    tokenizer.write_text(json.dumps({**settings, "model_max_length": 8}), encoding="utf-8")
    source = write_table(tmp_path / "rows.csv", ("review", "id"), [(" ".join(["cat"] * 20 + ["dog"] * 20), 1)])

    [whole] = run_predict(tmp_path / "model", source, tmp_path / "whole.jsonl", "data.max_length=60")
    [cut] = run_predict(tmp_path / "model", source, tmp_path / "cut.jsonl", "data.max_length=8")

    assert whole["probabilities"] != cut["probabilities"]
