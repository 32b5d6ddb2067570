"""What attention is measured as, by `nereid bench attention` and by its rivals: the variants of
score and mask, the sizes, and the rows that say so. Needs Python alone.
"""

from dataclasses import dataclass

# Each beside causal: what the study measures (docs/attention.md).
VARIANTS = ("causal", "alibi", "softcap", "window")
WINDOW, SOFTCAP = 1024, 50.0
# The report's prompt (its Fig. 8), and sizes as `nereid bench attention` takes them.
PROMPT = 44
LENGTHS = tuple(128 << i for i in range(8))


@dataclass(frozen=True)
class Shape:
    """Of a layer."""

    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    hidden: int = 4096
    inner: int = 14336


@dataclass(frozen=True)
class Cell:
    """One measurement of attention: so many queries behind (and among) so many keys."""

    variant: str
    query: int
    context: int
    part: str = "sizes"


def n_hidden(n: int, window: int) -> int:
    """Pairs before the window, of the queries at the first n positions."""
    beyond = max(0, n - window)
    return beyond * (beyond + 1) // 2


def n_pairs(cell: Cell, window: int = WINDOW) -> int:
    """Pairs of query and key that the mask leaves."""
    before = cell.context - cell.query
    pairs = cell.query * before + cell.query * (cell.query + 1) // 2
    if cell.variant != "window":
        return pairs
    return pairs - n_hidden(cell.context, window) + n_hidden(before, window)


def flops(cell: Cell, shape: Shape, window: int = WINDOW) -> float:
    """Of both products, as `nereid bench attention` counts them."""
    return 4.0 * shape.heads * shape.head_dim * n_pairs(cell, window)


def cells(variants: list[str], lengths: list[int]) -> list[Cell]:
    """Prompts, and one token behind as many keys; the report's prompt is causal alone."""
    found = [Cell("causal", n, PROMPT, "layer") for n in (PROMPT, 1) if "causal" in variants]
    found += [Cell(v, n, n) for v in variants for n in lengths]
    return found + [Cell(v, 1, n) for v in variants for n in lengths]


def products(shape: Shape) -> dict[str, tuple[int, int, bool]]:
    """{name: (outputs, inputs, whether the residual is added)}, the names as the program prints."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        "self_attn.q_proj": (q + 2 * kv, shape.hidden, False),
        "self_attn.o_proj": (shape.hidden, q, True),
        "mlp.gate_proj": (2 * shape.inner, shape.hidden, False),
        "mlp.down_proj": (shape.hidden, shape.inner, True),
    }


def row(model: str, part: str, design: str, name: str, kernel: str, **figures) -> dict:
    """As `nereid bench attention --json` writes it."""
    return {
        "bench": "attention", "engine": "torch", "model": model, "part": part, "design": design,
        "name": name, "kernel": kernel, **figures,
    }  # fmt: skip
