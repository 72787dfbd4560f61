"""What runs kernels: cubins through CuPy, Triton's interpreter, the host build of CUDA C. Only `launch` comes here."""
