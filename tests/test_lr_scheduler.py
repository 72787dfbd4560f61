"""Schedules: PyTorch's numbers, states that survive, compiled steps, and what is refused."""

from __future__ import annotations

import copy
import inspect
import json
import math
import pickle

import numpy as np
import pytest
from reference import schedules

import gputape as gt
from gputape import nn, optim
from gputape.optim import lr_scheduler

RECORDED = json.loads(schedules.FILE.read_text())


def parameters():
    return [nn.Parameter(np.zeros(1, np.float32), name=name) for name in "ab"]


def one_group(lr=0.5):
    return optim.SGD(parameters(), lr=lr)


def assert_same_rates(case, want):
    # PyTorch's recurrences round at every step, and where they should reach 0 they leave the rounding of what was there
    found = schedules.rates(optim, parameters(), case)
    np.testing.assert_allclose(found, want, rtol=4 * schedules.STEPS * 2.0**-52, atol=0.5 * 2.0**-52)


@pytest.mark.parametrize("case", schedules.CASES)
def test_rates_agree_with_recorded_pytorch(case):
    assert_same_rates(case, RECORDED[case])


@pytest.mark.parametrize("case", schedules.CASES)
def test_rates_agree_with_the_installed_pytorch(case):
    pytest.importorskip("torch")
    assert_same_rates(case, schedules.by_torch(case))


def test_what_is_recorded_moves_the_rates():
    assert RECORDED.keys() == schedules.CASES.keys()
    for case, rates in RECORDED.items():
        assert len({first for first, _ in rates}) > 1, case


def test_names_and_options_are_pytorchs():
    torch = pytest.importorskip("torch")
    theirs = torch.optim.lr_scheduler
    assert set(lr_scheduler.__all__) == set(theirs.__all__)
    for name in lr_scheduler.__all__:
        own, other = (inspect.signature(getattr(module, name)).parameters for module in (lr_scheduler, theirs))
        assert list(own) == list(other), name
        differ = {key for key in own if own[key].default != other[key].default}
        momentums = {"cycle_momentum", "base_momentum", "max_momentum"}
        assert differ == (momentums if name in ("CyclicLR", "OneCycleLR") else set()), name


# --- state ------------------------------------------------------------------------------------------------------------


ALONE = [case for case in schedules.CASES if case != "taking turns"]


@pytest.mark.parametrize("first", ["optimizer", "scheduler", "optimizer, before the scheduler is made"])
@pytest.mark.parametrize("case", ALONE)
def test_a_saved_state_continues_with_the_same_bits(case, first):
    want = schedules.rates(optim, parameters(), case)
    for done in range(schedules.STEPS):
        opt, scheduler = schedules.start(optim, parameters(), case)
        for k in range(done):
            schedules.advance(case, opt, scheduler, k)
        saved, saved_opt = json.loads(json.dumps(scheduler.state_dict())), opt.state_dict()
        opt, scheduler = schedules.start(optim, parameters(), case)
        if first == "scheduler":
            scheduler.load_state_dict(saved)
        opt.load_state_dict(saved_opt)
        if first.endswith("made"):
            scheduler = schedules.CASES[case](lr_scheduler, opt)
        if first != "scheduler":
            scheduler.load_state_dict(saved)
        assert scheduler.get_last_lr() == want[done] == [group["lr"] for group in opt.param_groups]
        for k in range(done, schedules.STEPS):
            schedules.advance(case, opt, scheduler, k)
            assert scheduler.get_last_lr() == want[k + 1]


def test_a_state_alone_sets_the_rates():
    opt = one_group()
    scheduler = lr_scheduler.ExponentialLR(opt, 0.5)
    scheduler.step()
    other = one_group()
    twin = lr_scheduler.ExponentialLR(other, 0.9)
    twin.load_state_dict(scheduler.state_dict())
    assert other.lr == 0.25 and twin.gamma == 0.5 and twin.last_epoch == 1


