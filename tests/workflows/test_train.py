"""`train` and `eval` from config to run directory, in this process."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PAIR_HEADER, ConfigWriter, pair_rows, save_tiny_model, write_table

from ftcli import evaluate, inspect_batch, load_config, train
from ftcli.console import Console
from ftcli.errors import ConfigError, DataError, ModelError, RunError, TrainingStoppedError
from ftcli.learner import Learner
from ftcli.workflows.train import dry_run

QUIET = Console(quiet=True)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tree(folder: Path) -> dict[str, str]:
    """Hash every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def config(write_config: ConfigWriter) -> Path:
    return write_config()


@pytest.fixture
def run(config: Path) -> Path:
    return Path(train(config, console=QUIET)["run"])


def test_a_run_directory_holds_what_the_design_lists(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "best.json",
        "checkpoints",
        "config.yaml",
        "data.json",
        "environment.json",
        "evaluations.jsonl",
        "last.json",
        "log.txt",
        "model",
        "predictions",
        "status.json",
        "steps.jsonl",
    }


def test_every_update_is_recorded_once(run: Path) -> None:
    steps = lines(run / "steps.jsonl")

    assert [step["step"] for step in steps] == list(range(1, 13))  # 43 rows: 6 updates an epoch, 2 epochs
    assert sum(step["num_examples"] for step in steps) == 2 * 43
    assert steps[5]["epoch"] == 1.0


def test_the_run_says_that_it_finished_and_where(run: Path) -> None:
    status = json.loads((run / "status.json").read_text())

    assert (status["status"], status["step"]) == ("finished", 12)


def test_evaluating_a_run_returns_the_scores_of_its_best_evaluation(run: Path) -> None:
    best = json.loads((run / "best.json").read_text())

    assert evaluate(run, console=QUIET)["scores"] == best["scores"]


@pytest.mark.parametrize("what", ["", "model", "checkpoints/step-{step:08d}"])
def test_a_run_its_checkpoint_and_its_model_are_the_same_model(run: Path, what: str) -> None:
    best = json.loads((run / "best.json").read_text())

    found = evaluate(run / what.format(**best), console=QUIET)

    assert (found["step"], found["scores"]) == (best["step"], best["scores"])


def test_a_published_model_needs_nothing_but_itself(run: Path, tmp_path: Path) -> None:
    best = json.loads((run / "best.json").read_text())
    (run / "model").rename(tmp_path / "elsewhere")

    assert evaluate(tmp_path / "elsewhere", console=QUIET)["scores"] == best["scores"]


def test_evaluation_recomputes(run: Path, pair_data: Path) -> None:
    before = evaluate(run, console=QUIET)["scores"]
    swapped = [(first, second, 1 - label) for first, second, label in pair_rows(17, first=100)]
    write_table(pair_data / "validation.csv", PAIR_HEADER, swapped)

    after = evaluate(run, console=QUIET)["scores"]

    assert after["accuracy"] == pytest.approx(1 - before["accuracy"])


def test_labels_come_from_the_run_and_not_from_the_evaluated_split(run: Path, pair_data: Path) -> None:
    write_table(pair_data / "validation.csv", PAIR_HEADER, [("a cat", "a dog", 1), ("a fish", "a bird", 1)])

    assert evaluate(run, console=QUIET)["num_examples"] == 2


def test_the_model_keeps_label_names_and_problem_type(write_config: ConfigWriter, pair_data: Path) -> None:
    named = [(a, b, ["other", "same"][label]) for a, b, label in pair_rows(43)]
    write_table(pair_data / "train.csv", PAIR_HEADER, named)
    write_table(pair_data / "validation.csv", PAIR_HEADER, named[:9])

    run = Path(train(write_config(), ["training.max_steps=1"], console=QUIET)["run"])

    saved = json.loads((run / "model" / "config.json").read_text())
    assert saved["id2label"] == {"0": "other", "1": "same"}
    assert saved["problem_type"] == "single_label_classification"


def test_predictions_are_those_of_the_best_evaluation(run: Path) -> None:
    predictions = lines(run / "predictions" / "validation.jsonl")
    best = json.loads((run / "best.json").read_text())

    hits = sum(row["gold"] == row["predicted"] for row in predictions)
    assert [row["row"] for row in predictions] == list(range(17))
    assert hits / 17 == pytest.approx(best["scores"]["accuracy"])
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in predictions)


