"""How a command ends."""

from __future__ import annotations

import signal
import subprocess
import sys

INTERRUPTED_TWICE = """
import os, signal
from ftcli.cli.app import exit_codes
from ftcli.console import Console
try:
    with exit_codes(Console()):
        os.kill(os.getpid(), signal.SIGINT)
finally:
    os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_second_ctrl_c_ends_at_once_without_a_word() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_TWICE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        # A test run in the background inherits an ignored SIGINT, and would hand it on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )

    assert (done.returncode, done.stderr) == (-signal.SIGINT, "error: interrupted\n")
