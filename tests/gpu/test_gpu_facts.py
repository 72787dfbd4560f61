"""The questions of perf/gpu/facts.py: what gputape relies on must be so; the other answers are for the report."""

from __future__ import annotations

import pytest
from on_gpu import need_device

need_device()

from gpu import facts

RELIED_ON = ("cubins through CuPy", "graph capture")


@pytest.mark.parametrize("question", facts.QUESTIONS)
def test_question(question):
    answer = facts.QUESTIONS[question]()
    print(f"{question}: {answer}")
    assert answer.startswith("yes") or question not in RELIED_ON
