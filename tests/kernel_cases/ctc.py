"""More states than a block has threads."""

from gputape.ops.index import ids
from gputape.samples import Sample, t

STEPS = t(2, dtype="int64", fill=(4, 3))
EDGES = {"ctc": [Sample(t(4, 2, 3), ids(2, 261, high=3), STEPS, t(2, dtype="int64", fill=(130, 2)), grad_=False)]}
