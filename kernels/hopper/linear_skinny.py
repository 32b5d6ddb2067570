"""linear_skinny on Hopper, in Gluon: every multiprocessor reads as many weights, without a pause.

The same formula, parameters and meaning as kernels/linear_skinny.py, which is its reference and its
Spec. For quantised weights, and x of 16 bits without a norm; a group of columns that has a scale is
64 columns of 4 bits, 128 of 8, or a multiple.
A step is 64 * SUMS rows of weights by 128 bytes of them; the steps of all tiles of outputs, tile
after tile, are cut into N_PROGRAMS parts that are equal to a step. A program's sums of a tile that
it has in part lie in `partial` until all of them do; the last to come adds them in the order of k.
So what a row gives depends on no other, but on how many programs there are, and choices have fewer
of them for many rows: of quantised weights no more than that is promised (--batch-invariant widens
them for linear_tiled).
One warp copies x and w into a ring (tensor maps, mbarriers): weights of the first steps before it
waits for the kernel before, as nothing that runs writes weights. Four others read weights into
registers, make them numbers of x's type (kernels/lib/halves.py), and multiply them from there.
PDL: the kernel after may start once this one has waited: it asks for its first weights meanwhile.
Rejected: two groups of warps that multiply, each half of the rows: slower at every size but one.
Weights of 16 bits: linear_skinny's own form is as fast. A trigger before the wait: chains stood
still now and then.
Grid: (N_PROGRAMS, M / TOKENS). Accumulation: fp32.
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
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.hopper.attention_prefill import release
from kernels.hopper.linear_tiled import advance
from kernels.lib.halves import tile_as_halves
from kernels.lib.linear import add_residual, epilogue, load_biases, scaled_rows, times_scale

ROWS_OF_SUM = gl.constexpr(64)
BYTES = gl.constexpr(128)  # of a row of weights, in a step
PIECE = gl.constexpr(64)  # columns of x that a tensor map's box has: 128 bytes


@gluon.jit
def first_step(program, n_steps):
    """Of a program."""
    return program * n_steps // gl.num_programs(0)


@gluon.jit
def program_of(step, n_steps):
    n_programs = gl.num_programs(0)
    return ((step + 1) * n_programs - 1) // n_steps


@gluon.jit
def row_of(tile, n_out, SUM: gl.constexpr, SUMS: gl.constexpr, GATED: gl.constexpr):
    """The first row of weights of a tile's sum: with GATED gates and ups take turns."""
    OUTPUTS: gl.constexpr = SUMS // (1 + GATED) * ROWS_OF_SUM
    row = tile * OUTPUTS + SUM // (1 + GATED) * ROWS_OF_SUM
    if GATED and SUM % 2 == 1:
        row += n_out
    return row


