"""The verbs before a first training: `init` and `inspect-data`."""

from __future__ import annotations

from typing import Annotated

import typer

from ftcli.cli.app import Json, Quiet, Verbose, app, exit_codes
from ftcli.cli.overrides import Verb
from ftcli.cli.verbs import ConfigFile, Overrides, load_to_look
from ftcli.console import Console
from ftcli.locations import DEFAULT_CONFIG

DataSource = Annotated[
    str, typer.Argument(metavar="DATA", help="A file, a folder, or a data set of the Hub.", show_default=False)
]


@app.command("init")
def init_command(
    data: DataSource,
    output: Annotated[str, typer.Option("--output", "-o", help="The config to write.")] = DEFAULT_CONFIG,
    text: Annotated[
        list[str] | None, typer.Option("--text", help="The column of the text; twice for a pair.", show_default=False)
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="The column of the label.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Hub id, directory, or package:MODULE/PATH.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="The configuration of a Hub data set.")] = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look at your data, and write a config that trains on it."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)
    with exit_codes(console):
        from ftcli.scaffolding import init

        init(data, output=output, text=text or (), label=label, model=model, configuration=name, console=console)


@app.command("inspect-data", cls=Verb)
def inspect_data_command(
    config: ConfigFile,
    overrides: Overrides = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look at every split: labels, lengths, empty, repeated and contradictory texts, leakage between splits."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)
    with exit_codes(console):
        loaded, composition = load_to_look(config, overrides, console)
        from ftcli.workflows.inspect_data import inspect_data

        with composition.pointing():
            inspect_data(loaded, console=console)
