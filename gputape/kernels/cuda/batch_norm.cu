// Batch normalisation by one block per channel, which reads it once and keeps it: a fifth in shared memory, the rest in
// registers. ELEMENT: float, __half or __nv_bfloat16. THREADS: of a block. PACKS: of a thread, a multiple of 5.
#include "device.h"

#define LANES 32

// The sum of the values of all threads, for each of them; always in the same order.
__device__ inline float sum_of_block(float value)
{
    SHARED(float, values, THREADS);
    SHARED(float, sums, LANES);
    values[threadIdx.x] = value;
    __syncthreads();
    if (threadIdx.x < LANES) {
        float sum = 0.0f;
        for (int k = threadIdx.x; k < THREADS; k += LANES) sum += values[k];
        sums[threadIdx.x] = sum;
    }
    __syncthreads();
    float total = 0.0f;
    for (int k = 0; k < LANES; ++k) total += sums[k];
    return total;
}

// One block is enough for a multiprocessor: stated, or ptxas spills a register or two for the sake of a second.
extern "C" __launch_bounds__(THREADS, 1) __global__ void batch_norm_kept(
    Out<ELEMENT> y,         // (samples, channels, length)
    Out<float> mean,        // (channels), like the two after it
    Out<float> var,
    Out<float> rstd,
    In<ELEMENT> x,          // (samples, channels, length): rows of whole packs, at multiples of 16 bytes
    In<ELEMENT> weight,     // (channels), read if has_weight
    In<ELEMENT> bias,       // (channels), read if has_bias
    int samples, int channels, int length, float eps, int has_weight, int has_bias)
{
    const int width = Pack<ELEMENT>::size, registers = PACKS / 5 * 4;
    int c = blockIdx.x, count = samples * length;
    long long start = (long long)c * length, between = (long long)(channels - 1) * length;
    SHARED(Pack<ELEMENT>, far, PACKS / 5 * THREADS);
    Pack<ELEMENT> near[registers];

    auto number = [&](int p) { return p * THREADS + (int)threadIdx.x; };
    auto first = [&](int p) { return number(p) * width; };  // element of the channel in pack p of this thread
    auto place = [&](int p) { return start + first(p) + first(p) / length * between; };
    auto kept = [&](int p) -> Pack<ELEMENT> { return p < registers ? near[p] : far[number(p - registers)]; };
    auto sum_of = [&](auto term) {
        float sum = 0.0f;
#pragma unroll
        for (int p = 0; p < PACKS; ++p)
            if (first(p) < count) {
                Pack<ELEMENT> pack = kept(p);
#pragma unroll
                for (int k = 0; k < width; ++k) sum += term(pack[k]);
            }
        return sum_of_block(sum);
    };

#pragma unroll
    for (int p = 0; p < PACKS; ++p)
        if (first(p) < count) {
            Pack<ELEMENT> pack = load_pack(x + place(p));
            if (p < registers) near[p] = pack;
            else far[number(p - registers)] = pack;
        }
    float rounded = sum_of([](float v) { return v; }) / count;
    float rest = sum_of([&](float v) { return v - rounded; }) / count;  // what the rounded mean lacks
    float square = sum_of([&](float v) { float d = v - rounded - rest; return d * d; }) / count;
    float scale = 1.0f / sqrtf(square + eps);
    if (threadIdx.x == 0) {
        mean[c] = rounded + rest;
        var[c] = square;
        rstd[c] = scale;
    }
    if (has_weight) scale *= to_float(weight[c]);
    float offset = has_bias ? to_float(bias[c]) : 0.0f;
#pragma unroll
    for (int p = 0; p < PACKS; ++p)
        if (first(p) < count) {
            Pack<ELEMENT> pack = kept(p);
#pragma unroll
            for (int k = 0; k < width; ++k) pack.set(k, (pack[k] - rounded - rest) * scale + offset);
            store_pack(y + place(p), pack);
        }
}
