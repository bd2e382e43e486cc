"""The verbs about configs: `validate`, and `config show`, `diff`, `schema` and `reference`. None needs a model."""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Annotated, Any

import typer

from ftcli.cli.app import Json, Quiet, RemoteCode, Verbose, app, exit_codes
from ftcli.cli.overrides import Verb, complete_config
from ftcli.cli.verbs import Overrides, config_file
from ftcli.console import Console, to_json

config_app = typer.Typer(no_args_is_help=True, help="Show, compare and explain configs.")
app.add_typer(config_app, name="config")

ConfigOrRun = Annotated[
    str,
    typer.Argument(metavar="CONFIG", help="A YAML file, or a run.", show_default=False, autocompletion=complete_config),
]


class TextFormat(Enum):
    """How `config show` writes."""

    YAML = "yaml"
    JSON = "json"


class PageFormat(Enum):
    """How `config reference` writes."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


@config_app.command("show", cls=Verb)
def show_command(
    config: ConfigOrRun,
    overrides: Overrides = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value was written.")] = False,
    output_format: Annotated[TextFormat, typer.Option("--format", help="How to write it.")] = TextFormat.YAML,
) -> None:
    """Print the whole config: defaults, what it extends, the file, and the command line."""
    console = Console(json_output=output_format is TextFormat.JSON)
    with exit_codes(console):
        from ftcli.config.loading import compose
        from ftcli.config.schema import keys
        from ftcli.config.showing import config_text, origins_of, told_origin, value_at

        resolved, composition = compose(config_file(config), overrides or ())
        values = resolved.model_dump(mode="json")
        if origin:
            names = [key.path for key in keys(type(resolved)) if key.section is None and key.path != "extends"]
            values = {
                name: {
                    "value": value_at(values, name),
                    "origins": [written._asdict() for written in origins_of(name, composition)],
                }
                for name in names
            }
        note = partial(told_origin, composition=composition) if origin else None
        console.result(values, config_text(resolved, note))


@config_app.command("diff")
def diff_command(first: ConfigOrRun, second: ConfigOrRun, json_output: Json = False) -> None:
    """Compare two configs or runs: only what differs."""
    console = Console(json_output=json_output)
    with exit_codes(console):
        from ftcli.config.loading import load_config
        from ftcli.config.showing import differences
        from ftcli.config.yaml import dump_inline

        found = differences(*(load_config(config_file(name)) for name in (first, second)))
        record = {"differences": [difference._asdict() for difference in found]}
        if not found:
            console.result(record, "no difference")
            return
        from rich.table import Table

        table = Table("key", first, second)
        for difference in found:
            table.add_row(difference.key, dump_inline(difference.first), dump_inline(difference.second))
        console.result(record, table)


@config_app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of a config, for editors."""
    console = Console()
    with exit_codes(console):
        from ftcli.config.json_schema import config_schema

        console.result({}, to_json(config_schema(), indent=2))


@config_app.command("reference")
def reference_command(
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="One key, or a section.", show_default=False)] = None,
    task: Annotated[str | None, typer.Option("--task", help="The task whose keys are meant.")] = None,
    output_format: Annotated[PageFormat, typer.Option("--format", help="How to write it.")] = PageFormat.TEXT,
) -> None:
    """Explain every key of a config, or one: what it takes, its default, what it does."""
    console = Console(json_output=output_format is PageFormat.JSON)
    with exit_codes(console):
        from ftcli.config import reference
        from ftcli.config.schema import DEFAULT_TASK

        rows = reference.records(*reference.find_keys(key, task or DEFAULT_TASK))
        text = reference.as_markdown(rows) if output_format is PageFormat.MARKDOWN else reference.as_text(rows)
        console.result({"keys": rows}, text)


@app.command("validate", cls=Verb)
def validate_command(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG... KEY=VALUE",
            help="YAML files, and what is laid over each of them.",
            show_default=False,
            autocompletion=complete_config,
        ),
    ],
    deep: Annotated[
        bool, typer.Option("--deep", help="The model and the data too: columns, texts, labels. Nothing is trained.")
    ] = False,
    allow_remote_code: RemoteCode = False,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check configs, any number of them, and say of each what is wrong."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)
    with exit_codes(console):
        from ftcli.errors import ConfigError, FtcliError

        names = [name for name in arguments if "=" not in name or name.endswith((".yaml", ".yml"))]
        overrides = [text for text in arguments if text not in names]
        if not names:
            raise ConfigError("no CONFIG to check; name one or more YAML files, or runs")
        code, rows = 0, []
        for name in names:
            try:
                _check(name, overrides, console, deep=deep, allow_remote_code=allow_remote_code)
            except FtcliError as error:
                code = code or error.exit_code
                rows.append({"config": name, "is_valid": False, "problems": _problems(error)})
                if not json_output:
                    console.error(str(error))
            else:
                rows.append({"config": name, "is_valid": True, "problems": []})
        wrong = sum(not row["is_valid"] for row in rows)
        told = f"{len(rows)} checked: {'all valid' if not wrong else f'{wrong} not valid'}"
        console.result({"configs": rows}, told)
        if code:
            raise typer.Exit(code)


def _check(name: str, overrides: list[str], console: Console, *, deep: bool, allow_remote_code: bool) -> None:
    from ftcli.config.loading import compose
    from ftcli.hub import tell_hub

    config, composition = compose(config_file(name), overrides)
    if deep:
        tell_hub(config, console)
        from ftcli.workflows.train import prepare_training

        with composition.pointing():
            prepare_training(config, console, allow_remote_code=allow_remote_code)


def _problems(error: Any) -> list[dict[str, Any]]:
    """Return each problem of an error, for programs."""
    if not error.problems:
        return [{"file": None, "line": None, "column": None, "key": None, "message": str(error)}]
    rows = []
    for problem in error.problems:
        mark = problem.marks[0] if problem.marks else None
        place = {"file": None, "line": None, "column": None}
        if mark is not None:
            place = {"file": mark.source.name, "line": mark.span.line, "column": mark.span.column}
        key = problem.key or (mark.label if mark is not None else None) or None
        rows.append({**place, "key": key, "message": problem.message})
    return rows
