"""Tile sizes: pure functions of shapes, so that a shape always runs the same code and gives the same bits."""

from __future__ import annotations


def cdiv(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def power_of_2(n: int) -> int:
    """The smallest power of two that is at least n (and at least 1)."""
    return 1 << max(n - 1, 0).bit_length()


POINTWISE = 1024  # elements per program of an element-wise kernel: 8 per thread, two 16-byte accesses in float32


def rows(cols: int) -> tuple[int, int, int]:
    """(rows, columns, warps) of the tile of a kernel that reduces rows of `cols` elements.

    Short rows share a program; a row longer than the tile is walked through in a loop, and so are all rows that do not
    begin at multiples of 16 bytes.
    """
    return ROWS[0] if cols % ALIGNED else next((tile for tile in ROWS if cols <= tile[1]), ROWS[-1])


ALIGNED = 16  # elements: accesses are wide where sizes are multiples
ROWS = ((4, 256, 4), (1, 1024, 4), (1, 4096, 8))

COLUMNS = 64  # columns per program of a kernel that reduces over rows


def row_groups(rows: int, groups: int = 64, fewest: int = 32) -> tuple[int, int]:
    """(groups, rows per group) for sums over rows in two steps: each group is summed by one program, then the groups.

    Depends on the shape alone, never on the device, so that the order of the sum is the same everywhere.
    """
    per_group = max(fewest, power_of_2(cdiv(rows, groups)))
    return max(cdiv(rows, per_group), 1), per_group


def fits(size: int, block: int) -> bool:
    """Whether blocks pad `size` hardly more than the next multiple of 16 does, which is the least there is."""
    return cdiv(size, block) * block * 12 <= cdiv(size, 16) * 16 * 13


def matmul(m: int, n: int, k: int, batch: int, kind: str) -> tuple[int, int, int, int, int]:
    """(rows, columns, depth, warps, stages) of the output tile of `batch` products (m, k) @ (k, n).

    A large tile loads less per product, a small one pads less and leaves work for more multiprocessors.
    """

    for tile in MATMUL[kind]:
        rows, columns = tile[:2]
        programs = cdiv(m, rows) * cdiv(n, columns) * batch
        if fits(m, rows) and fits(n, columns) and (rows < 128 or programs >= 96):
            return SHALLOW.get(tile, tile) if k <= 16 else tile
    return MATMUL[kind][-1]


def split_sums(programs: int, k: int, depth: int) -> tuple[int, int]:
    """(splits, products per split) of sums of k products that `programs` programs would make `depth` at a time.

    Few programs with long sums share them. Depends on the shape alone, so that the order of the sum is the same
    everywhere.
    """
    each = k
    if k >= LONG and programs:
        each = max(cdiv(k, max(PROGRAMS // programs, 1)), SHORTEST)
    each = max(cdiv(each, depth), 1) * depth
    return max(cdiv(k, each), 1), each


PROGRAMS = 128  # about one for each multiprocessor of a large GPU
SHORTEST = 256  # products that a program sums up at least
LONG = 1024  # shorter sums take less time than a second launch

# "16-bit", or for float32 "tf32" or "ieee". Without tensor cores (float32 as IEEE has it) a thread holds its share of
# the tile in registers: smaller tiles.
MATMUL = {
    "16-bit": ((128, 128, 64, 8, 3), (64, 64, 32, 4, 4), (32, 32, 32, 4, 4), (64, 16, 32, 4, 4), (16, 16, 32, 4, 4)),
    "tf32": ((128, 128, 32, 8, 3), (64, 64, 32, 4, 3), (16, 16, 32, 4, 3)),
    "ieee": ((64, 64, 16, 8, 4), (32, 32, 16, 4, 2), (16, 16, 16, 4, 2)),
}
SHALLOW = {(64, 64, 32, 4, 4): (64, 64, 16, 4, 4)}  # for up to 16 products to sum up, as in the gradient of 10 classes
