"""Cards of the ops that trade channels for pixels and mix channels, composed of `reshape` and `permute`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import Aval
from ..errors import ArgumentError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t


def _factor(op: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{op}: {name}={value!r} must be a positive integer. Pass for example 2.")
    return value


def _canon(op: str, name: str) -> Callable[..., dict[str, Any]]:
    def canon(input: Aval, **given: Any) -> dict[str, Any]:
        if input.ndim < 3:
            raise ShapeError(f"{op}: input has shape {input.shape}, but at least 3 axes are needed. Add axes in front.")
        return {name: _factor(op, name, given[name])}

    return canon


# --- pixels -----------------------------------------------------------------------------------------------------------


def _shuffle(F: Any, input: Any, *, upscale_factor: int) -> Any:
    r = upscale_factor
    *lead, channels, height, width = F.aval(input).shape
    if channels % r**2:
        raise ShapeError(
            f"pixel_shuffle: {channels} channels are not divisible by upscale_factor² = {r**2} (input "
            f"{F.aval(input).shape}). Give a multiple of it."
        )
    n = len(lead)
    x = F.reshape(input, (*lead, channels // r**2, r, r, height, width))
    x = F.permute(x, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return F.reshape(x, (*lead, channels // r**2, height * r, width * r))


def _unshuffle(F: Any, input: Any, *, downscale_factor: int) -> Any:
    r = downscale_factor
    *lead, channels, height, width = F.aval(input).shape
    if height % r or width % r:
        raise ShapeError(
            f"pixel_unshuffle: height {height} and width {width} must be divisible by downscale_factor={r}. "
            "Pad or crop the input."
        )
    n = len(lead)
    x = F.reshape(input, (*lead, channels, height // r, r, width // r, r))
    x = F.permute(x, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return F.reshape(x, (*lead, channels * r**2, height // r, width // r))


register(
    name="pixel_shuffle",
    doc="(…, C·r², H, W) → (…, C, H·r, W·r): channels become the pixels of r × r blocks, r being `upscale_factor`. As "
    "torch.nn.functional.pixel_shuffle (Shi et al., 2016).",
    signature="input, upscale_factor",
    inputs=("input",),
    canon=_canon("pixel_shuffle", "upscale_factor"),
    rule=lambda input, **attrs: input,
    compose=_shuffle,
    samples=(
        Sample(t(2, 8, 3, 2), upscale_factor=2),
        Sample(t(9, 2, 1), upscale_factor=3, why_="unbatched"),
        Sample(t(2, 2, 4, 1, 3), upscale_factor=2, why_="two axes in front"),
        Sample(t(2, 3, 2, 2), upscale_factor=1),
        Sample(t(0, 4, 2, 2), upscale_factor=2, torch_=False, why_="torch's gradient fails on an empty array"),
        Sample(t(1, 4, 3, 2, layout="transposed"), upscale_factor=2),
        Sample(t(1, 4, 2, 3, dtype="float64"), upscale_factor=2),
        Sample(t(4, 2, 2, dtype="int64", fill="ints", high=9), upscale_factor=2),
    ),
    errors=(
        Bad(ShapeError, "3 channels are not divisible", t(3, 2, 2), upscale_factor=2),
        Bad(ShapeError, "3 axes", t(4, 4), upscale_factor=2),
        Bad(ArgumentError, "positive", t(4, 2, 2), upscale_factor=0),
        Bad(ArgumentError, "positive", t(4, 2, 2), upscale_factor=2.0),
    ),
    perf=(Perf(t(16, 64, 32, 32), upscale_factor=2, name_="super resolution"),),
    torch="torch.nn.functional.pixel_shuffle",
)

register(
    name="pixel_unshuffle",
    doc="(…, C, H·r, W·r) → (…, C·r², H, W), r being `downscale_factor`: undoes `pixel_shuffle`. As "
    "torch.nn.functional.pixel_unshuffle.",
    signature="input, downscale_factor",
    inputs=("input",),
    canon=_canon("pixel_unshuffle", "downscale_factor"),
    rule=lambda input, **attrs: input,
    compose=_unshuffle,
    samples=(
        Sample(t(2, 3, 4, 6), downscale_factor=2),
        Sample(t(2, 6, 3), downscale_factor=3, why_="unbatched"),
        Sample(t(2, 1, 2, 2, 4), downscale_factor=2, why_="two axes in front"),
        Sample(t(0, 1, 2, 2), downscale_factor=2, torch_=False, why_="torch gives an empty array its own shape back"),
        Sample(t(1, 2, 4, 2, layout="transposed"), downscale_factor=2),
        Sample(t(1, 1, 2, 4, dtype="float64"), downscale_factor=2),
    ),
    errors=(
        Bad(ShapeError, "divisible by downscale_factor=2", t(1, 3, 4), downscale_factor=2),
        Bad(ShapeError, "3 axes", t(4, 4), downscale_factor=2),
        Bad(ArgumentError, "positive", t(1, 2, 2), downscale_factor=-1),
    ),
    torch="torch.nn.functional.pixel_unshuffle",
)


# --- channels ---------------------------------------------------------------------------------------------------------


def _channel_shuffle(F: Any, input: Any, *, groups: int) -> Any:
    n, channels, *rest = F.aval(input).shape
    if channels % groups:
        raise ShapeError(
            f"channel_shuffle: {channels} channels are not divisible by groups={groups}. Choose a divisor."
        )
    x = F.reshape(input, (n, groups, channels // groups, *rest))
    return F.reshape(F.permute(x, (0, 2, 1, *range(3, 3 + len(rest)))), (n, channels, *rest))


register(
    name="channel_shuffle",
    doc="Channels of (N, C, …) dealt out anew: of `groups` runs of them first all first ones, then all second ones, … "
    "As torch.nn.functional.channel_shuffle (Zhang et al., 2018).",
    signature="input, groups",
    inputs=("input",),
    canon=_canon("channel_shuffle", "groups"),
    rule=lambda input, **attrs: input,
    compose=_channel_shuffle,
    samples=(
        Sample(t(2, 6, 2, 3), groups=2),
        Sample(t(1, 6, 2), groups=3),
        Sample(t(2, 4, 1, 2, 2), groups=4),
        Sample(t(0, 4, 2), groups=2),
        Sample(t(1, 4, 3, 2, layout="transposed"), groups=2),
        Sample(t(1, 4, 2, dtype="float64"), groups=2),
    ),
    errors=(
        Bad(ShapeError, "not divisible by groups=3", t(1, 4, 2), groups=3),
        Bad(ShapeError, "3 axes", t(2, 4), groups=2),
        Bad(ArgumentError, "positive", t(1, 4, 2), groups=0),
    ),
    torch="torch.nn.functional.channel_shuffle",
)
