"""make bench: python3 tests/bench/run.py [--rounds N] [PART…]

Runs the parts, prints what each found, and writes it into its section of docs/performance.md; the other sections keep
what they say. Without a name all parts run."""
import argparse
import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import loads_durable  # noqa: E402
import loads_http  # noqa: E402
import loads_memory  # noqa: E402
import loads_mongodb  # noqa: E402
import loads_tables  # noqa: E402
import loads_units  # noqa: E402
import page  # noqa: E402
from kontor_service import ROOT  # noqa: E402
from row import met, show  # noqa: E402

PARTS = {  # name: (title, function)
    "http": ("Documents over HTTP", loads_http.documents),
    "mongodb": ("Documents over HTTP, on MongoDB", loads_mongodb.documents),
    "hello": ("The smallest route", loads_http.hello),
    "durable": ("A durable run", loads_durable.runs),
    "start": ("Start", loads_memory.start),
    "idle": ("An idle worker", loads_memory.idle),
    "waiting": ("Waiting runs", loads_memory.waiting),
    "followers": ("Followers", loads_memory.followers),
    "units": ("A project as a unit", loads_units.units),
    "sqlite": ("Three rules beside SQLite", loads_tables.sqlite),
    "csv": ("Reading CSV", loads_tables.csv),
    "rules": ("Rules over a million rows", loads_tables.rules),
}
PAGE = ROOT / "docs/performance.md"


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
    missed = []
    for name in options.parts or PARTS:
        title, function = PARTS[name]
        print(f"== {name}: {title}", flush=True)
        began = time.monotonic()
        load = os.getloadavg()[0]
        rows = function(options)
        for r in rows:
            print(show(r), flush=True)
        missed += [r["name"] for r in rows if "missing" in r or not met(r)]
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes")
        made = f"{now}, commit {commit()}, {time.monotonic() - began:.0f} s, load of the machine before {load:.1f}."
        sections = page.sections(PAGE.read_text()) if PAGE.exists() else {}
        sections[name] = page.section(name, title, rows, made)
        PAGE.write_text(page.text({part: sections[part] for part in PARTS if part in sections}))
    print(f"wrote docs/performance.md; goals missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
