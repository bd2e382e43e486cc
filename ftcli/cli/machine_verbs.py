"""The verbs about this machine: `doctor` and `bench`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ftcli.cli.app import Json, Quiet, Verbose, app, exit_codes, tell_start
from ftcli.cli.overrides import Verb, complete_config_and_overrides
from ftcli.cli.verbs import config_file, split_config
from ftcli.console import Console


@app.command("doctor")
def doctor_command(json_output: Json = False, verbose: Verbose = False) -> None:
    """Is this machine ready? Versions, device, disk, caches, the Hub, and one tiny training step."""
    console = Console(verbose=verbose, json_output=json_output)
    with exit_codes(console):
        from ftcli.doctor import doctor

        if not doctor(console)["is_good"]:
            from ftcli.errors import ModelError

            raise typer.Exit(ModelError.exit_code)


@app.command("bench", cls=Verb)
def bench_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG KEY=VALUE",
            help="A YAML file, and what is laid over it. Without CONFIG: made-up texts of the lengths of MRPC and "
            "SST-2, in updates of 8 and 32.",
            show_default=False,
            autocompletion=complete_config_and_overrides,
        ),
    ] = None,
    against: Annotated[
        Literal["plain", "trainer"] | None,
        typer.Option("--against", help="Compare with a plain loop or with transformers' Trainer; by default both."),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Updates of a round, by default 50.")] = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """How fast is it here? Train and evaluate in turns with a plain loop and with transformers' Trainer."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)
    with exit_codes(console):
        tell_start(console)
        from ftcli.workflows.bench import AGAINST, bench

        others = tuple(AGAINST) if against is None else (against,)
        config, overrides = split_config(arguments or [])
        bench(
            None if config is None else config_file(config),
            overrides,
            against=others,
            num_updates=steps,
            console=console,
        )