def test_schedulers_that_take_turns_continue_from_their_states():
    def start():
        opt = one_group()
        return opt, [lr_scheduler.LinearLR(opt, 0.25, total_iters=6), lr_scheduler.ExponentialLR(opt, 0.9)]

    opt, both = start()
    twin, restored = start()
    for k in range(10):
        if k == 4:
            twin.load_state_dict(opt.state_dict())
            for a, b in zip(restored[::-1], both[::-1], strict=True):
                a.load_state_dict(b.state_dict())
        for scheduler in both if k < 4 else both + restored:
            scheduler.step()
        assert k < 4 or opt.lr == twin.lr


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_by_itself(duplicate):
    opt = one_group()
    scheduler = lr_scheduler.CyclicLR(opt, 0.1, 0.5, 2, mode="triangular2")
    twin_opt, twin = duplicate((opt, scheduler))
    twin.step()
    assert opt.lr == 0.1 and twin_opt.lr == 0.1 + (0.5 - 0.1) * 0.5


def test_a_state_is_not_shared():
    scheduler = lr_scheduler.MultiStepLR(one_group(), [2, 4])
    scheduler.state_dict()["milestones"].append(6)
    scheduler.get_last_lr().append(1.0)
    assert scheduler.milestones == [2, 4] and scheduler.get_last_lr() == [0.5]


def test_foreign_states_are_refused_and_nothing_is_loaded():
    def sequence(*parts):
        return lr_scheduler.SequentialLR(opt, list(parts), list(range(1, len(parts))))

    opt = one_group()
    step, exponential = lr_scheduler.StepLR(opt, 2), lr_scheduler.ExponentialLR(opt, 0.5)
    both = sequence(step, exponential)
    wide = optim.SGD([{"params": p} for p in parameters()], lr=0.1)
    for scheduler, state, message in [
        (step, exponential.state_dict(), "not its state.*of a StepLR"),
        (step, None, "NoneType"),
        (step, step.state_dict() | {"_last_lr": 0.1}, "must be lists"),
        (step, lr_scheduler.StepLR(wide, 2).state_dict(), "2 rates.*1 groups"),
        (both, sequence(exponential, step).state_dict(), "StepLR: this is not its state"),
        (both, sequence(step, exponential, step).state_dict(), "lists|3 schedulers, not 2"),
        (both, both.state_dict() | {"_schedulers": {}}, "must be lists"),
    ]:
        before = scheduler.state_dict()
        with pytest.raises(gt.CheckpointError, match=message):
            scheduler.load_state_dict(state)
        assert scheduler.state_dict() == before


# --- optimizers -------------------------------------------------------------------------------------------------------


def test_groups_remember_their_first_rate():
    opt = one_group()
    lr_scheduler.ConstantLR(opt, 0.5)
    assert opt.param_groups[0]["initial_lr"] == 0.5 and opt.lr == 0.25
    assert opt.state_dict()["param_groups"][0]["initial_lr"] == 0.5
    other = one_group()
    other.load_state_dict(opt.state_dict())
    scheduler = lr_scheduler.LambdaLR(other, lambda n: 0.5**n, last_epoch=2)
    assert other.lr == 0.5**4 and scheduler.base_lrs == [0.5]
    with pytest.raises(gt.ArgumentError, match="initial_lr=-1.0"):
        opt.param_groups[0]["initial_lr"] = -1.0


def test_a_rate_set_by_hand_stays_a_factor():
    opt = one_group(lr=1.0)
    scheduler = lr_scheduler.LambdaLR(opt, lambda n: [1.0, 0.5, 0.25, 0.0, 0.5][n])
    scheduler.step()
    opt.lr = 0.125
    for want in (0.0625, 0.0, 0.125):
        scheduler.step()
        assert opt.lr == want and scheduler.base_lrs == [0.25]


