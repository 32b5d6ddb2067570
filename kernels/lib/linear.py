"""What the linear kernels share: reading weights, what sums become, their reference and cases."""

from dataclasses import replace

import numpy as np
import triton
import triton.language as tl

from kernels.lib.expression_text import meaning, values_of
from kernels.lib.halves import tile_as_halves
from kernels.lib.quantized import TYPES, of_columns, packed, unpacked
from kernels.spec import FLOATS, TOLERANCE, Case, filled, normal, padded, rng


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


@triton.jit
def rows_of_sums(w_rows, n_out, width, GATED: tl.constexpr):
    """Where the rows of weights of each sum lie: those of gates, and of ups behind all gates."""
    if GATED:
        return (w_rows, w_rows + n_out.to(tl.int64) * width)
    else:
        return (w_rows,)


@triton.jit
def times_scale(w, scale, IN_ITS_TYPE: tl.constexpr):
    """Weights times the scale of their group, in fp32 but where it is of their type."""
    if IN_ITS_TYPE:
        w *= scale
    else:
        # Not w * scale: LLVM computes (i8 * bf16).to(fp16) in fp16, whose range holds no such
        # scale.
        w = tl.fma(w.to(tl.float32), scale.to(tl.float32), 0.0)
    return w


@triton.jit
def dequantised(
    tiles, scale_rows, zero_rows, group, mask_n, PART: tl.constexpr, HAS_GROUPS: tl.constexpr,
    HAS_ZERO: tl.constexpr, dtype: tl.constexpr, PTX: tl.constexpr = False,
    CUT_SHORT: tl.constexpr = False,
):  # fmt: skip
    """Tiles of weights (kernels/lib/quantized.py) of each sum as `dtype`; of 4 bits the low numbers
    of the bytes, or in PART 1 the high ones. HAS_GROUPS: times the scale of `group`, in which all
    columns are; else each row's scale is left for its sums. PTX: to 16 bits by NVIDIA's own
    instructions. CUT_SHORT: bytes are fp16 without its low half."""
    IS_4_BITS: tl.constexpr = tiles[0].dtype == tl.uint8
    weights = ()
    for i in tl.static_range(len(tiles)):
        q = tiles[i]
        if PTX:
            w = tile_as_halves(q, PART, dtype)
            if HAS_ZERO:
                w -= (tl.load(zero_rows[i] + group, mask=mask_n).to(tl.int32) - 8).to(dtype)
        else:
            if IS_4_BITS:
                # Widened before it is cut: there are no shifts of bytes.
                w = ((q.to(tl.int32) >> (4 * PART)) & 15).to(tl.float32)
            elif CUT_SHORT:
                w = (q.to(tl.int16) << 8).to(tl.float16, bitcast=True).to(tl.float32)
            else:
                w = q.to(tl.float32)
            if HAS_ZERO:
                w -= tl.load(zero_rows[i] + group, mask=mask_n).to(tl.float32)
            elif IS_4_BITS:
                w -= 8.0
        if HAS_GROUPS:
            scale = tl.load(scale_rows[i] + group, mask=mask_n)
            w = times_scale(w, scale, PTX and scale.dtype == dtype)
        weights = weights + (w.to(dtype),)
    return weights


@triton.jit
def scaled_rows(sums, scales, HAS_SCALE: tl.constexpr):
    """Times the scale of each sum's rows of weights."""
    results = sums
    if HAS_SCALE:
        results = ()
        for i in tl.static_range(len(sums)):
            results = results + (sums[i] * scales[i],)
    return results


@triton.jit
def zero_sums(SHAPE: tl.constexpr, GATED: tl.constexpr):
    zero = tl.zeros(SHAPE, tl.float32)
    return (zero, zero) if GATED else (zero,)


@triton.jit
def scaled(sums, factor):
    results = ()
    for i in tl.static_range(len(sums)):
        results = results + (sums[i] * factor,)
    return results


@triton.jit
def load_biases(
    bias_ptr, offs_n, n_out, HAS_BIAS: tl.constexpr, GATED: tl.constexpr, AXIS: tl.constexpr
):
    """The bias of each sum at columns `offs_n`, spread along AXIS of a tile (None: as it lies)."""
    biases = ()
    if HAS_BIAS:
        for i in tl.static_range(1 + GATED):
            at = bias_ptr + i * n_out + offs_n
            bias = tl.load(at, mask=offs_n < n_out, other=0.0).to(tl.float32)
            biases = biases + (bias if AXIS is None else tl.expand_dims(bias, AXIS),)
    return biases


@triton.jit
def scaled_both(sums, scales, offs_m, offs_n, n_rows, n_out, GATED: tl.constexpr):
    """Times the scale of each row of x and that of each row of weights. `scales`: where they
    lie."""
    x_scale = tl.load(scales[0] + offs_m, mask=offs_m < n_rows, other=0.0)
    sums = scaled(sums, tl.expand_dims(x_scale, 1))
    return scaled_rows(sums, load_biases(scales[1], offs_n, n_out, True, GATED, 0), True)


