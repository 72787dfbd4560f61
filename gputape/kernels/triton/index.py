"""Device code of the ops that pick and add elements by integer arrays. An index out of range is never followed. Kernels
that have a fault pointer lower it to `number` if they meet one; numbers are negative, 0 stands for none.

Elements that are only moved are integers as wide as the elements.
"""

import triton
import triton.language as tl


@triton.jit
def _place(at, n1, n2, n3, n4, s0, s1, s2, s3, s4):
    """The offset of flat position `at` in an array (…, n1, n2, n3, n4) whose elements lie s0 to s4 apart."""
    place = at % n4 * s4
    at = at // n4
    place += at % n3 * s3
    at = at // n3
    place += at % n2 * s2
    at = at // n2
    return place + at % n1 * s1 + at // n1 * s0


@triton.jit
def _note(outside, fault_ptr, number):
    """Lower the fault if one of the indices is out of range."""
    tl.atomic_min(fault_ptr, number, mask=tl.max(outside.to(tl.int32), axis=0) > 0)


@triton.jit
def index_select(
    y_ptr,  # out (outer, n, cols)
    x_ptr,  # in (outer, size, cols)
    index_ptr,  # in (n)
    n,
    size,
    cols,
    blank,  # 64-bit: stands where an index is out of range
    fault_ptr,  # in and out ()
    number,  # 64-bit
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    tiles_cols = tl.cdiv(cols, BLOCK_COLS)
    tiles_rows = tl.cdiv(n, BLOCK_ROWS)
    tile = tl.program_id(0)
    outer = (tile // tiles_cols // tiles_rows).to(tl.int64)
    row = tile // tiles_cols % tiles_rows * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    col = tile % tiles_cols * BLOCK_COLS + tl.arange(0, BLOCK_COLS)
    i = tl.load(index_ptr + row, mask=row < n, other=0).to(tl.int64)
    inside = (row < n)[:, None] & (col < cols)[None, :]
    fine = (i >= 0) & (i < size)
    _note((row < n) & ~fine, fault_ptr, number)
    found = inside & fine[:, None]
    x = tl.load(x_ptr + (outer * size + i)[:, None] * cols + col[None, :], mask=found, other=0)
    y_at = (outer * n + row)[:, None] * cols + col[None, :]
    tl.store(y_ptr + y_at, tl.where(found, x, blank.to(x.dtype)), mask=inside)


@triton.jit
def gather(
    y_ptr,  # out (total)
    x_ptr,  # in, with strides
    index_ptr,  # in (total), of shape (…, n1, n2, n3, n4)
    total,  # 64-bit, like all that follows
    n1,
    n2,
    n3,
    n4,
    s0,  # strides of x along the axes of index; 0 along the one that is indexed
    s1,
    s2,
    s3,
    s4,
    step,  # stride of x along the one that is indexed
    size,
    blank,  # stands where an index is out of range
    fault_ptr,  # in and out ()
    number,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    i = tl.load(index_ptr + at, mask=inside, other=0).to(tl.int64)
    fine = (i >= 0) & (i < size)
    found = inside & fine
    _note(inside & ~fine, fault_ptr, number)
    x = tl.load(x_ptr + _place(at, n1, n2, n3, n4, s0, s1, s2, s3, s4) + i * step, mask=found, other=0)
    tl.store(y_ptr + at, tl.where(found, x, blank.to(x.dtype)), mask=inside)


@triton.jit
def places(
    y_ptr,  # out (total) integers: where each index points in a flat array; -1 for one that is out of range
    index_ptr,  # in (total), of shape (…, n1, n2, n3, n4)
    total,  # 64-bit, like all that follows
    n1,
    n2,
    n3,
    n4,
    s0,
    s1,
    s2,
    s3,
    s4,
    step,
    size,
    fault_ptr,  # in and out ()
    number,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    i = tl.load(index_ptr + at, mask=inside, other=0).to(tl.int64)
    fine = (i >= 0) & (i < size)
    _note(inside & ~fine, fault_ptr, number)
    place = _place(at, n1, n2, n3, n4, s0, s1, s2, s3, s4) + i * step
    tl.store(y_ptr + at, tl.where(fine, place, -1).to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _first_at_least(value, place_ptr, order_ptr, n, rounds):
    """How many of the places, in sorted order, are below `value`: a binary search."""
    low = n * 0
    high = n
    for _ in range(0, rounds):
        middle = (low + high) // 2
        inside = middle < high
        who = tl.load(order_ptr + middle, mask=inside, other=0)
        less = inside & (tl.load(place_ptr + who, mask=inside, other=0) < value)
        low = tl.where(less, middle + 1, low)
        high = tl.where(less, high, middle)
    return low


@triton.jit
def index_add(
    y_ptr,  # out (outer, size, cols)
    x_ptr,  # in (outer, size, cols), or a single element if x_step is 0
    source_ptr,  # in (outer, n, cols)
    place_ptr,  # in (n) integers: the row of y that each row of source goes to; what is no row is left out
    order_ptr,  # in (n) int64: sorts them
    n,
    size,
    cols,
    x_step,
    alpha,  # float, or 64-bit integer
    rounds,  # of the binary search: at least log2(n) + 1
    fault_ptr,  # in and out ()
    number,  # 64-bit
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """One program per row of y (and tile of columns) sums what goes there, in the order of the source."""
    looks = (tl.program_id(0) == 0) & (n > 0)
    least = tl.load(place_ptr + tl.load(order_ptr, mask=looks, other=0), mask=looks, other=0)
    most = tl.load(place_ptr + tl.load(order_ptr + (n - 1), mask=looks, other=0), mask=looks, other=0)
    tl.atomic_min(fault_ptr, number, mask=looks & ((least < 0) | (most >= size)))
    tiles_cols = tl.cdiv(cols, BLOCK_COLS)
    to = tl.program_id(0) // tiles_cols % size
    outer = (tl.program_id(0) // tiles_cols // size).to(tl.int64)
    col = tl.program_id(0) % tiles_cols * BLOCK_COLS + tl.arange(0, BLOCK_COLS)
    low = _first_at_least(to, place_ptr, order_ptr, n, rounds)
    high = _first_at_least(to + 1, place_ptr, order_ptr, n, rounds)
    at = (outer * size + to) * cols + col
    x = tl.load(x_ptr + at * x_step, mask=col < cols, other=0)
    exact = (alpha * 0).dtype  # float32 for floats, int64 for integers
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=exact)
    for first in range(low, high, BLOCK_ROWS):
        row = first + tl.arange(0, BLOCK_ROWS)
        who = tl.load(order_ptr + row, mask=row < high, other=0)
        inside = (row < high)[:, None] & (col < cols)[None, :]
        source = tl.load(source_ptr + (outer * n + who)[:, None] * cols + col[None, :], mask=inside, other=0)
        total += source.to(exact)
    sums = tl.sum(total, axis=0)
    y = tl.where(low < high, x.to(exact) + alpha * sums, x.to(exact))
    tl.store(y_ptr + at, y.to(x.dtype), mask=col < cols)


@triton.jit
def scatter_add(
    y_ptr,  # in and out (flat): what the sums are added to
    source_ptr,  # in (n)
    place_ptr,  # in (n) integers: where each goes; negative ones go nowhere
    order_ptr,  # in (n) int64: sorts them
    n,  # 64-bit
    zero,  # float, or 64-bit integer: what sums are made in
    BLOCK: tl.constexpr,
):
    """One program per sorted position: where a run of equal places begins, it sums the run in order."""
    first = tl.program_id(0).to(tl.int64)
    place = tl.load(place_ptr + tl.load(order_ptr + first))
    before = tl.load(order_ptr + first - 1, mask=first > 0, other=0)
    same_run = tl.load(place_ptr + before, mask=first > 0, other=-1) == place
    total = tl.zeros((BLOCK,), dtype=zero.dtype)
    going = tl.where(same_run | (place < 0), 0, BLOCK)
    starts = going
    while going == BLOCK:
        at = first + tl.arange(0, BLOCK)
        who = tl.load(order_ptr + at, mask=at < n, other=0)
        mine = (at < n) & (tl.load(place_ptr + who, mask=at < n, other=-1) == place)
        total += tl.load(source_ptr + who, mask=mine, other=0).to(zero.dtype)
        going = tl.sum(mine.to(tl.int32), axis=0)
        first += BLOCK
    if starts == BLOCK:
        y = tl.load(y_ptr + place)
        tl.store(y_ptr + place, (y.to(zero.dtype) + tl.sum(total, axis=0)).to(y.dtype))


@triton.jit
def put(
    y_ptr,  # in and out (flat)
    source_ptr,  # in (n)
    place_ptr,  # in (n) integers: where each goes; negative ones go nowhere
    order_ptr,  # in (n) int64: sorts them, equal ones in their order
    n,  # 64-bit
    BLOCK: tl.constexpr,
):
    """Of equal places the last in the order of the source is stored."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    who = tl.load(order_ptr + at, mask=at < n, other=0)
    place = tl.load(place_ptr + who, mask=at < n, other=-1)
    behind = tl.load(order_ptr + at + 1, mask=at + 1 < n, other=0)
    last = tl.load(place_ptr + behind, mask=at + 1 < n, other=-1) != place
    mine = (place >= 0) & last
    x = tl.load(source_ptr + who, mask=mine, other=0)
    tl.store(y_ptr + place, x, mask=mine)


@triton.jit
def wrap_index(
    y_ptr,  # in (unless FIRST) and out (total) int64: y · size + index, negative indices counted from the end
    index_ptr,  # in, broadcasts to (…, n1, n2, n3, n4) with the strides s0 to s4
    total,  # 64-bit, like all that follows
    n1,
    n2,
    n3,
    n4,
    s0,
    s1,
    s2,
    s3,
    s4,
    size,
    FIRST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    place = _place(at, n1, n2, n3, n4, s0, s1, s2, s3, s4)
    i = tl.load(index_ptr + place, mask=inside, other=0).to(tl.int64)
    i = tl.where(i < 0, i + size, i)
    if FIRST == 0:
        i += tl.load(y_ptr + at, mask=inside, other=0) * size
    tl.store(y_ptr + at, i, mask=inside)


@triton.jit
def one_hot_of(
    y_ptr,  # out (n, classes) int64
    index_ptr,  # in (n)
    total,  # 64-bit: n · classes
    classes,  # 64-bit
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    i = tl.load(index_ptr + at // classes, mask=at < total, other=0).to(tl.int64)
    tl.store(y_ptr + at, (i == at % classes).to(tl.int64), mask=at < total)


@triton.jit
def check_range(
    fault_ptr,  # in and out ()
    index_ptr,  # in (n)
    n,  # 64-bit, like all that follows
    low,
    size,
    ignore,  # an index that is fine wherever it lies
    number,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    i = tl.load(index_ptr + at, mask=at < n, other=0).to(tl.int64)
    outside = (at < n) & ((i < low) | (i >= size)) & (i != ignore)
    _note(outside, fault_ptr, number)


@triton.jit
def order(
    order_ptr,  # out (n), 64-bit
    key_ptr,  # in (n)
    n,
    run,  # a multiple of BLOCK, or n
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    """Sorts each run of keys: each goes behind all that are smaller, and those as large that stand before it."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(key_ptr + i, mask=i < n, other=0)
    first = tl.program_id(0) * BLOCK // run * run
    end = tl.minimum(first + run, n)
    rank = tl.zeros((BLOCK,), tl.int32)
    for start in range(first, end, TILE):
        j = start + tl.arange(0, TILE)
        other = tl.load(key_ptr + j, mask=j < end, other=0)
        smaller = other[None, :] < key[:, None]
        before = (other[None, :] == key[:, None]) & (j[None, :] < i[:, None])
        rank += tl.sum(((smaller | before) & (j < end)[None, :]).to(tl.int32), axis=1)
    tl.store(order_ptr + first + rank, i.to(tl.int64), mask=i < n)


@triton.jit
def merge_runs(
    y_ptr,  # out (n), 64-bit: the order of pairs of runs
    order_ptr,  # in (n), 64-bit: the order of each run
    key_ptr,  # in (n)
    n,
    run,
    rounds,  # of the binary search: at least log2(run) + 1
    BLOCK: tl.constexpr,
):
    """Each element goes behind those of its own run that it follows, and those of the other that belong before it."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    who = tl.load(order_ptr + at, mask=inside, other=0)
    key = tl.load(key_ptr + who, mask=inside, other=0)
    second = at // run % 2 == 1
    pair = at // (2 * run) * (2 * run)
    start = tl.minimum(tl.where(second, pair, pair + run), n)
    low = start
    high = tl.minimum(start + run, n)
    for _ in range(0, rounds):
        middle = (low + high) // 2
        open = inside & (low < high)
        other = tl.load(key_ptr + tl.load(order_ptr + middle, mask=open, other=0), mask=open, other=0)
        before = open & ((other < key) | (second & (other == key)))  # equal keys keep their order
        low = tl.where(before, middle + 1, low)
        high = tl.where(open & ~before, middle, high)
    tl.store(y_ptr + pair + at % run + low - start, who, mask=inside)
