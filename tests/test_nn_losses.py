"""Loss modules against the cards of their functions."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import gputape as gt
from gputape import nn, registry
from gputape.dispatch import call
from gputape.nn.loss import _Loss
from gputape.testing import inputs_of

LOSSES = [pytest.param(c, id=c.__name__) for c in vars(nn).values() if isinstance(c, type) and issubclass(c, _Loss)]


def options(op):
    """The parameters of a loss that a module of it keeps: all but the arrays that each call brings."""
    return {p.name: p.default for p in op.params if p.default is not p.empty}


@pytest.mark.parametrize("cls", LOSSES)
def test_a_loss_module_has_the_options_and_defaults_of_its_function(cls):
    found = {p.name: p.default for p in inspect.signature(cls).parameters.values()}
    assert found == options(registry.get(cls.op))


@pytest.mark.parametrize("cls", LOSSES)
def test_a_loss_module_passes_its_options_on(cls):
    """On every sample of the card; arrays among the options are buffers, so that they are saved with the module."""
    op = registry.get(cls.op)
    kept = options(op)
    for sample in op.samples:
        named = dict(zip(op.inputs, inputs_of(op, sample), strict=True))
        given = {k: x for k, x in named.items() if k in kept and x is not None}
        arrays = [x for k, x in named.items() if k not in kept]
        loss = cls(**given, **sample.attrs)
        want = call(op.name, **{k: x for k, x in named.items() if x is not None}, **sample.attrs)
        np.testing.assert_array_equal(np.asarray(loss(*arrays)), np.asarray(want))
        assert loss.state_dict().keys() == given.keys()


def test_a_loss_module_prints_its_options_and_takes_arrays_by_name():
    assert repr(nn.TripletMarginLoss(swap=True)) == (
        "TripletMarginLoss(margin=1.0, p=2.0, eps=1e-06, swap=True, reduction='mean')"
    )
    assert repr(nn.NLLLoss([1.0, 2.0])) == "NLLLoss(ignore_index=-100, reduction='mean')"
    x = np.ones(3, np.float32)
    assert nn.MSELoss("sum")(input=x, target=2 * x) == 3
    with pytest.raises(gt.ShapeError, match="mse_loss: .*does not broadcast"):
        nn.MSELoss()(x, x[:, None])
    with pytest.raises(TypeError, match="margin"):
        nn.MSELoss(margin=1.0)


def test_similarity_modules():
    a, b = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(nn.CosineSimilarity(dim=0, eps=0.5)(a, b), gt.cosine_similarity(a, b, 0, 0.5))
    np.testing.assert_array_equal(
        nn.PairwiseDistance(p=1, eps=0.5, keepdim=True)(a, b), gt.pairwise_distance(a, b, 1, 0.5, True)
    )
    assert repr(nn.CosineSimilarity()) == "CosineSimilarity(dim=1, eps=1e-08)"
    assert repr(nn.PairwiseDistance()) == "PairwiseDistance(p=2.0, eps=1e-06, keepdim=False)"
