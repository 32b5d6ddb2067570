"""linear_tiled on Hopper, in Gluon: loads, products and stores of different warps overlap.

The same formula, parameters and meaning as kernels/linear_tiled.py, which is its reference and its
Spec. For x and w of one 16-bit type whose rows tensor maps can take, and BLOCK_M = 128.
One warp copies tiles of x and w into a ring (tensor maps, mbarriers) and runs ahead into the next
tile; two groups of four warps take 64 rows of x each, all of the tile's rows of w, and issue a
product before they wait for the one before. With SWIGLU half of a tile's rows of w are gates and
half are ups, so that one product gives both to the same thread.
Grid: (N_PROGRAMS, 1, 1); program p takes the tiles p, p + programs, ... Tiles are BLOCK_N rows of w
wide; where their last round would be short, columns that would be computed in it have tiles of TAIL
instead, if that ends sooner. How wide a tile is changes nothing in what a row gives: each element
is the sum of the same products in the same order.
Accumulation: fp32.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from kernels.hopper.attention_prefill import release
from kernels.lib import linear

ROWS = gl.constexpr(64)  # of a group
ROWS_M = gl.constexpr(128)  # of a tile
DEEP = gl.constexpr(64)  # elements of 16 bits that a row of a tensor map's box has: 128 bytes
RING_BYTES = gl.constexpr(192 * 1024)

silu = gluon.jit(linear.silu.fn)


@gluon.jit
def split_columns(n_rows, n_out, BLOCK_N: gl.constexpr, TAIL: gl.constexpr):
    """How many columns of y have wide tiles. BLOCK_N, TAIL: columns of a tile."""
    tiles_m = gl.maximum(gl.cdiv(n_rows, ROWS_M), 1)
    tiles_n = gl.cdiv(n_out, BLOCK_N)
    first = 0
    if TAIL < BLOCK_N:
        n_programs = gl.num_programs(0)
        n_tiles = tiles_m * tiles_n
        full = n_tiles // n_programs
        wide = full * n_programs // tiles_m
        rest = tiles_m * gl.cdiv(n_out - wide * BLOCK_N, TAIL)
        # Programs that have no wide tile of the last full round begin with the others.
        rest += tiles_m * wide - full * n_programs
        sooner = full * BLOCK_N + gl.cdiv(rest, n_programs) * TAIL
        pays = sooner < gl.cdiv(n_tiles, n_programs) * BLOCK_N
        first = gl.where(pays, wide, tiles_n) * BLOCK_N
    else:
        first = tiles_n * BLOCK_N
    return gl.minimum(first, n_out)


@gluon.jit
def tile_at(tile, tiles_m, tiles_n, GROUP_M: gl.constexpr):
    group = tile // (GROUP_M * tiles_n)
    group_rows = gl.minimum(tiles_m - group * GROUP_M, GROUP_M)
    in_group = tile % (GROUP_M * tiles_n)
    return group * GROUP_M + in_group % group_rows, in_group // group_rows


@gluon.jit
def first_tile(before):
    """The program's first tile of a list that follows one of `before` tiles."""
    n_programs = gl.num_programs(0)
    return (gl.program_id(0) + n_programs - before % n_programs) % n_programs


@gluon.jit
def advance(slot, phase, STAGES: gl.constexpr):
    slot += 1
    around = slot == STAGES
    return gl.where(around, 0, slot), gl.where(around, phase ^ 1, phase)


@gluon.jit
def copy_rows(
    w_desc, boxes, box, row, k, bar, n_out, WIDTH: gl.constexpr, BOX: gl.constexpr,
    SWIGLU: gl.constexpr,
):  # fmt: skip
    """WIDTH rows of w; with SWIGLU half of them gates."""
    HALF: gl.constexpr = WIDTH // BOX // (1 + SWIGLU)
    for i in gl.static_range(HALF):
        tma.async_load(w_desc, [row + i * BOX, k], bar, boxes.index(box + i))
    if SWIGLU:
        for i in gl.static_range(HALF):
            up = n_out + row + i * BOX
            tma.async_load(w_desc, [up, k], bar, boxes.index(box + HALF + i))