def test_a_plateau_and_a_schedule_may_take_turns():
    opt = one_group(lr=1.0)
    warmup = lr_scheduler.LinearLR(opt, 0.25, total_iters=3)
    plateau = lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=0)
    rates = []
    for loss in (1.0, 2.0, 0.5, 0.25):
        warmup.step()
        plateau.step(np.float32(loss))
        rates.append(opt.lr)
    assert rates == [0.5, 0.375, 0.5, 0.5]


def test_users_may_write_their_own():
    class InverseRoot(lr_scheduler.LRScheduler):
        def __init__(self, optimizer, warmup, last_epoch=-1):
            self.warmup = warmup
            super().__init__(optimizer, last_epoch)

        def rate(self, base_lr, epoch, group):
            return base_lr * min((epoch + 1) / self.warmup, math.sqrt(self.warmup / (epoch + 1)))

    scheduler = InverseRoot(one_group(lr=1.0), 2)
    found = [*scheduler.get_last_lr()]
    for _ in range(7):
        scheduler.step()
        found += scheduler.get_last_lr()
    assert found[:2] == [0.5, 1.0] and found[-1] == 0.5
    assert scheduler.state_dict() == {"warmup": 2, "base_lrs": [1.0], "_last_lr": [0.5], "last_epoch": 7}
    with pytest.raises(gt.UnsupportedError, match="Own: it has no rate"):
        type("Own", (lr_scheduler.LRScheduler,), {})(one_group())


# --- compiled steps ---------------------------------------------------------------------------------------------------


def trained(compiled, scheduler_of, maximize=False):
    """Parameters after a few steps, rates, and how many programs were recorded."""
    gt.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    groups = [{"params": list(model[0].parameters()), "lr": 0.2}, {"params": list(model[2].parameters())}]
    opt = optim.AdamW(groups, lr=0.05, weight_decay=0.1, maximize=maximize)
    scheduler = scheduler_of(opt)
    x, y = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32), np.arange(4) % 3

    def step(x, y):
        with gt.record() as tape:
            loss = gt.cross_entropy(model(x), y)
        opt.step(tape.backward(loss))
        return loss

    run = gt.compile(step, rewrite=False) if compiled else step
    losses, rates = [], []
    for _ in range(8):
        losses.append(float(run(x, y)))
        scheduler.step()
        rates.append(scheduler.get_last_lr())
    plans = len(run.plans) if compiled else 0
    return [p.numpy() for p in model.parameters()], losses, rates, plans


