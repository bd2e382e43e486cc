"""Where a run goes on: which checkpoint, and whether what it is asked for is what it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcli.checkpoints import Checkpoint, whole_checkpoints
from ftcli.config.loading import load_config
from ftcli.config.schema import Config, keys
from ftcli.config.showing import Difference, differences
from ftcli.config.yaml import dump_inline
from ftcli.console import Console
from ftcli.durable import put_back, read_json
from ftcli.errors import ConfigError, DataError, LaunchError, ModelError, RunError, list_problems
from ftcli.runs import CHECKPOINTS, CONFIG, MODEL, PREDICTIONS, RunDirectory, check_free

if TYPE_CHECKING:
    from ftcli.experiments import Experiment

AUTO = "auto"
# What may be raised: the updates so far stay what they were, and more of them follow.
_MAY_GROW = ("training.epochs", "training.max_steps")
# What may change, and with it the last digits of a score.
_ROUNDS = ("evaluation.batch_size", "evaluation.tokens_per_batch")
# The folders of a run that we write into.
_WRITTEN = (CHECKPOINTS, MODEL, PREDICTIONS, "tensorboard")


@dataclass(frozen=True)
class Start:
    """Where training begins: at a checkpoint, or at update 0. finished: there is nothing left to do.

    replaces: an earlier run gives way, because it was asked to, or because it has saved nothing (unless_saved: only
    then). kept: the checkpoints that stay. last: the step of the run's last one. changed: settings that are others
    now, and may be.
    """

    checkpoint: Checkpoint | None = None
    finished: bool = False
    replaces: bool = False
    unless_saved: bool = False
    kept: Sequence[Path] = ()
    last: int | None = None
    changed: Sequence[Difference] = ()


def find_start(config: Config, resume: str | None, console: Console, *, overwrite: bool) -> Start:
    """Find where a run begins, before data and model are loaded.

    resume: None for a new run, auto for the newest whole checkpoint of the run in output_dir, or one of its
    checkpoints. Raises RunError if the place is taken or every checkpoint is damaged, ConfigError for a config that
    would change the result.
    """
    path = Path(config.output_dir)
    if resume is None:
        check_free(path, overwrite=overwrite)
        return Start(replaces=overwrite)
    if overwrite:
        raise ConfigError("--resume and --overwrite contradict each other; leave one out")
    run = RunDirectory(path)
    if not run.is_run():
        check_free(path, overwrite=False)
        console.info(f"nothing to resume in {path}: training starts at update 0")
        return Start()
    check_free(path, overwrite=True)
    _check_links(run)
    is_finished = resume == AUTO and read_json(run.status).get("status") == "finished"
    if is_finished and not any(change.key in _MAY_GROW for change in check_config(config, run.config)):
        return Start(finished=True)
    put_back(path / CHECKPOINTS)
    last = run.pointed("last")
    checkpoint, kept = _choose(run, resume, console)
    if checkpoint is None and last is not None:
        raise RunError(
            f"{path}: its checkpoints are gone (last.json names that of step {last['step']}). Restore them, or "
            "train again from the start with ftcli train CONFIG --overwrite"
        )
    if checkpoint is None:
        console.info(f"{path} has saved nothing yet: training starts at update 0")
        return Start(replaces=True, unless_saved=True)
    return Start(
        checkpoint,
        kept=kept,
        last=None if last is None else last["step"],
        changed=check_config(config, checkpoint.path / CONFIG),
    )


def find_run(name: str) -> tuple[Path, str]:
    """Return the run directory that is named by itself or by one of its checkpoints, and what to resume of it."""
    path = Path(name)
    if RunDirectory(path).is_run():
        return path, AUTO
    run = path.absolute().parent.parent
    if path.parent.name == CHECKPOINTS and RunDirectory(run).is_run():
        return run, str(path)
    raise RunError(f"{name}: no run; expected a run directory, or one of its checkpoints")


def processes_of(path: Path) -> int | None:
    """Return how many processes a run had, where that is known."""
    environment = path / "environment.json"
    return read_json(environment).get("num_processes") if environment.is_file() else None


def tell_finished(config: Config, console: Console) -> dict[str, Any]:
    """Return, and show, what a run that is finished returned when it was."""
    run = RunDirectory(Path(config.output_dir))
    status, best = read_json(run.status), run.pointed("best")
    record = {
        "run": str(run.path),
        "model": str(run.model),
        "steps": status.get("step"),
        "num_processes": read_json(run.path / "environment.json").get("num_processes"),
        "seconds": status.get("seconds"),
        "best": best,
        "majority_class": {} if best is None else best.get("majority_class", {}),
    }
    console.result(record, f"{run.path}: finished after {status.get('step')} updates; nothing is left to do")
    return record


def _check_links(run: RunDirectory) -> None:
    """Raise RunError for a link among what a run writes: it might lead out of output_dir."""
    for path in (*run.path.iterdir(), *(path for name in _WRITTEN for path in (run.path / name).rglob("*"))):
        if path.is_symlink():
            raise RunError(
                f"{path}: a symbolic link, which a run does not write through; replace it with what it names"
            )


def _choose(run: RunDirectory, resume: str, console: Console) -> tuple[Checkpoint | None, list[Path]]:
    """Take the newest whole checkpoint, or the one that is named; None where there is none.

    Returns it with those that stay when the run goes on from it.
    """
    good, damaged = whole_checkpoints(run)
    told = [f"{folder}: {damage}" for folder, damage in damaged.items()]
    if resume != AUTO and not Path(resume).exists():
        raise RunError(f"{resume}: no such checkpoint; expected one of the run in {run.path}, or auto")
    if resume != AUTO and not Path(resume).samefile(run.path):
        named = [checkpoint for checkpoint in good if checkpoint.path.samefile(resume)]
        if named:
            newer = [checkpoint.path.name for checkpoint in good if checkpoint.step > named[0].step]
            if newer:
                console.warn(f"going on from {named[0].path.name}: what came after it is dropped, {', '.join(newer)}")
            return named[0], [checkpoint.path for checkpoint in good if checkpoint.step <= named[0].step]
        reason = next((damage for folder, damage in damaged.items() if folder.samefile(resume)), None)
        raise RunError(
            f"{resume}: {reason or f'no checkpoint of the run in {run.path}'}; its whole ones: "
            f"{', '.join(checkpoint.path.name for checkpoint in good) or 'none'}"
        )
    if damaged and not good:
        raise RunError(
            list_problems(f"{run.path}: every checkpoint is damaged", told)
            + "\nNothing can be resumed. Train again from the start with ftcli train CONFIG --overwrite"
        )
    newest = good[-1] if good else None
    for line in told:
        console.warn(f"{line}; going on from {newest.path.name if newest else 'the start'}")
    return newest, [checkpoint.path for checkpoint in good]


def check_config(config: Config, path: Path) -> list[Difference]:
    """Return what has been raised, or changes last digits; raise ConfigError for what would change the result.

    path: of the config that the run had.
    """
    earlier = load_config(path)
    marks = {key.path: key.field.json_schema_extra["changes_result"] for key in keys(type(config))}
    every = differences(earlier, config)
    changed = [
        difference
        for difference in every
        if marks.get(difference.key, True) and marks.get(difference.key.partition(".")[0], True)
    ]
    grown = [difference for difference in changed if difference.key in _MAY_GROW and _grows(difference)]
    refused = [difference for difference in changed if difference not in grown]
    if refused:
        problems = [f"{key}: {dump_inline(was)} in the run, {dump_inline(now)} now" for key, was, now in refused]
        raise ConfigError(
            list_problems(f"{config.output_dir}: the run was started with other settings", problems)
            + f"\nGo on as it was with ftcli resume {config.output_dir}, or choose another output_dir"
        )
    return [*grown, *(difference for difference in every if difference.key in _ROUNDS)]


def _grows(difference: Difference) -> bool:
    """Whether a number of updates is larger than before; no limit is the largest."""
    was, now = difference.first, difference.second
    return was is not None and (now is None or now > was)


def check_experiment(
    experiment: Experiment, environment: Mapping[str, Any], state: Mapping[str, Any], *, allow_inexact: bool
) -> Iterator[str]:
    """Yield warnings of what makes the digits differ; raise an error for what makes it another run.

    environment: what this process says of itself, as `state` has it of the process that saved.
    """
    found = state_of_data(experiment)
    if found["encoder"] != state["encoder"]:
        raise ModelError(
            f"{experiment.config.model.name_or_path}: the model's config or its tokenizer has changed since the run "
            "was started; restore it, or train anew in another output_dir"
        )
    if found["labels"] != state["labels"]:
        was, now = (", ".join(map(str, names)) for names in (state["labels"], found["labels"]))
        raise DataError(f"the labels have changed: {was} in the run, {now} now; restore the data, or train anew")
    for name, fingerprint in found["data"].items():
        if state["data"].get(name) != fingerprint:
            source = experiment.splits[name].rows.source
            raise DataError(
                f"{source}: the {name} split has changed since the run was started (fingerprint "
                f"{state['data'].get(name)} then, {fingerprint} now); restore it, or train anew in another output_dir"
            )
    world_size = experiment.processes.world_size
    if world_size != state["num_processes"]:
        if not allow_inexact:
            raise LaunchError(
                f"the run had {state['num_processes']} processes and is resumed with {world_size}. Start as many, or "
                "pass --allow-inexact: examples and their weights stay the same in every update, dropout masks and the "
                "last digits do not"
            )
        yield f"processes: {state['num_processes']} before, {world_size} now; the same updates, other dropout masks"
    drift = list(_drift(state["environment"], environment))
    if drift:
        yield f"not bit for bit what it would have been, because of another {', '.join(drift)}"


def _drift(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for section in ("packages", "execution"):
        for name, value in now[section].items():
            if name != "reasons" and was.get(section, {}).get(name) != value:
                yield f"{name} ({was.get(section, {}).get(name)} before, {value} now)"
    if was.get("platform") != now["platform"]:
        yield f"machine ({was.get('platform')} before, {now['platform']} now)"


def state_of_data(experiment: Experiment) -> dict[str, Any]:
    """Return what a checkpoint remembers of data and model, to see that they are the same when the run goes on."""
    return {
        "encoder": experiment.encoder,
        "labels": list(experiment.labels.names),
        "data": {name: split.rows.fingerprint for name, split in experiment.splits.items()},
    }
