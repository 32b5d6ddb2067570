"""What the two linear kernels share: their reference and how their cases are made."""

import numpy as np

from kernels.spec import Case, filled, normal, rng


def linear_reference(a):
    n_rows, n_out, n_in = a["n_rows"], a["n_out"], a["n_in"]
    y = a["x_ptr"][:n_rows, :n_in].astype(np.float64) @ a["w_ptr"].astype(np.float64).T
    if a["HAS_BIAS"]:
        y += a["bias_ptr"]
    y_ptr = a["y_ptr"].copy()
    y_ptr[:n_rows, :n_out] = y
    return {"y_ptr": y_ptr}


def linear_case(name, n_rows, n_out, n_in, *, act, weight="fp16", bias=True, pad=0, out=None, **ce):
    """x of unit variance, w scaled so that y has it too."""
    g = rng(name)
    return Case(
        name,
        {
            "y_ptr": filled(n_rows + 1, n_out + pad),
            "x_ptr": normal(g, max(n_rows, 1), n_in + pad),
            "w_ptr": normal(g, n_out, n_in, std=n_in**-0.5),
            "bias_ptr": normal(g, n_out) if bias else None,
            "n_rows": n_rows,
            "n_out": n_out,
            "n_in": n_in,
            "y_stride": n_out + pad,
            "x_stride": n_in + pad,
        },
        {"y_ptr": out or act, "x_ptr": act, "w_ptr": weight, "bias_ptr": weight},
        {"HAS_BIAS": int(bias), **ce},
    )
