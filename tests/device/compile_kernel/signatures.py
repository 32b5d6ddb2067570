"""Kernels with every kind of parameter."""

import triton
import triton.language as tl

HALF = tl.constexpr(3.5)


@triton.jit
def double(x):
    return x + x


class triple_above:
    @triton.jit
    def tripled(x):
        return 3 * x


@triton.jit
def many(
    x_ptr, y_ptr, n, scale=2.0, bias_ptr=None, *more,
    N: tl.constexpr = 16, F: tl.constexpr = double, flag=True,
):  # fmt: skip
    i = tl.arange(0, N)
    x = F(tl.load(x_ptr + i)) * scale
    if bias_ptr is not None:
        x += tl.load(bias_ptr + i)
    for k in tl.static_range(len(more)):
        x += tl.load(more[k] + i)
    if flag:
        x += 1
    tl.store(y_ptr + i, x, mask=i < n)


@triton.jit
def tuples(p, s, out, N: tl.constexpr):
    i = tl.arange(0, N)
    y = tl.load(p.y + i) * s[0]
    tl.store(out + i, tl.load(p.x + i) * s[1][0] + y + s[1][1])


@triton.jit
def constants(x_ptr, N: tl.constexpr, f: tl.constexpr, ab: tl.constexpr, text: tl.constexpr,
              dtype: tl.constexpr, none: tl.constexpr):  # fmt: skip
    tl.static_assert(text == "a,b")
    tl.static_assert(none is None)
    i = tl.arange(0, N)
    tl.store(x_ptr + i, (f(tl.load(x_ptr + i)) * ab[0][0] + ab[1]).to(dtype))


@triton.jit
def block_of(desc, at_i, at_j, out_ptr, N: tl.constexpr = 4, M: tl.constexpr = 8):
    i, j = tl.arange(0, N)[:, None], tl.arange(0, M)[None, :]
    tl.store(out_ptr + i * M + j, 2 * desc.load([at_i, at_j]) + desc.shape[0])


@triton.autotune(
    [
        triton.Config({"BLOCK": 32}, num_warps=2),
        triton.Config({"BLOCK": 64}, num_warps=8, num_stages=2),
        triton.Config({"BLOCK": 64}, num_warps=4),
    ],
    key=["n"],
)
@triton.heuristics({"TWICE": lambda args: 2 * args["BLOCK"]})
@triton.jit
def tuned(x_ptr, n, BLOCK: tl.constexpr, TWICE: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + i, tl.load(x_ptr + i, mask=i < n) + TWICE, mask=i < n)


@triton.heuristics(
    {
        "BLOCK": lambda args: triton.next_power_of_2(args["n"]),
        "HAS_B": lambda args: args["b_ptr"] is not None,
    }
)
@triton.jit
def guess(x_ptr, b_ptr, n, BLOCK: tl.constexpr, HAS_B: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n)
    if HAS_B:
        x += tl.load(b_ptr + i, mask=i < n)
    tl.store(x_ptr + i, x, mask=i < n)
