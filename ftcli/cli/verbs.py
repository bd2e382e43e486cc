"""The verbs around training: `train`, `eval` and `inspect-batch`, each with the one workflow that it calls."""

from __future__ import annotations

import os
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
from ftcli.locations import DEFAULT_CONFIG

if TYPE_CHECKING:
    from ftcli.config.composition import Composition
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


def config_file(name: str) -> str:
    """Return the config of a run for its directory; any other name as it is."""
    inside = os.path.join(name, "config.yaml")  # noqa: PTH118 - os.path bears names that are no path
    return inside if os.path.isfile(inside) else name  # noqa: PTH113


def load_to_look(config: str, overrides: list[str] | None, console: Console) -> tuple[Config, Composition]:
    """Load a config, and break the silence before the imports of what looks at its data."""
    from ftcli.config.loading import compose
    from ftcli.hub import tell_hub

    loaded, composition = compose(config_file(config), overrides or ())
    tell_hub(loaded, console)
    tell_start(console)
    return loaded, composition


def find_checkpoint(checkpoint: str) -> None:
    """Tell at once, before anything heavy is imported, that there is no such model."""
    from ftcli.checkpoints import find_saved_model

    find_saved_model(Path(checkpoint))


AllowInexact = Annotated[
    bool,
    typer.Option(
        "--allow-inexact", help="Go on with another number of processes: the same updates, other last digits."
    ),
]
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


def split_config(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Tell CONFIG, if it is there, from what is laid over it."""
    if arguments and ("=" not in arguments[0] or Path(arguments[0]).is_file()):
        return arguments[0], arguments[1:]
    return None, arguments


def default_config(console: Console) -> str:
    """Return what stands for a CONFIG that is not given: ./ftcli.yaml, else the example; and say so."""
    if Path(DEFAULT_CONFIG).is_file():
        console.info(f"no CONFIG given: {DEFAULT_CONFIG}")
        return DEFAULT_CONFIG
    from ftcli.quickstart import CONFIG

    console.info(f"no CONFIG given and no {DEFAULT_CONFIG} here: the example, {CONFIG}")
    return CONFIG


@app.command("train", cls=Verb)
def train_command(
    arguments: ConfigAndOverrides = None,
    num_processes: NumProcesses = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="[auto|PATH]",
            help="Go on with the run in output_dir, from its newest checkpoint or the one at PATH; a run that has "
            "saved nothing starts. Without CONFIG, PATH is the run, as in `ftcli resume`.",
            show_default=False,
        ),
    ] = None,
    allow_inexact: AllowInexact = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same as training.deterministic=true.")
    ] = False,
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
        config, overrides = split_config(arguments or [])
        if config is None and resume not in (None, "auto"):
            config, resume, overrides, num_processes = _find_run(resume, overrides, num_processes)
        config = config or default_config(console)
    overrides += ["training.deterministic=true"] if deterministic else []
    how = {"overwrite": overwrite, "resume": resume, "allow_inexact": allow_inexact}
    _train(config, overrides, None if dry_run else how, num_processes, allow_remote_code, console)


def _train(
    config: str,
    overrides: list[str],
    how: dict[str, Any] | None,
    num_processes: int | None,
    allow_remote_code: bool,
    console: Console,
) -> None:
    """Train, here or in workers. how: the further arguments of the workflow; None for a dry run."""
    with exit_codes(console):
        # Before anything heavy is imported: what is wrong with config or run directory is told at once.
        from ftcli.config.loading import compose
        from ftcli.hub import tell_hub
        from ftcli.launching import check_launch
        from ftcli.resuming import find_start, tell_finished

        check_launch(num_processes)
        loaded, composition = compose(config, overrides)
        if how is not None:
            quiet = Console(quiet=True, is_main=False)
            start = find_start(loaded, how["resume"], quiet, overwrite=how["overwrite"])
            if start.finished:
                tell_finished(loaded, console)
                return
        tell_hub(loaded, console)

    common: dict[str, Any] = {"allow_remote_code": allow_remote_code, "console": console}

    def check(count: int) -> None:
        from ftcli.workflows.train import check_train

        check_train(loaded, num_processes=count, **common)

    def run() -> None:
        from ftcli.workflows.train import dry_run, train

        if how is None:
            dry_run(loaded, num_processes=num_processes, **common)
        else:
            train(loaded, num_processes=num_processes, **how, **common)

    with_workers(num_processes, console, check, run, composition.pointing())


@app.command("resume", cls=Verb)
def resume_command(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run directory, or one of its checkpoints.", show_default=False)
    ],
    overrides: Overrides = None,
    num_processes: NumProcesses = None,
    allow_inexact: AllowInexact = False,
    allow_remote_code: RemoteCode = False,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Go on with a run that was interrupted, bit for bit, on as many processes as it had."""
    console = Console(quiet=quiet, verbose=verbose, json_output=json_output)
    with exit_codes(console):
        config, resume, overrides, num_processes = _find_run(run, overrides or [], num_processes)
    how = {"overwrite": False, "resume": resume, "allow_inexact": allow_inexact}
    _train(config, overrides, how, num_processes, allow_remote_code, console)


def _find_run(name: str, overrides: list[str], num_processes: int | None) -> tuple[str, str, list[str], int | None]:
    """Return the config of a run, what to resume of it, what is laid over the config, and on how many processes."""
    from ftcli.errors import ConfigError
    from ftcli.launching import is_worker
    from ftcli.resuming import find_run, processes_of

    moved = [override for override in overrides if override.partition("=")[0] == "output_dir"]
    if moved:
        raise ConfigError(f"{moved[0]}: a run goes on where it is; copy its directory, and resume the copy")
    directory, resume = find_run(name)
    if num_processes is None and not is_worker():
        num_processes = processes_of(directory)
    return str(directory / "config.yaml"), resume, [*overrides, f"output_dir={directory}"], num_processes


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
        loaded, composition = load_to_look(config, overrides, console)
        from ftcli.workflows.inspect_batch import inspect_batch

        with composition.pointing():
            inspect_batch(loaded, split=split, index=index, console=console)
