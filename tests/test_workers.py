import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import multiprocessing, os, sys, time
from egohoi.workers import end_with

def work(parent, file):
    end_with(parent)
    open(file, "w").write(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=work, args=(os.getpid(), sys.argv[1])).start()
    time.sleep(60)
"""


def _runs(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / "main.py").write_text(SCRIPT)
    written = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, tmp_path / "main.py", written])
    until = time.monotonic() + 60
    while not (written.exists() and written.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    worker = int(written.read_text())
    parent.kill()
    parent.wait()
    until = time.monotonic() + 20
    while _runs(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(worker)