@triton.jit
def epilogue(sums, biases, HAS_BIAS: tl.constexpr, EPILOGUE: tl.constexpr):
    """A tile of what a linear computes. `sums`: one, or as many as EPILOGUE takes; `biases`: of
    each."""
    if HAS_BIAS:
        biased = ()
        for i in tl.static_range(len(sums)):
            biased = biased + (sums[i] + biases[i],)
        sums = biased
    y = sums[0]
    if EPILOGUE is not None:
        y = EPILOGUE(*sums)
    return y


@triton.jit
def add_residual(y, residual_at, mask, alpha, HAS_RESIDUAL: tl.constexpr):
    if HAS_RESIDUAL:
        y = alpha * y + tl.load(residual_at, mask=mask, other=0.0).to(tl.float32)
    return y


def weights_of(a):
    """What w stands for, [N, K] in float64."""
    w, n_in = a["w_ptr"], a["n_in"]
    if not a.get("HAS_SCALE"):
        return w.astype(np.float64)
    is_4_bits = a["dtypes"]["w_ptr"] == "u8"
    q = (unpacked(w, n_in) if is_4_bits else w).astype(np.float64)
    group = n_in // a["n_groups"]
    if is_4_bits:
        q -= of_columns(a["zero_ptr"].astype(np.float64), group, n_in) if a["HAS_ZERO"] else 8.0
    return q * of_columns(a["scale_ptr"].astype(np.float64), group, n_in)


def linear_reference(a):
    """In float64, with what a kernel may fuse: norm of the input, epilogue, residual."""
    n_rows, n_out, n_in = a["n_rows"], a["n_out"], a["n_in"]
    x = a["x_ptr"][:n_rows, :n_in].astype(np.float64)
    if a.get("HAS_NORM"):
        x = x * a["norm_ptr"] / np.sqrt((x * x).mean(axis=1, keepdims=True) + a["eps"])
    y = x @ weights_of(a).T
    if a["HAS_BIAS"]:
        y += a["bias_ptr"]
    if a.get("EPILOGUE"):
        y = meaning(a["EPILOGUE"])(*np.split(y, 1 + a["GATED"], axis=1))
    if a.get("HAS_RESIDUAL"):
        y = a["alpha"] * y + a["residual_ptr"][:n_rows, :n_out]
    y_ptr = a["y_ptr"].copy()
    y_ptr[:n_rows, :n_out] = y
    return {"y_ptr": y_ptr}


def quantised_case(case, weight, n_groups=1, has_zero=False, scale="fp32"):
    """The case with a weight of the type `weight` in the place of its own."""
    args, g = dict(case.args), rng(case.name + " quantised")
    n_rows, n_in = args["w_ptr"].shape
    std = n_in**-0.5
    levels = {"i8": 127.0, "u8": 7.0, "fp8e4nv": 448.0, "fp8e5": 57344.0}[weight]
    # The largest of a row stand at three deviations.
    unit = 3.0 * std / levels
    if weight == "u8":
        q = packed(g.integers(0, 16, (n_rows, n_in)).astype(np.uint8))
        unit = std / 5.0
    elif weight == "i8":
        q = np.clip(np.rint(args["w_ptr"] / unit), -127, 127).astype(np.int8)
    else:
        q = (args["w_ptr"] / unit).astype(np.float32)
    scales = unit * g.uniform(0.5, 1.5, (n_rows, n_groups)).astype(np.float32)
    zero = g.integers(0, 17, (n_rows, n_groups)).astype(np.uint8) if has_zero else None
    args |= {"w_ptr": q, "scale_ptr": scales, "zero_ptr": zero, "w_width": q.shape[1],
             "n_groups": n_groups}  # fmt: skip
    dtypes = {**case.dtypes, "w_ptr": weight, "scale_ptr": scale, "zero_ptr": "u8"}
    flags = {**case.constexprs, "HAS_SCALE": 1, "HAS_ZERO": int(has_zero)}
    units = {name: 2.0 * unit for name, unit in case.units.items()}
    return replace(case, args=args, dtypes=dtypes, constexprs=flags, units=units)


