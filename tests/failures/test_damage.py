"""Every file of a checkpoint truncated, changed by a bit, or deleted: seen, told, and survived."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import Zygote, flip, outcome, tensors

from ftcli.durable import find_damage


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path: Path) -> None:
    path.unlink()


DAMAGES: list[Callable[[Path], None]] = [truncate, flip, delete]
FILES = (
    "checkpoint.json",
    "config.json",
    "config.yaml",
    "manifest.json",
    "model.safetensors",
    "optimizer.safetensors",
    "random.safetensors",
    "state.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


@pytest.fixture(scope="module")
def killed(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after its second checkpoint, that of step 4, the best being that of step 2 or later."""
    run = tmp_path_factory.mktemp("killed") / "run"
    zygote.train(run, "evaluation.every=2", fault={"what": "kill", "update": 8})
    return run


def newest(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("step-*"))[-1]


def test_a_checkpoint_has_these_files(killed: Path) -> None:
    assert set(FILES) <= {path.name for path in newest(killed).iterdir()}
    assert {path.name for path in newest(killed).iterdir()} - {*FILES, "predictions.jsonl"} == set()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_09_10_11_damage_to_any_file_is_seen(
    killed: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    folder = shutil.copytree(newest(killed), tmp_path / "checkpoint")
    assert find_damage(folder) is None
    damage(folder / name)

    assert find_damage(folder) is not None


@pytest.mark.parametrize(
    ("name", "damage"),
    [("model.safetensors", flip), ("random.safetensors", delete), ("optimizer.safetensors", truncate)],
)
def test_09_10_11_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    zygote: Zygote, killed: Path, tmp_path: Path, undisturbed: Any, name: str, damage: Callable[[Path], None]
) -> None:
    # The run names its directory nowhere but in its records, so a copy is as good.
    run = shutil.copytree(killed, tmp_path / "run")
    broken = newest(run)
    damage(broken / name)
    ended = zygote.train(run, "evaluation.every=2", resume="auto")

    assert ended.code == 0, ended.printed
    assert f"warning: {broken}: {name} " in ended.printed
    assert "going on from step-" in ended.printed
    expected = undisturbed("evaluation.every=2")
    assert outcome(run) == {name: expected[name] for name in outcome(run)}


def test_12_when_all_are_damaged_nothing_starts_anew(zygote: Zygote, killed: Path, tmp_path: Path) -> None:
    run = shutil.copytree(killed, tmp_path / "run")
    for folder in (run / "checkpoints").glob("step-*"):
        flip(folder / "model.safetensors")
    before = tensors(run)
    ended = zygote.train(run, "evaluation.every=2", resume="auto")

    assert ended.code == 4
    assert "every checkpoint is damaged" in ended.printed
    assert "model.safetensors has changed since it was written" in ended.printed
    assert tensors(run) == before


def test_a_damaged_best_model_is_never_published(zygote: Zygote, killed: Path, tmp_path: Path) -> None:
    """Checkpoints whose best is lost are no good: the run could not end as it should."""
    import json

    run = shutil.copytree(killed, tmp_path / "run")
    best = run / "checkpoints" / f"step-{json.loads((run / 'best.json').read_text())['step']:08d}"
    flip(best / "model.safetensors")
    ended = zygote.train(run, "evaluation.every=2", resume="auto")

    assert ended.code == 4, ended.printed
    assert f"{best}: model.safetensors has changed" in ended.printed
    assert f"its best model, that of step {int(best.name[-8:])}, is missing or damaged" in ended.printed
    assert not (run / "model").exists()


def test_10_a_model_with_a_flipped_bit_is_not_scored(killed: Path, tmp_path: Path) -> None:
    from ftcli import evaluate
    from ftcli.console import Console
    from ftcli.errors import RunError

    run = shutil.copytree(killed, tmp_path / "run")
    for folder in (run / "checkpoints").glob("step-*"):
        flip(folder / "model.safetensors")

    with pytest.raises(RunError, match=r"damaged: model.safetensors has changed"):
        evaluate(run, console=Console(quiet=True))


@pytest.mark.parametrize("place", ["checkpoints/step-link", "steps.jsonl", "predictions/validation.jsonl"])
def test_48_a_link_out_of_the_run_is_refused(zygote: Zygote, killed: Path, tmp_path: Path, place: str) -> None:
    run = shutil.copytree(killed, tmp_path / "run")
    outside = tmp_path / "outside"
    outside.mkdir()
    (run / place).unlink(missing_ok=True)
    (run / place).symlink_to(outside)
    ended = zygote.train(run, "evaluation.every=2", resume="auto")

    assert ended.code == 4
    assert "a symbolic link" in ended.printed
    assert list(outside.iterdir()) == []


def test_a_checkpoint_without_its_manifest_is_not_scored(killed: Path, tmp_path: Path) -> None:
    from ftcli import evaluate
    from ftcli.console import Console
    from ftcli.errors import RunError

    run = shutil.copytree(killed, tmp_path / "run")
    delete(newest(run) / "manifest.json")
    with pytest.raises(RunError, match=r"damaged: manifest.json is missing"):
        evaluate(newest(run), console=Console(quiet=True))


def test_15_a_finished_run_is_left_alone_whatever_became_of_its_checkpoints(zygote: Zygote, tmp_path: Path) -> None:
    run = tmp_path / "run"
    zygote.train(run)
    for folder in (run / "checkpoints").glob("step-*"):
        flip(folder / "model.safetensors")
    before = tensors(run)
    ended = zygote.train(run, resume="auto")

    assert ended.code == 0, ended.printed
    assert tensors(run) == before


def test_what_is_no_checkpoint_of_ours_is_not_deleted(zygote: Zygote, tmp_path: Path) -> None:
    """Neither another tool's directory, which is no place for a run, nor what someone put beside ours."""
    (tmp_path / "other" / "checkpoints" / "checkpoint-500").mkdir(parents=True)
    refused = zygote.train(tmp_path / "other")
    zygote.train(tmp_path / "run", fault={"what": "kill", "update": 4})
    (tmp_path / "run" / "checkpoints" / "mine").mkdir()
    resumed = zygote.train(tmp_path / "run", resume="auto")

    assert (refused.code, "holds files that are no ftcli run" in refused.printed) == (4, True)
    assert list((tmp_path / "other").iterdir()) == [tmp_path / "other" / "checkpoints"]
    assert resumed.code == 0, resumed.printed
    assert (tmp_path / "run" / "checkpoints" / "mine").is_dir()


def test_48_a_manifest_that_names_files_elsewhere_is_damaged(killed: Path, tmp_path: Path) -> None:
    import json

    folder = shutil.copytree(newest(killed), tmp_path / "checkpoint")
    (tmp_path / "elsewhere").write_bytes((folder / "config.json").read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../elsewhere"] = manifest["files"]["config.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))

    assert find_damage(folder) is not None
