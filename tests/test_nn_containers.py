"""Modules and parameters under names: lists and dicts of them, and PyTorch's methods that set and find them."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import nn

ONE = np.ones(3, np.float32)


def test_module_dict_holds_modules_by_name():
    d = nn.ModuleDict({"a": nn.Linear(2, 3), "act": nn.ReLU()})
    d["b"] = nn.Linear(3, 1)
    d.update([("act", nn.Tanh())])
    assert list(d) == list(d.keys()) == ["a", "act", "b"] and len(d) == 3 and "a" in d and "c" not in d
    assert [n for n, _ in d.named_parameters()] == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert isinstance(d["act"], nn.Tanh) and [type(m) for m in d.values()] == [nn.Linear, nn.Tanh, nn.Linear]
    del d["act"]
    assert [n for n, _ in d.items()] == ["a", "b"]
    with pytest.raises(KeyError):
        d["act"]
    with pytest.raises(gt.ArgumentError, match="ModuleDict: x is 3, not a module"):
        d["x"] = 3
    with pytest.raises(gt.ArgumentError, match="'train' is an attribute of its class"):
        d["train"] = nn.ReLU()


def test_parameter_lists_and_dicts():
    class Model(nn.Module):
        def __init__(self):
            self.scales = nn.ParameterList([ONE, nn.Parameter(2 * ONE)])
            self.shifts = nn.ParameterDict({"low": ONE})
            self.shifts["high"] = 3 * ONE

        def forward(self, x):
            for p in self.scales:
                x = x * p
            return x + self.shifts["low"] - self.shifts["high"]

    model = Model()
    names = ["scales.0", "scales.1", "shifts.low", "shifts.high"]
    assert [n for n, _ in model.named_parameters()] == list(model.state_dict()) == names
    np.testing.assert_array_equal(model(ONE), 2 * ONE - 2)
    assert len(model.scales) == 2 and model.scales[-1] is list(model.scales)[1] and len(model.scales[:1]) == 1
    assert list(model.shifts) == ["low", "high"] and "low" in model.shifts and len(model.shifts) == 2
    assert list(model.shifts.keys()) == [n for n, _ in model.shifts.items()]
    assert all(isinstance(p, nn.Parameter) for p in model.shifts.values())
    assert len(model.scales.append(ONE).extend([ONE])) == 4


def test_pytorchs_methods_that_set_and_find():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", np.tril(np.ones((2, 2), np.float32)))
            self.register_buffer("steps", np.zeros(1, np.float32), persistent=False)
            self.register_buffer("nothing", None)
            self.register_parameter("gain", nn.Parameter(ONE))
            self.register_parameter("bias", None)
            self.add_module("head", nn.Sequential(nn.Linear(2, 2)))

    model = Model()
    assert list(model.state_dict()) == ["gain", "mask", "head.0.weight", "head.0.bias"]
    assert [n for n, _ in model.named_buffers()] == ["mask", "steps"] and model.nothing is None and model.bias is None
    assert model.get_submodule("head.0") is model.head[0] and model.get_submodule("") is model
    assert model.get_parameter("head.0.bias") is model.head[0].bias and model.get_buffer("mask") is model.mask
    for find, match in (
        (lambda: model.get_parameter("head.1.bias"), "no parameter 'head.1.bias'"),
        (lambda: model.get_submodule("gain"), "no module 'gain'"),
        (lambda: model.register_buffer("a.b", ONE), "'a.b' is no name"),
        (lambda: model.register_buffer("forward", ONE), "'forward' is an attribute of its class"),
    ):
        with pytest.raises(gt.ArgumentError, match=match):
            find()


def test_softmax2d_is_over_channels():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(nn.Softmax2d()(x), gt.softmax(x, 1))
    np.testing.assert_array_equal(nn.Softmax2d()(x[0]), gt.softmax(x[0], 0))
    with pytest.raises(gt.ShapeError, match="Softmax2d"):
        nn.Softmax2d()(ONE)


IN_PLACE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.ELU, nn.CELU, nn.SELU, nn.LeakyReLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid)


@pytest.mark.parametrize("kind", [*IN_PLACE, nn.Hardtanh, nn.RReLU, nn.Dropout])
def test_nothing_is_done_in_place(kind):
    kind(inplace=False)
    with pytest.raises(gt.UnsupportedError, match=f"{kind.__name__}: inplace=True .* use the result"):
        kind(inplace=True)
