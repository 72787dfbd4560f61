// The vocabulary of our CUDA C sources. NVRTC sees plain pointers; the host build (emulation.h) sees checked ones.
//
//   In<T>, Out<T>            pointer parameters: what the kernel only loads, what it stores
//   SHARED(T, name, n)       an array of n elements in shared memory
//   to_float(x)              float32 value of an element
//   from_float<T>(x)         x rounded to nearest even
//   Pack<T>                  16 bytes of neighbours: pack[k] is the float32 value of element k, pack.set(k, x) rounds x
//   load_pack(p), store_pack(p, pack)   where p is at a multiple of 16 bytes
//
//   atomicAdd/Min/Max(p, v)  of integers only
//
// and threadIdx, blockIdx, blockDim, gridDim, __syncthreads, min, max, isnan, INFINITY.
#pragma once

template <typename T> struct Pack;

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

template <typename T> __device__ inline Pack<T> load_pack(const T* p)
{
    uint4 v = *(const uint4*)p;
    return {{v.x, v.y, v.z, v.w}};
}

template <typename T> __device__ inline void store_pack(T* p, const Pack<T>& pack)
{
    *(uint4*)p = make_uint4(pack.words[0], pack.words[1], pack.words[2], pack.words[3]);
}
#endif

template <typename T> struct Pack {
    static constexpr int size = 16 / sizeof(T), per_word = 4 / sizeof(T);
    unsigned words[4];  // elements of 16 bits would take a register each

    __device__ float operator[](int k) const
    {
        unsigned bits = words[k / per_word] >> k % per_word * 16;
        T value;
        memcpy(&value, &bits, sizeof value);
        return to_float(value);
    }
    __device__ void set(int k, float x)
    {
        T value = from_float<T>(x);
        unsigned bits = 0, shift = k % per_word * 16, mask = ~0u >> (32 - 8 * sizeof(T)) << shift;
        memcpy(&bits, &value, sizeof value);
        words[k / per_word] = words[k / per_word] & ~mask | bits << shift;
    }
};
