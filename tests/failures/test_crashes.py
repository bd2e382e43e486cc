"""Ends at every place of a save, and at random ones: what was published stands, and the run goes on bit for bit."""

from __future__ import annotations

import json
import logging
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from faults import Ended, Zygote, outcome, tensors

from ftcli.checkpoints import whole_checkpoints
from ftcli.config.loading import load_config
from ftcli.data.batching import cut
from ftcli.durable import find_damage, put_back
from ftcli.experiments import prepare_experiment
from ftcli.runs import RunDirectory

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs capabilities to drop, or /dev/full")


def whole(run: Path) -> list[Path]:
    """List the checkpoints of a run, every one of which must be whole."""
    folders = sorted((run / "checkpoints").glob("step-*"))
    assert [find_damage(folder) for folder in folders] == [None] * len(folders)
    return folders


def assert_survives(
    zygote: Zygote, run: Path, expected: dict[str, Any], ended: Ended, *overrides: str, num_processes: int = 1
) -> None:
    """What stands is whole, the pointers point at it, and the run goes on to what it would have been."""
    # A checkpoint whose best is gone would be no good either.
    assert whole_checkpoints(RunDirectory(run))[1] == {}
    put_back(run / "checkpoints")  # as whatever looks for a checkpoint does first
    for name in ("best", "last"):
        pointed = RunDirectory(run).pointed(name) if run.exists() else None
        assert pointed is None or RunDirectory(run).checkpoint(pointed["step"]) in whole(run)
    resumed = zygote.train(run, *overrides, num_processes=num_processes, resume="auto")

    assert resumed.exits == [0] * num_processes, f"{ended.events[-1:]}: {resumed.printed}"
    assert "damaged" not in resumed.printed
    found = outcome(run)
    for name, value in found.items():
        assert value == expected[name], f"{ended.events[-1:]}: {name}"


