"""Follow a run in TensorBoard, Weights & Biases or MLflow, through Accelerate's trackers.

A run is worth more than its curves: a tracker that fails is told once and left out, and the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftcli.config.schema import Config
from ftcli.console import Console
from ftcli.errors import ConfigError

PROJECT = "ftcli"


def check_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError for trackers that are not installed: better now than after the run."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"logging.trackers: {', '.join(missing)} not installed; pip install {' '.join(missing)}, or take it out"
        )


class Trackers:
    """The trackers of one run. Only the main process holds one."""

    def __init__(self, names: Sequence[str], run: Path, console: Console) -> None:
        self.names, self.run, self.console = names, run, console
        self.active: dict[str, Any] = {}

    def start(self, config: Config, *, after: int) -> None:
        """Open each tracker and give it the config, flat. after: the step that a resumed run goes on from, else 0."""
        for name in self.names:

            def begin(name: str = name) -> None:
                tracker = _open(name, self.run, after)
                tracker.start()
                self.active[name] = tracker
                tracker.store_init_configuration(_flat(config.model_dump(mode="json")))

            self._attempt(name, begin)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Give each tracker the values of a step."""
        for name, tracker in list(self.active.items()):
            self._attempt(name, partial(tracker.log, dict(values), step=step))

    def finish(self, *, succeeded: bool) -> None:
        """Close each tracker, and tell those that keep it how the run ended."""
        for name, tracker in list(self.active.items()):
            self._attempt(name, partial(_close, name, tracker, succeeded))
        self.active.clear()

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            # Whatever it is (three libraries, and the network), it is not worth the run.
            self.active.pop(name, None)
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.console.warn(f"{name} failed and is left out from here on: {reason}")


def _open(name: str, run: Path, after: int) -> Any:
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    if name == "tensorboard":
        # What was logged after the checkpoint is going to be logged again.
        return TensorBoardTracker(run_name="", logging_dir=run / "tensorboard", purge_step=after + 1 if after else None)
    if name == "wandb":
        return WandBTracker(run_name=PROJECT, name=run.name, dir=str(run))
    return MLflowTracker(experiment_name=PROJECT, run_name=run.name)


def _close(name: str, tracker: Any, succeeded: bool) -> None:
    if not succeeded and name == "wandb":
        tracker.tracker.finish(exit_code=1)
    elif not succeeded and name == "mlflow":
        import mlflow  # type: ignore[import-not-found, unused-ignore] # installed where it is asked for

        mlflow.end_run("FAILED")
    else:
        tracker.finish()


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write the sections of a config as dotted keys, and every value as a tracker takes it."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, bool | int | float) else str(value)
    return flat
