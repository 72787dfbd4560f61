"""Records the learning rates of PyTorch's schedulers: `python tests/reference/schedules.py`.

Needs PyTorch 2.13. Writes `schedules.json`: for each case the rates of two groups after 0, 1, … steps.
`tests/test_lr_scheduler.py` compares.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "schedules.json"
STEPS = 12
METRICS = [3.0, 2.0, 2.0, 1.9999, 2.5, 2.5, float("nan"), 1.0, 1.0, 1.0, 0.99, 1.0]


class Both:
    """Two schedulers that take turns."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second, self.get_last_lr = first, second, second.get_last_lr

    def step(self) -> None:
        self.first.step()
        self.second.step()


# Builds the scheduler of a case from the module of schedulers and the optimizer.
CASES: dict[str, Any] = {
    "lambda": lambda L, opt: L.LambdaLR(opt, lambda n: 1 / (1 + n)),
    "lambda for each": lambda L, opt: L.LambdaLR(opt, [lambda n: 0.5**n, lambda n: n / 4]),
    "multiplicative": lambda L, opt: L.MultiplicativeLR(opt, lambda n: 1 - 1 / (1 + n)),
    "step": lambda L, opt: L.StepLR(opt, 3),
    "step, gamma": lambda L, opt: L.StepLR(opt, 4, gamma=0.7),
    "milestones": lambda L, opt: L.MultiStepLR(opt, [7, 2, 7], gamma=0.5),
    "constant": lambda L, opt: L.ConstantLR(opt, 0.25, 4),
    "constant, defaults": lambda L, opt: L.ConstantLR(opt),
    "linear": lambda L, opt: L.LinearLR(opt, 0.1, total_iters=7),
    "linear, defaults": lambda L, opt: L.LinearLR(opt),
    "linear to 0": lambda L, opt: L.LinearLR(opt, 1.0, 0.0, 9),
    "exponential": lambda L, opt: L.ExponentialLR(opt, 0.8),
    "polynomial": lambda L, opt: L.PolynomialLR(opt),
    "polynomial, power": lambda L, opt: L.PolynomialLR(opt, 9, power=2.0),
    "cosine": lambda L, opt: L.CosineAnnealingLR(opt, 5),
    "cosine, eta_min": lambda L, opt: L.CosineAnnealingLR(opt, 8, 0.001),
    "restarts": lambda L, opt: L.CosineAnnealingWarmRestarts(opt, 3),
    "restarts, longer": lambda L, opt: L.CosineAnnealingWarmRestarts(opt, 2, 2, eta_min=0.001),
    "restarts, thirds": lambda L, opt: L.CosineAnnealingWarmRestarts(opt, 1, 2),
    "cyclic": lambda L, opt: L.CyclicLR(opt, 0.1, 0.5, 3, cycle_momentum=False),
    "cyclic, halving": lambda L, opt: L.CyclicLR(opt, [0.1, 0.2], 0.5, 2, 3, "triangular2", cycle_momentum=False),
    "cyclic, decaying": lambda L, opt: L.CyclicLR(
        opt, 0.1, [0.5, 0.6], 3, 1, mode="exp_range", gamma=0.9, cycle_momentum=False
    ),
    "cyclic, function": lambda L, opt: L.CyclicLR(
        opt, 0.1, 0.5, 2, scale_fn=lambda cycle: 1 / cycle, cycle_momentum=False
    ),
    "cyclic, function of steps": lambda L, opt: L.CyclicLR(
        opt, 0.1, 0.5, 2, scale_fn=lambda n: 0.9**n, scale_mode="iterations", cycle_momentum=False
    ),
    "one cycle": lambda L, opt: L.OneCycleLR(opt, 0.5, 20, cycle_momentum=False),
    "one cycle, linear": lambda L, opt: L.OneCycleLR(
        opt, [0.5, 0.25], epochs=13, steps_per_epoch=1, anneal_strategy="linear", div_factor=5.0, cycle_momentum=False
    ),
    "one cycle, three phases": lambda L, opt: L.OneCycleLR(
        opt, 0.5, 13, pct_start=0.4, final_div_factor=10.0, three_phase=True, cycle_momentum=False
    ),
    "sequence": lambda L, opt: L.SequentialLR(
        opt, [L.LinearLR(opt, 0.2, total_iters=4), L.CosineAnnealingLR(opt, 8, 0.001)], [4]
    ),
    "sequence of three": lambda L, opt: L.SequentialLR(
        opt,
        [L.ConstantLR(opt, 0.5, 2), L.ExponentialLR(opt, 0.9), L.CosineAnnealingWarmRestarts(opt, 2)],
        milestones=[3, 7],
    ),
    "chain": lambda L, opt: L.ChainedScheduler([L.ConstantLR(opt, 0.1, 5), L.ExponentialLR(opt, 0.9)]),
    "chain of three": lambda L, opt: L.ChainedScheduler(
        [L.LinearLR(opt, 0.1), L.MultiStepLR(opt, [3, 8]), L.CosineAnnealingLR(opt, 14)], optimizer=opt
    ),
    "chain, first of a sequence": lambda L, opt: L.SequentialLR(
        opt, [L.ChainedScheduler([L.LinearLR(opt, 0.5), L.StepLR(opt, 2)]), L.ExponentialLR(opt, 0.5)], [6]
    ),
    "taking turns": lambda L, opt: Both(L.LinearLR(opt, 0.25, total_iters=6), L.ExponentialLR(opt, 0.9)),
    "turned down by hand": lambda L, opt: L.CosineAnnealingLR(opt, 20),
    "continued": lambda L, opt: L.ExponentialLR(opt, 0.9, last_epoch=3),
    "plateau": lambda L, opt: L.ReduceLROnPlateau(opt, patience=1),
    "plateau, maximum": lambda L, opt: L.ReduceLROnPlateau(opt, "max", 0.5, 2, threshold=0.1, min_lr=[0.2, 0.001]),
    "plateau, absolute": lambda L, opt: L.ReduceLROnPlateau(
        opt, patience=0, factor=0.5, threshold=0.01, threshold_mode="abs", cooldown=2, eps=0.004
    ),
    "plateau, absolute maximum": lambda L, opt: L.ReduceLROnPlateau(
        opt, "max", factor=0.5, patience=1, threshold=0.4, threshold_mode="abs"
    ),
}


