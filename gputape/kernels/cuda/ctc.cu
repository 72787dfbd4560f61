// The connectionist temporal classification loss: one block per sample, a loop over time, threads over the states.
// ELEMENT: float, __half or __nv_bfloat16. A length or a label out of range is never used as an address: its sample
// becomes NaN.
#include "device.h"

#define KEPT 512  // up to so many states, those of the last time step are kept in shared memory, too

__device__ inline float log_sum(float a, float b, float c)
{
    float top = max(a, max(b, c));
    if (top == -INFINITY) return a + b + c;  // -INFINITY, or NaN where there is one
    return logf(expf(a - top) + expf(b - top) + expf(c - top)) + top;
}

// What is known of the alignments of one sample.
struct Sample {
    bool fits;
    int steps, states;
};

__device__ inline Sample sample_of(long long length, long long labels, int steps, int states)
{
    bool fits = length >= 0 && length <= steps && labels >= 0 && 2 * labels < states;
    return {fits, fits ? (int)length : 0, fits ? 2 * (int)labels + 1 : 0};
}

extern "C" __global__ void ctc(
    Out<ELEMENT> y,                 // (samples)
    Out<float> alpha,               // (steps, samples, states)
    In<ELEMENT> log_probs,          // (steps, samples, classes)
    In<long long> labels,           // (samples, states)
    In<long long> input_lengths,    // (samples)
    In<long long> target_lengths,   // (samples)
    int steps, int samples, int classes, int states)
{
    int n = blockIdx.x;
    Sample sample = sample_of(input_lengths[n], target_lengths[n], steps, states);
    SHARED(float, kept, 2 * KEPT);  // of this time step and of the one before
    for (int t = 0; t < steps; ++t) {
        long long row = ((long long)t * samples + n) * states, before = row - (long long)samples * states;
        int now = (t & 1) * KEPT, last = KEPT - now;
        auto was = [&](int s) -> float { return states <= KEPT ? kept[last + s] : alpha[before + s]; };
        for (int s = threadIdx.x; s < states; s += blockDim.x) {
            float value = sample.fits ? -INFINITY : nanf("");
            if (t < sample.steps && s < sample.states) {
                long long label = labels[(long long)n * states + s];
                if (t > 0) {
                    float stay = was(s), next = -INFINITY, jump = -INFINITY;
                    if (s > 0) next = was(s - 1);
                    if (s > 1 && labels[(long long)n * states + s - 2] != label) jump = was(s - 2);
                    value = log_sum(stay, next, jump);
                } else if (s < 2) value = 0.0f;
                bool known = label >= 0 && label < classes;
                if (t > 0 || s < 2)
                    value += known ? to_float(log_probs[((long long)t * samples + n) * classes + label]) : nanf("");
            }
            alpha[row + s] = value;
            if (states <= KEPT) kept[now + s] = value;
        }
        __syncthreads();
    }
    if (threadIdx.x > 0) return;
    float total = sample.states == 1 ? 0.0f : -INFINITY;
    if (sample.steps > 0) {
        long long end = ((long long)(sample.steps - 1) * samples + n) * states + sample.states - 1;
        float label = -INFINITY;
        if (sample.states > 1) label = alpha[end - 1];
        total = log_sum(alpha[end], label, -INFINITY);
    }
    y[n] = from_float<ELEMENT>(sample.fits ? -total : nanf(""));
}

extern "C" __global__ void ctc_bwd(
    Out<ELEMENT> dstates,           // (steps, samples, states)
    Out<float> after,               // (2, samples, states) work: beta and the state's own probability, of this and the
                                    // next time step
    In<ELEMENT> dy,                 // (samples)
    In<ELEMENT> log_probs,          // (steps, samples, classes)
    In<long long> labels,           // (samples, states)
    In<long long> input_lengths,    // (samples)
    In<long long> target_lengths,   // (samples)
    In<float> alpha,                // (steps, samples, states)
    int steps, int samples, int classes, int states)
{
    int n = blockIdx.x;
    Sample sample = sample_of(input_lengths[n], target_lengths[n], steps, states);
    float total = sample.fits ? -INFINITY : nanf(""), slope = to_float(dy[n]);
    if (sample.steps > 0) {
        long long end = ((long long)(sample.steps - 1) * samples + n) * states + sample.states - 1;
        total = log_sum(alpha[end], sample.states > 1 ? alpha[end - 1] : -INFINITY, -INFINITY);
    }
    for (int t = steps - 1; t >= 0; --t) {
        long long row = ((long long)t * samples + n) * states;
        long long now = ((long long)(t & 1) * samples + n) * states, next = ((long long)(~t & 1) * samples + n) * states;
        for (int s = threadIdx.x; s < states; s += blockDim.x) {
            float result = sample.fits ? 0.0f : nanf(""), own = -INFINITY;
            if (t < sample.steps && s < sample.states) {
                long long label = labels[(long long)n * states + s];
                float beta = s >= sample.states - 2 ? 0.0f : -INFINITY;
                if (t + 1 < sample.steps) {
                    float stay = after[next + s], step = -INFINITY, jump = -INFINITY;
                    if (s + 1 < sample.states) step = after[next + s + 1];
                    if (s + 2 < sample.states && labels[(long long)n * states + s + 2] != label)
                        jump = after[next + s + 2];
                    beta = log_sum(stay, step, jump);
                }
                bool known = label >= 0 && label < classes;
                if (beta != -INFINITY)
                    own = beta + (known ? to_float(log_probs[((long long)t * samples + n) * classes + label]) : nanf(""));
                result = slope == 0.0f ? 0.0f : -slope * expf(alpha[row + s] + beta - total);
            }
            after[now + s] = own;
            dstates[row + s] = from_float<ELEMENT>(result);
        }
        __syncthreads();
    }
}
