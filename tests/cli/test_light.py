import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import run_ftcli
from typer.testing import CliRunner

from ftcli import __version__
from ftcli.cli import app
from ftcli.errors import ConfigError, DataError, FtcliError, ModelError, RunError, TrainingStoppedError

HEAVY = ("torch", "transformers", "datasets", "evaluate", "accelerate", "sklearn", "pandas", "numpy")
# Runs a statement as a program would, and ends with what it imported and its exit code, as JSON on stderr.
PROBE = f"""
import json, sys
code = 0
try:
    exec(sys.argv.pop(1))
except SystemExit as stop:
    code = stop.code or 0
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps([code, heavy]), file=sys.stderr)
"""


def probe(statement: str, *arguments: str) -> tuple[int, list[str], str]:
    """Return exit code, heavy imports and stdout of a statement in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, statement, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1"},
        check=True,
    )
    code, heavy = json.loads(done.stderr.splitlines()[-1])
    return code, heavy, done.stdout


def command(*arguments: str) -> tuple[int, list[str], str]:
    return probe("from ftcli.__main__ import main; main()", *arguments)


def test_the_probe_sees_a_heavy_import() -> None:
    assert probe("import numpy")[1] == ["numpy"]


@pytest.mark.parametrize(
    "statement",
    [
        "import ftcli",
        "import ftcli; dir(ftcli)",
        "from ftcli import load_config",
        "import ftcli.cli",
        "import ftcli.config.loading",
        "import ftcli.runs",
        "import ftcli.launching",
    ],
)
def test_an_import_is_light(statement: str) -> None:
    assert probe(statement)[1] == []


def test_load_config_is_light() -> None:
    mrpc = Path(__file__).parents[2] / "configs" / "mrpc.yaml"
    assert probe("from ftcli import load_config; load_config(sys.argv[1])", str(mrpc))[:2] == (0, [])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--help"], "inspect-batch"),
        (["-h"], "inspect-batch"),
        (["train", "--help"], "--num-processes"),
        (["eval", "--help"], "CHECKPOINT"),
        (["evaluate", "--help"], "CHECKPOINT"),
        (["inspect-batch", "--help"], "--index"),
        (["--version"], f"ftcli {__version__}\n"),
    ],
    ids=["help", "h", "train", "eval", "evaluate", "inspect-batch", "version"],
)
def test_help_and_version_are_light_and_exit_with_0(arguments: list[str], told: str) -> None:
    code, heavy, out = command(*arguments)
    assert (code, heavy, told in out) == (0, [], True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "c.yaml"],
        ["config", "show", "c.yaml", "--origin"],
        ["config", "diff", "c.yaml", "c.yaml"],
        ["config", "schema"],
        ["config", "reference"],
    ],
    ids=["validate", "show", "diff", "schema", "reference"],
)
def test_what_is_about_configs_is_light(arguments: list[str]) -> None:
    assert command(*arguments)[:2] == (0, [])


def test_the_alias_of_eval_is_not_listed() -> None:
    commands = re.findall(r"^\W*(train|eval|evaluate|inspect-batch)\s", command("--help")[2], re.MULTILINE)
    assert commands == ["inspect-batch", "train", "eval"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="nothing"),
        pytest.param(["trian", "c.yaml"], id="an unknown verb"),
        pytest.param(["eval"], id="no checkpoint"),
        pytest.param(["inspect-batch"], id="nothing to inspect"),
        pytest.param(["train", "c.yaml", "--overwite"], id="an unknown option"),
        pytest.param(["train", "c.yaml", "--num-processes", "two"], id="no number"),
        pytest.param(["train", "c.yaml", "--num-processes", "0"], id="too few processes"),
        pytest.param(["inspect-batch", "c.yaml", "--index", "-1"], id="a negative index"),
        pytest.param(["eval", "run", "--overwrite"], id="the option of another verb"),
    ],
)
def test_a_usage_error_exits_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_misspelt_option_is_answered_with_the_right_one() -> None:
    assert "--overwrite" in CliRunner().invoke(app, ["train", "c.yaml", "--overwite"]).stderr


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the config that the commands below name."""
    text = "model: {name_or_path: some/encoder}\ndata: {path: some/data, columns: {text: sentence}}\n"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


class Recorder:
    """Stands in for a workflow: checks that the call fits its signature, and keeps the arguments."""

    def __init__(self, workflow: Any, error: BaseException | None = None) -> None:
        self.signature, self.error = inspect.signature(workflow), error
        self.arguments: dict[str, Any] = {}

    def __call__(self, *arguments: Any, **options: Any) -> None:
        self.arguments = dict(self.signature.bind(*arguments, **options).arguments)
        if self.error is not None:
            raise self.error


def record(monkeypatch: pytest.MonkeyPatch, module: str, function: str, error: BaseException | None = None) -> Recorder:
    found = importlib.import_module(f"ftcli.workflows.{module}")
    recorder = Recorder(getattr(found, function), error)
    monkeypatch.setattr(found, function, recorder)
    monkeypatch.setattr("ftcli.hub.check_hub", lambda needed: None)
    return recorder


