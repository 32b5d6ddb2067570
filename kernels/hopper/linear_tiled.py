"""linear_tiled on Hopper, in Gluon: loads, products and stores of different warps overlap.

The same formula, parameters and meaning as kernels/linear_tiled.py, which is its reference and its
Spec; and, in hopper/linear_fp8.py, that of kernels/linear_fp8.py. For x and w of one type of 16 or
8 bits whose rows tensor maps can take.
One warp copies tiles of x and w into a ring (tensor maps, mbarriers) and runs ahead into the next
tile; two groups of four warps take 64 rows of x each and all rows of w that the tile has, and issue
a product before they wait for the one before. With GATED half of a tile's rows of w are gates and
half are ups, so that one product gives both to the same thread.
Grid: (N_PROGRAMS, 1, 1); program p takes the tiles p, p + programs, ... Tiles are BLOCK_N rows of w
wide; where their last round would be short, the columns that would be computed in it have tiles of
TAIL instead, if that ends sooner. How wide a tile is changes nothing in what a row gives: each
element is the sum of the same products in the same order.
PDL: the wait only, before the first copies; what comes after starts as this ends.
Accumulation: fp32; of 8-bit floats in the tensor cores' own, where a product's terms and the sum
so far are cut to about 14 bits below the largest of them, over all columns: a second set of sums in
fp32 would be more registers than a tile of 256 columns leaves.
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
from triton.language.extra.cuda import gdc_wait

from kernels.hopper.attention_prefill import release
from kernels.lib.linear import epilogue, load_biases, scaled_both

ROW_BYTES = gl.constexpr(128)  # of a tensor map's box
ROWS = gl.constexpr(64)  # of a group
TILE_M = gl.constexpr(128)  # rows of x of a tile, both groups'
RING_BYTES = gl.constexpr(192 * 1024)


@gluon.jit
def wide_columns(
    n_rows, n_out, BLOCK_N: gl.constexpr, TAIL: gl.constexpr, GATED: gl.constexpr
):  # fmt: skip
    """How many columns of y have wide tiles."""
    WIDE: gl.constexpr = BLOCK_N // (1 + GATED)
    NARROW: gl.constexpr = TAIL // (1 + GATED)
    tiles_n = gl.cdiv(n_out, WIDE)
    if TAIL < BLOCK_N:
        tiles_m = gl.maximum(gl.cdiv(n_rows, TILE_M), 1)
        n_programs = gl.num_programs(0)
        n_tiles = tiles_m * tiles_n
        rounds = n_tiles // n_programs
        wide = rounds * n_programs // tiles_m
        rest = tiles_m * gl.cdiv(n_out - wide * WIDE, NARROW)
        # Programs that have no wide tile in the last full round begin with the others.
        rest += tiles_m * wide - rounds * n_programs
        mixed = rounds * WIDE + gl.cdiv(rest, n_programs) * NARROW
        pays = mixed < gl.cdiv(n_tiles, n_programs) * WIDE
        tiles_n = gl.where(pays, wide, tiles_n)
    return gl.minimum(tiles_n * WIDE, n_out)


@gluon.jit
def tile_at(tile, columns, GROUP_M: gl.constexpr, COLS: gl.constexpr):
    """The first row and column of y."""
    first_col, tiles_m, tiles_n = columns
    group = tile // (GROUP_M * tiles_n)
    group_rows = gl.minimum(tiles_m - group * GROUP_M, GROUP_M)
    in_group = tile % (GROUP_M * tiles_n)
    row = (group * GROUP_M + in_group % group_rows) * TILE_M
    return row, first_col + in_group // group_rows * COLS


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
    GATED: gl.constexpr,
):  # fmt: skip
    """WIDTH rows of w; with GATED half of them gates."""
    HALF: gl.constexpr = WIDTH // BOX // (1 + GATED)
    for i in gl.static_range(HALF):
        tma.async_load(w_desc, [row + i * BOX, k], bar, boxes.index(box + i))
    if GATED:
        for i in gl.static_range(HALF):
            up = n_out + row + i * BOX
            tma.async_load(w_desc, [up, k], bar, boxes.index(box + HALF + i))


@gluon.jit
def produce_columns(
    slot, phase, first_col, end_col, before, x_desc, w_desc, x_ring, boxes, full, empty, sizes,
    WIDTH: gl.constexpr, RING_N: gl.constexpr, STAGES: gl.constexpr, GROUP_M: gl.constexpr,
    BOX: gl.constexpr, GATED: gl.constexpr,
):  # fmt: skip
    n_rows, n_out, n_in = sizes
    COLS: gl.constexpr = WIDTH // (1 + GATED)
    tiles_m = gl.cdiv(n_rows, TILE_M)
    tiles_n = gl.cdiv(end_col - first_col, COLS)
    columns = (first_col, tiles_m, tiles_n)
    n_tiles = tiles_m * tiles_n
    for tile in range(first_tile(before), n_tiles, gl.num_programs(0)):
        row, col = tile_at(tile, columns, GROUP_M, COLS)
        for k in range(0, n_in, x_ring.shape[2]):
            bar = full.index(slot)
            mbarrier.wait(empty.index(slot), phase ^ 1)
            mbarrier.expect(bar, (TILE_M + WIDTH) * ROW_BYTES)
            box = slot * (RING_N // BOX)
            tma.async_load(x_desc, [row, k], bar, x_ring.index(slot * 2))
            tma.async_load(x_desc, [row + ROWS, k], bar, x_ring.index(slot * 2 + 1))
            if WIDTH == 192:
                copy_rows(w_desc, boxes, box, col, k, bar, n_out, 128, BOX, GATED)
                at = col + 128 // (1 + GATED)
                box += 128 // BOX
                copy_rows(w_desc, boxes, box, at, k, bar, n_out, 64, BOX, GATED)
            else:
                copy_rows(w_desc, boxes, box, col, k, bar, n_out, WIDTH, BOX, GATED)
            slot, phase = advance(slot, phase, STAGES)
    return slot, phase, before + n_tiles


@gluon.jit
def produce(
    x_desc, w_desc, x_ring, boxes, full, empty, sizes, BLOCK_N: gl.constexpr, TAIL: gl.constexpr,
    RING_N: gl.constexpr, STAGES: gl.constexpr, GROUP_M: gl.constexpr, BOX: gl.constexpr,
    GATED: gl.constexpr,
):  # fmt: skip
    n_rows, n_out, _ = sizes
    wide = wide_columns(n_rows, n_out, BLOCK_N, TAIL, GATED)
    slot = 0
    phase = 0
    slot, phase, before = produce_columns(
        slot, phase, 0, wide, 0, x_desc, w_desc, x_ring, boxes, full, empty, sizes, BLOCK_N, RING_N,
        STAGES, GROUP_M, BOX, GATED,
    )  # fmt: skip
    if TAIL < BLOCK_N:
        produce_columns(
            slot, phase, wide, n_out, before, x_desc, w_desc, x_ring, boxes, full, empty, sizes,
            TAIL, RING_N, STAGES, GROUP_M, BOX, GATED,
        )  # fmt: skip


@gluon.jit
def multiply(
    acc, narrow, slot, GROUP: gl.constexpr, x_ring, rings, FRESH: gl.constexpr,
    WIDTH: gl.constexpr,
):  # fmt: skip
    """Begins the products of a slot, and waits for those of the slot before. As a tile of Gluon's
    is a power of 2, one of 192 is one of 128 beside one of 64."""
    w_ring, narrow_ring = rings
    x = x_ring.index(slot * 2 + GROUP)
    PARTS: gl.constexpr = w_ring.shape[0] * 2 // x_ring.shape[0]
    w = w_ring.index(slot * PARTS).permute((1, 0))
    acc = warpgroup_mma(x, w, acc, use_acc=not FRESH, is_async=True)
    if WIDTH == 192:
        w = narrow_ring.index(slot * PARTS * 2 + 2).permute((1, 0))
        narrow = warpgroup_mma(x, w, narrow, use_acc=not FRESH, is_async=True)
        acc, narrow = warpgroup_mma_wait(2, [acc, narrow])
    else:
        acc = warpgroup_mma_wait(1, [acc])
    return acc, narrow


@gluon.jit
def read_residual(
    residual_ptr, row, col, sizes, stride, N_COLS: gl.constexpr, L: gl.constexpr,
    EVEN_N: gl.constexpr,
):  # fmt: skip
    n_rows, n_out, _ = sizes
    offs_n = col + gl.arange(0, N_COLS, gl.SliceLayout(0, L))
    offs_m = row + gl.arange(0, ROWS, gl.SliceLayout(1, L))
    mask = (offs_m < n_rows)[:, None]
    if not EVEN_N:
        mask = mask & (offs_n < n_out)[None, :]
    at = residual_ptr + offs_m.to(gl.int64)[:, None] * stride + offs_n[None, :]
    return gl.load(at, mask=mask, other=0.0)


@gluon.jit
def halves(x):
    """Of the columns; they stay where they are, in registers."""
    N_COLS: gl.constexpr = x.shape[1]
    return x.reshape([ROWS, 2, N_COLS // 2]).permute(0, 2, 1).split()


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
        tma.store_wait(0 if CHUNK == 0 else 1)  # of a tile before, any may be in this buffer
        gl.barrier()
        buffer.store(y.to(y_ptr.dtype))
        fence_async_shared()
        gl.barrier()
        tma.async_store(y_ptr, [row, col], buffer)


@gluon.jit
def finish(
    acc, residual, row, col, y_ptr, bias_ptr, residual_ptr, scales, staging, sizes, strides, alpha,
    HAS_BIAS: gl.constexpr, HAS_RESIDUAL: gl.constexpr, GATED: gl.constexpr, EPILOGUE: gl.constexpr,
    USE_DESCRIPTORS: gl.constexpr, EVEN_N: gl.constexpr, CHUNK: gl.constexpr, Y_BOX: gl.constexpr,
):  # fmt: skip
    """Sums to y and into the matrix, at (row, col)."""
    n_rows, n_out, _ = sizes
    y_stride, residual_stride = strides
    sums = halves(acc) if GATED else (acc,)
    N_COLS: gl.constexpr = sums[0].shape[1]
    L: gl.constexpr = sums[0].type.layout
    offs_n = col + gl.arange(0, N_COLS, gl.SliceLayout(0, L))
    if len(scales) > 0:
        offs_m = row + gl.arange(0, ROWS, gl.SliceLayout(1, L))
        sums = scaled_both(sums, scales, offs_m, offs_n, n_rows, n_out, GATED)
    biases = load_biases(bias_ptr, offs_n, n_out, HAS_BIAS, GATED, 0)
    y = epilogue(sums, biases, HAS_BIAS, EPILOGUE)
    if HAS_RESIDUAL:
        if GATED:
            residual = read_residual(
                residual_ptr, row, col, sizes, residual_stride, N_COLS, L, EVEN_N
            )
        y = alpha * y + residual.to(gl.float32)
    if USE_DESCRIPTORS > 1:
        put(y, row, col, y_ptr, staging, CHUNK, Y_BOX)
    else:
        offs_m = row + gl.arange(0, ROWS, gl.SliceLayout(1, L))
        mask = (offs_m < n_rows)[:, None]
        if not EVEN_N:
            mask = mask & (offs_n < n_out)[None, :]
        at = y_ptr + offs_m.to(gl.int64)[:, None] * y_stride + offs_n[None, :]
        gl.store(at, y.to(y_ptr.dtype.element_ty), mask=mask)


@gluon.jit
def consume_columns(
    slot, phase, first_col, end_col, before, GROUP: gl.constexpr, x_ring, boxes, full, empty,
    y_ptr, bias_ptr, residual_ptr, scales, staging, sizes, strides, alpha, WIDTH: gl.constexpr,
    RING_N: gl.constexpr, STAGES: gl.constexpr, GROUP_M: gl.constexpr, HAS_BIAS: gl.constexpr,
    HAS_RESIDUAL: gl.constexpr, GATED: gl.constexpr, EPILOGUE: gl.constexpr,
    USE_DESCRIPTORS: gl.constexpr, EVEN_N: gl.constexpr, Y_BOX: gl.constexpr,
):  # fmt: skip
    n_rows, _, n_in = sizes
    COLS: gl.constexpr = WIDTH // (1 + GATED)
    FIRST: gl.constexpr = 128 if WIDTH == 192 else WIDTH
    LEFT: gl.constexpr = FIRST // (1 + GATED)
    ADDS: gl.constexpr = HAS_RESIDUAL and not GATED
    DEEP: gl.constexpr = x_ring.shape[2]
    STEP: gl.constexpr = DEEP // 4  # columns of one instruction: 32 bytes
    L: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, FIRST, STEP])
    NARROW_L: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 64, STEP])
    rings = (
        boxes.reinterpret(boxes.dtype, [STAGES * RING_N // FIRST, FIRST, DEEP], boxes.layout),
        boxes.reinterpret(boxes.dtype, [STAGES * RING_N // 64, 64, DEEP], boxes.layout),
    )
    tiles_m = gl.cdiv(n_rows, TILE_M)
    tiles_n = gl.cdiv(end_col - first_col, COLS)
    columns = (first_col, tiles_m, tiles_n)
    n_tiles = tiles_m * tiles_n
    for tile in range(first_tile(before), n_tiles, gl.num_programs(0)):
        acc = gl.zeros([ROWS, FIRST], gl.float32, L)
        narrow = gl.zeros([ROWS, 64], gl.float32, NARROW_L)
        mbarrier.wait(full.index(slot), phase)
        acc, narrow = multiply(acc, narrow, slot, GROUP, x_ring, rings, True, WIDTH)
        # Under the first products: where the tile is, and what is added to it, on its way.
        row, col = tile_at(tile, columns, GROUP_M, COLS)
        row += GROUP * ROWS
        residual = 0
        right = 0
        if ADDS:
            residual = read_residual(residual_ptr, row, col, sizes, strides[1], FIRST, L, EVEN_N)
            if WIDTH == 192:
                right = read_residual(
                    residual_ptr, row, col + LEFT, sizes, strides[1], 64, NARROW_L, EVEN_N
                )
        done = slot
        slot, phase = advance(slot, phase, STAGES)
        for _ in range(DEEP, n_in, DEEP):
            mbarrier.wait(full.index(slot), phase)
            acc, narrow = multiply(acc, narrow, slot, GROUP, x_ring, rings, False, WIDTH)
            release(empty.index(done))
            done = slot
            slot, phase = advance(slot, phase, STAGES)
        if WIDTH == 192:
            acc, narrow = warpgroup_mma_wait(0, [acc, narrow])
        else:
            acc = warpgroup_mma_wait(0, [acc])
        release(empty.index(done))
        finish(
            acc, residual, row, col, y_ptr, bias_ptr, residual_ptr, scales, staging, sizes, strides,
            alpha, HAS_BIAS, HAS_RESIDUAL, GATED, EPILOGUE, USE_DESCRIPTORS, EVEN_N, 0, Y_BOX,
        )  # fmt: skip
        if WIDTH == 192:
            finish(
                narrow, right, row, col + LEFT, y_ptr, bias_ptr, residual_ptr, scales, staging,
                sizes, strides, alpha, HAS_BIAS, HAS_RESIDUAL, GATED, EPILOGUE, USE_DESCRIPTORS,
                EVEN_N, LEFT // Y_BOX, Y_BOX,
            )  # fmt: skip
    return slot, phase, before + n_tiles


@gluon.jit
def consume(
    GROUP: gl.constexpr, x_ring, boxes, full, empty, y_ptr, bias_ptr, residual_ptr, scales,
    staging_all, sizes, strides, alpha, BLOCK_N: gl.constexpr, TAIL: gl.constexpr,
    RING_N: gl.constexpr, STAGES: gl.constexpr, GROUP_M: gl.constexpr, HAS_BIAS: gl.constexpr,
    HAS_RESIDUAL: gl.constexpr, GATED: gl.constexpr, EPILOGUE: gl.constexpr,
    USE_DESCRIPTORS: gl.constexpr, EVEN_N: gl.constexpr, Y_BOX: gl.constexpr,
):  # fmt: skip
    n_rows, n_out, _ = sizes
    wide = wide_columns(n_rows, n_out, BLOCK_N, TAIL, GATED)
    if USE_DESCRIPTORS > 1:
        staging = staging_all.slice(GROUP * 2, 2)
    else:
        staging = staging_all
    slot = 0
    phase = 0
    slot, phase, before = consume_columns(
        slot, phase, 0, wide, 0, GROUP, x_ring, boxes, full, empty, y_ptr, bias_ptr, residual_ptr,
        scales, staging, sizes, strides, alpha, BLOCK_N, RING_N, STAGES, GROUP_M, HAS_BIAS,
        HAS_RESIDUAL, GATED, EPILOGUE, USE_DESCRIPTORS, EVEN_N, Y_BOX,
    )  # fmt: skip
    if TAIL < BLOCK_N:
        consume_columns(
            slot, phase, wide, n_out, before, GROUP, x_ring, boxes, full, empty, y_ptr, bias_ptr,
            residual_ptr, scales, staging, sizes, strides, alpha, TAIL, RING_N, STAGES, GROUP_M,
            HAS_BIAS, HAS_RESIDUAL, GATED, EPILOGUE, USE_DESCRIPTORS,
            EVEN_N and BLOCK_N % TAIL == 0, Y_BOX,
        )  # fmt: skip
    if USE_DESCRIPTORS > 1:
        tma.store_wait(0)


@gluon.jit
def tiled_product(
    y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, scales, n_rows, n_out, n_in, y_stride,
    residual_stride, alpha, HAS_BIAS: gl.constexpr, HAS_RESIDUAL: gl.constexpr,
    GATED: gl.constexpr, EPILOGUE: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr,
    BLOCK_K: gl.constexpr, GROUP_M: gl.constexpr, PDL: gl.constexpr, TAIL: gl.constexpr,
    USE_DESCRIPTORS: gl.constexpr, EVEN_N: gl.constexpr,
):  # fmt: skip
    """The tiles of this program. `scales`: as in scaled_both, or ()."""
    DEEP: gl.constexpr = ROW_BYTES // (x_ptr.dtype.primitive_bitwidth // 8)
    gl.static_assert(BLOCK_M == TILE_M and BLOCK_K == DEEP)
    gl.static_assert(x_ptr.dtype == w_ptr.dtype)
    # A tile of 192 lies in room for 256.
    RING_N: gl.constexpr = 256 if BLOCK_N == 192 else BLOCK_N
    STAGES: gl.constexpr = RING_BYTES // ((TILE_M + RING_N) * ROW_BYTES)
    BOX: gl.constexpr = 32 if GATED else 64
    Y_BOX: gl.constexpr = 32 if GATED else 64
    dtype: gl.constexpr = x_ptr.dtype
    x_ring = gl.allocate_shared_memory(dtype, [STAGES * 2, ROWS, DEEP], x_ptr.layout)
    boxes = gl.allocate_shared_memory(dtype, [STAGES * RING_N // BOX, BOX, DEEP], w_ptr.layout)
    if USE_DESCRIPTORS > 1:
        staging = gl.allocate_shared_memory(y_ptr.dtype, [4, ROWS, Y_BOX], y_ptr.layout)
    else:
        staging = x_ring
    full = mbarrier.allocate_mbarrier(batch=STAGES)
    empty = mbarrier.allocate_mbarrier(batch=STAGES)
    READERS: gl.constexpr = 8  # warps
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=READERS)
    fence_async_shared()
    gl.barrier()
    if PDL > 0:
        gdc_wait()
    sizes = (n_rows, n_out, n_in)
    strides = (y_stride, residual_stride)
    gl.warp_specialize(
        [
            (consume, (
                0, x_ring, boxes, full, empty, y_ptr, bias_ptr, residual_ptr, scales, staging,
                sizes, strides, alpha, BLOCK_N, TAIL, RING_N, STAGES, GROUP_M, HAS_BIAS,
                HAS_RESIDUAL, GATED, EPILOGUE, USE_DESCRIPTORS, EVEN_N, Y_BOX,
            )),
            (consume, (
                1, x_ring, boxes, full, empty, y_ptr, bias_ptr, residual_ptr, scales, staging,
                sizes, strides, alpha, BLOCK_N, TAIL, RING_N, STAGES, GROUP_M, HAS_BIAS,
                HAS_RESIDUAL, GATED, EPILOGUE, USE_DESCRIPTORS, EVEN_N, Y_BOX,
            )),
            (produce, (
                x_ptr, w_ptr, x_ring, boxes, full, empty, sizes, BLOCK_N, TAIL, RING_N, STAGES,
                GROUP_M, BOX, GATED,
            )),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip


@gluon.jit
def linear_tiled(
    y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, n_rows, n_out, n_in, y_stride, x_stride,
    residual_stride, alpha, HAS_BIAS: gl.constexpr, HAS_RESIDUAL: gl.constexpr,
    GATED: gl.constexpr, EPILOGUE: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr,
    BLOCK_K: gl.constexpr, GROUP_M: gl.constexpr, TMA: gl.constexpr, N_PROGRAMS: gl.constexpr,
    PDL: gl.constexpr, HOPPER: gl.constexpr, TAIL: gl.constexpr, USE_DESCRIPTORS: gl.constexpr,
    EVEN_N: gl.constexpr, EVEN_K: gl.constexpr,
):  # fmt: skip
    tiled_product(
        y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, (), n_rows, n_out, n_in, y_stride,
        residual_stride, alpha, HAS_BIAS, HAS_RESIDUAL, GATED, EPILOGUE, BLOCK_M, BLOCK_N, BLOCK_K,
        GROUP_M, PDL, TAIL, USE_DESCRIPTORS, EVEN_N,
    )  # fmt: skip