def warmup_and_cosine(opt):
    warmup, cosine = lr_scheduler.LinearLR(opt, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(opt, 5)
    return lr_scheduler.SequentialLR(opt, [warmup, cosine], milestones=[3])


@pytest.mark.parametrize("maximize", [False, True])
def test_a_compiled_step_is_recorded_once_and_gives_the_bits_of_eager(maximize):
    eager, losses, rates, _ = trained(False, warmup_and_cosine, maximize)
    compiled, compiled_losses, compiled_rates, plans = trained(True, warmup_and_cosine, maximize)
    assert plans == 1 and rates == compiled_rates and losses == compiled_losses
    assert (losses[-1] > losses[0]) == maximize
    for a, b in zip(eager, compiled, strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_scheduler_inside_a_compiled_step_is_refused_by_line():
    opt = one_group()
    scheduler, plateau = lr_scheduler.ExponentialLR(opt, 0.5), lr_scheduler.ReduceLROnPlateau(opt)
    scheduled = lr_scheduler.ChainedScheduler([scheduler])
    before = [s.state_dict() for s in (scheduler, plateau, scheduled)]
    for inside in (
        lambda x: scheduler.step(),
        lambda x: scheduled.step(),
        lambda x: plateau.step(gt.sum(x)),
        lambda x: lr_scheduler.StepLR(opt, 2),
        lambda x: lr_scheduler.ChainedScheduler([scheduler]),
    ):
        line = inside.__code__.co_firstlineno
        with pytest.raises(
            gt.CompileError, match=f"recorded, at .*test_lr_scheduler.py:{line};.*Call step.. after the compiled"
        ):
            gt.compile(inside)(np.ones(3, np.float32))
    assert [s.state_dict() for s in (scheduler, plateau, scheduled)] == before and opt.lr == 0.5


# --- what is refused --------------------------------------------------------------------------------------------------


def another_group(use):
    def wrong(opt):
        scheduler = lr_scheduler.StepLR(opt, 2)
        opt.add_param_group({"params": parameters()})
        use(scheduler)

    return wrong


def mixed(opt):
    first = lr_scheduler.StepLR(opt, 2)
    first.step()
    lr_scheduler.ChainedScheduler([first, lr_scheduler.StepLR(opt, 2)])


def beyond(opt):
    scheduler = lr_scheduler.OneCycleLR(opt, 0.1, 1)
    scheduler.step()
    scheduler.step()


L = lr_scheduler
WRONG = [
    (lambda opt: L.StepLR(parameters(), 2), "is not an optimizer"),
    (lambda opt: L.LambdaLR(None, abs), "is not an optimizer"),
    (lambda opt: L.StepLR(opt, 0), "step_size=0 must be an integer of at least 1"),
    (lambda opt: L.StepLR(opt, 2.5), "step_size=2.5"),
    (lambda opt: L.StepLR(opt, 2, gamma=math.nan), "gamma=nan"),
    (lambda opt: L.StepLR(opt, 2, last_epoch=3), 'no "initial_lr"'),
    (lambda opt: L.StepLR(opt, 2, last_epoch=-2), "last_epoch=-2"),
    (lambda opt: L.ExponentialLR(opt, "fast"), "not a number"),
    (lambda opt: L.LambdaLR(opt, 0.5), "lr_lambda=0.5 is not a function"),
    (lambda opt: L.LambdaLR(opt, [abs, abs]), "lr_lambda holds 2 values, the optimizer 1 groups"),
    (lambda opt: L.LambdaLR(opt, lambda n: -1.0), "the new rate=-0.5 is out of range"),
    (lambda opt: L.MultiStepLR(opt, [3, -1]), "milestones\\[1\\]=-1"),
    (lambda opt: L.MultiStepLR(opt, 3), "milestones=3 must be a list"),
    (lambda opt: L.ConstantLR(opt, 1.5), "factor=1.5 is out of range. Use a number from 0 to 1"),
    (lambda opt: L.LinearLR(opt, 0.0), "start_factor=0.0 is out of range. Use a number above 0"),
    (lambda opt: L.LinearLR(opt, 0.5, 2.0), "end_factor=2.0"),
    (lambda opt: L.LinearLR(opt, 0.5, total_iters=0), "total_iters=0"),
    (lambda opt: L.PolynomialLR(opt, power=-1), "power=-1"),
    (lambda opt: L.CosineAnnealingLR(opt, 0), "T_max=0"),
    (lambda opt: L.CosineAnnealingLR(opt, 5, -0.1), "eta_min=-0.1"),
    (lambda opt: L.CosineAnnealingWarmRestarts(opt, 5, 0), "T_mult=0"),
    (lambda opt: L.CosineAnnealingWarmRestarts(opt, 5).step(-0.5), "epoch=-0.5"),
    (lambda opt: L.CyclicLR(opt, 0.1, 0.5, mode="square"), "mode='square' is unknown. Use one of triangular,"),
    (lambda opt: L.CyclicLR(opt, 0.1, 0.5, scale_mode="cycles"), "scale_mode='cycles'"),
    (lambda opt: L.CyclicLR(opt, 0.1, [0.5, 0.5]), "max_lr holds 2 values"),
    (lambda opt: L.OneCycleLR(opt, 0.1), "the length is missing"),
    (lambda opt: L.OneCycleLR(opt, 0.1, epochs=3), "the length is missing"),
    (lambda opt: L.OneCycleLR(opt, 0.1, 0), "total_steps=0"),
    (lambda opt: L.OneCycleLR(opt, 0.1, 9, pct_start=1.5), "pct_start=1.5"),
    (lambda opt: L.OneCycleLR(opt, 0.1, 9, anneal_strategy="cosine"), "anneal_strategy='cosine'"),
    (lambda opt: L.OneCycleLR(opt, 0.1, 9, div_factor=0), "div_factor=0"),
    (beyond, "step 2 is beyond the total of 1"),
    (lambda opt: L.SequentialLR(opt, [], []), "schedulers=.. must be a list of at least one"),
    (lambda opt: L.SequentialLR(opt, [L.StepLR(opt, 2)], [4]), "1 schedulers and 1 milestones"),
    (lambda opt: L.SequentialLR(opt, [L.StepLR(opt, 2)] * 3, [4, 4]), "must increase"),
    (lambda opt: L.SequentialLR(opt, [L.StepLR(one_group(), 2)], []), "element 0, a StepLR, belongs to another"),
    (lambda opt: L.ChainedScheduler([L.StepLR(opt, 2), L.StepLR(one_group(), 2)]), "element 1, a StepLR, belongs to"),
    (lambda opt: L.SequentialLR(opt, [L.ReduceLROnPlateau(opt)], []), "element 0 is a ReduceLROnPlateau"),
    (lambda opt: L.ChainedScheduler(L.StepLR(opt, 2)), "schedulers=.* must be a list"),
    (lambda opt: L.ChainedScheduler([opt]), "element 0 is a SGD"),
    (mixed, "have taken \\[1, 0\\] steps"),
    (lambda opt: L.ReduceLROnPlateau(opt, "least"), "mode='least'"),
    (lambda opt: L.ReduceLROnPlateau(opt, factor=1.0), "factor=1 would reduce nothing"),
    (lambda opt: L.ReduceLROnPlateau(opt, patience=-1), "patience=-1"),
    (lambda opt: L.ReduceLROnPlateau(opt, min_lr=[0.1, 0.1]), "min_lr holds 2 values"),
    (lambda opt: L.ReduceLROnPlateau(opt).step("low"), "metrics='low' is not a number"),
    (another_group(lambda scheduler: scheduler.step()), "2 groups, and had 1"),
    (another_group(lambda scheduler: L.ChainedScheduler([scheduler])), "2 groups, and had 1"),
]


@pytest.mark.parametrize("wrong, message", WRONG)
def test_arguments_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(gt.ArgumentError, match=message):
        wrong(one_group())


@pytest.mark.parametrize(
    "options", [{"cycle_momentum": True}, {"base_momentum": 0.8}, {"max_momentum": 0.9, "cycle_momentum": False}]
)
def test_cycling_the_momentum_is_refused(options):
    opt = optim.SGD(parameters(), lr=0.5, momentum=0.9)
    for make in (lambda: L.CyclicLR(opt, 0.1, 0.5, **options), lambda: L.OneCycleLR(opt, 0.5, 9, **options)):
        with pytest.raises(gt.UnsupportedError, match="the momentum cannot be cycled.*Leave cycle_momentum"):
            make()
    assert opt.lr == 0.5 and "initial_lr" not in opt.param_groups[0]


def test_a_refused_step_changes_nothing():
    opt = one_group()
    scheduler = L.LambdaLR(opt, lambda n: [1.0, math.inf][n])
    opt.lr = 0.25
    before = scheduler.state_dict()
    with pytest.raises(gt.ArgumentError, match="LambdaLR: the new rate=inf"):
        scheduler.step()
    assert scheduler.state_dict() == before and opt.lr == 0.25


def test_a_rate_that_grows_without_end_is_refused():
    opt = optim.SGD([nn.Parameter(np.zeros(1, np.float32))], lr=1.0)
    scheduler = lr_scheduler.ExponentialLR(opt, gamma=1e200)
    scheduler.step()
    with pytest.raises(gt.ArgumentError, match="ExponentialLR: the new rate=inf is out of range"):
        scheduler.step()
    assert opt.lr == 1e200 and scheduler.last_epoch == 1
