"""The house stays in order: imports point one way, light rooms stay light, modules stay short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ftcli
from ftcli.tasks import TASKS

PACKAGE = Path(ftcli.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# A room may import from rooms to its left, and from itself.
ORDER = (
    "errors",
    "interruption",
    "console locations quickstart recipes",
    "metrics.names",
    "tasks",
    "config",
    "hub",
    "durable",
    "runs",
    "processes",
    "fast_cpu first_token half_weights memory packed_weights",
    "hardware",
    "metrics",
    "data",
    "modeling optimization",
    "evaluation",
    "learner",
    "state",
    "checkpoints",
    "training",
    "experiments",
    "inspection reporting tracking scaffolding doctor benchmark resuming",
    "launching",
    "workflows",
    "cli",
)
RANKS = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms.split()}
HEAVY = {"torch", "transformers", "datasets", "evaluate", "accelerate", "sklearn", "scipy", "pyarrow", "numpy"}
LIGHT = (
    "cli",
    "config",
    "tasks",
    "runs",
    "reporting",
    "resuming",
    "tracking",
    "console",
    "durable",
    "errors",
    "hub",
    "locations",
    "metrics.names",
    "processes",
    "__init__",
)


def room_of(module: str) -> str:
    """Return the room of a dotted module name below ftcli."""
    parts = module.split(".")
    return ".".join(parts[:2]) if ".".join(parts[:2]) in RANKS else parts[0]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "__init__"


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "ftcli")


def top_level_imports(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)


def wrong_imports(name: str, source: str) -> list[str]:
    """List the imports that point to the right."""
    if name in ("__init__", "__main__"):  # the front door of the package: it may name any room
        return []
    rank = RANKS[room_of(name)]
    found = [module for module in imports(ast.parse(source)) if room_of(module.removeprefix("ftcli.")) in RANKS]
    own = [module.removeprefix("ftcli.") for module in found if module.startswith("ftcli.")]
    return [module for module in own if RANKS[room_of(module)] > rank]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    assert wrong_imports(name_of(path), path.read_text(encoding="utf-8")) == []


def test_an_import_to_the_right_is_found() -> None:
    """Negative control."""
    assert wrong_imports("config.schema", "def f():\n    from ftcli.training import fit") == ["training"]
    assert wrong_imports("config.schema", "from ftcli import training") == ["training"]


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(name_of(p)) in LIGHT], ids=name_of)
def test_light_rooms_import_nothing_heavy(path: Path) -> None:
    found = {module.split(".")[0] for module in top_level_imports(ast.parse(path.read_text(encoding="utf-8")))}

    assert not found & HEAVY


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(name_of(p)) != "tasks"], ids=name_of)
def test_nothing_outside_the_tasks_asks_which_task_it_has(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    conditions = [
        ast.unparse(node.test if isinstance(node, ast.If | ast.IfExp) else node.subject)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.If | ast.IfExp | ast.Match)
    ]

    assert not [condition for condition in conditions if "task.name" in condition or "config.task ==" in condition]
    assert not [task.__name__ for task in TASKS.values() if task.__name__ in source]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_and_functions_stay_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]

    assert source.count("\n") <= 330
    assert all((f.end_lineno or 0) - f.lineno < 60 for f in functions)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_console_prints(path: Path) -> None:
    calls = [
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]

    assert "print" not in calls
