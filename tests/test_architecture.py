"""Who may know whom (DESIGN.md section 3), and what importing costs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "gputape"
FILES = sorted(ROOT.rglob("*.py"))


def imports(path: Path, everywhere: bool = False) -> set[str]:
    """Absolute names of the modules a file imports at its top level (or anywhere)."""
    package = ("gputape", *path.relative_to(ROOT).parent.parts)
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    out: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            out.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *(node.module.split(".") if node.module else ())))
            out.add(module)
            out.update(f"{module}.{alias.name}" for alias in node.names)
    return out


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "ops"], ids=lambda p: p.name)
def test_cards_know_shapes_only(path):
    allowed = ("gputape.aval", "gputape.errors", "gputape.registry", "gputape.samples", "gputape.ops")
    foreign = {m for m in imports(path, everywhere=True) if not m.startswith(allowed) and m != "gputape"}
    assert {m.split(".")[0] for m in foreign} <= sys.stdlib_module_names


def test_bodies_and_kernels_do_not_know_each_other():
    for path in FILES:
        own = path.relative_to(ROOT).parts[0]
        other = {"cpu_fallback": "kernels", "kernels": "cpu_fallback"}.get(own)
        if other:
            assert not [m for m in imports(path, everywhere=True) if m.startswith(f"gputape.{other}")], path


def test_nothing_imports_the_training_program():
    for path in FILES:
        if path.relative_to(ROOT).parts[0] not in ("train", "cli.py", "__main__.py"):
            assert not [m for m in imports(path, True) if m.startswith(("gputape.train", "gputape.cli"))], path


def test_the_tape_imports_no_bodies():
    names = (
        "aval registry functions node backward tape tapem variable recording dispatch transforms trace plan compiled"
    )
    for name in (*names.split(), "compiled"):
        found = imports(ROOT / f"{name}.py", True)
        assert not [m for m in found if m.startswith(("gputape.cpu_fallback", "gputape.kernels"))]


def test_importing_is_light_and_silent(tmp_path):
    """In CPU time, as the suite runs on a busy machine, and from byte code, as every import but the first."""
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    code = (
        "import sys, time; import numpy, ml_dtypes; t = time.process_time(); import gputape; "
        "took = time.process_time() - t; "
        "heavy = {'cupy', 'triton', 'torch', 'matplotlib', 'sklearn'} & set(sys.modules); "
        "assert not heavy, heavy; print(took)"
    )
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True, env=env) for _ in range(4)]
    assert all(not r.stderr for r in runs)
    assert min(float(r.stdout) for r in runs) < 0.3
