import json
import os

import pytest
from rich.table import Table

from ftcli.console import Console

Captured = pytest.CaptureFixture[str]
ODD = "[red]label[/red] :smile: [/x] {a}"


def table(*cells: str) -> Table:
    drawn = Table("name", "score")
    drawn.add_row(*cells)
    return drawn


def say_everything(console: Console) -> None:
    console.info("an info")
    console.fields("a title", [("name", "value")])
    console.warn("a warning")
    console.result({"score": 1}, "a result")
    with console.progress("train", total=2, every=1) as progress:
        progress.advance(loss="0.5")


def test_a_result_goes_to_stdout_alone(capsys: Captured) -> None:
    Console().result({"score": 1}, "score 1")
    assert capsys.readouterr() == ("score 1\n", "")


def test_a_table_goes_to_stdout_alone(capsys: Captured) -> None:
    Console().result({"f1": 0.5}, table("f1", "0.5"))
    out, err = capsys.readouterr()
    assert ("0.5" in out, err) == (True, "")


@pytest.mark.parametrize(
    ("method", "told"), [("info", "hello\n"), ("warn", "warning: hello\n"), ("error", "error: hello\n")]
)
def test_what_is_no_result_goes_to_stderr_alone(method: str, told: str, capsys: Captured) -> None:
    getattr(Console(), method)("hello")
    assert capsys.readouterr() == ("", told)


def test_json_prints_exactly_one_object_on_stdout(capsys: Captured) -> None:
    record = {"scores": {"f1": 0.5}, "label": "größer", "best": None}
    Console(json_output=True).result(record, table("f1", "0.5"))
    out = capsys.readouterr().out
    assert (json.loads(out), out.count("\n")) == (record, 1)


def test_json_leaves_the_rest_on_stderr(capsys: Captured) -> None:
    say_everything(Console(json_output=True))
    assert capsys.readouterr().out == '{"score": 1}\n'


def test_a_process_that_is_not_the_main_one_prints_nothing(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    say_everything(Console())
    assert capsys.readouterr() == ("", "")


def test_a_process_that_is_not_the_main_one_prints_no_json(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    Console(json_output=True).result({"score": 1}, "score 1")
    assert capsys.readouterr().out == ""


def test_rank_zero_prints(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    Console().result({"score": 1}, "score 1")
    assert capsys.readouterr().out == "score 1\n"


@pytest.mark.parametrize(("rank", "is_main", "out"), [("1", True, "score 1\n"), ("0", False, "")])
def test_what_the_caller_says_wins_over_the_rank(
    rank: str, is_main: bool, out: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    Console(is_main=is_main).result({"score": 1}, "score 1")
    assert capsys.readouterr().out == out


def test_quiet_leaves_results_and_warnings(capsys: Captured) -> None:
    say_everything(Console(quiet=True))
    assert capsys.readouterr() == ("a result\n", "warning: a warning\n")


def test_quiet_leaves_errors(capsys: Captured) -> None:
    Console(quiet=True).error("broken")
    assert capsys.readouterr().err == "error: broken\n"


def test_progress_is_plain_lines_when_piped(capsys: Captured) -> None:
    with Console().progress("train", total=5, every=2) as progress:
        for step in range(1, 6):
            progress.advance(loss=f"0.{step}", lr="1e-5")
    assert capsys.readouterr() == (
        "",
        "train 2/5  loss 0.2  lr 1e-5\ntrain 4/5  loss 0.4  lr 1e-5\ntrain 5/5  loss 0.5  lr 1e-5\n",
    )


def test_fields_are_aligned_and_further_lines_indented(capsys: Captured) -> None:
    Console().fields("run", [("model", "bert"), ("directory", "a\nb")])
    assert capsys.readouterr().err.splitlines() == [
        "run",
        "  model      bert",
        "  directory  a",
        "             b",
    ]


def test_several_lines_are_told_in_order(capsys: Captured) -> None:
    Console().info("one", "two")
    assert capsys.readouterr().err == "one\ntwo\n"


@pytest.mark.parametrize("method", ["info", "warn", "error"])
def test_brackets_and_colons_are_text_on_stderr(method: str, capsys: Captured) -> None:
    getattr(Console(), method)(ODD)
    assert capsys.readouterr().err.removeprefix("warning: ").removeprefix("error: ") == ODD + "\n"


def test_brackets_and_colons_are_text_in_a_result(capsys: Captured) -> None:
    Console().result({}, ODD)
    assert capsys.readouterr().out == ODD + "\n"


def test_brackets_and_colons_are_text_in_a_table(capsys: Captured) -> None:
    Console().result({}, table(ODD, "1"))
    assert ODD in capsys.readouterr().out


def test_a_long_line_is_not_wrapped(capsys: Captured) -> None:
    line = "word " * 100 + "end"
    Console().info(line)
    assert capsys.readouterr().err == line + "\n"


CHATTER = ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS")


@pytest.mark.parametrize(("verbose", "rank", "calm"), [(False, "0", True), (True, "0", False), (True, "1", True)])
def test_the_libraries_chat_only_with_verbose_and_in_the_main_process(
    verbose: bool, rank: str, calm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*CHATTER, "HF_DATASETS_DISABLE_PROGRESS_BARS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "removed afterwards")
        monkeypatch.delenv(name)
    monkeypatch.setenv("RANK", rank)
    Console(verbose=verbose).calm_libraries()
    assert [name in os.environ for name in CHATTER] == [calm] * 3
