"""The verbs for what training has left: `predict`, `push` and `runs`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ftcli.cli.app import Json, NumProcesses, Quiet, Verbose, app, exit_codes, with_workers
from ftcli.cli.overrides import Verb
from ftcli.cli.verbs import Checkpoint, Overrides, find_checkpoint
from ftcli.console import Console


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
