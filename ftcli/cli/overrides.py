"""What verbs that take `key=value` share: flags that should be overrides, and shell completion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from typer.core import TyperCommand


class Verb(TyperCommand):
    """A verb whose settings are overrides: a flag such as --learning-rate 1e-5 is answered with what to type."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as Typer does, and explain what was meant where an option does not exist."""
        args = _with_value(args, "--resume", "auto")
        options = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        for index, argument in enumerate(args):
            flag, equals, value = argument.partition("=")
            if flag == "--":
                break
            if flag.startswith("--") and flag not in options:
                following = value if equals else _value_behind(args[index + 1 :])
                told = _as_override(flag, following, options)
                if told:
                    ctx.fail(f"No such option: {flag}. Settings are written as in the config, without dashes: {told}")
        return super().parse_args(ctx, args)


def _with_value(args: Sequence[str], option: str, default: str) -> list[str]:
    """Give an option whose value may be left out the default, where no such value, or directory, follows."""
    if option not in args:
        return list(args)
    place = args.index(option)
    following = args[place + 1] if place + 1 < len(args) else ""
    if following == default or Path(following, "checkpoint.json").is_file() or Path(following, "status.json").is_file():
        return [*args[:place], f"{option}={following}", *args[place + 2 :]]
    return [*args[:place], f"{option}={default}", *args[place + 1 :]]


def _value_behind(rest: Sequence[str]) -> str:
    if rest and not rest[0].startswith("--") and "=" not in rest[0]:
        return rest[0]
    return "VALUE"


def _as_override(flag: str, value: str, options: set[str]) -> str | None:
    """Return the override that a flag was meant to be; None if it looks more like an option of the verb."""
    from ftcli.config.explanations import keys_called, near_keys
    from ftcli.config.schema import DEFAULT_TASK, config_type

    schema, word = config_type(DEFAULT_TASK), flag.removeprefix("--")
    found = keys_called(word, schema)
    if not found and not get_close_matches(flag, options, 1):
        found = near_keys(word, schema)
    return " or ".join(f"{key}={value}" for key in found) or None


def complete_config(incomplete: str) -> Iterator[str]:
    """Complete the names of YAML files, and of the folders that lead to them."""
    folder = Path(incomplete).parent if not incomplete.endswith("/") else Path(incomplete)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = str(path)
        if name.startswith(incomplete.removeprefix("./")) and not path.name.startswith("."):
            if path.is_dir():
                yield f"{name}/"
            elif path.suffix in (".yaml", ".yml"):
                yield name


def complete_overrides(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete the keys of a config, each with its help."""
    from ftcli.config.explanations import help_text
    from ftcli.config.schema import DEFAULT_TASK, config_type, keys

    for key in keys(config_type(DEFAULT_TASK)):
        if key.section is None and key.path.startswith(incomplete) and key.path != "extends":
            yield f"{key.path}=", help_text(key)


def complete_config_and_overrides(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete what may stand behind `train`: a config, then overrides."""
    for name in complete_config(incomplete):
        yield name, ""
    yield from complete_overrides(incomplete)
