"""What generated kernels are checked with: their operands and results as numpy sees them, and cases
for any of them.

A generated kernel's reference computes its expressions in float64, each operation's result rounded
to its element type, as the operation's own kernel would store it.
"""

import numpy as np

from kernels.lib import expressions
from kernels.lib.rope import inverse_frequencies
from kernels.spec import TOLERANCE, Case, filled, normal, padded, rng


def operand(a, name):
    """Of the case's arguments, in float64; a matrix without what lies between its rows. Heads are
    rows, each with its token's position."""
    value, group = a[name], a.get("group", 1)
    if value.ndim == 2:
        return table(a, name)[: a["n_rows"]]
    if value.dtype == np.int32:
        return np.repeat(value, group)[: a["n_rows"]]
    return value.astype(np.float64)


def table(a, name):
    """Of which the rows that ids choose are read."""
    n_cols = a["n_cols"]
    return a[name][:, : a.get("group", 1) * n_cols].reshape(-1, n_cols).astype(np.float64)


def stored(a, values, dtype):
    """A result row for each row, as it lies in memory."""
    return expressions.stored(np.broadcast_to(values, (a["n_rows"], a["n_cols"])), dtype)


def turned(x, positions, inv_freq):
    """What RoPE computes each column with: the other half's, and the angle's cosine and sine. The
    angle is rounded to fp32 as the models' own code does."""
    angle = positions[:, None].astype(np.float32) * inv_freq.astype(np.float32)
    cos, sin = np.cos(angle.astype(np.float64)), np.sin(angle.astype(np.float64))
    x1, x2 = np.split(x, 2, axis=1)
    return (
        np.concatenate([x2, x1], axis=1),
        np.concatenate([cos, cos], axis=1),
        np.concatenate([-sin, sin], axis=1),
    )


def results(a, **rows):
    """Whole buffers: rows that a kernel must not touch are as they were."""
    whole = {name: a[name].copy() for name in rows}
    for name, values in rows.items():
        whole[name][: a["n_rows"]] = values
    return whole


def tolerance(coarsest):
    """Of results computed from values that were rounded to that type."""
    return {dtype: max(most, TOLERANCE[coarsest]) for dtype, most in TOLERANCE.items()}


_N_TABLE = 11  # rows of a table that ids choose from
_N_HEADS = 3  # of a token
_N_POSITIONS = 500


def _case(params, tables, name, n_rows, n_cols, pads, std=1.0):
    """For the parameters of a generated kernel. `tables`: its matrices whose rows ids choose;
    `pads`: behind the rows of each matrix, in turn."""
    pointers = {p.name: p for p in params if p.shape}
    strides = [p.name for p in params if p.role == "stride"]
    g = rng("".join(pointers) + name)
    n_tokens, width, args = n_rows, n_cols, {}
    has_heads = _has_heads(params)
    if has_heads:
        n_rows, width, args = n_rows * _N_HEADS, n_cols * _N_HEADS, {"group": _N_HEADS}
    gaps = {stride: pads[i % len(pads)] for i, stride in enumerate(strides)}
    args |= {"n_rows": n_rows, "n_cols": n_cols}
    args |= {stride: width + gap for stride, gap in gaps.items()}
    for param in pointers.values():
        if param.role == "out":
            args[param.name] = filled(n_rows + 1, n_cols)
        elif param.types[0] == "i32":
            limit = _N_POSITIONS if has_heads else _N_TABLE
            args[param.name] = g.integers(0, limit, max(n_tokens, 1)).astype(np.int32)
        elif param.shape == ("n_cols // 2",):
            args[param.name] = inverse_frequencies(n_cols)
        elif len(param.shape) == 2:
            n = _N_TABLE if param.name in tables else n_tokens
            args[param.name] = padded(g, n, width, gaps[param.shape[1]], std=std)
        else:
            args[param.name] = normal(g, n_cols, std=0.1) + 1.0
    return Case(name, args, {p.name: p.types[0] for p in pointers.values()})


def _has_heads(params):
    return any(p.name == "group" for p in params)


def cases(params, tables=(), is_long=False):
    """Widths and strides of every kind; `is_long`: of rows that are read in parts."""
    yield _case(params, tables, "one_row", 1, 64, (0,))
    yield _case(params, tables, "even", 5, 384, (128,))
    odd = 78 if _has_heads(params) else 17411 if is_long else 77
    yield _case(params, tables, "odd", 3, odd, (3,))
    yield _case(params, tables, "wide", 2, 17408 if is_long else 2048, (0,))


def draw(d, params, tables=(), is_long=False):
    """By chance: `d` is a kernels.lib.draws.Draw."""
    has_heads = _has_heads(params)
    n_cols = d.width(2, 256, step=2) if has_heads else d.width(1, 20000 if is_long else 4100)
    width = n_cols * (_N_HEADS if has_heads else 1)
    n_rows = d.rows(max(1, min(12, 9000 // width)))
    pads = [d.gap(width, _N_TABLE) for _ in range(3)]
    return _case(
        params, tables, d.name, n_rows, n_cols, pads, std=d.case.of(1.0, 1.0, 0.0, 2.0**-6)
    )
