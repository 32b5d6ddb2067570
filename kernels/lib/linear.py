"""What the linear kernels share: the gate, reading weights, their reference and their cases."""

import numpy as np
import triton
import triton.language as tl

from kernels.spec import FLOATS, TOLERANCE, Case, filled, normal, padded, rng


@triton.jit
def silu(x):
    return x / (1.0 + tl.exp(-x))


@triton.jit
def load_weights(w_rows, offs_k, mask_n, n_in, EVEN_N: tl.constexpr, EVEN_K: tl.constexpr):
    """A tile of w at `offs_k` of its rows; what lies outside of w is 0."""
    if EVEN_N and EVEN_K:
        w = tl.load(w_rows + offs_k)
    elif EVEN_K:
        w = tl.load(w_rows + offs_k, mask=mask_n, other=0.0)
    else:
        w = tl.load(w_rows + offs_k, mask=mask_n & (offs_k < n_in), other=0.0)
    return w


def linear_reference(a):
    """In float64, with what a kernel may fuse: the norm of its input, the gate, the residual."""
    n_rows, n_out, n_in = a["n_rows"], a["n_out"], a["n_in"]
    x = a["x_ptr"][:n_rows, :n_in].astype(np.float64)
    if a.get("HAS_NORM"):
        x = x * a["norm_ptr"] / np.sqrt((x * x).mean(axis=1, keepdims=True) + a["eps"])
    y = x @ a["w_ptr"].astype(np.float64).T
    if a["HAS_BIAS"]:
        y += a["bias_ptr"]
    if a.get("SWIGLU"):
        gate, up = y[:, :n_out], y[:, n_out:]
        with np.errstate(over="ignore"):
            y = gate / (1.0 + np.exp(-gate)) * up
    if a.get("HAS_RESIDUAL"):
        y = a["alpha"] * y + a["residual_ptr"][:n_rows, :n_out]
    y_ptr = a["y_ptr"].copy()
    y_ptr[:n_rows, :n_out] = y
    return {"y_ptr": y_ptr}


def linear_case(
    name,
    n_rows,
    n_out,
    n_in,
    *,
    act,
    weight="fp16",
    bias=True,
    residual=None,
    swiglu=None,
    norm=None,
    alpha=1.0,
    pad=0,
    pads=None,
    out=None,
    std=1.0,
    rounds_norm=False,
    **ce,
):
    """x of variance std^2, w scaled so that the products have it too. What is None, the kernel does
    not take; what is False, it takes and this case does without. `pads`: of y, x and residual.
    `rounds_norm`: x * norm is of the type of x, however exact the output is."""
    g = rng(name)
    y_pad, x_pad, residual_pad = pads or (pad, pad, 2 * pad)
    n_weights = n_out * 2 if swiglu else n_out
    unit = (1.0 if norm else std) + (1.0 if bias else 0.0)
    unit = unit * unit if swiglu else unit
    args = {
        "y_ptr": filled(n_rows + 1, n_out + y_pad),
        "x_ptr": padded(g, n_rows, n_in, x_pad, std=std),
        "w_ptr": normal(g, n_weights, n_in, std=n_in**-0.5),
        "bias_ptr": normal(g, n_weights) if bias else None,
        "n_rows": n_rows,
        "n_out": n_out,
        "n_in": n_in,
        "y_stride": n_out + y_pad,
        "x_stride": n_in + x_pad,
    }
    dtypes = {"y_ptr": out or act, "x_ptr": act, "w_ptr": weight, "bias_ptr": weight}
    flags = {"HAS_BIAS": int(bias)}
    if residual is not None:
        args["residual_ptr"] = padded(g, n_rows, n_out, residual_pad) if residual else None
        args |= {"residual_stride": n_out + residual_pad, "alpha": alpha}
        unit = abs(alpha) * unit + 1.0 if residual else unit
        dtypes["residual_ptr"] = out or act
        flags["HAS_RESIDUAL"] = int(residual)
    if swiglu is not None:
        flags["SWIGLU"] = int(swiglu)
    if norm is not None:
        args |= {"norm_ptr": 1.0 + normal(g, n_in, std=0.2) if norm else None, "eps": 1e-5}
        dtypes["norm_ptr"] = weight
        if norm and rounds_norm:
            unit *= max(TOLERANCE[act] / TOLERANCE[dtypes["y_ptr"]], 1.0)
        flags["HAS_NORM"] = int(norm)
    return Case(name, args, dtypes, {**flags, **ce}, units={"y_ptr": unit})


_MOST_ELEMENTS = 16384  # of a matrix that is drawn


def draw_linear(d, x, weights, n_rows, **kwargs):
    """Sizes, strides, types and contents by chance. `n_rows`: at most so many; of x and the weights
    the kernel takes the types `x` and one of `weights`."""
    # How many tiles it is long is in the code of a stream of weights.
    n_in = d.turn(1, 16, 63, 64, 100, 128, 200, 256, 320, 512, 1024, 2048)
    n_out = d.width(1, min(300, _MOST_ELEMENTS // n_in))
    flag = d.variant.chance
    flags = {name: flag(0.5) for name in ("bias", "swiglu", "residual", "norm") if name in kwargs}
    weight = d.variant.of(*weights)
    out = d.variant.of(x, x, "fp32")
    std = d.scale(x, weight, out)
    n_rows = min(n_rows, _MOST_ELEMENTS // max(n_in, n_out))
    case = linear_case(
        d.name,
        n_rows,
        n_out,
        n_in,
        act=x,
        weight=weight,
        out=out,
        alpha=d.case.of(1.0, 0.22, -1.5),
        pads=(d.gap(n_out, n_rows), d.gap(n_in, n_rows), d.gap(n_out, n_rows)),
        std=std,
        **kwargs | flags,
    )
    d.season(case.args["x_ptr"][:, :n_in], std)
    return case


def exact_weights(x):
    """Types of weights that become type `x` without loss, for products in x's own."""
    return FLOATS if x == "fp32" else (x,)
