"""The verbs. CONFIG and overrides are one variadic argument, so that options may stand anywhere."""

from __future__ import annotations

from typing import Annotated, Any

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
    with_workers,
)
from ftcli.config.loading import load_config
from ftcli.console import Console

ConfigAndOverrides = Annotated[
    list[str],
    typer.Argument(metavar="CONFIG [KEY=VALUE]...", help="A YAML file, then overrides: training.epochs=1"),
]


@app.command("train")
def train_command(
    arguments: ConfigAndOverrides,
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
        # Before anything heavy is imported: a mistake in the config is answered at once.
        config = load_config(arguments[0], arguments[1:])

    def check(count: int) -> None:
        from ftcli.workflows.train import check_train

        check_train(
            config,
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
            run_dry(config, **common)
        else:
            train(config, overwrite=overwrite, **common)

    with_workers(num_processes, console, check, run)


@app.command("eval")
def eval_command(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT [KEY=VALUE]...",
            help="A run, a checkpoint of it, or its model/; then overrides",
        ),
    ],
    split: Split = None,
    num_processes: NumProcesses = None,
    allow_remote_code: RemoteCode = False,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score a saved model, by default on the validation split of its run."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)
    checkpoint, *overrides = arguments

    def check(count: int) -> None:
        from ftcli.workflows.evaluate import check_evaluate

        check_evaluate(
            checkpoint,
            overrides,
            split=split,
            num_processes=count,
            allow_remote_code=allow_remote_code,
            console=console,
        )

    def run() -> None:
        from ftcli.workflows.evaluate import evaluate

        evaluate(
            checkpoint,
            overrides,
            split=split,
            num_processes=num_processes,
            allow_remote_code=allow_remote_code,
            console=console,
        )

    with_workers(num_processes, console, check, run)


app.command("evaluate", hidden=True)(eval_command)


@app.command("inspect-batch")
def inspect_batch_command(
    arguments: ConfigAndOverrides,
    split: Split = None,
    index: Annotated[int, typer.Option("--index", min=0, help="The example that the batch starts with.")] = 0,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show one batch: tensors, one example token by token, the split's statistics, one forward pass."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)
    with exit_codes(console):
        config = load_config(arguments[0], arguments[1:])
        from ftcli.workflows.inspect_batch import inspect_batch

        inspect_batch(config, split=split, index=index, console=console)
