"""What generated kernels are checked with: the operations in numpy, and cases for any of them.

A generated kernel's reference calls these one by one, each with its result rounded to its element
type, as the operations' own kernels would store it.
"""

import numpy as np

from kernels.lib.rope import inverse_frequencies
from kernels.spec import Case, filled, normal, padded, rng


def gather_rows(table, ids, scale):
    return table[ids] * np.float32(scale)


def rms_norm(x, weight, eps):
    x = x.astype(np.float64)
    return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + eps) * weight


def silu_mul(gate, up):
    gate = gate.astype(np.float64)
    with np.errstate(over="ignore"):
        return gate / (1.0 + np.exp(-gate)) * up


def add(x, y, alpha):
    return x + np.float32(alpha) * y


def scale(x, alpha):
    return x * np.float32(alpha)


def rope(x, positions, inv_freq):
    # The angle is rounded to fp32 as the models' own code does.
    angle = (positions[:, None].astype(np.float32) * inv_freq).astype(np.float64)
    cos, sin = np.cos(angle), np.sin(angle)
    x1, x2 = np.split(x.astype(np.float64), 2, axis=1)
    return np.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=1)


def operand(a, name):
    """Of the case's arguments; a matrix without what lies between its rows. Heads are rows, each
    with its token's position."""
    value, group, n_cols = a[name], a.get("group", 1), a["n_cols"]
    if value.ndim == 2:
        return value[:, : group * n_cols].reshape(-1, n_cols)
    return np.repeat(value, group) if value.dtype == np.int32 else value


def results(a, **rows):
    """Whole buffers: rows that a kernel must not touch are as they were."""
    whole = {name: a[name].copy() for name in rows}
    for name, values in rows.items():
        whole[name][: a["n_rows"]] = values[: a["n_rows"]]
    return whole


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


def cases(params, tables=()):
    """Widths and strides of every kind."""
    yield _case(params, tables, "one_row", 1, 64, (0,))
    yield _case(params, tables, "even", 5, 384, (128,))
    yield _case(params, tables, "odd", 3, 78 if _has_heads(params) else 77, (3,))
    yield _case(params, tables, "wide", 2, 2048, (0,))


def draw(d, params, tables=()):
    """By chance: `d` is a kernels.lib.draws.Draw."""
    has_heads = _has_heads(params)
    n_cols = d.width(2, 256, step=2) if has_heads else d.width(1, 4100)
    width = n_cols * (_N_HEADS if has_heads else 1)
    n_rows = d.rows(max(1, min(12, 9000 // width)))
    pads = [d.gap(width, _N_TABLE) for _ in range(3)]
    return _case(
        params, tables, d.name, n_rows, n_cols, pads, std=d.case.of(1.0, 1.0, 0.0, 2.0**-6)
    )