def test_the_stored_config_is_a_config_that_gives_the_same_run(run: Path, tmp_path: Path) -> None:
    again = Path(train(run / "config.yaml", [f"output_dir={tmp_path / 'again'}"], console=QUIET)["run"])

    assert tree(again / "model")["model.safetensors"] == tree(run / "model")["model.safetensors"]


def test_dropout_runs_repeat_too(write_config: ConfigWriter, tiny_model: Path, tmp_path: Path) -> None:
    config = write_config(model={"name_or_path": str(tiny_model)})

    first, second = (
        Path(train(config, [f"output_dir={tmp_path / name}"], console=QUIET)["run"]) for name in ("first", "second")
    )

    assert tree(first / "model")["model.safetensors"] == tree(second / "model")["model.safetensors"]


def test_another_seed_gives_another_model(config: Path, run: Path, tmp_path: Path) -> None:
    other = Path(train(config, ["seed=7", f"output_dir={tmp_path / 'other'}"], console=QUIET)["run"])

    assert tree(other / "model")["model.safetensors"] != tree(run / "model")["model.safetensors"]


def test_a_run_is_never_overwritten_unasked(config: Path, run: Path) -> None:
    before = tree(run)

    with pytest.raises(RunError, match=r"holds a run already \(finished\).*--overwrite"):
        train(config, console=QUIET)

    assert tree(run) == before


def test_overwrite_replaces_the_whole_run(config: Path, run: Path) -> None:
    train(config, ["training.max_steps=1"], overwrite=True, console=QUIET)

    assert len(lines(run / "steps.jsonl")) == 1


def test_overwrite_spares_what_is_no_run(config: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")

    with pytest.raises(RunError, match="no ftcli run"):
        train(config, overwrite=True, console=QUIET)

    assert (tmp_path / "run" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("data.columns.label=lable", DataError),
        ("model.name_or_path=./missing", ModelError),
        ("scheduler.warmup_steps=100", ConfigError),
        ("evaluation.best_metric=accuracies", ConfigError),
    ],
)
def test_a_failure_before_the_first_update_keeps_the_old_run(
    config: Path, run: Path, override: str, error: type[Exception]
) -> None:
    before = tree(run)

    with pytest.raises(error):
        train(config, [override], overwrite=True, console=QUIET)

    assert tree(run) == before


def test_a_dry_run_writes_nothing(config: Path, tmp_path: Path) -> None:
    found = dry_run(config, console=QUIET)

    assert found["num_updates"] == 12
    assert found["loss"] > 0
    assert found["evaluation_loss"] > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_run_is_deterministic_if_its_config_says_so_and_leaves_the_switch_as_it_was(
    config: Path, monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    seen = set()
    update = Learner.update
    monkeypatch.setattr(
        Learner,
        "update",
        lambda *args, **how: (seen.add(torch.are_deterministic_algorithms_enabled()), update(*args, **how))[1],
    )

    train(config, [f"training.deterministic={str(deterministic).lower()}"], console=QUIET)

    assert seen == {deterministic}
    assert not torch.are_deterministic_algorithms_enabled()


def test_never_evaluating_needs_no_validation_split_and_publishes_the_last(
    config: Path, pair_data: Path, tmp_path: Path
) -> None:
    (pair_data / "validation.csv").rename(tmp_path / "held-out.csv")

    run = Path(train(config, ["evaluation.every=never"], console=QUIET)["run"])

    assert not (run / "best.json").exists()
    assert json.loads((run / "model" / "checkpoint.json").read_text())["step"] == 12


def test_a_missing_validation_split_says_what_to_do(config: Path, pair_data: Path) -> None:
    (pair_data / "validation.csv").unlink()

    with pytest.raises(DataError, match=r"no split 'validation'; found train.*evaluation\.every=never"):
        train(config, console=QUIET)


def test_evaluations_come_every_n_steps_and_after_the_last(config: Path) -> None:
    run = Path(train(config, ["evaluation.every=5"], console=QUIET)["run"])

    assert [record["step"] for record in lines(run / "evaluations.jsonl")] == [5, 10, 12]


def test_max_steps_ends_the_run_and_its_schedule(config: Path) -> None:
    run = Path(train(config, ["training.max_steps=4"], console=QUIET)["run"])

    rates = [step["learning_rate"] for step in lines(run / "steps.jsonl")]
    assert rates == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])


