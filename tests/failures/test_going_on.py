"""N updates equal k updates, an end, and the rest, bit for bit. Numbers in names are rows of the failure modes."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import ARCHITECTURES, PAIR_HEADER, pair_rows, run_ftcli, tiny_architecture, write_table
from faults import Zygote, flip, outcome, records, tensors

from ftcli.checkpoints import whole_checkpoints
from ftcli.errors import RunError
from ftcli.runs import RunDirectory, RunWriter


def kill_at_update(number: int, rank: int = 0) -> dict[str, Any]:
    return {"rank": rank, "what": "kill", "update": number}


def assert_same(run: Path, expected: dict[str, Any]) -> None:
    found = outcome(run)
    for name, value in found.items():
        assert value == expected[name], name


def assert_goes_on(
    zygote: Zygote, run: Path, expected: dict[str, Any], *overrides: str, num_processes: int = 1
) -> None:
    ended = zygote.train(run, *overrides, num_processes=num_processes, resume="auto")
    assert ended.exits == [0] * num_processes, ended.printed
    assert_same(run, expected)


CUTS = {"whole": [], "four passes": ["training.micro_batch_size=2"]}


@pytest.mark.parametrize("update", [1, 4, 6, 7, 12])
@pytest.mark.parametrize("cut", CUTS)
def test_01_a_killed_run_goes_on_bit_for_bit(
    zygote: Zygote, run: Path, undisturbed: Any, cut: str, update: int
) -> None:
    """In the middle of an epoch (4), at its end (6), and before and after all checkpoints; 12 updates in all."""
    settings = CUTS[cut]
    ended = zygote.train(run, *settings, fault=kill_at_update(update))
    assert ended.exits == [-9], ended.printed

    assert_goes_on(zygote, run, undisturbed(*settings), *settings)


@pytest.mark.parametrize(
    ("num_processes", "cut", "rank", "update"),
    [(2, "whole", 0, 4), (2, "four passes", 1, 9), (3, "whole", 2, 7), (3, "four passes", 0, 4)],
)
def test_04_with_several_processes_too_whichever_is_killed(
    zygote: Zygote, run: Path, undisturbed: Any, num_processes: int, cut: str, rank: int, update: int
) -> None:
    settings = CUTS[cut]
    ended = zygote.train(run, *settings, num_processes=num_processes, fault=kill_at_update(update, rank))
    assert ended.exits[rank] == -9, ended.printed
    assert 0 not in ended.exits, ended.printed  # the others miss their partner, if they are not ended first

    expected = undisturbed(*settings, num_processes=num_processes)
    assert_goes_on(zygote, run, expected, *settings, num_processes=num_processes)


def test_sums_of_three_in_another_order_are_seen(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    """Negative control: DDP orders the gradients anew after its first pass, which a resumed run must have behind it."""
    zygote.train(run, num_processes=3, fault=kill_at_update(7))
    ended = zygote.train(run, num_processes=3, resume="auto", sabotage="order")

    assert ended.exits == [0, 0, 0], ended.printed
    assert outcome(run)["tensors"] != undisturbed(num_processes=3)["tensors"]


def test_a_cursor_that_is_off_by_one_is_seen(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    """Negative control."""
    zygote.train(run, fault=kill_at_update(4))
    ended = zygote.train(run, resume="auto", sabotage="cursor")

    assert ended.code == 0
    assert tensors(run) != undisturbed()["tensors"]
    assert records(run / "steps.jsonl") != undisturbed()["steps"]


def test_a_run_can_be_killed_again_and_again(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    for update in (3, 3, 3):  # counted from where each goes on
        zygote.train(run, resume="auto", fault=kill_at_update(update))

    assert_goes_on(zygote, run, undisturbed())


def test_with_early_stopping_the_counter_goes_on(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    settings = ["evaluation.every=1", "evaluation.early_stopping_patience=3", "training.epochs=9"]
    expected = undisturbed(*settings)
    stopped = expected["status"][1]
    assert stopped < 54, "nothing was stopped early"
    zygote.train(run, *settings, fault=kill_at_update(stopped - 1))

    assert_goes_on(zygote, run, expected, *settings)


def test_15_a_finished_run_stays_as_it_is(zygote: Zygote, run: Path) -> None:
    zygote.train(run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    ended = zygote.train(run, resume="auto")

    assert ended.code == 0
    assert "nothing is left to do" in ended.printed
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_15_a_finished_run_without_its_checkpoints_stays_too(zygote: Zygote, run: Path) -> None:
    zygote.train(run)
    shutil.rmtree(run / "checkpoints")
    before = tensors(run)
    ended = zygote.train(run, resume="auto")

    assert ended.code == 0, ended.printed
    assert "nothing is left to do" in ended.printed
    assert tensors(run) == before != {}


def test_a_kept_checkpoint_keeps_the_best_that_it_refers_to(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    """Best, worse, and best again: what came before can still be gone back to, and says nothing of damage."""
    settings = ["evaluation.every=2", "optimizer.learning_rate=1e-1", "evaluation.best_metric=loss"]
    bests = [row["step"] for row in undisturbed(*settings)["evaluations"] if row["is_best"]]
    earlier, again = next(pair for pair in pairwise(bests) if pair[1] - pair[0] > 2)
    zygote.train(run, *settings, fault=kill_at_update(again + 1))
    kept = [one.step for one in whole_checkpoints(RunDirectory(run))[0]]
    assert kept == [earlier, again - 2, again]

    flip(run / "checkpoints" / f"step-{again:08d}" / "model.safetensors")
    ended = zygote.train(run, *settings, resume="auto")
    assert ended.code == 0, ended.printed
    assert f"going on from step-{again - 2:08d}" in ended.printed
    assert_same(run, undisturbed(*settings))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_architecture_goes_on(zygote: Zygote, run: Path, tmp_path: Path, name: str) -> None:
    model = f"model.name_or_path={tiny_architecture(tmp_path / name, name)}"
    ended = zygote.train(tmp_path / "calm", model)
    assert ended.code == 0, ended.printed
    zygote.train(run, model, fault=kill_at_update(7))

    assert_goes_on(zygote, run, outcome(tmp_path / "calm"), model)


def test_a_checkpoint_of_old_names_goes_on(zygote: Zygote, run: Path, tmp_path: Path) -> None:
    """The norms of the first BERTs are called gamma and beta on the Hub; transformers renames them, both ways."""
    from safetensors.torch import load_file, save_file

    old = shutil.copytree(zygote.folder / "model", tmp_path / "old")
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {}
    for name, tensor in load_file(old / "model.safetensors").items():
        for new, before in names.items():
            name = name.replace(new, before)
        tensors[name] = tensor
    assert any("gamma" in name for name in tensors)
    save_file(tensors, old / "model.safetensors", metadata={"format": "pt"})
    zygote.train(run, f"model.name_or_path={old}", fault=kill_at_update(7))
    ended = zygote.train(run, f"model.name_or_path={old}", resume="auto")

    assert ended.code == 0, ended.printed


def test_another_model_of_the_same_name_is_an_error(zygote: Zygote, run: Path, tmp_path: Path) -> None:
    model = shutil.copytree(zygote.folder / "model", tmp_path / "model")
    zygote.train(run, f"model.name_or_path={model}", fault=kill_at_update(7))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.2}))
    ended = zygote.train(run, f"model.name_or_path={model}", resume="auto")

    assert ended.code == 5, ended.printed
    assert f"{model}: the model's config or its tokenizer has changed since the run was started" in ended.printed


def test_a_run_whose_checkpoints_are_gone_does_not_start_anew(zygote: Zygote, run: Path) -> None:
    zygote.train(run, fault=kill_at_update(7))
    shutil.rmtree(run / "checkpoints")
    steps = (run / "steps.jsonl").read_bytes()
    ended = zygote.train(run, resume="auto")

    assert ended.code == 4, ended.printed
    assert "its checkpoints are gone (last.json names that of step 6). Restore them, or train again" in ended.printed
    assert (run / "steps.jsonl").read_bytes() == steps


def test_what_has_gone_on_meanwhile_is_left_alone(zygote: Zygote, run: Path) -> None:
    """Where it goes on was decided before data and model were loaded, and before the lock."""
    zygote.train(run, fault=kill_at_update(7))
    with pytest.raises(RunError, match="another process has gone on with this run meanwhile"):
        RunWriter.reopen(run, last=4)
    with pytest.raises(RunError, match="another process has gone on with this run meanwhile"):
        RunWriter.create(run, overwrite=True, unless_saved=True)
    RunWriter.reopen(run, last=6).close()


def test_going_back_says_what_is_dropped_and_leaves_no_gap(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    zygote.train(run, fault=kill_at_update(7))
    ended = zygote.train(run, resume=str(run / "checkpoints" / "step-00000004"))

    assert "going on from step-00000004: what came after it is dropped, step-00000006" in ended.printed
    assert_same(run, undisturbed())


def test_another_size_of_evaluation_batches_is_told(zygote: Zygote, run: Path) -> None:
    zygote.train(run, fault=kill_at_update(7))
    ended = zygote.train(run, "evaluation.batch_size=3", resume="auto")

    assert ended.code == 0
    assert "evaluation.batch_size: 1024 before, 3 now; scores may differ in their last digits" in ended.printed


def test_resume_alone_names_the_run_too(zygote: Zygote, run: Path) -> None:
    """`ftcli train --resume RUN`, as of a finished run, so that nothing heavy is imported."""
    zygote.train(run)
    finished = run_ftcli("train", "--resume", run)
    moved = run_ftcli("resume", run, f"output_dir={run}-2")
    nowhere = run_ftcli("train", f"--resume={run / 'nowhere'}")

    assert (finished.returncode, "finished after 12 updates; nothing is left to do" in finished.stdout) == (0, True)
    assert (moved.returncode, "a run goes on where it is" in moved.stderr) == (2, True)
    assert (nowhere.returncode, "no run; expected a run directory" in nowhere.stderr) == (4, True)


def test_a_checkpoint_that_is_not_there_is_one_error(zygote: Zygote, run: Path) -> None:
    zygote.train(run, fault=kill_at_update(4))
    ended = zygote.train(run, resume=str(run / "checkpoints" / "step-00000099"))

    assert ended.code == 4
    assert "step-00000099: no such checkpoint" in ended.printed
    assert "Traceback" not in ended.printed


def test_where_there_is_no_run_it_starts_and_says_so(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    ended = zygote.train(run, resume="auto")

    assert "training starts at update 0" in ended.printed
    assert_same(run, undisturbed())


def test_where_nothing_was_saved_it_starts_and_says_so(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    zygote.train(run, fault=kill_at_update(2))
    ended = zygote.train(run, resume="auto")

    assert "has saved nothing yet: training starts at update 0" in ended.printed
    assert_same(run, undisturbed())


@pytest.mark.parametrize(("what", "code"), [("interrupt", 130), ("terminate", 143)])
@pytest.mark.parametrize("update", [3, 6])
def test_16_18_a_signal_ends_after_the_update_saved(
    zygote: Zygote, run: Path, undisturbed: Any, what: str, code: int, update: int
) -> None:
    """In the middle of an epoch, and where an evaluation is due (6), which the resumed run makes up for."""
    ended = zygote.train(run, fault={"what": what, "update": update})
    status = json.loads((run / "status.json").read_text())

    assert ended.code == code, ended.printed
    assert f"go on with: ftcli resume {run}" in ended.printed
    assert (status["status"], "stopped by" in status["reason"]) == ("interrupted", True)
    assert json.loads((run / "last.json").read_text())["step"] == status["step"]
    assert_goes_on(zygote, run, undisturbed())
    assert "reason" not in json.loads((run / "status.json").read_text())


def test_18_a_signal_to_one_of_two_processes_ends_both_saved(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    ended = zygote.train(run, num_processes=2, fault={"rank": 1, "what": "terminate", "update": 5})

    assert ended.exits == [143, 143], ended.printed
    assert_goes_on(zygote, run, undisturbed(num_processes=2), num_processes=2)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_19_a_signal_while_evaluating_ends_it_saved_and_the_evaluation_is_made_up_for(
    zygote: Zygote, run: Path, undisturbed: Any, num_processes: int
) -> None:
    """In the second evaluation, that of update 4; of two processes the main one is asked."""
    settings = ["evaluation.every=2", "evaluation.batch_size=4"]
    batches = -(-17 // 4)
    fault = {"what": "terminate", "evaluation": -(-batches // num_processes) + 2}
    ended = zygote.train(run, *settings, num_processes=num_processes, fault=fault)

    assert ended.exits == [143] * num_processes, ended.printed
    assert json.loads((run / "last.json").read_text())["step"] == 4
    assert [row["step"] for row in records(run / "evaluations.jsonl")] == [2]
    expected = undisturbed(*settings, num_processes=num_processes)
    assert_goes_on(zygote, run, expected, *settings, num_processes=num_processes)


def test_a_signal_may_end_it_without_saving(zygote: Zygote, run: Path) -> None:
    """But for what was going to be saved anyway: at the end of an epoch, the evaluation is the best."""
    ended = zygote.train(
        run, "checkpoint.on_signal=stop", "checkpoint.every=5", fault={"what": "interrupt", "update": 7}
    )
    status = json.loads((run / "status.json").read_text())

    assert ended.code == 130
    assert f"stopped by Ctrl-C after update {status['step']} of 12, not saved" in ended.printed
    assert (status["step"], json.loads((run / "last.json").read_text())["step"]) == (9, 6)


def test_17_a_second_signal_leaves_at_once_and_breaks_nothing(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    """Both come in the middle of the first save."""
    inside = next(n for n, event in enumerate(undisturbed()["events"], 1) if "optimizer.safetensors" in event)
    ended = zygote.train(run, fault={"what": "interrupt_twice", "event": inside})

    assert ended.code == 130
    assert "left at once; what was saved before stands" in ended.printed
    assert not list((run / "checkpoints").glob("step-*"))
    assert_goes_on(zygote, run, undisturbed())


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimizer.learning_rate=1e-4", "optimizer.learning_rate: 0.001 in the run, 0.0001 now"),
        ("seed=1", "seed: 42 in the run, 1 now"),
        ("training.epochs=1", "training.epochs: 2 in the run, 1 now"),
        ("data.max_length=8", "data.max_length: 512 in the run, 8 now"),
    ],
)
def test_22_a_changed_setting_is_an_error_that_names_it(zygote: Zygote, run: Path, override: str, told: str) -> None:
    zygote.train(run, fault=kill_at_update(4))
    before = tensors(run)
    ended = zygote.train(run, override, resume="auto")

    assert ended.code == 2
    assert told in ended.printed
    assert tensors(run) == before


def test_22_a_setting_that_changes_no_result_may_change(zygote: Zygote, run: Path, undisturbed: Any) -> None:
    zygote.train(run, fault=kill_at_update(4))
    ended = zygote.train(run, "logging.every_steps=1", "evaluation.batch_size=3", resume="auto")

    assert ended.code == 0, ended.printed
    assert records(run / "steps.jsonl") == undisturbed()["steps"]


def test_epochs_may_be_raised_even_of_a_finished_run(zygote: Zygote, run: Path) -> None:
    zygote.train(run)
    ended = zygote.train(run, "training.epochs=3", resume="auto")
    steps = records(run / "steps.jsonl")

    assert ended.code == 0, ended.printed
    assert "training.epochs: 2 before, 3 now, so 18 updates" in ended.printed
    assert [step["step"] for step in steps] == list(range(1, 19))
    # Linear to zero over 18 updates: two thirds of the way at the thirteenth.
    assert steps[12]["learning_rate"] == pytest.approx(1e-3 * (1 - 12 / 18))


def test_23_changed_data_is_an_error_that_names_the_split(zygote: Zygote, run: Path) -> None:
    rows = pair_rows(43)
    path = run.parent / "rows.csv"
    write_table(path, PAIR_HEADER, rows)
    settings = [f"data.files={{train: {path}, validation: {path}}}", "data.path=null"]
    zygote.train(run, *settings, fault=kill_at_update(4))
    write_table(path, PAIR_HEADER, [*rows[:-1], ("a cat sleeps", rows[-1][1], rows[-1][2])])
    ended = zygote.train(run, *settings, resume="auto")

    assert ended.code == 3
    assert "the train split has changed since the run was started" in ended.printed


def test_25_another_label_set_is_an_error_with_both(zygote: Zygote, run: Path) -> None:
    path = run.parent / "rows.csv"
    write_table(path, PAIR_HEADER, pair_rows(43))
    settings = [f"data.files={{train: {path}, validation: {path}}}", "data.path=null"]
    zygote.train(run, *settings, fault=kill_at_update(4))
    write_table(path, PAIR_HEADER, [*pair_rows(42), ("a", "b", 2)])
    ended = zygote.train(run, *settings, resume="auto")

    assert ended.code == 3
    assert "0, 1 in the run, 0, 1, 2 now" in ended.printed


def test_24_another_number_of_processes_needs_permission_and_keeps_the_updates(
    zygote: Zygote, run: Path, undisturbed: Any
) -> None:
    zygote.train(run, num_processes=2, fault=kill_at_update(5))
    refused = zygote.train(run, resume="auto")
    allowed = zygote.train(run, resume="auto", allow_inexact=True)
    seen = [(step["step"], step["num_examples"], step["num_tokens"]) for step in records(run / "steps.jsonl")]

    assert (refused.code, allowed.code) == (2, 0), allowed.printed
    assert "the run had 2 processes and is resumed with 1" in refused.printed
    assert "pass --allow-inexact" in refused.printed
    expected = undisturbed()["steps"]
    assert seen == [(step["step"], step["num_examples"], step["num_tokens"]) for step in expected]


def test_28_the_learning_rate_does_not_depend_on_the_processes(undisturbed: Any) -> None:
    settings = ("scheduler.name=cosine", "scheduler.warmup_steps=3")
    alone, two = (undisturbed(*settings, num_processes=number)["steps"] for number in (1, 2))
    rates = [row["learning_rate"] for row in alone]

    assert [row["learning_rate"] for row in two] == rates
    assert rates[:4] == [0.0, pytest.approx(1e-3 / 3), pytest.approx(2e-3 / 3), 1e-3]
    assert len(set(rates)) == 12


# What tells one run from another one: when and where it ran.
TIMES = re.compile(
    r'"(seconds|examples_per_second|started|updated|pid)": ?("[^"]*"|[\d.e-]+)|^\d{4}-\d\d-\d\dT\S+|\b\d+(\.\d+)? s\b',
    re.MULTILINE,
)


def without_times_and_places(path: Path, run: Path) -> bytes:
    content = path.read_bytes().replace(str(run).encode(), b"RUN")
    return content if path.suffix == ".safetensors" else TIMES.sub("", content.decode()).encode()


@pytest.mark.parametrize("num_processes", [1, 2])
def test_two_runs_of_the_same_write_the_same_files(zygote: Zygote, tmp_path: Path, num_processes: int) -> None:
    runs = [tmp_path / name / "run" for name in ("first", "second")]
    for run in runs:
        zygote.train(run, num_processes=num_processes)
    names = [sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) for run in runs]
    differing = [name for name in names[0] if len({without_times_and_places(run / name, run) for run in runs}) > 1]

    assert names[0] == names[1]
    # A manifest has the hashes of files that name the run's directory.
    assert [name for name in differing if not name.endswith("manifest.json")] == []


def test_26_other_versions_are_told(zygote: Zygote, run: Path) -> None:
    zygote.train(run, fault=kill_at_update(4))
    state = next((run / "checkpoints").glob("step-*")) / "state.json"
    record = json.loads(state.read_text())
    record["environment"]["packages"]["torch"] = "1.0"
    state.write_text(json.dumps(record))
    manifest = state.with_name("manifest.json")
    from ftcli.durable import seal

    manifest.unlink()
    seal(state.parent)
    ended = zygote.train(run, resume="auto")

    assert ended.code == 0
    assert "not bit for bit what it would have been, because of another torch (1.0 before," in ended.printed


def test_14_an_existing_run_is_left_alone_without_resume(zygote: Zygote, run: Path) -> None:
    zygote.train(run, fault=kill_at_update(4))
    before = tensors(run)
    ended = zygote.train(run)

    assert ended.code == 4
    assert "Pass --resume to go on with it" in ended.printed
    assert tensors(run) == before
