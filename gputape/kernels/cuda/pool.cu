// Max pooling over the last two axes: forward keeps the flat position of each maximum, backward gathers by it.
// One thread per output element (forward) or input element (backward). ELEMENT: float, __half or __nv_bfloat16.
#include "device.h"

extern "C" __global__ void max_pool2d(
    Out<ELEMENT> y,         // (planes, out_h, out_w)
    Out<int> index,         // (planes, out_h, out_w): row · in_w + column of the maximum in its plane
    In<ELEMENT> x,          // (planes, in_h, in_w)
    long long total,        // planes · out_h · out_w
    int in_h, int in_w, int out_h, int out_w,
    int kernel_h, int kernel_w, int stride_h, int stride_w,
    int padding_h, int padding_w, int dilation_h, int dilation_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    int out_col = (int)(at % out_w);
    int out_row = (int)(at / out_w % out_h);
    long long plane = at / out_w / out_h * in_h * in_w;
    int top = out_row * stride_h - padding_h, left = out_col * stride_w - padding_w;

    int best_at = -1;
    ELEMENT best = from_float<ELEMENT>(-INFINITY);
    for (int i = 0; i < kernel_h; ++i) {
        int row = top + i * dilation_h;
        if (row < 0 || row >= in_h) continue;
        for (int j = 0; j < kernel_w; ++j) {
            int col = left + j * dilation_w;
            if (col < 0 || col >= in_w) continue;
            ELEMENT found = x[plane + row * in_w + col];
            float value = to_float(found), highest = to_float(best);
            // The first position wins a tie; the last NaN wins over all.
            if (best_at < 0 || value > highest || isnan(value)) {
                best = found;
                best_at = row * in_w + col;
            }
        }
    }
    y[at] = best;
    index[at] = best_at;
}

extern "C" __global__ void max_pool2d_bwd(
    Out<ELEMENT> dx,        // (planes, in_h, in_w)
    In<ELEMENT> dy,         // (planes, out_h, out_w)
    In<int> index,          // (planes, out_h, out_w)
    long long total,        // planes · in_h · in_w
    int in_h, int in_w, int out_h, int out_w,
    int kernel_h, int kernel_w, int stride_h, int stride_w,
    int padding_h, int padding_w, int dilation_h, int dilation_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    int col = (int)(at % in_w);
    int row = (int)(at / in_w % in_h);
    long long plane = at / in_w / in_h * out_h * out_w;

    // The windows that cover this element, in row-major order, so that the sum has one order.
    float sum = 0.0f;
    for (int i = kernel_h - 1; i >= 0; --i) {
        int above = row + padding_h - i * dilation_h;
        if (above < 0 || above % stride_h != 0 || above / stride_h >= out_h) continue;
        for (int j = kernel_w - 1; j >= 0; --j) {
            int before = col + padding_w - j * dilation_w;
            if (before < 0 || before % stride_w != 0 || before / stride_w >= out_w) continue;
            long long from = plane + (long long)(above / stride_h) * out_w + before / stride_w;
            if (index[from] == row * in_w + col) sum += to_float(dy[from]);
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