@gluon.jit
def produce_columns(
    slot, phase, first_col, end_col, before, x_desc, w_desc, x_ring, boxes, full, empty, sizes,
    WIDTH: gl.constexpr, RING_N: gl.constexpr, STAGES: gl.constexpr, GROUP_M: gl.constexpr,
    BOX: gl.constexpr, SWIGLU: gl.constexpr,
):  # fmt: skip
    n_rows, n_out, n_in = sizes
    COLS: gl.constexpr = WIDTH // (1 + SWIGLU)
    tiles_m = gl.cdiv(n_rows, ROWS_M)
    tiles_n = gl.cdiv(end_col - first_col, COLS)
    n_tiles = tiles_m * tiles_n
    for tile in range(first_tile(before), n_tiles, gl.num_programs(0)):
        m, n = tile_at(tile, tiles_m, tiles_n, GROUP_M)
        row = m * ROWS_M
        col = first_col + n * COLS
        for k in range(0, n_in, DEEP):
            bar = full.index(slot)
            mbarrier.wait(empty.index(slot), phase ^ 1)
            mbarrier.expect(bar, (ROWS_M + WIDTH) * DEEP * 2)
            box = slot * (RING_N // BOX)
            tma.async_load(x_desc, [row, k], bar, x_ring.index(slot * 2))
            tma.async_load(x_desc, [row + ROWS, k], bar, x_ring.index(slot * 2 + 1))
            if WIDTH == 192:
                copy_rows(w_desc, boxes, box, col, k, bar, n_out, 128, BOX, SWIGLU)
                narrow = col + 128 // (1 + SWIGLU)
                copy_rows(w_desc, boxes, box + 128 // BOX, narrow, k, bar, n_out, 64, BOX, SWIGLU)
            else:
                copy_rows(w_desc, boxes, box, col, k, bar, n_out, WIDTH, BOX, SWIGLU)
            slot, phase = advance(slot, phase, STAGES)
    return slot, phase, before + n_tiles


@gluon.jit
def produce(
    x_desc, w_desc, x_ring, boxes, full, empty, sizes, BLOCK_N: gl.constexpr, TAIL: gl.constexpr,
    RING_N: gl.constexpr, STAGES: gl.constexpr, GROUP_M: gl.constexpr, BOX: gl.constexpr,
    SWIGLU: gl.constexpr,
):  # fmt: skip
    n_rows, n_out, _ = sizes
    wide = split_columns(n_rows, n_out, BLOCK_N // (1 + SWIGLU), TAIL // (1 + SWIGLU))
    slot = 0
    phase = 0
    slot, phase, before = produce_columns(
        slot, phase, 0, wide, 0, x_desc, w_desc, x_ring, boxes, full, empty, sizes, BLOCK_N, RING_N,
        STAGES, GROUP_M, BOX, SWIGLU,
    )  # fmt: skip
    if TAIL < BLOCK_N:
        produce_columns(
            slot, phase, wide, n_out, before, x_desc, w_desc, x_ring, boxes, full, empty, sizes,
            TAIL, RING_N, STAGES, GROUP_M, BOX, SWIGLU,
        )  # fmt: skip


@gluon.jit
def product(
    acc, slot, phase, n_in, GROUP: gl.constexpr, x_ring, w_ring, full, empty, STEP: gl.constexpr,
    STAGES: gl.constexpr,
):  # fmt: skip
    """The sums of a tile, and the next slot. STEP: of w_ring's tiles in a slot."""
    mbarrier.wait(full.index(slot), phase)
    w = w_ring.index(slot * STEP).permute((1, 0))
    acc = warpgroup_mma(x_ring.index(slot * 2 + GROUP), w, acc, is_async=True)
    acc = warpgroup_mma_wait(1, [acc])
    before = slot
    slot, phase = advance(slot, phase, STAGES)
    for _ in range(DEEP, n_in, DEEP):
        mbarrier.wait(full.index(slot), phase)
        w = w_ring.index(slot * STEP).permute((1, 0))
        acc = warpgroup_mma(x_ring.index(slot * 2 + GROUP), w, acc, is_async=True)
        acc = warpgroup_mma_wait(1, [acc])
        release(empty.index(before))
        before = slot
        slot, phase = advance(slot, phase, STAGES)
    acc = warpgroup_mma_wait(0, [acc])
    release(empty.index(before))
    return acc, slot, phase


@gluon.jit
def product_192(
    acc, narrow, slot, phase, n_in, GROUP: gl.constexpr, x_ring, w_ring, narrow_ring, full, empty,
    STEP: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """The same for tiles of 128 and 64 beside each other, as a tile of Gluon's is a power of 2."""
    mbarrier.wait(full.index(slot), phase)
    x = x_ring.index(slot * 2 + GROUP)
    w = w_ring.index(slot * STEP).permute((1, 0))
    acc = warpgroup_mma(x, w, acc, is_async=True)
    w = narrow_ring.index(slot * STEP * 2 + 2).permute((1, 0))
    narrow = warpgroup_mma(x, w, narrow, is_async=True)
    acc, narrow = warpgroup_mma_wait(2, [acc, narrow])
    before = slot
    slot, phase = advance(slot, phase, STAGES)
    for _ in range(DEEP, n_in, DEEP):
        mbarrier.wait(full.index(slot), phase)
        x = x_ring.index(slot * 2 + GROUP)
        w = w_ring.index(slot * STEP).permute((1, 0))
        acc = warpgroup_mma(x, w, acc, is_async=True)
        w = narrow_ring.index(slot * STEP * 2 + 2).permute((1, 0))
        narrow = warpgroup_mma(x, w, narrow, is_async=True)
        acc, narrow = warpgroup_mma_wait(2, [acc, narrow])
        release(empty.index(before))
        before = slot
        slot, phase = advance(slot, phase, STAGES)
    acc, narrow = warpgroup_mma_wait(0, [acc, narrow])
    release(empty.index(before))
    return acc, narrow, slot, phase


@gluon.jit
def halves(x):
    """Of the columns; they stay where they are, in registers."""
    ROWS_X: gl.constexpr = x.shape[0]
    COLS: gl.constexpr = x.shape[1]
    return x.reshape([ROWS_X, 2, COLS // 2]).permute(0, 2, 1).split()


@gluon.jit
def put(y, row, col, y_ptr, staging, CHUNK: gl.constexpr, BOX: gl.constexpr):
    """A part of y into the matrix, by boxes of BOX columns through two tiles of shared memory in
    turn. CHUNK: how many boxes of the tile came before."""
    if y.shape[1] > BOX:
        left, right = halves(y)
        put(left, row, col, y_ptr, staging, CHUNK, BOX)
        MIDDLE: gl.constexpr = y.shape[1] // 2
        put(right, row, col + MIDDLE, y_ptr, staging, CHUNK + MIDDLE // BOX, BOX)
    else:
        buffer = staging.index(CHUNK % 2)
        tma.store_wait(1)
        gl.barrier()
        buffer.store(y.to(y_ptr.dtype))
        fence_async_shared()
        gl.barrier()
        tma.async_store(y_ptr, [row, col], buffer)


@gluon.jit
def read_residual(residual_ptr, row, col, sizes, stride, y, EVEN_N: gl.constexpr):
    """The part that is added to y, in y's layout."""
    n_rows, n_out, _ = sizes
    L: gl.constexpr = y.type.layout
    offs_n = col + gl.arange(0, y.shape[1], gl.SliceLayout(0, L))
    offs_m = row + gl.arange(0, ROWS, gl.SliceLayout(1, L))
    mask = (offs_m < n_rows)[:, None]
    if not EVEN_N:
        mask = mask & (offs_n < n_out)[None, :]
    at = residual_ptr + offs_m.to(gl.int64)[:, None] * stride + offs_n[None, :]
    return gl.load(at, mask=mask, other=0.0)


@gluon.jit
def finish(
    acc, residual, row, col, y_ptr, bias_ptr, residual_ptr, staging, sizes, strides, alpha,
    HAS_BIAS: gl.constexpr, HAS_RESIDUAL: gl.constexpr, SWIGLU: gl.constexpr,
    USE_DESCRIPTORS: gl.constexpr, EVEN_N: gl.constexpr, CHUNK: gl.constexpr, Y_BOX: gl.constexpr,
):  # fmt: skip
    """Sums to y and into the matrix, at (row, col)."""
    n_rows, n_out, _ = sizes
    y_stride, residual_stride = strides
    if SWIGLU:
        y, up = halves(acc)
    else:
        y = acc
    COLS: gl.constexpr = y.shape[1]
    L: gl.constexpr = y.type.layout
    offs_n = col + gl.arange(0, COLS, gl.SliceLayout(0, L))
    offs_m = row + gl.arange(0, ROWS, gl.SliceLayout(1, L))
    if HAS_BIAS:
        bias = gl.load(bias_ptr + offs_n, mask=offs_n < n_out, other=0.0)
        y += bias.to(gl.float32)[None, :]
    if SWIGLU:
        if HAS_BIAS:
            bias = gl.load(bias_ptr + n_out + offs_n, mask=offs_n < n_out, other=0.0)
            up += bias.to(gl.float32)[None, :]
        y = silu(y) * up
    if HAS_RESIDUAL:
        if SWIGLU:
            residual = read_residual(residual_ptr, row, col, sizes, residual_stride, y, EVEN_N)
        y = alpha * y + residual.to(gl.float32)
    if USE_DESCRIPTORS > 1:
        put(y, row, col, y_ptr, staging, CHUNK, Y_BOX)
    else:
        mask = (offs_m < n_rows)[:, None]
        if not EVEN_N:
            mask = mask & (offs_n < n_out)[None, :]
        at = y_ptr + offs_m.to(gl.int64)[:, None] * y_stride + offs_n[None, :]
        gl.store(at, y.to(y_ptr.dtype.element_ty), mask=mask)


@gluon.jit
def consume_columns(
    slot, phase, first_col, end_col, before, GROUP: gl.constexpr, x_ring, boxes, full, empty,
    y_ptr, bias_ptr, residual_ptr, staging, sizes, strides, alpha, WIDTH: gl.constexpr,
    RING_N: gl.constexpr, STAGES: gl.constexpr, GROUP_M: gl.constexpr, HAS_BIAS: gl.constexpr,
    HAS_RESIDUAL: gl.constexpr, SWIGLU: gl.constexpr, USE_DESCRIPTORS: gl.constexpr,
    EVEN_N: gl.constexpr, Y_BOX: gl.constexpr,
):  # fmt: skip
    n_rows, _, n_in = sizes
    COLS: gl.constexpr = WIDTH // (1 + SWIGLU)
    FIRST: gl.constexpr = 128 if WIDTH == 192 else WIDTH
    PARTS: gl.constexpr = RING_N // FIRST
    L: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, FIRST, 16])
    NARROW_L: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 64, 16])
    w_ring = boxes.reinterpret(boxes.dtype, [STAGES * PARTS, FIRST, DEEP], boxes.layout)
    if WIDTH == 192:
        narrow_ring = boxes.reinterpret(boxes.dtype, [STAGES * PARTS * 2, 64, DEEP], boxes.layout)
    tiles_m = gl.cdiv(n_rows, ROWS_M)
    tiles_n = gl.cdiv(end_col - first_col, COLS)
    n_tiles = tiles_m * tiles_n
    for tile in range(first_tile(before), n_tiles, gl.num_programs(0)):
        m, n = tile_at(tile, tiles_m, tiles_n, GROUP_M)
        row = m * ROWS_M + GROUP * ROWS
        col = first_col + n * COLS
        # What is added is on its way while the products run.
        acc = gl.zeros([ROWS, FIRST], gl.float32, L)
        residual = 0
        if HAS_RESIDUAL and not SWIGLU:
            residual = read_residual(residual_ptr, row, col, sizes, strides[1], acc, EVEN_N)
        if WIDTH == 192:
            LEFT: gl.constexpr = 128 // (1 + SWIGLU)
            narrow = gl.zeros([ROWS, 64], gl.float32, NARROW_L)
            right = 0
            if HAS_RESIDUAL and not SWIGLU:
                at = col + LEFT
                right = read_residual(residual_ptr, row, at, sizes, strides[1], narrow, EVEN_N)
            acc, narrow, slot, phase = product_192(
                acc, narrow, slot, phase, n_in, GROUP, x_ring, w_ring, narrow_ring, full, empty,
                PARTS, STAGES,
            )  # fmt: skip
        else:
            acc, slot, phase = product(
                acc, slot, phase, n_in, GROUP, x_ring, w_ring, full, empty, PARTS, STAGES
            )
        finish(
            acc, residual, row, col, y_ptr, bias_ptr, residual_ptr, staging, sizes, strides, alpha,
            HAS_BIAS, HAS_RESIDUAL, SWIGLU, USE_DESCRIPTORS, EVEN_N, 0, Y_BOX,
        )  # fmt: skip
        if WIDTH == 192:
            finish(
                narrow, right, row, col + LEFT, y_ptr, bias_ptr, residual_ptr, staging, sizes,
                strides, alpha, HAS_BIAS, HAS_RESIDUAL, SWIGLU, USE_DESCRIPTORS, EVEN_N,
                LEFT // Y_BOX, Y_BOX,
            )  # fmt: skip
    return slot, phase, before + n_tiles


@gluon.jit
def consume(
    GROUP: gl.constexpr, x_ring, boxes, full, empty, y_ptr, bias_ptr, residual_ptr, staging_all,
    sizes, strides, alpha, BLOCK_N: gl.constexpr, TAIL: gl.constexpr, RING_N: gl.constexpr,
    STAGES: gl.constexpr, GROUP_M: gl.constexpr, HAS_BIAS: gl.constexpr,
    HAS_RESIDUAL: gl.constexpr, SWIGLU: gl.constexpr, USE_DESCRIPTORS: gl.constexpr,
    EVEN_N: gl.constexpr, Y_BOX: gl.constexpr,
):  # fmt: skip
    n_rows, n_out, _ = sizes
    wide = split_columns(n_rows, n_out, BLOCK_N // (1 + SWIGLU), TAIL // (1 + SWIGLU))
    if USE_DESCRIPTORS > 1:
        staging = staging_all.slice(GROUP * 2, 2)
    else:
        staging = staging_all
    slot = 0
    phase = 0
    slot, phase, before = consume_columns(
        slot, phase, 0, wide, 0, GROUP, x_ring, boxes, full, empty, y_ptr, bias_ptr, residual_ptr,
        staging, sizes, strides, alpha, BLOCK_N, RING_N, STAGES, GROUP_M, HAS_BIAS, HAS_RESIDUAL,
        SWIGLU, USE_DESCRIPTORS, EVEN_N, Y_BOX,
    )  # fmt: skip
    if TAIL < BLOCK_N:
        consume_columns(
            slot, phase, wide, n_out, before, GROUP, x_ring, boxes, full, empty, y_ptr, bias_ptr,
            residual_ptr, staging, sizes, strides, alpha, TAIL, RING_N, STAGES, GROUP_M, HAS_BIAS,
            HAS_RESIDUAL, SWIGLU, USE_DESCRIPTORS, EVEN_N and BLOCK_N % TAIL == 0, Y_BOX,
        )  # fmt: skip
    if USE_DESCRIPTORS > 1:
        tma.store_wait(0)


@gluon.jit
def linear_tiled(
    y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, n_rows, n_out, n_in, y_stride, x_stride,
    residual_stride, alpha, HAS_BIAS: gl.constexpr, HAS_RESIDUAL: gl.constexpr,
    SWIGLU: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, BLOCK_K: gl.constexpr,
    GROUP_M: gl.constexpr, TMA: gl.constexpr, N_PROGRAMS: gl.constexpr, HOPPER: gl.constexpr,
    TAIL: gl.constexpr, USE_DESCRIPTORS: gl.constexpr, EVEN_N: gl.constexpr, EVEN_K: gl.constexpr,
):  # fmt: skip
    gl.static_assert(BLOCK_M == ROWS_M and BLOCK_K == DEEP)
    gl.static_assert(x_ptr.dtype == w_ptr.dtype)
    # A tile of 192 lies in room for 256.
    RING_N: gl.constexpr = 256 if BLOCK_N == 192 else BLOCK_N
    STAGES: gl.constexpr = RING_BYTES // ((ROWS_M + RING_N) * DEEP * 2)
    BOX: gl.constexpr = 32 if SWIGLU else 64
    Y_BOX: gl.constexpr = 32 if SWIGLU else 64
    dtype: gl.constexpr = x_ptr.dtype
    layout: gl.constexpr = x_ptr.layout
    x_ring = gl.allocate_shared_memory(dtype, [STAGES * 2, ROWS, DEEP], layout)
    boxes = gl.allocate_shared_memory(dtype, [STAGES * RING_N // BOX, BOX, DEEP], layout)
    if USE_DESCRIPTORS > 1:
        staging = gl.allocate_shared_memory(y_ptr.dtype, [4, ROWS, Y_BOX], y_ptr.layout)
    else:
        staging = x_ring
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    READERS: gl.constexpr = 8  # warps
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=READERS)
    fence_async_shared()
    gl.barrier()
    sizes = (n_rows, n_out, n_in)
    strides = (y_stride, residual_stride)
    gl.warp_specialize(
        [
            (consume, (
                0, x_ring, boxes, full, empty, y_ptr, bias_ptr, residual_ptr, staging, sizes,
                strides, alpha, BLOCK_N, TAIL, RING_N, STAGES, GROUP_M, HAS_BIAS, HAS_RESIDUAL,
                SWIGLU, USE_DESCRIPTORS, EVEN_N, Y_BOX,
            )),
            (consume, (
                1, x_ring, boxes, full, empty, y_ptr, bias_ptr, residual_ptr, staging, sizes,
                strides, alpha, BLOCK_N, TAIL, RING_N, STAGES, GROUP_M, HAS_BIAS, HAS_RESIDUAL,
                SWIGLU, USE_DESCRIPTORS, EVEN_N, Y_BOX,
            )),
            (produce, (
                x_ptr, w_ptr, x_ring, boxes, full, empty, sizes, BLOCK_N, TAIL, RING_N, STAGES,
                GROUP_M, BOX, SWIGLU,
            )),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip
