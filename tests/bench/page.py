"""docs/performance.md out of what was measured."""
import os
import platform
import re
from pathlib import Path

from row import met

HERE = Path(__file__).resolve().parent


def machine_text():
    cpu = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M)[1]) / 1024 / 1024
    return f"{os.cpu_count()} processors ({cpu[1] if cpu else platform.machine()}), {memory:.0f} GiB, Linux {platform.release()}"


def cell(text):
    return str(text).replace("|", "\\|")


def table(rows):
    out = ["| what | Kontor | against | ratio | goal | |", "|---|---|---|---|---|---|"]
    for r in rows:
        if "missing" in r:
            out.append(f"| {cell(r['name'])} | | {cell(r['peer'])} | not measured: {cell(r['missing'])} | | |")
            continue
        theirs = " ".join(str(t) for t in (r["peer"], r["theirs"]) if t)
        ratio = f"{r['ratio']:.2f}" if r["ratio"] is not None else ""
        verdict = "" if r["goal"] is None else f"{r['goal']:g} {'met' if met(r) else '**missed**'}"
        out.append(f"| {cell(r['name'])} | {cell(r['ours'])} | {cell(theirs)} | {ratio} | {verdict} | {cell(r['note'] or '')} |")
    return "\n".join(out)


def section(name, title, rows, made):
    """What a part found, up to its line `make bench T=NAME`."""
    return f"## {title}\n\n{table(rows)}\n\n`make bench T={name}`, {made}\n"


def sections(page):
    """{name: section} of a page that was written before: what is not measured again stays in it."""
    return {found[2]: found[1] for found in re.finditer(r"^(## (?:(?!^## ).)*?^`make bench T=(\w+)`[^\n]*\n)", page, re.M | re.S)}


def text(parts):
    """The page, of {name: section}; notes are always those of today."""
    out = [(HERE / "page_head.md").read_text().format(machine=machine_text())]
    for name, part in parts.items():
        notes = HERE / f"notes/{name}.md"
        out += [part, notes.read_text()] if notes.exists() else [part]
    return "\n".join(out)