def start(optim: Any, parameters: Any, case: str) -> tuple[Any, Any]:
    """The optimizer and the scheduler of a case."""
    first, second = ({"params": [p], "lr": lr} for p, lr in zip(parameters, (0.5, 0.02), strict=True))
    if case == "continued":
        first, second = first | {"initial_lr": 0.5 / 0.9**4}, second | {"initial_lr": 0.02 / 0.9**4}
    opt = optim.SGD([first, second], lr=0.1)
    return opt, CASES[case](optim.lr_scheduler, opt)


def advance(case: str, opt: Any, scheduler: Any, k: int) -> None:
    """Step number k of a case."""
    if case.startswith("plateau"):
        scheduler.step(METRICS[k])
    elif case == "restarts, thirds":
        scheduler.step((k + 1) / 3)
    else:
        if case == "turned down by hand" and k == 5:
            for group in opt.param_groups:
                group["lr"] *= 0.1
        scheduler.step()


def rates(optim: Any, parameters: Any, case: str) -> list[list[float]]:
    """What the optimizer's two groups have after 0, 1, … steps."""
    opt, scheduler = start(optim, parameters, case)
    found = [[group["lr"] for group in opt.param_groups]]
    for k in range(STEPS):
        advance(case, opt, scheduler, k)
        assert scheduler.get_last_lr() == [group["lr"] for group in opt.param_groups]
        found.append(scheduler.get_last_lr())
    return found


def by_torch(case: str) -> list[list[float]]:
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of")  # there is no training step between two of a schedule
        return rates(torch.optim, [torch.zeros(1, requires_grad=True) for _ in range(2)], case)


if __name__ == "__main__":
    lines = [f"{json.dumps(case)}: {json.dumps(by_torch(case))}" for case in CASES]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
