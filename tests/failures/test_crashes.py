"""Ends at every place of a save, and at random ones: what was published stands, and the run goes on bit for bit."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import Ended, Zygote, outcome, tensors

from ftcli.durable import find_damage
from ftcli.runs import RunDirectory


def whole(run: Path) -> list[Path]:
    """List the checkpoints of a run, every one of which must be whole."""
    folders = sorted((run / "checkpoints").glob("step-*"))
    assert [find_damage(folder) for folder in folders] == [None] * len(folders)
    return folders


def assert_survives(zygote: Zygote, run: Path, expected: dict[str, Any], ended: Ended) -> None:
    """What stands is whole, the pointers point at it, and the run goes on to what it would have been."""
    before = whole(run)
    for name in ("best", "last"):
        pointed = RunDirectory(run).pointed(name) if run.exists() else None
        assert pointed is None or RunDirectory(run).checkpoint(pointed["step"]) in before
    resumed = zygote.train(run, resume="auto")

    assert resumed.code == 0, f"{ended.events[-1:]}: {resumed.printed}"
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


@pytest.mark.slow
def test_02_03_every_operation_of_a_run_may_be_its_last(zygote: Zygote, tmp_path: Path, undisturbed: Any) -> None:
    expected = undisturbed()
    for point in range(1, len(expected["events"]) + 1):
        run = tmp_path / f"run-{point}"
        ended = zygote.train(run, fault={"what": "kill", "event": point})
        assert ended.exits == [-9], ended.printed
        assert_survives(zygote, run, expected, ended)


def test_03_a_checkpoint_that_was_to_be_deleted_is_pruned_later(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    expected = undisturbed()
    point = next(n for n, event in enumerate(expected["events"], 1) if event.startswith("before delete"))
    ended = zygote.train(run, fault={"what": "kill", "event": point})
    assert len(whole(run)) == 3  # one more than is kept

    assert_survives(zygote, run, expected, ended)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == sorted(
        Path(name).parent.name for name in expected["tensors"] if name.endswith("optimizer.safetensors")
    )


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
def test_01_fifty_kills_at_random_moments(
    zygote: Zygote, tmp_path: Path, undisturbed: Any, num_processes: int, record_property: Callable[[str, object], None]
) -> None:
    """Between the first record of a step and the last publication; a signal's timer ends the process wherever it is."""
    expected = undisturbed(num_processes=num_processes)
    events = expected["events"]
    first = next(n for n, event in enumerate(events, 1) if "steps.jsonl" in event)
    generator = random.Random(num_processes)  # noqa: S311 - a draw, no secret
    inside = 0
    for number in range(50):
        run = tmp_path / f"run-{number}"
        fault = {"what": "kill", "event": generator.randrange(first, len(events)), "rank": 0}
        ended = zygote.train(run, num_processes=num_processes, fault=fault)
        assert ended.code == -9, ended.printed
        inside += "/checkpoints/" in ended.events[-1] or "/model" in ended.events[-1]
        before = whole(run)
        resumed = zygote.train(run, num_processes=num_processes, resume="auto")
        assert resumed.exits == [0] * num_processes, resumed.printed
        found = outcome(run)
        for name, value in found.items():
            assert value == expected[name], f"{ended.events[-1]}, {[path.name for path in before]}: {name}"
    record_property("kills inside a save", inside)
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


def test_07_a_full_disk_fails_loudly_and_the_old_checkpoint_stands(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    expected = undisturbed()
    point = points_of_a_save(expected["events"], 1)[0]
    ended = zygote.train(run, fault={"what": "full_disk", "event": point})

    assert ended.code == 4, ended.printed
    assert "cannot be written: " in ended.printed
    assert "Traceback" not in ended.printed
    assert len(whole(run)) == 1
    assert not list((run / "checkpoints").glob(".*"))
    assert_survives(zygote, run, expected, ended)


def test_21_a_loss_that_is_not_finite_on_one_process_stops_all_and_names_it(zygote: Zygote, run: Path) -> None:
    """The rows are those of the second process's half of the third update."""
    ended = zygote.train(run, num_processes=2, sabotage="nan")
    steps = (run / "steps.jsonl").read_text().splitlines()

    assert ended.exits == [6, 6], ended.printed
    assert "step 3: loss nan" in ended.printed
    assert "on process 1; the update was not applied" in ended.printed
    named = ended.printed.split("Rows of the train split in it: ")[1].split(".")[0].split(", ")
    assert len(named) == 4
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