def test_early_stopping_counts_evaluations_without_a_better_score(config: Path) -> None:
    # With a learning rate of next to nothing accuracy cannot move: the first evaluation stays the best.
    overrides = [
        "optimizer.learning_rate=1e-12",
        "evaluation.every=1",
        "evaluation.metrics=[accuracy]",
        "evaluation.early_stopping_patience=2",
    ]

    run = Path(train(config, overrides, console=QUIET)["run"])

    marks = [record["is_best"] for record in lines(run / "evaluations.jsonl")]
    assert marks == [True, False, False]


def test_the_best_evaluation_decides_the_published_model(config: Path) -> None:
    run = Path(train(config, ["evaluation.every=1", "evaluation.best_metric=loss"], console=QUIET)["run"])

    losses = {record["step"]: record["scores"]["loss"] for record in lines(run / "evaluations.jsonl")}
    assert json.loads((run / "model" / "checkpoint.json").read_text())["step"] == min(losses, key=losses.get)


@pytest.mark.parametrize(("every", "keep", "newest"), [(1, 2, {11, 12}), (4, 3, {4, 8, 12}), ("epoch", 2, {6, 12})])
def test_the_newest_checkpoints_and_the_best_are_kept(config: Path, every: Any, keep: int, newest: set[int]) -> None:
    overrides = ["evaluation.every=5", f"checkpoint.every={every}", f"checkpoint.keep={keep}"]
    run = Path(train(config, overrides, console=QUIET)["run"])

    best = json.loads((run / "best.json").read_text())["step"]
    kept = {int(path.name.removeprefix("step-")) for path in (run / "checkpoints").iterdir()}
    assert len(kept) == len(kept | {best})
    assert sorted(kept)[-keep:] == sorted(newest | ({best} if best > min(newest) else set()))[-keep:]
    assert json.loads((run / "last.json").read_text())["step"] == 12


def test_a_diverging_run_is_recorded_as_failed_and_keeps_its_reason(config: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingStoppedError, match="step 2"):
        train(config, ["optimizer.learning_rate=1e38"], console=QUIET)

    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["status"] == "failed"
    assert "step 2" in status["reason"]
    assert not (tmp_path / "run" / "model").exists()


def test_a_model_that_came_out_as_nan_is_never_scored(config: Path, tmp_path: Path) -> None:
    # The only update destroys the weights: no later update can notice, so the evaluation must.
    with pytest.raises(TrainingStoppedError, match="evaluation on 'validation': loss nan"):
        train(config, ["optimizer.learning_rate=1e38", "training.max_steps=1"], console=QUIET)

    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_saved_model_gets_its_score_in_any_precision(config: Path, precision: str) -> None:
    run = Path(train(config, [f"training.precision={precision}"], console=QUIET)["run"])

    best = json.loads((run / "best.json").read_text())
    assert evaluate(run, console=QUIET)["scores"] == best["scores"]


def test_weights_stay_float32_in_bf16(config: Path) -> None:
    from safetensors import safe_open

    run = Path(train(config, ["training.precision=bf16", "training.max_steps=1"], console=QUIET)["run"])

    with safe_open(run / "model" / "model.safetensors", "numpy") as weights:
        assert {str(weights.get_tensor(name).dtype) for name in weights.keys()} == {"float32"}  # noqa: SIM118


def test_a_truncated_checkpoint_is_one_error(run: Path) -> None:
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    with pytest.raises(RunError, match=r"damaged: model\.safetensors has 1,000 bytes of"):
        evaluate(run / "model", console=QUIET)


def test_a_hub_metric_that_cannot_be_had_stops_the_run_before_it_starts(config: Path, tmp_path: Path) -> None:
    overrides = ["evaluation.metrics=[hub:nowhere]", "evaluation.directions={hub:nowhere: higher}"]

    with pytest.raises(ModelError, match="hub:nowhere"):
        train(config, overrides, allow_remote_code=True, console=QUIET)

    assert not (tmp_path / "run").exists()


