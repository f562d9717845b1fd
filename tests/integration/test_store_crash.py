"""The store's writers are killed 400 times; what is checked says tests/unit/store_crash_test.c."""
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_killed_writers():
    build = ROOT / os.environ.get("BUILD", "build")
    subprocess.run(["ninja", "-C", build, "--quiet", "store_crash_test"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([build / "unit/store_crash_test"], check=True, env=dict(os.environ, STORE_KILLS="400"))
