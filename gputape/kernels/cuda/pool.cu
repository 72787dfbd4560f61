// Max pooling over the last three axes: forward keeps the flat position of each maximum, backward gathers by it.
// One thread per output element (forward) or input element (backward). ELEMENT: float, __half or __nv_bfloat16.
#include "window.h"

extern "C" __global__ void max_pool(
    Out<ELEMENT> y,         // (planes, out_d, out_h, out_w)
    Out<int> index,         // (planes, out_d, out_h, out_w): the flat position of the maximum in its plane
    In<ELEMENT> x,          // (planes, in_d, in_h, in_w)
    long long total,        // planes · out_d · out_h · out_w
    int in_d, int in_h, int in_w, int out_d, int out_h, int out_w,
    int kernel_d, int kernel_h, int kernel_w, int stride_d, int stride_h, int stride_w,
    int padding_d, int padding_h, int padding_w, int dilation_d, int dilation_h, int dilation_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    Place out = place_of(at, out_d, out_h, out_w);
    long long plane = out.plane * in_d * in_h * in_w;
    int front = out.d * stride_d - padding_d, top = out.h * stride_h - padding_h, left = out.w * stride_w - padding_w;

    int best_at = -1;
    ELEMENT best = from_float<ELEMENT>(-INFINITY);
    for (int i = 0; i < kernel_d; ++i) {
        int d = front + i * dilation_d;
        if (d < 0 || d >= in_d) continue;
        for (int j = 0; j < kernel_h; ++j) {
            int h = top + j * dilation_h;
            if (h < 0 || h >= in_h) continue;
            for (int k = 0; k < kernel_w; ++k) {
                int w = left + k * dilation_w;
                if (w < 0 || w >= in_w) continue;
                int from = (d * in_h + h) * in_w + w;
                ELEMENT found = x[plane + from];
                float value = to_float(found), highest = to_float(best);
                // The first position wins a tie; the last NaN wins over all.
                if (best_at < 0 || value > highest || isnan(value)) {
                    best = found;
                    best_at = from;
                }
            }
        }
    }
    y[at] = best;
    index[at] = best_at;
}

// The window whose element `tap` along one axis is `at` (counted from the first window's start), or -1.
__device__ inline int window_at(int at, int tap, int stride, int dilation, int windows)
{
    int start = at - tap * dilation;
    return start < 0 || start % stride != 0 || start / stride >= windows ? -1 : start / stride;
}

extern "C" __global__ void max_pool_bwd(
    Out<ELEMENT> dx,        // (planes, in_d, in_h, in_w)
    In<ELEMENT> dy,         // (planes, out_d, out_h, out_w)
    In<int> index,          // (planes, out_d, out_h, out_w)
    long long total,        // planes · in_d · in_h · in_w
    int in_d, int in_h, int in_w, int out_d, int out_h, int out_w,
    int kernel_d, int kernel_h, int kernel_w, int stride_d, int stride_h, int stride_w,
    int padding_d, int padding_h, int padding_w, int dilation_d, int dilation_h, int dilation_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    Place in = place_of(at, in_d, in_h, in_w);
    int here = (in.d * in_h + in.h) * in_w + in.w;

    // The windows that cover this element, in row-major order, so that the sum has one order.
    float sum = 0.0f;
    for (int i = kernel_d - 1; i >= 0; --i) {
        int d = window_at(in.d + padding_d, i, stride_d, dilation_d, out_d);
        if (d < 0) continue;
        for (int j = kernel_h - 1; j >= 0; --j) {
            int h = window_at(in.h + padding_h, j, stride_h, dilation_h, out_h);
            if (h < 0) continue;
            for (int k = kernel_w - 1; k >= 0; --k) {
                int w = window_at(in.w + padding_w, k, stride_w, dilation_w, out_w);
                if (w < 0) continue;
                long long from = ((in.plane * out_d + d) * out_h + h) * out_w + w;
                if (index[from] == here) sum += to_float(dy[from]);
            }
        }
    }
    dx[at] = from_float<ELEMENT>(sum);
}

extern "C" __global__ void pool_gather(
    Out<ELEMENT> y,         // (planes, out_size)
    In<ELEMENT> x,          // (planes, in_size)
    In<int> index,          // (planes, out_size): a position in the plane, or -1
    long long total,        // planes · out_size
    long long in_size, long long out_size)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    int from = index[at];
    ELEMENT found = from_float<ELEMENT>(0.0f);
    if (from >= 0) found = x[at / out_size * in_size + from];
    y[at] = found;
}
