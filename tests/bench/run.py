"""make bench: python3 tests/bench/run.py [--rounds N] [PART…]

Runs the parts, keeps what each found in .bench/results.json, prints it, and writes
docs/performance.md of what is kept. Without a name all parts run."""
import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import loads_durable  # noqa: E402
import loads_http  # noqa: E402
import loads_memory  # noqa: E402
import loads_tables  # noqa: E402
import page  # noqa: E402
from kontor_service import ROOT  # noqa: E402
from row import met, show  # noqa: E402

PARTS = {  # name: (title, function)
    "http": ("Documents over HTTP", loads_http.documents),
    "hello": ("The smallest route", loads_http.hello),
    "durable": ("A durable run", loads_durable.runs),
    "start": ("Start", loads_memory.start),
    "idle": ("An idle worker", loads_memory.idle),
    "waiting": ("Waiting runs", loads_memory.waiting),
    "followers": ("Followers", loads_memory.followers),
    "sqlite": ("Three rules beside SQLite", loads_tables.sqlite),
    "csv": ("Reading CSV", loads_tables.csv),
    "rules": ("Rules over a million rows", loads_tables.rules),
}
KEPT = ROOT / ".bench/results.json"


def commit():
    return subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False).stdout.strip()


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    args.add_argument("--rounds", type=int, default=3, help="turns of each side (3)")
    args.add_argument("--n", type=int, default=1000000, help="rows of the tables (1,000,000)")
    options = args.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        args.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in options.parts or PARTS:
        title, function = PARTS[name]
        print(f"== {name}: {title}", flush=True)
        began = time.monotonic()
        load = os.getloadavg()[0]
        rows = function(options)
        for r in rows:
            print(show(r), flush=True)
        kept[name] = {"title": title, "rows": rows, "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
                      "commit": commit(), "load": round(load, 1), "seconds": round(time.monotonic() - began)}
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False))
    (ROOT / "docs/performance.md").write_text(page.text({name: kept[name] for name in PARTS if name in kept}))
    missed = [r["name"] for part in kept.values() for r in part["rows"] if "missing" in r or not met(r)]
    print(f"wrote docs/performance.md; goals missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
