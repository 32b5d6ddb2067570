"""Cases of attention with score and mask functions: written ones and drawn compositions."""

from dataclasses import replace

import numpy as np

from kernels.lib.attention_functions import FUNCTIONS
from kernels.lib.function_text import calls_of, parse_mask, parse_score
from kernels.lib.paged_cases import cap_error
from kernels.spec import rng


def _functions(score, mask):
    return {name: text for name, text in (("SCORE", score), ("MASK", mask)) if text}


def _calls(score, mask):
    calls = list(parse_score(score)) if score else []
    return calls + (list(calls_of(parse_mask(mask))) if mask else [])


def _documents(g, sequences, length):
    """Where each token's document begins and ends, from documents of about that length: of every
    position of a sequence a number, which only grows."""
    rows = []
    for n_new, n_kv in sequences:
        n = max(n_kv, n_new, 1)
        number = np.cumsum(g.random(n) < 1.0 / length)
        for i in range(n_new):
            pos = n_kv - n_new + i
            same = np.flatnonzero(number == number[pos]) if pos >= 0 else np.array([0])
            rows.append((same[0], same[-1] + 1))
    return np.array(rows or [(0, 0)], np.int32).reshape(-1, 2)


def _sequences(case):
    """(new tokens, context) of each, the kernel's and others."""
    contexts = [int(n) for n in case.args["context_lens_ptr"]]
    if "cu_seqlens_ptr" not in case.args:
        return [(1, n) for n in contexts]
    return list(zip(np.diff(case.args["cu_seqlens_ptr"]).tolist(), contexts, strict=True))


def _tensor(g, name, case, width, length):
    n_heads, sequences = case.args["n_heads"], _sequences(case)
    if name == "alibi":
        return (2.0 ** -(8.0 * (np.arange(n_heads) + 1) / n_heads)).astype(np.float32)
    if name == "relative_bias":
        return g.standard_normal((n_heads, width)).astype(np.float32)
    if name == "prefix":
        return np.array([g.integers(0, n + 2) for _, n in sequences], np.int32)
    if name == "documents":
        return _documents(g, sequences, length)
    raise ValueError(f"no tensor is made for {name}")


def with_functions(case, score="", mask="", sinks=False, width=33, length=20):
    """The case with functions in the place of cap and window, with the tensors that these name.
    `width`: of the table of relative biases; `length`: of documents, about."""
    g = rng(case.name + score + mask)
    args, dtypes = dict(case.args), dict(case.dtypes)
    args |= {"window": 0} if mask else {}
    args |= {"softcap": 0.0} if score else {}
    if sinks:
        args["sinks_ptr"] = g.standard_normal(case.args["n_heads"]).astype(np.float32) * 3
    for call in _calls(score, mask):
        for arg, kind in zip(call.args, FUNCTIONS[call.name].takes, strict=True):
            if arg in ("a", "b"):
                tensor = _tensor(g, call.name, case, width, length)
                args |= {f"fn_{arg}_ptr": tensor, f"fn_{arg}_width": tensor.shape[-1]}
                dtypes[f"fn_{arg}_ptr"] = kind.partition("[")[0]
    constexprs = {
        **case.constexprs,
        "HAS_SINKS": int(sinks),
        "HAS_SOFTCAP": 0 if score else case.constexprs["HAS_SOFTCAP"],
    }
    caps = [float(call.args[0]) for call in _calls(score, "") if call.name == "softcap"]
    tolerance = case.tolerance["out_ptr"] + cap_error(case.dtypes["q_ptr"], sum(caps))
    return replace(
        case, args=args, dtypes=dtypes, constexprs=constexprs, functions=_functions(score, mask),
        tolerance={"out_ptr": tolerance},
    )  # fmt: skip


