"""Cases of the random kernels at the edges of their tiles (256 lanes of four elements), from each start in a block."""

from gputape.samples import Sample, t

SIZES = (1023, 1024, 1025)
STATES = [t(2, dtype="int64", fill=(11, counter)) for counter in (0, 1, 2, 3)]

EDGES = {
    name: [
        Sample(state, shape=(n,), **({"p": 0.25} if name in ("random_bernoulli", "dropout_mask") else {}))
        for state, n in zip(STATES, (*SIZES, 7), strict=True)
    ]
    for name in ("random_bits", "random_uniform", "random_normal", "random_bernoulli", "dropout_mask")
}
EDGES["random_permutation"] = [Sample(state, n=n) for state, n in zip(STATES, (511, 512, 513, 5), strict=True)]


def _no_float64(sample, inputs):
    return "no kernel for float64" if sample.attrs.get("dtype") == "float64" else None


EXEMPT = dict.fromkeys(EDGES, _no_float64)
