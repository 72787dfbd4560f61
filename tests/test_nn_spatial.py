"""Modules over pixels: padding, pools to a size, resampling, shuffling, and convolutions that pad by themselves."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import nn

X = np.random.default_rng(0).standard_normal((2, 4, 6, 5, 4)).astype(np.float32)
NUMPYS = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def over(n):
    """(N, C, *spatial) with n spatial axes."""
    return X[(slice(None), slice(None), *(slice(None),) * n, *(0,) * (3 - n))]


def same(a, b):
    assert np.asarray(a).dtype == np.asarray(b).dtype
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_padding_layers_are_numpys_pad(n):
    x = over(n)
    one = [(0, 0)] * 2 + [(1, 1)] * n
    sides = (1, 2, 0, 1, 2, 0)[: 2 * n]
    each = [(0, 0)] * 2 + [(sides[k], sides[k + 1]) for k in range(2 * n - 2, -1, -2)]
    kinds = {"Reflection": "reflect", "Replication": "edge", "Circular": "wrap"}
    for kind, mode in kinds.items():
        layer = getattr(nn, f"{kind}Pad{n}d")
        same(layer(1)(x), np.pad(x, one, mode))
        same(layer(sides)(x), np.pad(x, each, mode))
        same(layer(sides)(x[0]), np.pad(x[0], each[1:], mode))
    same(getattr(nn, f"ZeroPad{n}d")(sides)(x), np.pad(x, each))
    same(getattr(nn, f"ConstantPad{n}d")(sides, -1.5)(x), np.pad(x, each, constant_values=-1.5))
    cut = getattr(nn, f"ConstantPad{n}d")(-1, 0.0)(x)
    same(cut, x[(..., *(slice(1, -1),) * n)])


@pytest.mark.parametrize("mode", list(NUMPYS))
@pytest.mark.parametrize("n", [1, 2, 3])
def test_convolutions_pad_in_every_mode(n, mode):
    x = over(n)
    before = [(0, 0)] * 2
    padding = (2, 0, 1)[:n]
    layer = getattr(nn, f"Conv{n}d")(4, 6, 3, stride=2, padding=padding, groups=2, padding_mode=mode)
    padded = np.pad(x, before + [(p, p) for p in padding], NUMPYS[mode])
    conv = getattr(gt, f"conv{n}d")
    same(layer(x), conv(padded, layer.weight, layer.bias, 2, 0, 1, 2))
    same(layer(x[0]), conv(padded[0], layer.weight, layer.bias, 2, 0, 1, 2))
    even = getattr(nn, f"Conv{n}d")(4, 3, 2, padding="same", padding_mode=mode)
    padded = np.pad(x, before + [(0, 1)] * n, NUMPYS[mode])
    same(even(x), conv(padded, even.weight, even.bias))
    plain = getattr(nn, f"Conv{n}d")(4, 3, 2, padding="valid", padding_mode=mode)
    same(plain(x), conv(x, plain.weight, plain.bias))
    assert f"padding_mode={mode}" in repr(layer)


def test_other_layers_call_their_functions():
    x = over(2)
    for n in (1, 2, 3):
        out = (3, None, 2)[:n]
        same(getattr(nn, f"AdaptiveAvgPool{n}d")(out)(over(n)), getattr(gt, f"adaptive_avg_pool{n}d")(over(n), out))
        same(getattr(nn, f"LPPool{n}d")(2, 2, 1)(over(n)), getattr(gt, f"lp_pool{n}d")(over(n), 2, 2, 1))
        max_pool = getattr(gt, f"adaptive_max_pool{n}d")
        same(getattr(nn, f"AdaptiveMaxPool{n}d")(out)(over(n)), max_pool(over(n), out))
        for a, b in zip(
            getattr(nn, f"AdaptiveMaxPool{n}d")(2, return_indices=True)(over(n)),
            max_pool(over(n), 2, True),
            strict=True,
        ):
            same(a, b)
    for a, b in zip(nn.MaxPool2d(2, return_indices=True)(x), gt.max_pool2d(x, 2, return_indices=True), strict=True):
        same(a, b)
    same(nn.Upsample(7)(x), gt.interpolate(x, 7))
    same(
        nn.Upsample(scale_factor=1.7, mode="bilinear", recompute_scale_factor=True)(x),
        gt.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
    )
    same(nn.UpsamplingNearest2d(scale_factor=2)(x), x.repeat(2, 2).repeat(2, 3))
    same(nn.UpsamplingBilinear2d((7, 9))(x), gt.interpolate(x, (7, 9), mode="bilinear", align_corners=True))
    same(nn.PixelShuffle(2)(x), gt.pixel_shuffle(x, 2))
    same(nn.PixelUnshuffle(2)(nn.PixelShuffle(2)(x)), x)
    same(nn.ChannelShuffle(2)(x), x[:, [0, 2, 1, 3]])
    assert repr(nn.Upsample(scale_factor=2)) == "Upsample(scale_factor=2, mode='nearest')"


def test_bad_options_are_refused():
    for make in (
        lambda: nn.ReflectionPad2d((1, 1)),
        lambda: nn.ZeroPad1d(1.5),
        lambda: nn.Conv2d(4, 6, 3, padding_mode="mirror"),
        lambda: nn.Conv2d(4, 6, 3, padding="same", stride=2),
        lambda: nn.ConvTranspose2d(4, 6, 3, padding_mode="reflect"),
    ):
        with pytest.raises(gt.ArgumentError, match=r"^\w+: "):
            make()


@pytest.mark.parametrize(
    "resize",
    [
        lambda x: gt.interpolate(x, scale_factor=(1.5, 2.0), mode="bilinear"),
        lambda x: gt.interpolate(x, (9, 3), mode="bicubic", align_corners=True),
        lambda x: gt.interpolate(x, (4, 7), mode="nearest-exact"),
        lambda x: gt.adaptive_avg_pool2d(x, (4, 3)),
    ],
)
def test_resampling_and_its_adjoint_are_one_matrix(resize):
    """⟨R·x, g⟩ = ⟨x, Rᵀ·g⟩, to the rounding of float64."""
    x = over(2).astype(np.float64)
    y, pull = gt.vjp(resize, x)
    g = np.random.default_rng(1).standard_normal(np.shape(y))
    (dx,) = pull(g)
    np.testing.assert_allclose((np.asarray(y) * g).sum(), (x * np.asarray(dx)).sum(), rtol=1e-12)


def test_masked_select_reads_the_mask_which_a_compiled_step_refuses():
    step = gt.compile(lambda x: gt.sum(gt.masked_select(x, gt.gt(x, 0.0))))
    with pytest.raises(gt.CompileError, match="read on the host"):
        step(over(1))


def test_repeat_takes_its_numbers_spread_out_as_a_method():
    with gt.record():
        x = gt.leaf(over(1))
        assert x.repeat(2, 1, 3).shape == (4, 4, 18)
