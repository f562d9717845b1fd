"""The expectations of templates.json are Jinja2's own: this runs them there.

spec/template_spec.lua runs the same file on our compiler.
"""
import json
import pathlib
import sys

import jinja2

DATA = json.loads((pathlib.Path(__file__).parent / "templates.json").read_text("utf-8"))


def render(case):
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, loader=jinja2.DictLoader(case.get("includes", {})))
    return env.from_string(case["template"]).render(DATA["variables"])


def refused(case):
    try:
        return f"prints {render(case)!r}"
    except (jinja2.TemplateError, TypeError, ValueError, ZeroDivisionError):
        return None


def main():
    problems = []
    for case in DATA["cases"]:
        text = render(case)
        if text != case["expect"]:
            problems.append(f"{case['name']}: {text!r}, not {case['expect']!r}")
    errors = [case for case in DATA["errors"] if "ours" not in case]
    problems += [f"{case['name']}: {why}" for case in errors if (why := refused(case))]
    for problem in problems:
        print(f"Jinja2 differs: {problem}")
    print(f"{len(DATA['cases']) + len(errors) - len(problems)} passed, {len(problems)} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
