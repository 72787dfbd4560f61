// Resampling along the last three axes: forward sums the taps of each place, backward gathers from the places whose taps
// an element is. One thread per output element (forward) or input element (backward).
// ELEMENT: float, __half or __nv_bfloat16. MODE: one of the names below.
#include "window.h"

#define NEAREST 0
#define NEAREST_EXACT 1
#define LINEAR 2
#define CUBIC 3
#define AREA 4

// How far from its position the taps of a place may be.
#define REACH (MODE == CUBIC ? 2 : MODE == LINEAR ? 1 : 0)

// The taps of one place along one axis: elements first to first + count - 1, those beyond the ends being those at the
// ends; `part` is how far the position lies behind the element that it is counted from.
struct Taps { int first, count; float part; };

// A step below 0 says that the axis stays as it is.
__device__ inline Taps taps_of(int place, int size, int out, float step, int align)
{
    Taps t;
    t.first = place, t.count = 1, t.part = 0.0f;
    if (step < 0.0f) return t;
    if (MODE == AREA) {
        t.first = (int)((long long)place * size / out);
        t.count = (int)(((long long)(place + 1) * size + out - 1) / out) - t.first;
    } else if (MODE == NEAREST || MODE == NEAREST_EXACT) {
        float half = MODE == NEAREST ? 0.0f : 0.5f;
        t.first = (int)min(floorf((place + half) * step), (float)(size - 1));
    } else {
        float half = align ? 0.0f : 0.5f, at = (place + half) * step - half;
        if (MODE == LINEAR) at = max(at, 0.0f);
        float from = min(floorf(at), (float)(size - 1));
        t.part = min(max(at - from, 0.0f), 1.0f);
        t.first = (int)from - (MODE == CUBIC ? 1 : 0);
        t.count = MODE == CUBIC ? 4 : 2;
    }
    return t;
}

__device__ inline float weight_of(Taps t, int k)
{
    if (t.count == 1) return 1.0f;
    if (MODE == AREA) return 1.0f / t.count;
    if (MODE == LINEAR) return k == 0 ? 1.0f - t.part : t.part;
    const float a = -0.75f;
    float x = k == 0 ? t.part + 1.0f : k == 1 ? t.part : k == 2 ? 1.0f - t.part : 2.0f - t.part;
    if (k == 1 || k == 2) return ((a + 2.0f) * x - (a + 3.0f)) * x * x + 1.0f;
    return ((a * x - 5.0f * a) * x + 8.0f * a) * x - 4.0f * a;
}

__device__ inline int element_of(Taps t, int k, int size) { return min(max(t.first + k, 0), size - 1); }

extern "C" __global__ void resample(
    Out<ELEMENT> y,         // (planes, out_d, out_h, out_w)
    In<ELEMENT> x,          // (planes, in_d, in_h, in_w)
    long long total,        // planes · out_d · out_h · out_w
    int align,              // whether the centres of the end elements are mapped onto one another
    float step_d, float step_h, float step_w,
    int in_d, int in_h, int in_w, int out_d, int out_h, int out_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    Place out = place_of(at, out_d, out_h, out_w);
    Taps d = taps_of(out.d, in_d, out_d, step_d, align);
    Taps h = taps_of(out.h, in_h, out_h, step_h, align);
    Taps w = taps_of(out.w, in_w, out_w, step_w, align);

    float sum = 0.0f;
    for (int i = 0; i < d.count; ++i)
        for (int j = 0; j < h.count; ++j) {
            long long row = ((out.plane * in_d + element_of(d, i, in_d)) * in_h + element_of(h, j, in_h)) * in_w;
            float along = 0.0f;
            for (int k = 0; k < w.count; ++k) along += weight_of(w, k) * to_float(x[row + element_of(w, k, in_w)]);
            sum += weight_of(d, i) * weight_of(h, j) * along;
        }
    y[at] = from_float<ELEMENT>(sum);
}

// Places [first, last] that may have an element among their taps. Rounding may add some, which the taps themselves tell.
struct Span { int first, last; };

__device__ inline Span span_of(int element, int size, int out, float step, int align)
{
    Span s;
    s.first = 0, s.last = out - 1;
    if (step < 0.0f) {
        s.first = s.last = element;
    } else if (MODE == AREA) {
        s.first = (int)((long long)element * out / size);
        s.last = (int)(((long long)(element + 1) * out + size - 1) / size) - 1;
    } else if (step > 0.0f) {
        float half = MODE == NEAREST || align ? 0.0f : 0.5f, shift = MODE == NEAREST_EXACT ? 0.0f : half;
        float low = (element - REACH + shift) / step - half, high = (element + max(REACH, 1) + shift) / step - half;
        float slack = 2.0f + 1e-6f * max(high, -low);  // a few units in the last place
        if (element > 0) s.first = (int)min(max(low - slack, 0.0f), (float)(out - 1));
        if (element < size - 1) s.last = (int)min(max(high + slack, 0.0f), (float)(out - 1));
    }
    return s;
}

// The weight with which an element is among the taps; `met` says whether it is.
__device__ inline float share_of(int element, Taps t, int size, bool& met)
{
    float share = 0.0f;
    met = false;
    for (int k = 0; k < t.count; ++k)
        if (element_of(t, k, size) == element) {
            share += weight_of(t, k);
            met = true;
        }
    return share;
}

extern "C" __global__ void resample_bwd(
    Out<ELEMENT> dx,        // (planes, in_d, in_h, in_w)
    In<ELEMENT> dy,         // (planes, out_d, out_h, out_w)
    long long total,        // planes · in_d · in_h · in_w
    int align, float step_d, float step_h, float step_w,
    int in_d, int in_h, int in_w, int out_d, int out_h, int out_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    Place in = place_of(at, in_d, in_h, in_w);
    Span d = span_of(in.d, in_d, out_d, step_d, align);
    Span h = span_of(in.h, in_h, out_h, step_h, align);
    Span w = span_of(in.w, in_w, out_w, step_w, align);

    // In row-major order, so that the sum has one order.
    float sum = 0.0f;
    bool met;
    for (int i = d.first; i <= d.last; ++i) {
        float share_d = share_of(in.d, taps_of(i, in_d, out_d, step_d, align), in_d, met);
        if (!met) continue;
        for (int j = h.first; j <= h.last; ++j) {
            float share_h = share_of(in.h, taps_of(j, in_h, out_h, step_h, align), in_h, met);
            if (!met) continue;
            long long row = ((in.plane * out_d + i) * out_h + j) * out_w;
            for (int k = w.first; k <= w.last; ++k) {
                float share_w = share_of(in.w, taps_of(k, in_w, out_w, step_w, align), in_w, met);
                if (met) sum += share_d * share_h * share_w * to_float(dy[row + k]);
            }
        }
    }
    dx[at] = from_float<ELEMENT>(sum);
}
