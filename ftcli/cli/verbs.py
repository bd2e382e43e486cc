"""The verbs: their arguments and options, and the one workflow that each calls."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftcli.cli.app import (
    Json,
    NumProcesses,
    Quiet,
    RemoteCode,
    Split,
    Verbose,
    app,
    exit_codes,
    tell_start,
    with_workers,
)
from ftcli.cli.overrides import Verb, complete_config, complete_config_and_overrides, complete_overrides
from ftcli.console import Console

if TYPE_CHECKING:
    from ftcli.config.schema import Config

ConfigFile = Annotated[
    str,
    typer.Argument(metavar="CONFIG", help="A YAML file.", show_default=False, autocompletion=complete_config),
]
Checkpoint = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help="A run, one of its checkpoints, or its model/.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Laid over the config, such as data.max_length=128.",
        show_default=False,
        autocompletion=complete_overrides,
    ),
]


class OnError(Enum):
    """What `predict` does at a row that cannot be predicted."""

    STOP = "stop"
    SKIP = "skip"


class InputFormat(Enum):
    """How `predict` can be told to read its input."""

    LINES = "lines"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"


def tell_hub(config: Config, console: Console) -> None:
    """Find out whether what is needed of the Hub can be had, before its client is imported."""
    from ftcli.hub import check_hub, needed_repositories

    note = check_hub(needed_repositories(config))
    if note:
        console.info(note)


def find_checkpoint(checkpoint: str) -> None:
    """Tell at once, before anything heavy is imported, that there is no such model."""
    from ftcli.checkpoints import find_saved_model

    find_saved_model(Path(checkpoint))


ConfigAndOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CONFIG KEY=VALUE",
        help="A YAML file, and what is laid over it, such as training.epochs=1. Without CONFIG: ./ftcli.yaml, else the "
        "example that comes with ftcli.",
        show_default=False,
        autocompletion=complete_config_and_overrides,
    ),
]


def find_config(arguments: list[str], console: Console) -> tuple[str, list[str]]:
    """Tell CONFIG from what is laid over it; without one take ./ftcli.yaml, else the example, and say so."""
    if arguments and ("=" not in arguments[0] or Path(arguments[0]).is_file()):
        return arguments[0], arguments[1:]
    if Path("ftcli.yaml").is_file():
        console.info("no CONFIG given: ftcli.yaml")
        return "ftcli.yaml", arguments
    from ftcli.quickstart import CONFIG

    console.info(f"no CONFIG given and no ftcli.yaml here: the example, {CONFIG}")
    return CONFIG, arguments


@app.command("train", cls=Verb)
def train_command(
    arguments: ConfigAndOverrides = None,
    num_processes: NumProcesses = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Everything once, and nothing written: is it going to work?")
    ] = False,
    allow_remote_code: RemoteCode = False,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fine-tune a model as CONFIG says, into a run directory."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)
    with exit_codes(console):
        # Before anything heavy is imported: what is wrong with config or run directory is told at once.
        from ftcli.config.loading import load_config
        from ftcli.launching import check_launch
        from ftcli.runs import check_free

        check_launch(num_processes)
        config, overrides = find_config(arguments or [], console)
        loaded = load_config(config, overrides)
        if not dry_run:
            check_free(Path(loaded.output_dir), overwrite=overwrite)
        tell_hub(loaded, console)

    def check(count: int) -> None:
        from ftcli.workflows.train import check_train

        check_train(
            loaded,
            overwrite=overwrite or dry_run,
            num_processes=count,
            allow_remote_code=allow_remote_code,
            console=console,
        )

    def run() -> None:
        from ftcli.workflows.train import dry_run as run_dry
        from ftcli.workflows.train import train

        common: dict[str, Any] = {
            "num_processes": num_processes,
            "allow_remote_code": allow_remote_code,
            "console": console,
        }
        if dry_run:
            run_dry(loaded, **common)
        else:
            train(loaded, overwrite=overwrite, **common)

    with_workers(num_processes, console, check, run)


@app.command("eval", cls=Verb)
def eval_command(
    checkpoint: Checkpoint,
    overrides: Overrides = None,
    split: Split = None,
    num_processes: NumProcesses = None,
    allow_remote_code: RemoteCode = False,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score a saved model, by default on the validation split of its run."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)

    with exit_codes(console):
        find_checkpoint(checkpoint)

    def check(count: int) -> None:
        from ftcli.workflows.evaluate import check_evaluate

        check_evaluate(
            checkpoint,
            overrides or (),
            split=split,
            num_processes=count,
            allow_remote_code=allow_remote_code,
            console=console,
        )

    def run() -> None:
        from ftcli.workflows.evaluate import evaluate

        evaluate(
            checkpoint,
            overrides or (),
            split=split,
            num_processes=num_processes,
            allow_remote_code=allow_remote_code,
            console=console,
        )

    with_workers(num_processes, console, check, run)


app.command("evaluate", hidden=True)(eval_command)


Source = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="A .csv, .tsv, .jsonl, .parquet or .txt file, or - for lines on standard input.",
        show_default=False,
    ),
]
OutputFile = Annotated[
    str | None, typer.Option("--output", "-o", help="A .jsonl, .csv or .tsv file; by default JSON lines on stdout.")
]
TopK = Annotated[int | None, typer.Option("--top-k", min=1, help="Only the K most probable labels.")]
BadRows = Annotated[
    OnError, typer.Option("--on-error", help="At a row that cannot be predicted: stop, or set it aside in a file.")
]
Format = Annotated[
    InputFormat | None, typer.Option("--input-format", help="How to read INPUT; by default as its suffix says.")
]


@app.command("predict", cls=Verb)
def predict_command(
    checkpoint: Checkpoint,
    source: Source,
    overrides: Overrides = None,
    output: OutputFile = None,
    top_k: TopK = None,
    on_error: BadRows = OnError.STOP,
    input_format: Format = None,
    num_processes: NumProcesses = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Label the rows of a file or of standard input with a saved model."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)
    format_name = input_format.value if input_format else None
    with exit_codes(console):
        find_checkpoint(checkpoint)
        _check_streams(source, output, format_name, num_processes, json_output=json_output)

    def check(count: int) -> None:
        from ftcli.workflows.predict import check_predict

        check_predict(checkpoint, overrides or (), count)

    def run() -> None:
        from ftcli.workflows.predict import predict

        predict(
            checkpoint,
            source,
            overrides or (),
            output=output,
            top_k=top_k,
            skip_bad_rows=on_error is OnError.SKIP,
            input_format=format_name,
            num_processes=num_processes,
            console=console,
        )

    with_workers(num_processes, console, check, run)


def _check_streams(
    source: str, output: str | None, format_name: str | None, num_processes: int | None, *, json_output: bool
) -> None:
    from ftcli.data.inputs import STANDARD_INPUT, Input
    from ftcli.data.outputs import Output
    from ftcli.errors import ConfigError

    rows_to = Output.find(output, Input.find(source, format_name).path)
    if json_output and rows_to.path is None:
        raise ConfigError("--json: standard output holds the rows; name a file with -o")
    if source == STANDARD_INPUT and num_processes not in (None, 1):
        raise ConfigError("--num-processes: standard input can be read by one process only; give a file")


@app.command("inspect-batch", cls=Verb)
def inspect_batch_command(
    config: ConfigFile,
    overrides: Overrides = None,
    split: Split = None,
    index: Annotated[int, typer.Option("--index", min=0, help="The example that the batch starts with.")] = 0,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show one batch: tensors, one example token by token, the split's statistics, one forward pass."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)
    with exit_codes(console):
        from ftcli.config.loading import load_config

        loaded = load_config(config, overrides or ())
        tell_hub(loaded, console)
        tell_start(console)
        from ftcli.workflows.inspect_batch import inspect_batch

        inspect_batch(loaded, split=split, index=index, console=console)


@app.command("push")
def push_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run, or its model/.", show_default=False)],
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="OWNER/NAME on the Hub.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Upload the model of a finished run, with its card, to the Hub."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)
    with exit_codes(console):
        from ftcli.workflows.push import push

        push(run, repo_id, private=private, console=console)


@app.command("runs")
def runs_command(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where the runs are.", show_default=False)] = "runs",
    json_output: Json = False,
) -> None:
    """List the runs in a directory: when, config, data, steps, scores, status."""
    console = Console(json_output=json_output)
    with exit_codes(console):
        from ftcli.reporting.table import list_runs, render_runs

        runs = list_runs(Path(folder))
        console.result({"runs": runs}, render_runs(folder, runs))
