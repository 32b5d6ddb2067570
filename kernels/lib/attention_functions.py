"""The score and mask functions of attention that come with it, each with what it means in numpy.

A score function is called (score, seq, head, token, q_pos, k_pos, *args) and gives a score; a mask
function (seq, head, token, q_pos, k_pos, *args) and gives which keys are kept. `token` is the row
of the query in the step. Of the arguments a number is a number, and a tensor a pointer and the
length of its rows. Builtin masks are ranges of keys, first <= k_pos < end: their functions give
these two, and take no k_pos. So tiles outside are never read, and those within need no mask.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton
import triton.language as tl

from kernels.lib.attention import soft_cap
from kernels.lib.function_text import Call, Mask, parse_mask, parse_score

NO_END = tl.constexpr(0x7FFFFFFF)


@triton.jit
def softcap(score, seq, head, token, q_pos, k_pos, cap):
    return soft_cap(score, cap)


@triton.jit
def alibi(score, seq, head, token, q_pos, k_pos, slopes, width):
    # Positions as fp32 are exact, and spread only then.
    return score - tl.load(slopes + head) * (q_pos.to(tl.float32) - k_pos.to(tl.float32))


@triton.jit
def relative_bias(score, seq, head, token, q_pos, k_pos, table, width):
    distance = tl.minimum(tl.maximum(q_pos - k_pos + width // 2, 0), width - 1)
    return score + tl.load(table + head * width + distance)


@triton.jit
def causal(seq, head, token, q_pos):
    return q_pos * 0, q_pos + 1


@triton.jit
def window(seq, head, token, q_pos, n):
    return tl.maximum(q_pos - n + 1, 0), q_pos * 0 + NO_END


@triton.jit
def prefix(seq, head, token, q_pos, lengths, width):
    return q_pos * 0, q_pos * 0 + tl.load(lengths + seq)


@triton.jit
def documents(seq, head, token, q_pos, ends, width):
    at = ends + token * 2
    return q_pos * 0 + tl.load(at), q_pos * 0 + tl.load(at + 1)


# Of masks that are combined (lib/attention.py): a range that holds all keys that a query sees, and
# one of which it sees all.


@triton.jit
def everything(seq, head, token, q_pos):
    """What a user's own mask may keep."""
    return q_pos * 0, q_pos * 0 + NO_END


@triton.jit
def nothing(seq, head, token, q_pos):
    """What a user's own mask surely keeps."""
    return q_pos * 0, q_pos * 0


@triton.jit
def in_both(a, b):
    return tl.maximum(a[0], b[0]), tl.minimum(a[1], b[1])


@triton.jit
def around_either(a, b):
    return tl.minimum(a[0], b[0]), tl.maximum(a[1], b[1])


@triton.jit
def in_either(a, b):
    """One range that two fill: both where they touch, else the longer."""
    first, end = around_either(a, b)
    touch = tl.maximum(a[0], b[0]) <= tl.minimum(a[1], b[1])
    is_a = a[1] - a[0] >= b[1] - b[0]
    first = tl.where(touch, first, tl.where(is_a, a[0], b[0]))
    return first, tl.where(touch, end, tl.where(is_a, a[1], b[1]))


@triton.jit
def is_in(k_pos, bounds):
    return (k_pos >= bounds[0]) & (k_pos < bounds[1])


@dataclass(frozen=True)
class Function:
    """`kind`: score or mask. `takes`: what each argument is: "positive", a number above 0; "count",
    a whole one; or the type of a tensor, in the letters of `attention` (src/graph/ops.def), others
    any size. `meaning`: in numpy, of float64 scores, of arrays and of numbers."""

    kind: str
    fn: Any
    takes: tuple[str, ...]
    meaning: Callable[..., np.ndarray]


FUNCTIONS: dict[str, Function] = {
    "softcap": Function(
        "score", softcap, ("positive",), lambda x, s, h, t, q, k, cap: cap * np.tanh(x / cap)
    ),
    "alibi": Function(
        "score", alibi, ("fp32[H]",), lambda x, s, h, t, q, k, slopes: x - slopes[h] * (q - k)
    ),
    # Entry d + W // 2 is of the distance d; what is further off takes the last entry on its side.
    "relative_bias": Function(
        "score",
        relative_bias,
        ("fp32[H,W]",),
        lambda x, s, h, t, q, k, table: (
            x + table[h][np.clip(q - k + table.shape[1] // 2, 0, table.shape[1] - 1)]
        ),
    ),
    "causal": Function("mask", causal, (), lambda s, h, t, q, k: k <= q),
    "window": Function("mask", window, ("count",), lambda s, h, t, q, k, n: k > q - n),
    # Keys before the length that each sequence has.
    "prefix": Function("mask", prefix, ("i32[S]",), lambda s, h, t, q, k, n: k < n[s]),
    # The document of each query token: its first position and that behind its last.
    "documents": Function(
        "mask",
        documents,
        ("i32[N,2]",),
        lambda s, h, t, q, k, ends: (k >= ends[t][:, :1]) & (k < ends[t][:, 1:]),
    ),
}


def is_tensor(kind: str) -> bool:
    return "[" in kind


def to_json() -> dict[str, Any]:
    """What the engine knows of them."""
    return {
        name: {"kind": function.kind, "takes": list(function.takes)}
        for name, function in FUNCTIONS.items()
    }


# ---- what a text means, for the kernels' references


def _values(call: Call, tensors: Mapping[str, np.ndarray]) -> list[Any]:
    return [tensors[a].astype(np.float64) if a in tensors and tensors[a].dtype == np.float32
            else tensors[a] if a in tensors else float(a) for a in call.args]  # fmt: skip


def scored(text: str, score: np.ndarray, at: tuple, tensors: Mapping[str, np.ndarray]):
    """`at`: sequence, head, tokens [M], positions of queries [M, 1] and of keys [1, N]."""
    for call in parse_score(text):
        score = FUNCTIONS[call.name].meaning(score, *at, *_values(call, tensors))
    return score


def kept(text: str, at: tuple, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    def of(mask: Mask) -> np.ndarray:
        if isinstance(mask, Call):
            return FUNCTIONS[mask.name].meaning(*at, *_values(mask, tensors))
        parts = [of(part) for part in mask.parts]
        join = np.logical_and if mask.sign == "&" else np.logical_or
        result = parts[0]
        for part in parts[1:]:
            result = join(result, part)
        return result

    return of(parse_mask(text))