@pytest.mark.parametrize(
    "arguments",
    [
        "--json -q --num-processes 1 c.yaml training.epochs=1 seed=7",
        "c.yaml --json training.epochs=1 -q --num-processes=1 seed=7",
        "c.yaml training.epochs=1 seed=7 --num-processes 1 --quiet --json",
    ],
)
def test_options_may_stand_before_between_and_behind_the_arguments(
    arguments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = record(monkeypatch, "train", "train")
    CliRunner().invoke(app, ["train", *arguments.split()], catch_exceptions=False)
    given, console = train.arguments, train.arguments["console"]
    assert (given["config"].training.epochs, given["config"].seed) == (1, 7)
    assert (given["num_processes"], console.json_output, console.quiet) == (1, True, True)


def test_dry_run_does_not_train(monkeypatch: pytest.MonkeyPatch) -> None:
    train, dry_run = record(monkeypatch, "train", "train"), record(monkeypatch, "train", "dry_run")
    CliRunner().invoke(app, ["train", "c.yaml", "--dry-run"], catch_exceptions=False)
    assert (train.arguments, dry_run.arguments["config"].seed) == ({}, 42)


@pytest.mark.parametrize(("flags", "overwrite"), [([], False), (["--overwrite"], True)])
def test_a_run_is_overwritten_only_when_asked(
    flags: list[str], overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = record(monkeypatch, "train", "train")
    CliRunner().invoke(app, ["train", "c.yaml", *flags], catch_exceptions=False)
    assert train.arguments["overwrite"] is overwrite


@pytest.mark.parametrize("verb", ["eval", "evaluate"])
def test_evaluate_is_another_name_of_eval(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = record(monkeypatch, "evaluate", "evaluate")
    monkeypatch.setattr("ftcli.checkpoints.find_saved_model", lambda path: path)
    CliRunner().invoke(app, [verb, "runs/x", "--split", "test", "a=b"], catch_exceptions=False)
    given = evaluate.arguments
    assert (given["checkpoint"], given["overrides"], given["split"]) == ("runs/x", ["a=b"], "test")


def test_inspect_batch_takes_split_and_index(monkeypatch: pytest.MonkeyPatch) -> None:
    inspected = record(monkeypatch, "inspect_batch", "inspect_batch")
    CliRunner().invoke(app, ["inspect-batch", "c.yaml", "--split=test", "--index=3"], catch_exceptions=False)
    assert (inspected.arguments["split"], inspected.arguments["index"]) == ("test", 3)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError("c.yaml: wrong"), 2, "error: c.yaml: wrong\n"),
        (DataError("a.csv: wrong"), 3, "error: a.csv: wrong\n"),
        (RunError("runs/x: wrong"), 4, "error: runs/x: wrong\n"),
        (ModelError("bert: wrong"), 5, "error: bert: wrong\n"),
        (TrainingStoppedError("step 3: wrong"), 6, "error: step 3: wrong\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
    ids=["config", "data", "run", "model", "stopped", "interrupt"],
)
def test_an_error_is_told_on_stderr_and_has_its_exit_code(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(monkeypatch, "train", "train", error)
    done = CliRunner().invoke(app, ["train", "c.yaml", "-q"])
    assert (done.exit_code, done.stderr, done.stdout) == (code, told, "")


def test_our_own_bug_keeps_its_traceback_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    record(monkeypatch, "train", "train", ZeroDivisionError("ours"))
    done = CliRunner().invoke(app, ["train", "c.yaml"])
    assert (done.exit_code, "Traceback" in done.stderr, "ZeroDivisionError: ours" in done.stderr) == (
        1,
        True,
        True,
    )


def test_every_error_class_has_an_exit_code_of_the_house() -> None:
    classes = [FtcliError, *FtcliError.__subclasses__()]
    assert {cls.__name__: cls.exit_code for cls in classes} == {
        "FtcliError": 1,
        "ConfigError": 2,
        "DataError": 3,
        "RunError": 4,
        "ModelError": 5,
        "TrainingStoppedError": 6,
        "TrainingInterruptedError": 130,
    }


def test_a_config_error_exits_with_2_and_leaves_stdout_empty(tmp_path: Path) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("modle: {name_or_path: x}\n", encoding="utf-8")
    done = run_ftcli("train", config, "--json")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"error: {config}: 2 problems\n\n"
        f"{config}: data: required, and missing\n    = Which rows to read, and how\n\n"
        f"{config}:1:1: modle: unknown key; did you mean model?\n  1 | modle: {{name_or_path: x}}\n    | ^^^^^\n",
    )


def test_python_m_ftcli_prints_the_version() -> None:
    assert run_ftcli("--version").stdout == f"ftcli {__version__}\n"
