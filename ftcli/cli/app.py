"""The Typer app, the options that verbs share, and how errors become exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ftcli import __version__
from ftcli.console import Console
from ftcli.errors import EXIT_INTERRUPTED, FtcliError

# In the order in which a person needs them.
_PANELS = {
    "Begin": ("init", "inspect-data", "inspect-batch", "config", "validate", "doctor", "bench"),
    "Train": ("train", "resume", "eval"),
    "Use": ("predict", "runs", "push"),
}


class _Group(TyperGroup):
    """Lists the verbs in panels, the first steps first."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the verbs in the order of the panels, and those of none at the end."""
        places = {name: place for place, name in enumerate(name for names in _PANELS.values() for name in names)}
        return sorted(super().list_commands(ctx), key=lambda name: places.get(name, len(places)))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb that knows its panel."""
        command: Any = super().get_command(ctx, cmd_name)
        panel = next((panel for panel, names in _PANELS.items() if cmd_name in names), None)
        if command is not None and panel is not None:
            command.rich_help_panel = panel
        return command


app = typer.Typer(
    cls=_Group,
    help="Fine-tune Hugging Face encoders from one YAML file.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

NumProcesses = Annotated[
    int | None, typer.Option("--num-processes", min=1, help="Start this many workers on this machine.")
]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results, warnings and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="The libraries' own messages too.")]
Split = Annotated[
    str | None, typer.Option("--split", help="A split by its name or role; by default validation, to inspect train.")
]
RemoteCode = Annotated[
    bool, typer.Option("--allow-remote-code", help="Let hub: metrics run the code that they download.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"ftcli {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fine-tune Hugging Face encoders from one YAML file."""


@contextmanager
def exit_codes(console: Console) -> Iterator[None]:
    """Explain an FtcliError and exit with its code; Ctrl-C exits with 130; our own bugs keep their traceback."""
    try:
        yield
    except typer.Exit:
        raise
    except FtcliError as error:
        from ftcli.launching import report

        report(error, console)
        raise typer.Exit(error.exit_code) from None
    except BrokenPipeError:
        # Whoever read our output has enough of it, as `head` does; nothing more may be flushed into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None
    except KeyboardInterrupt:
        # The next one ends the process at once, instead of interrupting what runs at its exit.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if console.speaks:
            console.error("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except Exception as error:
        from ftcli.launching import report

        report(error, console)
        raise typer.Exit(1) from None


def tell_start(console: Console) -> None:
    """Break the silence of the seconds that the imports take."""
    console.info("loading libraries, data and model …")


def with_workers(
    num_processes: int | None,
    console: Console,
    check: Callable[[int], None],
    run: Callable[[], object],
    pointing: AbstractContextManager[None] | None = None,
) -> None:
    """Run here, or, when several processes are asked for and none was launched, check and start workers.

    pointing: shows where in the config an error was caused.
    """
    with exit_codes(console), pointing or nullcontext():
        from ftcli.launching import is_worker, launch

        if not is_worker():
            tell_start(console)
        if num_processes is None or num_processes == 1 or is_worker():
            run()
            return
        check(num_processes)
        code = launch(sys.argv[1:], num_processes, console)
        if code:
            raise typer.Exit(code)
