"""The docs say what the code does: generated pages are current, and the Python in the pages runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", generator().PAGES)
def test_generated_pages_are_current(name):
    made = generator().PAGES[name]()
    lines = [line for line in made.splitlines() if not re.match(r"\| `(test_|squareplus)", line)]  # other tests' ops
    assert (ROOT / "docs" / name).read_text().splitlines() == lines, "run: python docs/generate.py"


def blocks():
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        if page.exists():
            for k, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S)):
                yield pytest.param(code, id=f"{page.name}-{k}")


@pytest.mark.parametrize("code", list(blocks()))
def test_python_in_the_pages_runs(code):
    exec(compile(code, "<page>", "exec"), {"__name__": "page"})
