"""The expectations of templates.json are Jinja2's own: this runs them there.

spec/template_spec.lua runs the same file on our compiler.
"""
import json
import pathlib

import jinja2
import pytest

DATA = json.loads((pathlib.Path(__file__).parent / "templates.json").read_text())


def render(case):
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, loader=jinja2.DictLoader(case.get("includes", {})))
    return env.from_string(case["template"]).render(DATA["variables"])


@pytest.mark.parametrize("case", DATA["cases"], ids=lambda case: case["name"])
def test_prints(case):
    assert render(case) == case["expect"]


@pytest.mark.parametrize("case", [c for c in DATA["errors"] if "ours" not in c], ids=lambda case: case["name"])
def test_refuses(case):
    with pytest.raises((jinja2.TemplateError, TypeError, ValueError, ZeroDivisionError)):
        render(case)