def linear_case(
    name,
    n_rows,
    n_out,
    n_in,
    *,
    act,
    weight="fp16",
    bias=True,
    residual=False,
    epilogue="",
    norm=None,
    alpha=1.0,
    pad=0,
    pads=None,
    out=None,
    std=1.0,
    rounds_norm=False,
    may_quantise=False,
    n_groups=1,
    has_zero=False,
    scale="fp32",
    **ce,
):
    """x of variance std^2, w scaled so that the products have it too. A norm of None the kernel
    does not take; one of False it takes and this case does without. `pads`: of y, x and residual.
    `may_quantise`: the kernel takes such weights; `weight` may be one of their types then.
    `rounds_norm`: x * norm is of the type of x, however exact the output is."""
    g = rng(name)
    is_quantised = weight in TYPES
    of_weight, weight = weight, ("fp16" if act == "fp32" else act) if is_quantised else weight
    y_pad, x_pad, residual_pad = pads or (pad, pad, 2 * pad)
    n_sums = len(values_of(epilogue)) if epilogue else 1
    n_weights = n_out * n_sums
    unit = ((1.0 if norm else std) + (1.0 if bias else 0.0)) ** n_sums
    args = {
        "y_ptr": filled(n_rows + 1, n_out + y_pad),
        "x_ptr": padded(g, n_rows, n_in, x_pad, std=std),
        "w_ptr": normal(g, n_weights, n_in, std=n_in**-0.5),
        "bias_ptr": normal(g, n_weights) if bias else None,
        "residual_ptr": padded(g, n_rows, n_out, residual_pad) if residual else None,
        "n_rows": n_rows,
        "n_out": n_out,
        "n_in": n_in,
        "y_stride": n_out + y_pad,
        "x_stride": n_in + x_pad,
        "residual_stride": n_out + residual_pad,
        "alpha": alpha,
    }
    dtypes = {"y_ptr": out or act, "x_ptr": act, "w_ptr": weight, "bias_ptr": weight}
    dtypes["residual_ptr"] = out or act
    flags = {"HAS_BIAS": int(bias), "HAS_RESIDUAL": int(residual), "GATED": n_sums - 1}
    unit = abs(alpha) * unit + 1.0 if residual else unit
    if norm is not None:
        args |= {"norm_ptr": 1.0 + normal(g, n_in, std=0.2) if norm else None, "eps": 1e-5}
        dtypes["norm_ptr"] = weight
        if norm and rounds_norm:
            unit *= max(TOLERANCE[act] / TOLERANCE[dtypes["y_ptr"]], 1.0)
        flags["HAS_NORM"] = int(norm)
    if is_quantised and rounds_norm and (n_groups > 1 or has_zero) and not norm:
        # Then w times its scale is of the type of x, too.
        unit *= max(TOLERANCE[act] / TOLERANCE[dtypes["y_ptr"]], 1.0)
    functions = {"EPILOGUE": epilogue} if epilogue else {}
    if may_quantise:
        args |= {"scale_ptr": None, "zero_ptr": None, "w_width": n_in, "n_groups": 0}
        dtypes |= {"scale_ptr": "fp32", "zero_ptr": "u8"}
        flags |= {"HAS_SCALE": 0, "HAS_ZERO": 0}
    case = Case(name, args, dtypes, {**flags, **ce}, units={"y_ptr": unit}, functions=functions)
    return quantised_case(case, of_weight, n_groups, has_zero, scale) if is_quantised else case


SWIGLU = "(gate, up) -> silu(gate) * up"
GEGLU = "(gate, up) -> gelu_tanh(gate) * up"
SOFTCAP = "(x) -> softcap(x, 30.0)"
# Those of known models, and such as none has.
_EPILOGUES = (
    SWIGLU, GEGLU, SOFTCAP, "(gate, up) -> gelu(gate) * up", "(x) -> gelu(x)", "(x) -> relu(x)",
    "(x) -> 0.0625 * x",
    "(a, b) -> most = max(a, b); return where(most < 0.0, 0.1 * most, most) + abs(b)",
)  # fmt: skip

_MOST_ELEMENTS = 16384  # of a matrix that is drawn


# How many tiles a row is long is in the code of a stream of weights.
_WIDTHS = (1, 16, 63, 64, 100, 128, 200, 256, 320, 512, 1024, 2048)


def draw_linear(d, x, weights, n_rows, *, widths=_WIDTHS, case_of=linear_case, **kwargs):
    """Sizes, strides, types and contents by chance. `n_rows`: at most so many; of x and the weights
    the kernel takes the types `x` and one of `weights`; K is one of `widths`."""
    n_in = d.turn(*widths)
    n_out = d.width(1, min(300, _MOST_ELEMENTS // n_in))
    flag = d.variant.chance
    flags = {name: flag(0.5) for name in ("bias", "residual", "norm") if name in kwargs}
    weight = d.variant.of(*weights)
    out = d.variant.of(x, x, "fp32")
    std = d.scale(x, weight, out)
    if kwargs.get("may_quantise") and flag(0.5):
        weight = d.variant.of(*TYPES)
        sizes = [n_in // group for group in (32, 64, 128, 256) if n_in % group == 0]
        flags["n_groups"] = d.variant.of(1, *sizes)
        flags["has_zero"] = weight == "u8" and flag(0.5)
        flags["scale"] = d.variant.of("fp32", "fp16", "bf16")
    n_rows = min(n_rows, _MOST_ELEMENTS // max(n_in, n_out))
    case = case_of(
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
        epilogue=d.variant.of(*_EPILOGUES) if flag(0.6) else "",
        **kwargs | flags,
    )
    if case.dtypes["x_ptr"] in FLOATS:
        d.season(case.args["x_ptr"][:, :n_in], std)
    return case


def exact_weights(x):
    """Types of weights that become type `x` without loss, for products in x's own."""
    return FLOATS if x == "fp32" else (x,)
