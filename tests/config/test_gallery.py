"""Every way to write a config wrong that we know of, one a file in `gallery/`, each with what the user is told.

A file holds a config; then `#--- NAME` begins another file beside it, `#$ ` an override on the command line, and
`#> ` a line of the expected message.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from ftcli.config.loading import load_config
from ftcli.errors import ConfigError

GALLERY = sorted((Path(__file__).parent / "gallery").glob("*.yaml"))


class Exhibit(NamedTuple):
    """A broken config: its files by name, the first being the config, the command line, and the message."""

    files: dict[str, str]
    overrides: list[str]
    message: str


def read_exhibit(path: Path) -> Exhibit:
    name = path.name
    files: dict[str, str] = {name: ""}
    overrides, message = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, rest = line[:2], line[3:]
        if line.startswith("#--- "):
            name = line.removeprefix("#--- ")
            files[name] = ""
        elif kind == "#$":
            overrides.append(rest)
        elif kind == "#>":
            message.append(rest)
        else:
            files[name] += f"{line}\n"
    return Exhibit(files, overrides, "\n".join(message))


def test_the_gallery_is_large() -> None:
    assert len(GALLERY) >= 70


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_the_user_is_told(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exhibit = read_exhibit(path)
    for name, text in exhibit.files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError) as caught:
        load_config(path.name, exhibit.overrides)

    assert str(caught.value) == exhibit.message
