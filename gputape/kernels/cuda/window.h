// Windows that slide over the last three axes of (planes, depth, height, width); fewer axes are axes of size 1.
#pragma once

#include "device.h"

struct Place { long long plane; int d, h, w; };

__device__ inline Place place_of(long long at, int depth, int height, int width)
{
    Place p;
    p.w = (int)(at % width);
    at /= width;
    p.h = (int)(at % height);
    at /= height;
    p.d = (int)(at % depth);
    p.plane = at / depth;
    return p;
}

// The number of windows that end before element `at`, `at` counted from the first window's start: those that cover it
// begin there. The last of them is at / stride.
__device__ inline int first_over(int at, int kernel, int stride)
{
    return at < kernel ? 0 : (at - kernel) / stride + 1;
}