@gluon.jit
def copy_weights(
    w_desc, w_ring, bar, slot, step, k_steps, n_out, SUMS: gl.constexpr, GATED: gl.constexpr
):
    at = step % k_steps * w_desc.block_shape[1]
    for i in gl.static_range(SUMS):
        row = row_of(step // k_steps, n_out, i, SUMS, GATED)
        tma.async_load(w_desc, [row, at], bar, w_ring.index(slot * SUMS + i))


@gluon.jit
def copy_rows(x_desc, x_ring, bar, slot, step, k_steps, first_m, PIECES: gl.constexpr):
    at = step % k_steps * (PIECES * PIECE)
    for i in gl.static_range(PIECES):
        piece = x_ring.index(slot * PIECES + i)
        tma.async_load(x_desc, [first_m, at + i * PIECE], bar, piece)


@gluon.jit
def produce(
    x_desc, w_desc, x_ring, w_ring, full, empty, begin, end, k_steps, n_out, first_m,
    SUMS: gl.constexpr, PIECES: gl.constexpr, STAGES: gl.constexpr, GATED: gl.constexpr,
    PDL: gl.constexpr,
):  # fmt: skip
    TOKENS: gl.constexpr = x_ring.shape[1]
    EXPECTED: gl.constexpr = SUMS * ROWS_OF_SUM * BYTES + PIECES * TOKENS * PIECE * 2
    n_first = gl.minimum(end - begin, STAGES)
    for i in range(0, n_first):
        bar = full.index(i)
        mbarrier.expect(bar, EXPECTED)
        copy_weights(w_desc, w_ring, bar, i, begin + i, k_steps, n_out, SUMS, GATED)
    if PDL > 0:
        gdc_wait()
    for i in range(0, n_first):
        copy_rows(x_desc, x_ring, full.index(i), i, begin + i, k_steps, first_m, PIECES)
    slot = 0
    phase = 0
    for step in range(begin + n_first, end):
        bar = full.index(slot)
        mbarrier.wait(empty.index(slot), phase)
        mbarrier.expect(bar, EXPECTED)
        copy_weights(w_desc, w_ring, bar, slot, step, k_steps, n_out, SUMS, GATED)
        copy_rows(x_desc, x_ring, bar, slot, step, k_steps, first_m, PIECES)
        slot, phase = advance(slot, phase, STAGES)


@gluon.jit
def group_values(
    ptr, tile, group, sizes, SUMS: gl.constexpr, GATED: gl.constexpr, HAS: gl.constexpr,
    L: gl.constexpr,
):  # fmt: skip
    """A number of every row of weights of a tile: its group's."""
    n_out, n_groups = sizes
    values = ()
    if HAS:
        lane = gl.arange(0, ROWS_OF_SUM, gl.SliceLayout(1, L))
        for i in gl.static_range(SUMS):
            row = gl.minimum(row_of(tile, n_out, i, SUMS, GATED) + lane, n_out * (1 + GATED) - 1)
            at = row.to(gl.int64) * n_groups + gl.minimum(group, n_groups - 1)
            values = values + (gl.load(ptr + at)[:, None],)
    return values


@gluon.jit
def groups_of_step(
    step, scale_ptr, zero_ptr, tile, group_steps, sizes, SUMS: gl.constexpr, GATED: gl.constexpr,
    HAS_GROUPS: gl.constexpr, HAS_ZERO: gl.constexpr, AT_ONCE: gl.constexpr, L: gl.constexpr,
):  # fmt: skip
    """Of a tile's rows of weights, scales and zeros of each of a step's groups of columns."""
    scales = ()
    zeros = ()
    for g in gl.static_range(AT_ONCE):
        group = (step * AT_ONCE + g) // group_steps
        scale = group_values(scale_ptr, tile, group, sizes, SUMS, GATED, HAS_GROUPS, L)
        zero = group_values(zero_ptr, tile, group, sizes, SUMS, GATED, HAS_ZERO, L)
        scales = scales + (scale,)
        zeros = zeros + (zero,)
    return scales, zeros


@gluon.jit
def numbers(
    q, PART: gl.constexpr, scales, zeros, SUM: gl.constexpr, HAS_GROUPS: gl.constexpr,
    HAS_ZERO: gl.constexpr, dtype: gl.constexpr,
):  # fmt: skip
    """A tile of quantised weights in registers, rounded as kernels/lib/linear.py does."""
    w = tile_as_halves(q, PART, dtype)
    if HAS_ZERO:
        w -= (zeros[SUM].to(gl.int32) - 8).to(dtype)
    if HAS_GROUPS:
        w = times_scale(w, scales[SUM], scales[SUM].dtype == dtype).to(dtype)
    return w


@gluon.jit
def halves_of_step(q, L: gl.constexpr):
    """[64, 128] to two of [64, 64], as columns lie; they stay where they are."""
    left, right = q.reshape([ROWS_OF_SUM, 2, PIECE]).permute(0, 2, 1).split()
    return (
        gl.convert_layout(left, L, assert_trivial=True),
        gl.convert_layout(right, L, assert_trivial=True),
    )


@gluon.jit
def multiply(
    sums, held, slot, before, has_before, x_ring, w_ring, empty, scales, zeros, SUMS: gl.constexpr,
    PIECES: gl.constexpr, HAS_GROUPS: gl.constexpr, HAS_ZERO: gl.constexpr, L: gl.constexpr,
):  # fmt: skip
    """Begins a step's products, which are added to the sums, and waits for those before them, so
    that numbers are made beside products; then the slot before is free. `scales`, `zeros`: of each
    group of the step. `held`: the numbers that products under way read, whose registers have to
    keep them until these are done."""
    dtype: gl.constexpr = x_ring.dtype
    A: gl.constexpr = gl.DotOperandLayout(0, L, 2)
    PARTS: gl.constexpr = 2 if w_ring.dtype == gl.uint8 else 1
    last = sums[SUMS - 1]
    new_sums = ()
    for i in gl.static_range(SUMS):
        acc = last if i == SUMS - 1 else sums[i]
        blocks = halves_of_step(w_ring.index(slot * SUMS + i).load(A), A)
        weights = ()
        for piece in gl.static_range(PIECES):
            # Of 4 bits a block of 64 bytes is two pieces, its low halves and its high ones, each of
            # a group.
            w = numbers(
                blocks[piece // PARTS], piece % PARTS, scales[piece * (PARTS - 1)],
                zeros[piece * (PARTS - 1)], i, HAS_GROUPS, HAS_ZERO, dtype,
            )  # fmt: skip
            x = x_ring.index(slot * PIECES + piece).permute((1, 0))
            acc = warpgroup_mma(w, x, acc, is_async=True)
            weights = weights + (w,)
        if SUMS == 1:
            acc = warpgroup_mma_wait(PIECES, (acc,) + held)[0]
        elif i == 0:
            waited = warpgroup_mma_wait(PIECES, (last, acc) + held)
            last = waited[0]
            acc = waited[1]
        else:
            waited = warpgroup_mma_wait(PIECES, (new_sums[i - 1], acc) + held)
            new_sums = replaced_last(new_sums, waited[0])
            acc = waited[1]
        held = weights
        if i == 0 and has_before:
            release(empty.index(before))
        new_sums = new_sums + (acc,)
    return new_sums, held


@gluon.jit
def replaced_last(values, last):
    result = ()
    for i in gl.static_range(len(values) - 1):
        result = result + (values[i],)
    return result + (last,)


@gluon.jit
def finish(
    sums, tile, y_ptr, scale_ptr, bias_ptr, residual_ptr, n_rows, n_out, first_m, y_stride,
    residual_stride, alpha, SUMS: gl.constexpr, HAS_BIAS: gl.constexpr, HAS_RESIDUAL: gl.constexpr,
    IN_ROWS: gl.constexpr, GATED: gl.constexpr, EPILOGUE: gl.constexpr,
):  # fmt: skip
    """A tile's sums to y, columns of which lie side by side."""
    TOKENS: gl.constexpr = sums[0].shape[1]
    L: gl.constexpr = sums[0].type.layout
    Y: gl.constexpr = gl.BlockedLayout([8, 1], [8, 4], [1, 4], [0, 1])
    for i in gl.static_range(SUMS // (1 + GATED)):
        first_n = row_of(tile, n_out, i * (1 + GATED), SUMS, GATED)
        offs_n = first_n + gl.arange(0, ROWS_OF_SUM, gl.SliceLayout(1, L))
        of_tile = (sums[i],)
        if GATED:
            of_tile = (sums[2 * i], sums[2 * i + 1])
        scales = load_biases(scale_ptr, offs_n, n_out, IN_ROWS, GATED, 1)
        of_tile = scaled_rows(of_tile, scales, IN_ROWS)
        biases = load_biases(bias_ptr, offs_n, n_out, HAS_BIAS, GATED, 1)
        y = gl.convert_layout(epilogue(of_tile, biases, HAS_BIAS, EPILOGUE), Y)
        cols = (first_n + gl.arange(0, ROWS_OF_SUM, gl.SliceLayout(1, Y)))[:, None]
        rows = (first_m + gl.arange(0, TOKENS, gl.SliceLayout(0, Y)))[None, :]
        mask = (cols < n_out) & (rows < n_rows)
        rows = rows.to(gl.int64)
        y = add_residual(y, residual_ptr + rows * residual_stride + cols, mask, alpha, HAS_RESIDUAL)
        gl.store(y_ptr + rows * y_stride + cols, y.to(y_ptr.dtype.element_ty), mask=mask)


@gluon.jit
def places(SUM: gl.constexpr, TOKENS: gl.constexpr, L: gl.constexpr):
    """Where a sum lies among those of a tile."""
    row = gl.arange(0, ROWS_OF_SUM, gl.SliceLayout(1, L))[:, None]
    return (SUM * ROWS_OF_SUM + row) * TOKENS + gl.arange(0, TOKENS, gl.SliceLayout(0, L))[None, :]


@gluon.jit
def leave(partial_at, sums):
    TOKENS: gl.constexpr = sums[0].shape[1]
    for i in gl.static_range(len(sums)):
        gl.store(partial_at + places(i, TOKENS, sums[i].type.layout), sums[i])


@gluon.jit
def all_of(partial_ptr, tile, k_steps, n_steps, sums):
    """A tile's sums from those that programs have left, in the order of k; several are on their way
    at once."""
    TOKENS: gl.constexpr = sums[0].shape[1]
    L: gl.constexpr = sums[0].type.layout
    SIZE: gl.constexpr = len(sums) * ROWS_OF_SUM * TOKENS
    AT_ONCE: gl.constexpr = max(128 // (len(sums) * TOKENS), 1)
    first = program_of(tile * k_steps, n_steps)
    last = program_of(tile * k_steps + k_steps - 1, n_steps)
    totals = ()
    for _ in gl.static_range(len(sums)):
        totals = totals + (gl.zeros([ROWS_OF_SUM, TOKENS], gl.float32, L),)
    for program in range(first, last + 1, AT_ONCE):
        parts = ()
        for j in gl.static_range(AT_ONCE):
            begins_before = first_step(program + j, n_steps) <= tile * k_steps
            place = ((program + j) * 2 + begins_before.to(gl.int32)).to(gl.int64)
            of_program = ()
            for i in gl.static_range(len(sums)):
                at = partial_ptr + place * SIZE + places(i, TOKENS, L)
                is_there = (program + j <= last) & (places(i, TOKENS, L) >= 0)
                of_program = of_program + (gl.load(at, mask=is_there, other=0.0),)
            parts = parts + (of_program,)
        for j in gl.static_range(AT_ONCE):
            new_totals = ()
            for i in gl.static_range(len(sums)):
                new_totals = new_totals + (totals[i] + parts[j][i],)
            totals = new_totals
    return totals


@gluon.jit
def consume(
    y_ptr, scale_ptr, zero_ptr, bias_ptr, residual_ptr, partial_ptr, arrivals_ptr, x_ring, w_ring,
    full, empty, begin, end, k_steps, n_steps, n_rows, n_out, n_groups, group_steps, first_m,
    y_stride, residual_stride, alpha, SUMS: gl.constexpr, PIECES: gl.constexpr,
    STAGES: gl.constexpr, HAS_BIAS: gl.constexpr, HAS_RESIDUAL: gl.constexpr,
    HAS_ZERO: gl.constexpr, GROUPS: gl.constexpr, GATED: gl.constexpr, EPILOGUE: gl.constexpr,
    PDL: gl.constexpr,
):  # fmt: skip
    TOKENS: gl.constexpr = x_ring.shape[1]
    L: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, TOKENS, 16])
    A: gl.constexpr = gl.DotOperandLayout(0, L, 2)
    SIZE: gl.constexpr = SUMS * ROWS_OF_SUM * TOKENS
    # A zero is of a group, be it the whole row.
    HAS_GROUPS: gl.constexpr = GROUPS > 1 or HAS_ZERO
    GROUPS_AT_ONCE: gl.constexpr = PIECES if w_ring.dtype == gl.uint8 else 1
    program = gl.program_id(0)
    partial_ptr += gl.program_id(1).to(gl.int64) * (2 * gl.num_programs(0)) * SIZE
    arrivals_ptr += gl.program_id(1) * (n_steps // k_steps)
    if PDL > 0:
        gdc_wait()
        gdc_launch_dependents()
    sizes = (n_out, n_groups)
    slot = 0
    phase = 0
    before = 0
    for tile in range(begin // k_steps, (end - 1) // k_steps + 1):
        from_step = gl.maximum(begin - tile * k_steps, 0)
        to_step = gl.minimum(end - tile * k_steps, k_steps)
        sums = ()
        for _ in gl.static_range(SUMS):
            sums = sums + (gl.zeros([ROWS_OF_SUM, TOKENS], gl.float32, L),)
        held = ()
        for _ in gl.static_range(PIECES):
            held = held + (gl.zeros([ROWS_OF_SUM, PIECE], x_ring.dtype, A),)
        scales, zeros = groups_of_step(
            from_step, scale_ptr, zero_ptr, tile, group_steps, sizes, SUMS, GATED, HAS_GROUPS,
            HAS_ZERO, GROUPS_AT_ONCE, A,
        )  # fmt: skip
        for step in range(from_step, to_step):
            # Those of the next step are on their way under this one.
            next_scales, next_zeros = groups_of_step(
                step + 1, scale_ptr, zero_ptr, tile, group_steps, sizes, SUMS, GATED, HAS_GROUPS,
                HAS_ZERO, GROUPS_AT_ONCE, A,
            )  # fmt: skip
            mbarrier.wait(full.index(slot), phase)
            sums, held = multiply(
                sums, held, slot, before, step > from_step, x_ring, w_ring, empty, scales, zeros,
                SUMS, PIECES, HAS_GROUPS, HAS_ZERO, L,
            )  # fmt: skip
            before = slot
            slot, phase = advance(slot, phase, STAGES)
            scales = next_scales
            zeros = next_zeros
        last = warpgroup_mma_wait(0, (sums[SUMS - 1],) + held)[0]
        sums = replaced_last(sums, last)
        release(empty.index(before))
        is_mine = to_step - from_step == k_steps
        if not is_mine:
            place = (program * 2 + (from_step == 0).to(gl.int32)).to(gl.int64)
            leave(partial_ptr + place * SIZE, sums)
            n_parts = (
                program_of(tile * k_steps + k_steps - 1, n_steps)
                - program_of(tile * k_steps, n_steps) + 1
            )  # fmt: skip
            gl.barrier()
            arrived = gl.atomic_add(arrivals_ptr + tile, 1, sem="acq_rel", scope="gpu")
            is_mine = arrived == n_parts - 1
            if is_mine:
                gl.store(arrivals_ptr + tile, 0)
                sums = all_of(partial_ptr, tile, k_steps, n_steps, sums)
        if is_mine:
            finish(
                sums, tile, y_ptr, scale_ptr, bias_ptr, residual_ptr, n_rows, n_out, first_m,
                y_stride, residual_stride, alpha, SUMS, HAS_BIAS, HAS_RESIDUAL,
                not HAS_GROUPS, GATED, EPILOGUE,
            )  # fmt: skip


@gluon.jit
def linear_skinny(
    y_ptr, partial_ptr, arrivals_ptr, x_ptr, w_ptr, scale_ptr, zero_ptr, bias_ptr, norm_ptr,
    residual_ptr, n_rows, n_out, n_in, w_width, n_groups, y_stride, x_stride, residual_stride, eps,
    alpha, HAS_BIAS: gl.constexpr, HAS_NORM: gl.constexpr, HAS_RESIDUAL: gl.constexpr,
    HAS_SCALE: gl.constexpr, HAS_ZERO: gl.constexpr, GATED: gl.constexpr, EPILOGUE: gl.constexpr,
    ROWS: gl.constexpr, HOPPER: gl.constexpr, BLOCK_N: gl.constexpr, BLOCK_K: gl.constexpr,
    N_PROGRAMS: gl.constexpr, STAGES: gl.constexpr, PTX: gl.constexpr, TMA: gl.constexpr,
    PDL: gl.constexpr, TOKENS: gl.constexpr, USE_DESCRIPTORS: gl.constexpr,
    GROUPS: gl.constexpr, EVEN_N: gl.constexpr, EVEN_K: gl.constexpr,
):  # fmt: skip
    gl.static_assert(HAS_SCALE and not HAS_NORM and x_ptr.dtype.primitive_bitwidth == 16)
    SUMS: gl.constexpr = BLOCK_N // ROWS_OF_SUM * (1 + GATED)
    W: gl.constexpr = w_ptr.dtype
    PIECES: gl.constexpr = 4 if W.is_uint8() else 2
    COLUMNS: gl.constexpr = PIECES * PIECE  # of a step
    x_ring = gl.allocate_shared_memory(x_ptr.dtype, [STAGES * PIECES, TOKENS, PIECE], x_ptr.layout)
    w_ring = gl.allocate_shared_memory(
        W, [STAGES * SUMS, ROWS_OF_SUM, w_ptr.block_shape[1]], w_ptr.layout
    )
    full = mbarrier.allocate_mbarrier(batch=STAGES)
    empty = mbarrier.allocate_mbarrier(batch=STAGES)
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=4)  # warps that read
    fence_async_shared()
    gl.barrier()
    k_steps = gl.cdiv(n_in, COLUMNS)
    n_steps = gl.cdiv(n_out, BLOCK_N) * k_steps
    begin = first_step(gl.program_id(0), n_steps)
    end = first_step(gl.program_id(0) + 1, n_steps)
    first_m = gl.program_id(1) * TOKENS
    # Pieces of a step, or steps, that have one group's columns.
    group_steps = gl.maximum(
        n_in // gl.maximum(n_groups, 1) // (PIECE if PIECES == 4 else COLUMNS), 1
    )
    gl.warp_specialize(
        [
            (consume, (
                y_ptr, scale_ptr, zero_ptr, bias_ptr, residual_ptr, partial_ptr, arrivals_ptr,
                x_ring, w_ring, full, empty, begin, end, k_steps, n_steps, n_rows, n_out, n_groups,
                group_steps, first_m, y_stride, residual_stride, alpha, SUMS, PIECES, STAGES,
                HAS_BIAS, HAS_RESIDUAL, HAS_ZERO, GROUPS, GATED, EPILOGUE, PDL,
            )),
            (produce, (
                x_ptr, w_ptr, x_ring, w_ring, full, empty, begin, end, k_steps, n_out, first_m,
                SUMS, PIECES, STAGES, GATED, PDL,
            )),
        ],
        [1],
        [24],
    )  # fmt: skip
