"""A signal is noted, and what is noted is agreed on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ftcli.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_its_handler_is_put_back(number: signal.Signals) -> None:
    interruption, before = Interruption(), signal.getsignal(number)
    with interruption.listening(""):
        os.kill(os.getpid(), number)

    assert signal.getsignal(number) is before
    assert interruption.agree(interruption.wish)
    assert interruption.agreed == number


@pytest.mark.parametrize(
    ("wishes", "agreed"),
    [
        (0, None),
        (1, signal.SIGINT),
        (64, signal.SIGINT),
        (4096, signal.SIGTERM),
        (4096 * 64 + 3, signal.SIGTERM),
    ],
)
def test_the_sum_of_all_wishes_says_on_what_they_agree(wishes: int, agreed: signal.Signals | None) -> None:
    """SIGTERM, which leaves little time, outweighs any number of SIGINTs."""
    interruption = Interruption()

    assert interruption.agree(wishes) is (agreed is not None)
    assert interruption.agreed == agreed


def test_what_was_agreed_on_stays() -> None:
    interruption = Interruption()
    interruption.agree(1)

    assert interruption.agree(0)


def test_a_notice_that_nobody_reads_hinders_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken:
        monkeypatch.setattr("sys.__stderr__", broken)
        interruption = Interruption()
        with interruption.listening("stopping"):
            os.kill(os.getpid(), signal.SIGINT)

    assert interruption.wish


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [
        (signal.SIGINT, signal.SIGINT, True),
        (signal.SIGTERM, signal.SIGINT, True),
        (signal.SIGINT, signal.SIGTERM, True),
        (signal.SIGTERM, signal.SIGTERM, False),
    ],
)
def test_what_follows_a_ctrl_c_leaves_at_once(first: signal.Signals, second: signal.Signals, ends: bool) -> None:
    """SIGTERM after it is what a launcher makes of a second one; SIGTERM alone may come from several places."""
    script = f"""
import os, signal
from ftcli.interruption import Interruption
with Interruption().listening(""):
    os.kill(os.getpid(), {int(first)})
    os.kill(os.getpid(), {int(second)})
print("stayed")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == ((128 + second, "") if ends else (0, "stayed\n"))


def test_the_notice_is_printed_once(capfd: pytest.CaptureFixture[str]) -> None:
    interruption = Interruption()
    with interruption.listening("stopping"):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)

    assert capfd.readouterr().err.count("stopping") == 1
