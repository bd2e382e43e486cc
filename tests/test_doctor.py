"""`doctor`: what it finds on this machine, and what it says where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import run_ftcli

from ftcli import doctor as module
from ftcli.console import Console
from ftcli.doctor import Check, doctor


def test_a_machine_that_runs_the_tests_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    record = doctor(Console())

    names = [check["name"] for check in record["checks"]]
    assert record["is_good"], record
    assert names == [
        "ftcli",
        "packages",
        "device",
        "threads",
        "working directory",
        "cache of ftcli",
        "cache of the Hub",
        "the Hub",
        "login",
        "a tiny training step",
    ]
    assert "ok  a tiny training step" in capsys.readouterr().out


def test_what_is_wrong_ends_with_5_and_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()

    done = run_ftcli("doctor", "--json", FTCLI_CACHE=str(tmp_path / "a-file" / "cache"), HF_TOKEN="hf_canary")  # noqa: S106 - a canary, no secret

    record = json.loads(done.stdout)
    [wrong] = [check for check in record["checks"] if not check["is_good"]]
    assert (done.returncode, record["is_good"], wrong["name"]) == (5, False, "cache of ftcli")
    assert "set FTCLI_CACHE" in wrong["remedy"]
    assert "hf_canary" not in done.stdout + done.stderr


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_NEEDED_BYTES", 2**70)

    check = module._folder("here", tmp_path, "elsewhere")

    assert not check.is_good
    assert "make room" in check.remedy


def test_a_package_of_another_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "requires", lambda _: ["torch>=99", "nowhere>=1", 'pytest>=9; extra == "dev"'])

    check = module._packages()

    assert not check.is_good
    assert "nowhere is missing" in check.found
    assert "is not >=99" in check.found
    assert check.remedy == "pip install --upgrade 'torch' 'nowhere'"


def test_a_check_that_breaks_is_a_finding() -> None:
    def broken() -> Check:
        raise RuntimeError("no kernel\nand a long story")

    check = module._guarded("a step", broken)

    assert (check.is_good, check.found) == (False, "RuntimeError: no kernel")


def test_a_broken_environment_is_a_finding_of_the_checks_that_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "y")

    found = {check["name"]: check for check in doctor(Console(quiet=True))["checks"]}

    assert not found["threads"]["is_good"]
    assert "WORLD_SIZE='y': expected a whole number" in found["threads"]["found"]
    assert found["packages"]["is_good"]