# Score, mask, sinks; heads, those of keys, and their size. Each of prompts, chunked and whole, or
# of a step that decodes.
COMPOSED = {
    "causal": ("", "causal", False, 4, 4, 64),
    "window": ("", "causal & window(20)", False, 4, 2, 64),
    "both_sides": ("", "window(9) & prefix(a)", False, 2, 2, 64),
    "prefix_lm": ("", "causal | prefix(a)", False, 6, 2, 64),
    "documents": ("", "causal & documents(b)", False, 4, 2, 80),
    "whole_documents": ("", "documents(a)", False, 4, 4, 128),
    "prefix_of_documents": ("", "documents(a) & (causal | prefix(b))", False, 8, 1, 64),
    "alibi": ("alibi(a)", "", False, 8, 2, 64),
    "alibi_capped": ("alibi(a) then softcap(5)", "causal & window(70)", False, 4, 1, 96),
    "capped_alibi": ("softcap(5) then alibi(b)", "", False, 3, 3, 64),
    "relative": ("relative_bias(a)", "causal", False, 4, 2, 256),
    "relative_documents": ("relative_bias(a)", "causal & documents(b)", True, 4, 2, 64),
    "sinks": ("", "", True, 8, 2, 64),
    "sinks_window": ("softcap(30.0)", "causal & window(16)", True, 8, 8, 64),
    "nothing_seen": ("", "causal & window(8) & prefix(a)", True, 4, 2, 64),
    "far_back": ("", "causal & (window(4) | prefix(a))", False, 2, 1, 128),
}
# Over more keys: with tiles that every row of a tile sees, that some see and that none does.
LONG = {
    "window_of_tiles": ("", "causal & window(256)", False, 4, 2, 64),
    "window_across": ("softcap(5)", "causal & window(200)", True, 8, 1, 128),
    "long_prefix": ("", "causal | prefix(a)", False, 4, 4, 128),
    "long_documents": ("alibi(b)", "causal & documents(a)", False, 4, 2, 128),
    "both_ways": ("relative_bias(b)", "documents(a)", True, 2, 2, 64),
    "apart": ("", "causal & (window(140) | prefix(a))", False, 3, 1, 256),
}


def function_cases(attention_case):
    """`attention_case`: that of lib/paged_cases.py, its type and kind of step chosen."""
    is_decode = attention_case.keywords.get("decode", False)
    sequences = [(1, 70), (1, 1), (1, 200), (1, 33)] if is_decode else [(70, 130), (5, 5), (20, 90)]
    for name, (score, mask, sinks, *heads) in COMPOSED.items():
        case = attention_case(f"fn_{name}", sequences, *heads)
        yield with_functions(case, score, mask, sinks)
    sequences = [(1, 700), (1, 1), (1, 512)] if is_decode else [(300, 700), (129, 129), (64, 512)]
    for name, (score, mask, sinks, *heads) in LONG.items():
        case = attention_case(f"fn_{name}", sequences, *heads)
        yield with_functions(case, score, mask, sinks, length=250)


def _drawn_mask(v):
    """Of up to three masks, each its own; most of them causal."""
    free = ["a", "b"]
    parts = [f"window({v.of(1, 15, 16, 64, 100)})"]
    for name in ("prefix", "documents"):
        if v.chance(0.5):
            parts.append(f"{name}({free.pop(0)})")
    v.rng.shuffle(parts)
    parts = parts[: v.between(1, 3)]
    text = parts[0]
    for part in parts[1:]:
        text = f"({text} {v.of('&', '|')} {part})"
    text = v.of(f"causal & {text}", f"causal | {text}", f"causal & {text}", text)
    used = {arg for call in calls_of(parse_mask(text)) for arg in call.args}
    return text, [name for name in ("a", "b") if name not in used]


def draw_functions(d, case):
    """Some cases take a composition that is drawn; a variant's."""
    v, c = d.variant, d.case
    if not v.chance(0.5):
        return case
    mask, free = _drawn_mask(v) if v.chance(0.75) else ("", ["a", "b"])
    scores = [f"softcap({v.of(2, 5.5, 30)})"] if v.chance(0.4) else []
    for name in ("alibi", "relative_bias"):
        if free and v.chance(0.4):
            scores.append(f"{name}({free.pop()})")
    v.rng.shuffle(scores)
    score = " then ".join(scores)
    return with_functions(
        case, score, mask, v.chance(0.3), width=c.of(1, 2, 33, 64, 257), length=c.of(1, 5, 40, 1000)
    )
