// Smooth max pooling over the last three axes, and copying windows out and adding them back.
// One thread per element of the result. ELEMENT: float, __half or __nv_bfloat16.
#include "window.h"

extern "C" __global__ void smooth_pool(
    Out<ELEMENT> y,         // (planes, out_d, out_h, out_w)
    In<ELEMENT> x,          // (planes, in_d, in_h, in_w)
    long long total,        // planes · out_d · out_h · out_w
    float beta,
    int in_d, int in_h, int in_w, int out_d, int out_h, int out_w,
    int kernel_d, int kernel_h, int kernel_w, int stride_d, int stride_h, int stride_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    Place out = place_of(at, out_d, out_h, out_w);
    int front = out.d * stride_d, top = out.h * stride_h, left = out.w * stride_w;

    // The maximum, for a negative beta the minimum. A NaN may be passed over here: the sum has it.
    float sign = beta > 0.0f ? 1.0f : -1.0f, most = -INFINITY;
    for (int d = front; d < front + kernel_d; ++d)
        for (int h = top; h < top + kernel_h; ++h) {
            long long row = ((out.plane * in_d + d) * in_h + h) * in_w;
            for (int w = left; w < left + kernel_w; ++w) {
                float value = sign * to_float(x[row + w]);
                if (value > most) most = value;
            }
        }
    most *= sign;
    if (most == INFINITY || most == -INFINITY) most = 0.0f;  // ∞ - ∞ is not a number, ∞ itself is the answer

    float sum = 0.0f;
    for (int d = front; d < front + kernel_d; ++d)
        for (int h = top; h < top + kernel_h; ++h) {
            long long row = ((out.plane * in_d + d) * in_h + h) * in_w;
            for (int w = left; w < left + kernel_w; ++w) sum += expf(beta * (to_float(x[row + w]) - most));
        }
    y[at] = from_float<ELEMENT>(logf(sum) / beta + most);
}

extern "C" __global__ void smooth_pool_bwd(
    Out<ELEMENT> dx,        // (planes, in_d, in_h, in_w)
    In<ELEMENT> dy,         // (planes, out_d, out_h, out_w)
    In<ELEMENT> x,          // (planes, in_d, in_h, in_w)
    In<ELEMENT> y,          // (planes, out_d, out_h, out_w)
    long long total,        // planes · in_d · in_h · in_w
    float beta,
    int in_d, int in_h, int in_w, int out_d, int out_h, int out_w,
    int kernel_d, int kernel_h, int kernel_w, int stride_d, int stride_h, int stride_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    Place in = place_of(at, in_d, in_h, in_w);
    float value = to_float(x[at]);

    // The windows that cover this element, in row-major order, so that the sum has one order.
    float sum = 0.0f;
    for (int d = first_over(in.d, kernel_d, stride_d); d <= min(in.d / stride_d, out_d - 1); ++d)
        for (int h = first_over(in.h, kernel_h, stride_h); h <= min(in.h / stride_h, out_h - 1); ++h) {
            long long row = ((in.plane * out_d + d) * out_h + h) * out_w;
            for (int w = first_over(in.w, kernel_w, stride_w); w <= min(in.w / stride_w, out_w - 1); ++w)
                sum += to_float(dy[row + w]) * expf(beta * (value - to_float(y[row + w])));
        }
    dx[at] = from_float<ELEMENT>(sum);
}

extern "C" __global__ void unfold(
    Out<ELEMENT> y,         // (planes, taps, out_d, out_h, out_w)
    In<ELEMENT> x,          // (planes, in_d, in_h, in_w)
    long long total,        // planes · taps · out_d · out_h · out_w
    int in_d, int in_h, int in_w, int out_d, int out_h, int out_w,
    int kernel_d, int kernel_h, int kernel_w, int stride_d, int stride_h, int stride_w,
    int padding_d, int padding_h, int padding_w, int dilation_d, int dilation_h, int dilation_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    Place out = place_of(at, out_d, out_h, out_w);
    Place tap = place_of(out.plane, kernel_d, kernel_h, kernel_w);
    int d = out.d * stride_d - padding_d + tap.d * dilation_d;
    int h = out.h * stride_h - padding_h + tap.h * dilation_h;
    int w = out.w * stride_w - padding_w + tap.w * dilation_w;
    bool inside = d >= 0 && d < in_d && h >= 0 && h < in_h && w >= 0 && w < in_w;
    ELEMENT found = from_float<ELEMENT>(0.0f);
    if (inside) found = x[((tap.plane * in_d + d) * in_h + h) * in_w + w];
    y[at] = found;
}

extern "C" __global__ void fold(
    Out<ELEMENT> y,         // (planes, in_d, in_h, in_w)
    In<ELEMENT> x,          // (planes, taps, out_d, out_h, out_w)
    long long total,        // planes · in_d · in_h · in_w
    int in_d, int in_h, int in_w, int out_d, int out_h, int out_w,
    int kernel_d, int kernel_h, int kernel_w, int stride_d, int stride_h, int stride_w,
    int padding_d, int padding_h, int padding_w, int dilation_d, int dilation_h, int dilation_w)
{
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    Place in = place_of(at, in_d, in_h, in_w);

    float sum = 0.0f;
    for (int i = 0; i < kernel_d; ++i) {
        int d = in.d + padding_d - i * dilation_d;
        if (d < 0 || d % stride_d != 0 || d / stride_d >= out_d) continue;
        for (int j = 0; j < kernel_h; ++j) {
            int h = in.h + padding_h - j * dilation_h;
            if (h < 0 || h % stride_h != 0 || h / stride_h >= out_h) continue;
            for (int k = 0; k < kernel_w; ++k) {
                int w = in.w + padding_w - k * dilation_w;
                if (w < 0 || w % stride_w != 0 || w / stride_w >= out_w) continue;
                long long tap = ((in.plane * kernel_d + i) * kernel_h + j) * kernel_w + k;
                sum += to_float(x[((tap * out_d + d / stride_d) * out_h + h / stride_h) * out_w + w / stride_w]);
            }
        }
    }
    y[at] = from_float<ELEMENT>(sum);
}