def test_the_kept_config_is_the_one_that_was_asked_for_and_the_records_say_what_was_decided(run: Path) -> None:
    kept = load_config(run / "config.yaml")

    assert (kept.evaluation.metrics, kept.evaluation.best_metric, kept.data.labels) == (None, None, None)
    best = json.loads((run / "best.json").read_text(encoding="utf-8"))
    assert list(best["scores"]) == ["accuracy", "f1", "loss"]
    assert best["best_metric"] == "f1"


@pytest.mark.parametrize("override", ["seed=1", "training.epochs=9", "data.labels=[a, b]", "optimizer.learning_rate=1"])
def test_an_override_that_an_evaluation_would_ignore_is_refused(run: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="changes nothing here"):
        evaluate(run, [override], console=QUIET)


@pytest.mark.parametrize("name", ["validation", "train"])
def test_a_split_is_named_by_itself_or_by_its_role(run: Path, name: str) -> None:
    assert evaluate(run, split=name, console=QUIET)["num_examples"] == {"validation": 17, "train": 43}[name]


def test_a_role_finds_a_split_of_another_name(config: Path, pair_data: Path) -> None:
    (pair_data / "validation.csv").rename(pair_data / "dev.csv")
    run = train(config, ["data.validation_split=dev", "training.max_steps=1"], console=QUIET)["run"]

    assert evaluate(run, split="validation", console=QUIET)["split"] == "dev"


def test_f1_for_three_labels_is_an_error_that_names_what_fits(config: Path, pair_data: Path) -> None:
    three = [(a, b, number % 3) for number, (a, b, _) in enumerate(pair_rows(20))]
    write_table(pair_data / "train.csv", PAIR_HEADER, three)

    with pytest.raises(ConfigError, match=r"f1 is for two labels; the data has 3.*f1_macro"):
        train(config, ["evaluation.metrics=[f1]"], console=QUIET)


def test_three_labels_get_accuracy_and_macro_f1(config: Path, pair_data: Path) -> None:
    three = [(a, b, number % 3) for number, (a, b, _) in enumerate(pair_rows(20))]
    write_table(pair_data / "train.csv", PAIR_HEADER, three)
    write_table(pair_data / "validation.csv", PAIR_HEADER, three[:9])

    found = train(config, ["training.max_steps=1"], console=QUIET)

    assert set(found["best"]["scores"]) == {"accuracy", "f1_macro", "loss"}


def test_weights_of_another_architecture_are_refused(write_config: ConfigWriter, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "wider")
    settings = json.loads((folder / "config.json").read_text())
    settings["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(settings))

    with pytest.raises(ModelError, match=r"lacks \d+ parameters of the encoder, such as bert\.encoder\.layer\.2"):
        train(write_config(model={"name_or_path": str(folder)}), console=QUIET)


def test_evaluating_with_another_model_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="the model is the checkpoint"):
        evaluate(run, ["model.name_or_path=other"], console=QUIET)


def test_evaluating_what_is_no_run_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected a run, one of its checkpoints, or its model/"):
        evaluate(tmp_path, console=QUIET)


def test_hub_metrics_need_permission(config: Path) -> None:
    overrides = ["evaluation.metrics=[hub:accuracy]", "evaluation.directions={hub:accuracy: higher}"]

    with pytest.raises(ConfigError, match="--allow-remote-code"):
        train(config, overrides, console=QUIET)


def test_inspect_batch_describes_a_batch(config: Path) -> None:
    found = inspect_batch(config, index=1, console=QUIET)

    assert found["tensors"]["input_ids"]["shape"][0] == 8
    assert found["example"]["tokens"][0] == "[CLS]"
    assert found["example"]["where"] == "line 3"
    assert found["example"]["target"] == ["label: 1 (id 1)"]
    assert found["logits_shape"] == [8, 2]
    assert found["num_rows"] == 43


def test_inspect_batch_pads_to_a_fixed_length(config: Path) -> None:
    found = inspect_batch(config, ["data.padding=max_length", "data.max_length=40"], console=QUIET)

    assert found["tensors"]["input_ids"]["shape"] == [8, 40]


def test_inspect_batch_refuses_an_index_beyond_the_split(config: Path) -> None:
    with pytest.raises(ConfigError, match="examples 0 to 42"):
        inspect_batch(config, index=43, console=QUIET)


def test_a_config_object_works_like_a_file(config: Path) -> None:
    loaded = load_config(config, ["training.max_steps=2"])

    assert train(loaded, console=QUIET)["steps"] == 2
