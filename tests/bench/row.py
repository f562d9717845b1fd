"""One line of what was measured: how it stands against its goal."""


def row(name, ours, peer=None, theirs=None, ratio=None, goal=None, note=None):
    """`ratio` is how many times better we are (theirs / ours); `goal` the least that it should be."""
    return {"name": name, "ours": ours, "peer": peer, "theirs": theirs, "ratio": ratio, "goal": goal, "note": note}


def limit(name, value, unit, goal, note=None, digits=1):
    """A figure of our own with an upper bound: the ratio is how much of room there is."""
    return row(name, f"{value:,.{digits}f} {unit}", None, f"< {goal:,g} {unit}", goal / value if value else None, 1, note)


def missing(name, peer, why):
    return {"name": name, "peer": peer, "missing": str(why)}


def show(r):
    if "missing" in r:
        return f"{r['name']}: {r['peer']}: not measured: {r['missing']}"
    text = f"{r['name']:<44} kontor {r['ours']:>14}"
    if r["theirs"] is not None:
        text += f"   {r['peer'] or 'goal'} {r['theirs']:>14}"
    if r["ratio"] is not None:
        text += f"   ratio {r['ratio']:.2f}"
    if r["goal"] is not None:
        text += f" (goal {r['goal']:g}: {'met' if met(r) else 'missed'})"
    return text


def met(r):
    return r["goal"] is None or (r["ratio"] is not None and r["ratio"] >= r["goal"] * 0.995)
