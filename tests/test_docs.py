"""The docs say what the code does: generated pages are current, and the code in the pages runs.

A block whose first line is a comment with a file name is that file, for the other blocks of its page. Those then run in
a process of their own, as they register ops.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if page.exists()]
FILE = re.compile(r"(?:#|//) (\S+\.(?:py|cu))\n")


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", generator().PAGES)
def test_generated_pages_are_current(name):
    made = generator().PAGES[name]()
    lines = [line for line in made.splitlines() if not line.startswith("| `test_")]  # other tests' ops
    assert (ROOT / "docs" / name).read_text().splitlines() == lines, "run: python docs/generate.py"


def blocks(page, languages="python"):
    return re.findall(rf"```(?:{languages})\n(.*?)```", page.read_text(), re.S)


def files(page):
    """{name: contents} of the files that a page shows."""
    return {found[1]: code for code in blocks(page, "python|cuda") if (found := FILE.match(code))}


SCRIPTS = [
    pytest.param(page, code, id=f"{page.name}-{k}")
    for page in PAGES
    for k, code in enumerate(code for code in blocks(page) if not FILE.match(code))
]


@pytest.mark.parametrize("page, code", SCRIPTS)
def test_python_in_the_pages_runs(page, code, tmp_path):
    shown = files(page)
    if not shown:
        exec(compile(code, "<page>", "exec"), {"__name__": "page"})
        return
    for name, text in shown.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "GPUTAPE_DEVICE": "cpu"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
