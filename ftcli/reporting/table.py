"""The table of runs: what was trained in a directory, when, on what, how well, and how it ended."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcli.config.yaml import YamlError, parse
from ftcli.durable import read_json
from ftcli.errors import RunError
from ftcli.runs import RunDirectory, has_died

if TYPE_CHECKING:
    from rich.table import Table


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """Return one record a run that lies in a directory, or is it, the newest last. Raises RunError if there is none.

    A run whose records are damaged is listed as that: one bad run must not hide the others.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such directory; give one that holds runs")
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))]
    runs = [_describe(RunDirectory(path)) for path in candidates if RunDirectory(path).is_run()]
    if not runs:
        raise RunError(f"{folder}: holds no runs; give the directory that their output_dir lies in")
    return sorted(runs, key=lambda run: run["started"] or "")


def _describe(run: RunDirectory) -> dict[str, Any]:
    try:
        return _describe_whole(run)
    except (RunError, KeyError, AttributeError, TypeError, ValueError) as error:
        # Whatever a record lacks or has in another shape.
        return _record(run, status="damaged", reason=str(error))


def _describe_whole(run: RunDirectory) -> dict[str, Any]:
    status, config, best = read_json(run.status), _read_config(run), run.pointed("best")
    data = config.get("data", {})
    return _record(
        run,
        started=status.get("started"),
        model=config.get("model", {}).get("name_or_path"),
        data=data.get("path") or (data.get("files") or {}).get("train"),
        seed=config.get("seed"),
        steps=status.get("step", _last_step(run)),
        seconds=status.get("seconds"),
        best_step=None if best is None else best["step"],
        num_examples=None if best is None else best.get("num_examples"),
        scores={} if best is None else best.get("scores", {}),
        status="died" if has_died(run, status) else status.get("status"),
        reason=status.get("reason"),
    )


def _record(run: RunDirectory, **facts: Any) -> dict[str, Any]:
    names = ("started", "model", "data", "seed", "steps", "seconds", "best_step", "num_examples")
    return {"run": run.path.name, "path": str(run.path), **dict.fromkeys(names), "scores": {}, "reason": None, **facts}


def _last_step(run: RunDirectory) -> int | None:
    """Return how far a run is that has not written its end down."""
    try:
        with (run.path / "steps.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            lines = file.read().split(b"\n")
        return int(json.loads(lines[-2])["step"])  # behind the last line end there may be half a line
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _read_config(run: RunDirectory) -> dict[str, Any]:
    try:
        found = parse(run.config.read_text(encoding="utf-8")).value
    except (OSError, YamlError, UnicodeDecodeError) as error:
        raise RunError(f"{run.config}: cannot be read: {error}") from None
    return found if isinstance(found, dict) else {}


def render_runs(folder: str, runs: list[dict[str, Any]]) -> Table:
    """Lay the runs out for a person."""
    from rich.table import Table

    table = Table(title=f"Runs in {folder}", title_justify="left")
    for name in ("run", "started", "model", "data", "steps", "best scores", "status"):
        table.add_column(name, justify="right" if name == "steps" else "left")
    for run in runs:
        scores = [f"{name} {value:.4f}" for name, value in run["scores"].items() if value is not None]
        n = f", n = {run['num_examples']}" if run["num_examples"] else ""
        table.add_row(
            run["run"],
            _moment(run["started"]),
            _short(run["model"]),
            _short(run["data"]),
            "" if run["steps"] is None else f"{run['steps']:,}",
            ", ".join(scores) + n,
            run["status"] or "unknown",
        )
    return table


def _moment(text: str | None) -> str:
    """Return a moment in local time, to the minute."""
    return "" if text is None else datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")


def _short(path: str | None) -> str:
    """Return the end of a local path; a Hub id is short as it is."""
    return "" if path is None else "/".join(Path(path).parts[-2:])
