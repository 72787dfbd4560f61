"""More states than a block has threads, and than it keeps in shared memory."""

from gputape.ops.index import ids
from gputape.samples import Sample, t


def _case(steps: int, states: int, lengths: tuple[int, int], targets: tuple[int, int]) -> Sample:
    given = (t(2, dtype="int64", fill=lengths), t(2, dtype="int64", fill=targets))
    return Sample(t(steps, 2, 3), ids(2, states, high=3), *given, grad_=False)


EDGES = {"ctc": [_case(4, 261, (4, 3), (130, 2)), _case(4, 511, (4, 2), (1, 255)), _case(4, 513, (4, 3), (2, 1))]}
