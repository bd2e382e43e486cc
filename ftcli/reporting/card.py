"""The model card: what a run knows of its model, for a reader and, as metadata, for the Hub. Facts of the run only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftcli.config.checks import is_on_hub, looks_local
from ftcli.config.schema import Config
from ftcli.durable import read_json
from ftcli.runs import RunDirectory


def model_card(run: RunDirectory, config: Config, max_length: int) -> str:
    """Write the README.md of a run's best model, or of its last where nothing was evaluated.

    max_length: the tokens at which inputs are truncated.

    The metadata follows https://huggingface.co/docs/hub/model-cards: a base model and a data set are named there
    if they come from the Hub, and scores if their data does.
    """
    data, environment = read_json(run.path / "data.json"), read_json(run.path / "environment.json")
    evaluation = run.pointed("best") or run.pointed("last") or {}
    title = run.path.name
    sections = [
        _metadata(title, config, evaluation),
        f"# {title}\n\n{_summary(config, data)}",
        f"## Use\n\n{_usage(config)}",
        f"## Scores\n\n{_scores(evaluation)}",
        f"## Data\n\n{_data(config, data)}",
        f"## Recipe\n\n{_recipe(config, environment, evaluation)}",
        f"## Limits\n\n{_limits(config, data, evaluation, max_length)}",
    ]
    return "\n\n".join(sections) + "\n"


def _metadata(title: str, config: Config, evaluation: Mapping[str, Any]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    scores = evaluation.get("scores", {})
    facts: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": config.task,
        "tags": ["ftcli"],
        "metrics": [name for name in scores if name != "loss"] or None,
    }
    if is_on_hub(config.model.name_or_path):
        facts["base_model"] = config.model.name_or_path
    data = config.data
    if data.path is not None and is_on_hub(data.path):
        facts["datasets"] = [data.path]
        if scores:
            facts["model_name"] = title
            facts["eval_results"] = [
                EvalResult(
                    task_type=config.task,
                    dataset_type=data.path,
                    dataset_name=" ".join(filter(None, (data.path, data.name))),
                    dataset_config=data.name,
                    dataset_split=evaluation["split"],
                    dataset_revision=data.revision,
                    metric_type=name,
                    metric_value=value,
                )
                for name, value in scores.items()
            ]
    return f"---\n{ModelCardData(**facts).to_yaml()}\n---"


def _summary(config: Config, data: Mapping[str, Any]) -> str:
    labels = data[config.data.train_split]["labels"]
    what = f"{config.task.replace('-', ' ')} with {len(labels)} labels: {_listed(f'`{label}`' for label in labels)}"
    positive = f" The positive class is `{list(labels)[-1]}`." if len(labels) == 2 else ""
    return f"`{_named(config.model.name_or_path)}`, fine-tuned for {what}.{positive}"


def _usage(config: Config) -> str:
    task = config.build_task()
    return (
        f"```python\n{task.example_code('PATH-OR-REPO')}\n```\n\n"
        "Or for whole files, with ftcli: `ftcli predict PATH INPUT.csv -o OUTPUT.csv`, whose text columns are "
        f"{_listed(task.text_columns)}."
    )


def _scores(evaluation: Mapping[str, Any]) -> str:
    if "scores" not in evaluation:
        return "The model was not evaluated."
    majority = evaluation.get("majority_class") or {}
    rows = [(name, _number(value), _number(majority.get(name))) for name, value in evaluation["scores"].items()]
    n = f"{evaluation['num_examples']:,}"
    told = f"On the split `{evaluation['split']}` (n = {n}), after {evaluation['step']:,} updates."
    return f"{told}\n\n{_table(('metric', 'this model', 'majority class'), rows)}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _data(config: Config, data: Mapping[str, Any]) -> str:
    rows = []
    for name, split in data.items():
        source = split["source"] if is_on_hub(split["source"]) else Path(split["source"]).name
        origin = f"held out of `{split['held_out_of']}`" if split["held_out_of"] else f"`{source}`"
        labels = _listed(f"{label} {count:,}" for label, count in split["labels"].items())
        rows.append((name, f"{split['num_rows']:,}", origin, labels))
    left_out = sum(split["num_left_out"] for split in data.values())
    note = f"\n\n{left_out:,} rows without text or label were left out." if left_out else ""
    named = filter(None, (config.data.path, config.data.name, config.data.revision))
    hub = f"Data set `{' '.join(named)}`.\n\n" if config.data.path and is_on_hub(config.data.path) else ""
    return f"{hub}{_table(('split', 'rows', 'source', 'labels'), rows)}{note}"


def _recipe(config: Config, environment: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    training, optimizer, schedule = config.training, config.optimizer, config.scheduler
    execution, packages = environment["execution"], environment["packages"]
    facts = {
        "epochs": training.epochs,
        "updates to this model": f"{evaluation.get('step', 0):,}",
        "examples an update": training.batch_size,
        "optimizer": f"AdamW, learning rate {optimizer.learning_rate}, weight decay {optimizer.weight_decay}, betas "
        f"{optimizer.betas}, epsilon {optimizer.epsilon}",
        "schedule": f"{schedule.name}, warm-up over {_warmup(schedule.warmup_steps)}",
        "gradient clipping": training.max_grad_norm or "none",
        "seed": config.seed,
        "computed on": f"{_processes(environment['num_processes'])}, {execution['device']}, {execution['precision']}",
        "versions": f"ftcli {environment['ftcli']}, torch {packages['torch']}, transformers {packages['transformers']}",
    }
    return _table(("", ""), [(name, str(value)) for name, value in facts.items()])


def _warmup(steps: float) -> str:
    return f"{steps:.0%} of the updates" if 0 < steps < 1 else f"{steps:,.0f} updates"


def _processes(number: int) -> str:
    return "one process" if number == 1 else f"{number} processes"


def _limits(config: Config, data: Mapping[str, Any], evaluation: Mapping[str, Any], max_length: int) -> str:
    train = data[config.data.train_split]
    limits = [
        f"Every input gets one of the {len(train['labels'])} labels, also one that has nothing to do with them.",
        f"Inputs are truncated after {max_length} tokens; in training that was {train['truncated_share']:.1%} of them.",
    ]
    if "scores" in evaluation:
        limits.append(
            f"The scores are those of one seed, on the split that also chose this model among the evaluations "
            f"({evaluation['best_metric']} decided)."
        )
    limits.append("Nothing is known of other domains, languages or times than those of the training data.")
    return "\n".join(f"- {limit}" for limit in limits)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(header), line(["---"] * len(header)), *(line(row) for row in rows)])


def _listed(names: Iterable[str], most: int = 12) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f", … ({len(names)})" if len(names) > most else "")


def _named(model: str) -> str:
    """Name a model without saying where on this machine it lies."""
    return Path(model).name if looks_local(model) else model
