"""The only printer: the main process alone speaks, results go to stdout and everything else to stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType


def to_json(record: Any, *, indent: int | None = None) -> str:
    """Write JSON that every reader takes: numbers that are not finite become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, Mapping):
            return {key: finite(item) for key, item in value.items()}
        return [finite(item) for item in value] if isinstance(value, list | tuple) else value

    return json.dumps(finite(record), ensure_ascii=False, indent=indent, allow_nan=False)


# Columns of a table that goes to a file.
_FILE_WIDTH = 200


class Progress(Protocol):
    """What a loop tells the person who watches it."""

    def advance(self, **values: str) -> None:
        """Count one step and show the given values beside the bar."""


@dataclass(frozen=True)
class Console:
    """Where the commands print.

    quiet: only results, warnings and errors. verbose: the libraries' own messages too.
    json_output: stdout gets exactly one JSON object, from `result`.
    is_main: False silences this process; by default it is read from the launcher's RANK.
    """

    quiet: bool = False
    verbose: bool = False
    json_output: bool = False
    is_main: bool | None = None

    @property
    def speaks(self) -> bool:
        """Whether this is the process that prints."""
        return os.environ.get("RANK", "0") == "0" if self.is_main is None else self.is_main

    def info(self, *lines: str) -> None:
        """Tell how the work goes: on stderr, unless quiet."""
        if self.speaks and not self.quiet:
            for line in lines:
                _stderr().print(line, soft_wrap=True)

    def fields(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        """Print a title and aligned name-value lines on stderr, unless quiet."""
        rows = list(rows)
        self.info(title)
        if not self.speaks or self.quiet:
            return
        if not _stderr().is_terminal:
            width = max(len(name) for name, _ in rows)
            indent = "\n" + " " * (width + 4)
            self.info(*(f"  {name:<{width}}  {value.replace(chr(10), indent)}" for name, value in rows))
            return
        from rich.table import Table

        grid = Table.grid(padding=(0, 2), pad_edge=True)
        for name, value in rows:
            grid.add_row(name, value)
        _stderr().print(grid)

    def warn(self, message: str) -> None:
        """Print a warning on stderr, quiet or not."""
        if self.speaks:
            _stderr().print(f"warning: {message}", soft_wrap=True)

    def error(self, message: str) -> None:
        """Print an error on stderr, from whichever process calls."""
        _stderr().print(f"error: {message}", style="red", soft_wrap=True)

    def result(self, record: Mapping[str, Any], text: RenderableType) -> None:
        """Print the outcome on stdout: the record with `--json`, the text otherwise."""
        if not self.speaks:
            return
        if self.json_output:
            sys.stdout.write(to_json(record) + "\n")
            sys.stdout.flush()
            return
        stdout = _rich(sys.stdout)
        if stdout.is_terminal:
            stdout.print(text, soft_wrap=isinstance(text, str))
            return
        # A file has no width, and no use for the blanks that fill a screen.
        stdout.width = _FILE_WIDTH
        with stdout.capture() as captured:
            stdout.print(text, soft_wrap=isinstance(text, str))
        sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))
        sys.stdout.flush()

    @contextmanager
    def progress(self, description: str, total: int | None, every: int, *, done: int = 0) -> Iterator[Progress]:
        """Show a live bar on a terminal; elsewhere print a plain line every `every` steps and at the end.

        done: the steps that lie behind already.
        """
        if not self.speaks or self.quiet:
            yield _Silent()
        elif _stderr().is_terminal:
            with _live_bar() as bar:
                yield _Bar(bar, bar.add_task(description, total=total, completed=done, values=""))
        else:
            yield _Lines(self, description, total, every, done)

    def calm_libraries(self) -> None:
        """Keep the chatter of the libraries to ourselves, unless verbose; call before they are imported."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        if self.verbose and self.speaks:
            return
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("DATASETS_VERBOSITY", "error")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
        # The variables are read at import; a notebook may have imported these two already.
        for name in ("transformers.utils.logging", "datasets.utils.logging"):
            if name in sys.modules:
                sys.modules[name].set_verbosity_error()
                sys.modules[name].disable_progress_bar()
        warnings.filterwarnings("ignore", module=r"(torch|transformers|datasets|evaluate|accelerate)(\..*)?")


class _Silent:
    def advance(self, **values: str) -> None:
        pass


class _Lines:
    """Progress for pipes and log files."""

    def __init__(self, console: Console, description: str, total: int | None, every: int, done: int) -> None:
        self.console, self.description, self.total, self.every, self.done = console, description, total, every, done

    def advance(self, **values: str) -> None:
        self.done += 1
        if self.done % self.every == 0 or self.done == self.total:
            told = "  ".join(f"{name} {value}" for name, value in values.items())
            count = "" if self.total is None else f" {self.done}/{self.total}"
            self.console.info(f"{self.description}{count}  {told}".rstrip())


class _Bar:
    """Progress for a person at a terminal."""

    def __init__(self, bar: Any, task: Any) -> None:
        self.bar, self.task = bar, task

    def advance(self, **values: str) -> None:
        told = " ".join(f"[dim]{name}[/dim] {value}" for name, value in values.items())
        self.bar.update(self.task, advance=1, values=told)


def _live_bar() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}"),
        TimeRemainingColumn(compact=True),
        console=_stderr(),
        # The lines that are printed above the bar come from this console already.
        redirect_stdout=False,
        redirect_stderr=False,
    )


_stderr_console: RichConsole | None = None


def _stderr() -> RichConsole:
    """One rich console for stderr, so that lines printed during a live bar go above it."""
    global _stderr_console
    if _stderr_console is None or _stderr_console.file is not sys.stderr:
        _stderr_console = _rich(sys.stderr)
    return _stderr_console


def _rich(file: TextIO) -> RichConsole:
    """Open a rich console that shows texts as they are: [a] is no markup and :x: no emoji."""
    from rich.console import Console as RichConsole

    class Enduring(RichConsole):
        def on_broken_pipe(self) -> None:
            """Go on unheard, where rich would end the process: what reads messages is worth less than the work."""
            self.quiet = True

    kind = Enduring if file is sys.stderr else RichConsole
    return kind(file=file, markup=False, emoji=False, highlight=False)