def points_of_a_save(events: list[str], count: int) -> list[int]:
    """Number the events from the first write of the second save to its last, every so many of them."""
    starts = [n for n, event in enumerate(events, 1) if event.startswith("before write") and event.endswith(".partial")]
    ends = [n for n, event in enumerate(events, 1) if event.startswith("before append") and n > starts[1]]
    numbers = list(range(starts[1], ends[0]))
    return numbers[:: max(1, len(numbers) // count)]


def test_02_a_kill_inside_a_save_leaves_nothing_half(zygote: Zygote, tmp_path: Path, undisturbed: Any) -> None:
    """A dozen places; all of them are tried with `-m slow`."""
    expected = undisturbed()
    points = points_of_a_save(expected["events"], 12)
    for point in points:
        run = tmp_path / f"run-{point}"
        ended = zygote.train(run, fault={"what": "kill", "event": point})
        assert ended.exits == [-9], ended.printed
        assert_survives(zygote, run, expected, ended)
    assert len(points) >= 12


def resumed_run(zygote: Zygote, run: Path, settings: list[str]) -> Ended:
    """Interrupt a run in the evaluation of update 4, whose checkpoint is then saved without it, and resume it."""
    zygote.train(run, *settings, fault={"what": "terminate", "evaluation": 2})
    keep = shutil.copytree(run, run.with_name("interrupted"))
    ended = zygote.train(run, *settings, resume="auto")
    assert ended.code == 0, ended.printed
    shutil.rmtree(run)
    shutil.copytree(keep, run)
    return ended


@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_02_every_operation_of_a_resumed_run_may_be_its_last(
    zygote: Zygote, tmp_path: Path, undisturbed: Any, every: int
) -> None:
    """It makes up for an evaluation and saves the same step again, so that one checkpoint gives way to another."""
    settings = ["evaluation.every=2", "optimizer.learning_rate=3e-3"]
    expected = undisturbed(*settings)
    run = tmp_path / "run"
    events = resumed_run(zygote, run, settings).events
    gives_way = [n for n, event in enumerate(events, 1) if ".earlier" in event]
    assert gives_way
    points = sorted({*range(1, len(events) + 1, every), *gives_way})
    for point in points:
        shutil.rmtree(run)
        shutil.copytree(tmp_path / "interrupted", run)
        ended = zygote.train(run, *settings, resume="auto", fault={"what": "kill", "event": point})
        assert ended.exits == [-9], ended.printed
        assert_survives(zygote, run, expected, ended, *settings)


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_02_every_operation_of_going_back_may_be_its_last(
    zygote: Zygote, tmp_path: Path, undisturbed: Any, every: int
) -> None:
    """Newer checkpoints and records are dropped on the way: whatever is left of them, the run goes on from it."""
    expected = undisturbed()
    run, keep = tmp_path / "run", tmp_path / "kept"
    zygote.train(run, fault={"what": "kill", "update": 8})
    older, *newer = whole(run)
    assert newer
    shutil.copytree(run, keep)
    events = zygote.train(run, resume=str(older)).events
    ends = next(n for n, event in enumerate(events, 1) if event.startswith("after append") and "steps.jsonl" in event)
    dropping = [n for n, event in enumerate(events[:ends], 1) if ".doomed" in event]
    assert dropping
    for point in sorted({*range(1, ends + 1, every), *dropping}):
        shutil.rmtree(run)
        shutil.copytree(keep, run)
        ended = zygote.train(run, resume=str(older), fault={"what": "kill", "event": point})
        assert ended.exits == [-9], ended.printed
        assert_survives(zygote, run, expected, ended)


@pytest.mark.slow
@pytest.mark.parametrize(("num_processes", "every"), [(1, 1), (2, 10)])
def test_02_03_every_operation_of_a_run_may_be_its_last(
    zygote: Zygote, tmp_path: Path, undisturbed: Any, num_processes: int, every: int
) -> None:
    """Of two processes every tenth: starting them takes longer."""
    expected = undisturbed(num_processes=num_processes)
    for point in range(1, len(expected["events"]) + 1, every):
        run = tmp_path / f"run-{point}"
        ended = zygote.train(run, num_processes=num_processes, fault={"what": "kill", "event": point})
        assert ended.code == -9, ended.printed
        assert_survives(zygote, run, expected, ended, num_processes=num_processes)


@pytest.mark.parametrize("point", range(1, 12))
def test_02_a_run_may_end_in_its_first_moments(zygote: Zygote, run: Path, undisturbed: Any, point: int) -> None:
    """What it leaves is in nobody's way: neither of a new run nor of one that is to go on."""
    ended = zygote.train(run, fault={"what": "kill", "event": point})
    assert ended.exits == [-9], ended.printed

    assert_survives(zygote, run, undisturbed(), ended)


def test_03_a_checkpoint_that_was_to_be_deleted_is_pruned_later(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    expected = undisturbed()
    point = next(n for n, event in enumerate(expected["events"], 1) if event.startswith("before delete"))
    ended = zygote.train(run, fault={"what": "kill", "event": point})
    assert len(whole(run)) == 3  # one more than is kept

    assert_survives(zygote, run, expected, ended)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == sorted(
        Path(name).parent.name for name in expected["tensors"] if name.endswith("optimizer.safetensors")
    )


def is_inside_a_save(ended: Ended) -> bool:
    """Whether the last operation that began was one of a save, and not its last."""
    last = ended.events[-1]
    return ("/checkpoints/" in last or "/model" in last) and not last.startswith("after delete")


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
def test_01_fifty_kills_at_random_moments(zygote: Zygote, tmp_path: Path, undisturbed: Any, num_processes: int) -> None:
    """Of either process, between the first record of a step and the last publication, by the clock; fifty and more.

    `pytest -m slow --log-cli-level INFO` tells how many were inside a save.
    """
    settings = ["checkpoint.every=1"]
    expected = undisturbed(*settings, num_processes=num_processes)
    events, moments = expected["events"], expected["moments"]
    first = next(moment for event, moment in zip(events, moments, strict=True) if "steps.jsonl" in event)
    last = max(moment for event, moment in zip(events, moments, strict=True) if event.startswith("after rename"))
    generator = random.Random(num_processes)  # noqa: S311 - a draw, no secret
    struck = inside = 0
    for number in range(250):
        run = tmp_path / f"run-{number}"
        fault = {"seconds": generator.uniform(0, last - first), "rank": generator.randrange(num_processes)}
        ended = zygote.train(run, *settings, num_processes=num_processes, fault=fault)
        if ended.exits[fault["rank"]] != -9:
            continue  # this one was quicker than the undisturbed run
        struck += 1
        inside += is_inside_a_save(ended)
        assert_survives(zygote, run, expected, ended, *settings, num_processes=num_processes)
        if struck >= 50 and inside >= 10:
            break
    logging.getLogger(__name__).info("%d processes: %d kills, %d inside a save", num_processes, struck, inside)
    assert struck >= 50
    assert inside >= 10


def test_06_everything_is_on_disk_before_it_is_published(undisturbed: Any) -> None:
    """The order of one save: each file flushed, then its directory, then renamed, then the parent flushed."""
    events = undisturbed()["events"]
    place = next(n for n, event in enumerate(events) if event.startswith("before rename") and "/step-" in event)
    name = Path(events[place].removeprefix("before rename ")).name
    save = [event for event in events[:place] if f".{name}.partial" in event]
    written = {event.removeprefix("after flush ") for event in save if event.startswith("after flush")}
    folder = save[0].split(" ", 2)[2]
    needed = {"config.json", "manifest.json", "model.safetensors", "optimizer.safetensors", "random.safetensors"}
    needed |= {"state.json", "checkpoint.json", "tokenizer.json", "config.yaml"}

    assert {f"{folder}/{file}" for file in needed} <= written
    assert save[-1] == f"after flush {folder}"
    assert events[place + 1].startswith("after rename")
    assert events[place + 2] == f"before flush {Path(folder).parent}"
    # The records that the checkpoint counts on were flushed before.
    flushed = [n for n, event in enumerate(events) if event.startswith("after flush") and "steps.jsonl" in event]
    assert min(flushed) < events.index(save[0])


@LINUX
def test_07_a_disk_that_is_full_for_a_pointer_fails_loudly_too(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    """A small file: what fails is its flush, and then its closing once more."""
    expected = undisturbed()
    point = next(n for n, e in enumerate(expected["events"], 1) if e.startswith("before write") and "last.json" in e)
    ended = zygote.train(run, fault={"what": "no_space", "event": point})

    assert ended.code == 4, ended.printed
    assert f"{run / 'last.json'}: cannot be written: " in ended.printed
    assert "Traceback" not in ended.printed
    assert_survives(zygote, run, expected, ended)


def test_07_a_full_disk_fails_loudly_and_the_old_checkpoint_stands(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    expected = undisturbed()
    point = points_of_a_save(expected["events"], 1)[0]
    ended = zygote.train(run, fault={"what": "full_disk", "event": point})

    assert ended.code == 4, ended.printed
    assert "cannot be written: " in ended.printed
    assert f"saved up to update 2; go on with: ftcli resume {run}" in ended.printed
    assert "Traceback" not in ended.printed
    assert len(whole(run)) == 1
    assert not list((run / "checkpoints").glob(".*"))
    assert_survives(zygote, run, expected, ended)


@LINUX
def test_08_a_read_only_place_is_told_before_data_and_model_are_read(zygote: Zygote, tmp_path: Path) -> None:
    """There is no such model; root would write all the same, so the child gives that up."""
    place = tmp_path / "place"
    place.mkdir(mode=0o555)
    missing = f"model.name_or_path={tmp_path / 'missing'}"
    ended = zygote.train(place / "run", missing, unprivileged=True)

    assert ended.code == 4, ended.printed
    assert f"{place} is read-only for this user; choose another output_dir" in ended.printed
    assert list(place.iterdir()) == []
    # Negative control: where the place can be written, it is the model that is missing.
    place.chmod(0o755)
    assert zygote.train(place / "run", missing, unprivileged=True).code == 5


@LINUX
def test_08_a_run_that_has_become_read_only_is_not_resumed_and_stays(zygote: Zygote, run: Path) -> None:
    zygote.train(run, fault={"what": "kill", "update": 4})
    before = tensors(run)
    run.chmod(0o555)
    ended = zygote.train(run, resume="auto", unprivileged=True)
    run.chmod(0o755)

    assert ended.code == 4, ended.printed
    assert f"{run} is read-only for this user" in ended.printed
    assert tensors(run) == before


def test_a_run_directory_that_vanishes_ends_the_run_and_stays_away(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    """Between two updates, and between the two halves of a save."""
    inside = points_of_a_save(undisturbed()["events"], 3)[1]
    for moment in ({"update": 5}, {"event": inside}):
        ended = zygote.train(run, fault={"what": "vanish", **moment})

        assert ended.code == 4, ended.printed
        assert "cannot be written: No such file or directory. See who removed the directory" in ended.printed
        assert "Traceback" not in ended.printed
        assert not run.exists()


def rows_of(zygote: Zygote, run: Path, *, step: int, rank: int) -> list[int]:
    """List the rows that one of two processes learns from in an update."""
    experiment = prepare_experiment(load_config(zygote.config, [f"output_dir={run}"]), ["train"])
    update = next(update for update in experiment.plan.updates() if update.step == step)
    part = cut(update.features, experiment.plan.lengths, num_processes=2, micro_batch_size=None)[rank]
    rows = experiment.splits["train"].features.rows
    return sorted(int(rows[index]) for one in part for index in one.features)


@pytest.mark.parametrize(("sabotage", "told"), [("nan", "loss nan, "), ("nan_gradient", "loss 0.")])
def test_21_a_number_that_is_not_finite_on_one_process_stops_all_and_names_it(
    zygote: Zygote, run: Path, sabotage: str, told: str
) -> None:
    """The rows are those of the second process's half of the third update."""
    ended = zygote.train(run, num_processes=2, sabotage=sabotage)
    steps = (run / "steps.jsonl").read_text().splitlines()

    assert ended.exits == [6, 6], ended.printed
    assert f"step 3: {told}" in ended.printed
    assert "gradient norm nan on process 1" in ended.printed
    assert "on process 1; the update was not applied" in ended.printed
    named = ended.printed.split("Rows of the train split in it: ")[1].split(".")[0].split(", ")
    assert len(named) == 4
    assert named == [str(row) for row in rows_of(zygote, run, step=3, rank=1)]
    assert len(steps) == 2
    # What was saved before it stands, and goes on.
    assert zygote.train(run, num_processes=2, resume="auto").exits == [0, 0]


def test_13_a_second_run_in_one_directory_is_refused_and_says_who_writes_there(zygote: Zygote, run: Path) -> None:
    from filelock import FileLock

    zygote.train(run, fault={"what": "kill", "update": 4})
    before = tensors(run)
    status = json.loads((run / "status.json").read_text())
    with FileLock(run / ".lock", timeout=0):
        resumed = zygote.train(run, resume="auto")
        replaced = zygote.train(run, overwrite=True)

    for ended in (resumed, replaced):
        assert ended.code == 4
        assert f"process {status['pid']} on {status['host']} is writing this run" in ended.printed
    assert tensors(run) == before


def test_13_a_lock_ends_with_its_process(zygote: Zygote, run: Path) -> None:
    """The lock of the killed process is no obstacle."""
    zygote.train(run, fault={"what": "kill", "update": 4})

    assert (run / ".lock").exists()
    assert not RunDirectory(run).is_locked()
    assert zygote.train(run, resume="auto").code == 0
