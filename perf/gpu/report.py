"""The report: the same rows as Markdown, for people, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .roof import Cost, Roof, floor, rate
from .timer import Times

HEAD = ("op", "case", "type", "µs", "20–80 %", "speed", "share of roof", "host µs", "PyTorch µs", "PyTorch ÷ gputape")


@dataclass(frozen=True)
class Row:
    """One op at one perf shape in one element type, forward or backward."""

    op: str
    case: str
    dtype: str
    times: Times
    cost: Cost | None = None  # of a backward pass the card states none
    torch: Times | None = None
    why_no_torch: str = ""

    def cells(self, roof: Roof) -> list[str]:
        speed, share = "", ""
        if self.cost is not None:
            least, bound = floor(self.cost, roof, self.dtype)
            value, unit = rate(self.cost, self.times.median, bound)
            speed, share = f"{value:.3g} {unit}", f"{100 * least / self.times.median:.0f} %"
        t, peer = self.times, self.torch
        return [
            self.op,
            self.case,
            self.dtype,
            _us(t.median),
            f"{_us(t.low)}–{_us(t.high)}",
            speed,
            share,
            _us(t.host),
            _us(peer.median) if peer else "",
            f"{peer.median / t.median:.2f}" if peer else "",
        ]


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}"


@dataclass
class Report:
    """Everything that one run found."""

    machine: dict[str, str]
    roof: Roof
    empty: Times  # two events with nothing between them
    tests: str
    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def markdown(self) -> str:
        lines = ["# On a GPU", "", *(f"- {k}: {v}" for k, v in self.machine.items()), f"- tests: {self.tests}"]
        lines += [f"- measured roof: copy {self.roof.bandwidth / 1e12:.2f} TB/s (read plus written)"]
        for name, speed in self.roof.flops.items():
            lines.append(f"- measured roof: {name} matrix product " + (f"{speed / 1e12:.0f} TFLOP/s" if speed else "–"))
        lines += [f"- two events with nothing between them: {_us(self.empty.median)} µs, not subtracted", ""]
        lines += ["L2 is cleared before each call; times are medians of the device's time with their quantiles.", ""]
        lines += ["## Facts", "", *(f"- {k}: {v}" for k, v in self.facts.items()), "", "## Times", ""]
        lines += table(HEAD, [row.cells(self.roof) for row in self.rows])
        if self.left_out:
            lines += ["", "## Not timed", "", *table(("case", "why"), [list(pair) for pair in self.left_out])]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def write(self, folder: Path, name: str = "gpu") -> list[Path]:
        """Write <name>.md and <name>.json; their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        found = []
        for suffix, text in ((".md", self.markdown()), (".json", self.json())):
            path = folder / f"{name}{suffix}"
            path.write_text(text)
            found.append(path)
        return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    clean = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in clean)]
