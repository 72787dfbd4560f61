// Average pooling over the last three axes: forward sums each window, backward gathers from the windows over an element.
// One thread per output element (forward) or input element (backward). ELEMENT: float, __half or __nv_bfloat16.
#include "window.h"

// How many elements of a window along one axis count.
__device__ inline int counted(int start, int kernel, int size, int padding, int count_padding)
{
    if (count_padding) return min(start + kernel, size + padding) - start;
    return min(start + kernel, size) - max(start, 0);
}

extern "C" __global__ void avg_pool(
    Out<ELEMENT> y,         // (planes, out_d, out_h, out_w)
    In<ELEMENT> x,          // (planes, in_d, in_h, in_w)
    long long total,        // planes · out_d · out_h · out_w
    float divisor,          // of every sum; 0: the number of the window's elements
    int count_padding,      // whether elements in the padding count
    int in_d, int in_h, int in_w, int out_d, int out_h, int out_w,
    int kernel_d, int kernel_h, int kernel_w, int stride_d, int stride_h, int stride_w,
    int padding_d, int padding_h, int padding_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    Place out = place_of(at, out_d, out_h, out_w);
    int front = out.d * stride_d - padding_d, top = out.h * stride_h - padding_h, left = out.w * stride_w - padding_w;

    float sum = 0.0f;
    for (int d = max(front, 0); d < min(front + kernel_d, in_d); ++d)
        for (int h = max(top, 0); h < min(top + kernel_h, in_h); ++h) {
            long long row = ((out.plane * in_d + d) * in_h + h) * in_w;
            for (int w = max(left, 0); w < min(left + kernel_w, in_w); ++w) sum += to_float(x[row + w]);
        }
    if (divisor == 0.0f)
        divisor = (float)(counted(front, kernel_d, in_d, padding_d, count_padding) *
                          counted(top, kernel_h, in_h, padding_h, count_padding) *
                          counted(left, kernel_w, in_w, padding_w, count_padding));
    y[at] = from_float<ELEMENT>(sum / divisor);
}

extern "C" __global__ void avg_pool_bwd(
    Out<ELEMENT> dx,        // (planes, in_d, in_h, in_w)
    In<ELEMENT> dy,         // (planes, out_d, out_h, out_w)
    long long total,        // planes · in_d · in_h · in_w
    float divisor, int count_padding,
    int in_d, int in_h, int in_w, int out_d, int out_h, int out_w,
    int kernel_d, int kernel_h, int kernel_w, int stride_d, int stride_h, int stride_w,
    int padding_d, int padding_h, int padding_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    Place in = place_of(at, in_d, in_h, in_w);
    in.d += padding_d, in.h += padding_h, in.w += padding_w;

    // The windows that cover this element, in row-major order, so that the sum has one order.
    float sum = 0.0f;
    for (int d = first_over(in.d, kernel_d, stride_d); d <= min(in.d / stride_d, out_d - 1); ++d) {
        int along_d = counted(d * stride_d - padding_d, kernel_d, in_d, padding_d, count_padding);
        for (int h = first_over(in.h, kernel_h, stride_h); h <= min(in.h / stride_h, out_h - 1); ++h) {
            int along_h = counted(h * stride_h - padding_h, kernel_h, in_h, padding_h, count_padding);
            long long row = ((in.plane * out_d + d) * out_h + h) * out_w;
            for (int w = first_over(in.w, kernel_w, stride_w); w <= min(in.w / stride_w, out_w - 1); ++w) {
                int along_w = counted(w * stride_w - padding_w, kernel_w, in_w, padding_w, count_padding);
                float by = divisor == 0.0f ? (float)(along_d * along_h * along_w) : divisor;
                sum += to_float(dy[row + w]) / by;
            }
        }
    }
    dx[at] = from_float<ELEMENT>(sum);
}
