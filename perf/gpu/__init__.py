"""Timings and facts that only a GPU can give. `make gpu-check` runs tests/gpu/ and then `python -m gpu` in perf/.

Nothing here imports CuPy, Triton or PyTorch at the top: the arithmetic and the report are tested without a GPU.
"""
