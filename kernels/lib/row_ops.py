"""What generated kernels are checked with: the operations in numpy, and cases for any of them.

A generated kernel's reference calls these one by one, each with its result rounded to its element
type, as the operations' own kernels would store it.
"""

import numpy as np

from kernels.lib.rope import inverse_frequencies
from kernels.spec import Case, filled, normal, rng


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
        whole[name][: a["n_rows"]] = values
    return whole


_N_TABLE = 11  # rows of a table that ids choose from
_N_HEADS = 3  # of a token
_N_POSITIONS = 500


def cases(params, tables=()):
    """Widths and strides of every kind, for the parameters of a generated kernel. `tables`: its
    matrices whose rows ids choose."""
    pointers = {p.name: p for p in params if p.shape}
    strides = [p.name for p in params if p.role == "stride"]
    has_heads = any(p.name == "group" for p in params)

    def case(name, n_rows, n_cols, pad):
        g, args = rng("".join(pointers) + name), {}
        n_tokens, width = n_rows, n_cols
        if has_heads:
            n_rows, width, args = n_rows * _N_HEADS, n_cols * _N_HEADS, {"group": _N_HEADS}
        args |= {"n_rows": n_rows, "n_cols": n_cols, **{s: width + pad for s in strides}}
        for param in pointers.values():
            if param.role == "out":
                args[param.name] = filled(n_rows + 1, n_cols)
            elif param.types[0] == "i32":
                limit = _N_POSITIONS if has_heads else _N_TABLE
                args[param.name] = g.integers(0, limit, n_tokens).astype(np.int32)
            elif param.shape == ("n_cols // 2",):
                args[param.name] = inverse_frequencies(n_cols)
            elif len(param.shape) == 2:
                n = _N_TABLE if param.name in tables else n_tokens
                args[param.name] = normal(g, n, width + pad)
            else:
                args[param.name] = normal(g, n_cols, std=0.1) + 1.0
        return Case(name, args, {p.name: p.types[0] for p in pointers.values()})

    yield case("one_row", 1, 64, 0)
    yield case("even", 5, 384, 128)
    yield case("odd", 3, 78 if has_heads else 77, 3)
    yield case("wide", 2, 2048, 0)
