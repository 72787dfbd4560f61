// The vocabulary of our CUDA C sources. NVRTC sees plain pointers; the host build (emulation.h) sees checked ones.
//
//   In<T>, Out<T>            pointer parameters: what the kernel only loads, what it stores
//   SHARED(T, name, n)       an array of n elements in shared memory
//   to_float(x)              float32 value of an element
//   from_float<T>(x)         x rounded to nearest even
//
//   atomicAdd/Min/Max(p, v)  of integers only
//
// and threadIdx, blockIdx, blockDim, gridDim, __syncthreads, min, max, isnan, INFINITY.
#pragma once

#ifdef GPUTAPE_EMULATED
#include "emulation.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>

template <typename T> using In = const T* __restrict__;
template <typename T> using Out = T* __restrict__;
#define SHARED(T, name, n) __shared__ T name[n]
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T> __device__ inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x) { return x; }
template <> __device__ inline __half from_float<__half>(float x) { return __float2half_rn(x); }
template <> __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }
#endif
