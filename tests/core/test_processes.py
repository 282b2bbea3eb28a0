"""Processes that work for this one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from brivionix_billing.processes import running_pool


def test_a_process_is_prepared_and_ignores_interrupts(tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of a terminal, and only the first one handles it."""
    with running_pool(1, os.chdir, (tmp_path,)) as pool:
        folder, handler = pool.submit(os.getcwd), pool.submit(signal.getsignal, signal.SIGINT)
        assert (folder.result(), handler.result()) == (os.path.realpath(tmp_path), signal.SIG_IGN)
