"""Processes that make calls of the store, one after the other: tests/fault/store_calls_spec.lua."""
import json
import os
import subprocess

from conftest import KONTOR, ROOT


def store_calls(url, tag, calls, answers, keep=True, **variables):
    """calls: [{op, id}]; what they gave comes into the file `answers`. STORE_PROJECT=name: in a project's
    database. The process, started; its databases stay, unless it is not to keep them."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("KONTOR_") or k == "KONTOR_TEST_MARK"}
    return subprocess.Popen(
        [KONTOR, "test", ROOT / "tests/fault/store_calls_spec.lua"], cwd=ROOT, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**env, "MONGODB_URL": url, "MASTER_DATABASE_NAME": f"ktm-{tag}", "PROJECT_DATABASE_PREFIX": f"kt-{tag}-",
             "STORE_CALLS": json.dumps(calls), "STORE_ANSWERS": str(answers), **({"STORE_KEEP": "1"} if keep else {}), **variables})


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err[-3000:]
