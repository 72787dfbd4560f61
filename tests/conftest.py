"""Two workers on two cores: each gets one thread of NumPy's BLAS, whose threads otherwise wait for each other."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported
