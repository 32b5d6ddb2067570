"""The cases of the attention kernels: pages scattered over a cache, and what draws choose from."""

import numpy as np

from kernels.lib.rope import inverse_frequencies
from kernels.spec import TOLERANCE, Case, filled, normal, padded, rng

HEAD_DIMS = (16, 18, 48, 50, 64, 80, 100, 120, 128, 130, 192, 256)
# Of a layer's cache of 8 bits: what keys and values were divided by.
SCALES = ((1.0, 1.0), (1.0, 1.0), (0.02, 0.004), (3.0, 1.0), (0.37, 2.0))
GROUPS = ((1, 1), (4, 2), (3, 1), (6, 2), (7, 1), (2, 2), (8, 1), (9, 3))  # heads, those of keys


def draw_cache(d, *others):
    """An element type of the cache, of four variants one of 8 bits, and its scales. `others`: which
    it else may be; none: any float."""
    is_narrow = d.turn(True, False, False, False)
    other = d.variant.of(*others) if others else d.types("fp16")
    return ("fp8e4nv", d.case.of(*SCALES)) if is_narrow else (other, None)


def scales_of(cache, scales):
    """The two launch arguments; caches of other types than 8 bits ignore them."""
    k_scale, v_scale = scales or (1.0, 1.0)
    assert cache == "fp8e4nv" or scales is None, f"scales of a cache of {cache}"
    return {"k_scale": k_scale, "v_scale": v_scale}


def attention_case(
    name,
    sequences,
    n_heads,
    n_kv_heads,
    head_dim,
    *,
    act,
    decode=False,
    n_others=0,
    cache="fp16",
    window=0,
    softcap=0.0,
    block=64,
    pad=0,
    out_pad=None,
    q_std=1.0,
    v_std=1.0,
    scales=None,
):
    """`sequences`: (new tokens, context length with them) each; pages are scattered over the cache,
    and what no sequence owns is NaN. The first `n_others` of them are not the kernel's, or of
    decoding the last: what is theirs is NaN too, and their rows of the output stay as they are."""
    g = rng(name)
    n_tokens = sum(n_q for n_q, _ in sequences)
    pages = [-(-n_kv // block) for _, n_kv in sequences]
    n_blocks = sum(pages) + 2
    order = g.permutation(n_blocks)
    tables = np.full((len(sequences), max([*pages, 1]) + 1), -1, np.int32)
    caches = [np.full((n_blocks, n_kv_heads, block, head_dim), np.nan, np.float32) for _ in "kv"]
    n_seqs = len(sequences)
    others = range(n_seqs - n_others, n_seqs) if decode else range(n_others)
    for s, (_, n_kv) in enumerate(sequences):
        mine = order[sum(pages[:s]) : sum(pages[: s + 1])]
        tables[s, : len(mine)] = mine
        for pos in range(n_kv if s not in others else 0):
            for array in caches:
                array[mine[pos // block], :, pos % block] = normal(g, n_kv_heads, head_dim)
    width = n_heads * head_dim
    out_pad = pad if out_pad is None else out_pad
    scale = scales_of(cache, scales)
    args = {
        "out_ptr": filled(n_tokens + 1, width + out_pad),
        "q_ptr": padded(g, n_tokens, width, pad, std=q_std),
        "k_cache_ptr": caches[0],
        "v_cache_ptr": caches[1] * np.float32(v_std),
        "block_tables_ptr": tables,
        "context_lens_ptr": np.array([n_kv for _, n_kv in sequences], np.int32),
        "sinks_ptr": None,
        "fn_a_ptr": None,
        "fn_b_ptr": None,
        "n_seqs": n_seqs - n_others if decode else n_seqs,
        "n_heads": n_heads,
        "n_kv_heads": n_kv_heads,
        "max_blocks": tables.shape[1],
        "window": window,
        "fn_a_width": 0,
        "fn_b_width": 0,
        "out_stride": width + out_pad,
        "q_stride": width + pad,
        "scale": head_dim**-0.5 * scale["k_scale"],
        "softcap": softcap,
        "v_scale": scale["v_scale"],
    }
    if not decode:
        starts = np.cumsum([0] + [n_q for n_q, _ in sequences])
        args["cu_seqlens_ptr"] = starts.astype(np.int32)
        args["next_tile_ptr"] = np.zeros(1, np.int32)
        args["first_seq"] = n_others
        args["max_q_len"] = max([n_q for n_q, _ in sequences[n_others:]], default=0)
    for s in others:
        first = sum(n_q for n_q, _ in sequences[:s])
        args["q_ptr"][first : first + sequences[s][0]] = np.nan
    dtypes = {
        "out_ptr": act,
        "next_tile_ptr": "i32",
        "q_ptr": act,
        "k_cache_ptr": cache,
        "v_cache_ptr": cache,
        "block_tables_ptr": "i32",
        "cu_seqlens_ptr": "i32",
        "context_lens_ptr": "i32",
        "sinks_ptr": "fp32",
        "fn_a_ptr": "fp32",
        "fn_b_ptr": "fp32",
    }
    constexprs = {
        "HEAD_DIM": head_dim,
        "BLOCK_TOKENS": block,
        "HAS_SOFTCAP": int(softcap > 0),
        "HAS_SINKS": 0,
    }
    # An exponent is as far off as its score's last digit.
    tolerance = {"out_ptr": TOLERANCE[act] + score_error(q_std) + cap_error(act, softcap)}
    dtypes = {k: v for k, v in dtypes.items() if k in args}
    units = {"out_ptr": v_std * scale["v_scale"]}
    return Case(name, args, dtypes, constexprs, units=units, tolerance=tolerance)


def score_error(std):
    """How far off an exponent may be in fp32 where scores are of that size: by their last digits;
    little where they are ordinary."""
    return 1e-6 * std if std > 10 else 0.0


def cap_error(act, cap):
    """How far off an exponent may be in 16 bits because of a soft cap: tanh has 11 of its own."""
    return 0.0 if act == "fp32" else cap * 2.0**-12


def fused_case(
    name, contexts, n_heads, n_kv_heads, dim, *, act, cache="fp16", window=0, softcap=0.0, block=64,
    norm=False, pad=0, out_pad=None, std=1.0, no_slot=(), slot="i32", norm_type="fp16", first=None,
    choice=None, n_others=0, scales=None,
):  # fmt: skip
    """Of the decode kernels that turn and write. `first`: the position of every newest token where
    that is not the end of its context. The last `n_others` sequences are not the kernel's."""
    g = rng(name)
    n_seqs = len(contexts)
    pages = [-(-n // block) for n in contexts]
    n_blocks = sum(pages) + 2
    order = g.permutation(n_blocks)
    tables = np.full((n_seqs, max([*pages, 1]) + 1), -1, np.int32)
    slots = np.full(n_seqs, -1, np.int64)
    # What no sequence has written is NaN: the place of the newest token too.
    caches = [np.full((n_blocks, n_kv_heads, block, dim), np.nan, np.float32) for _ in "kv"]
    for s, n in enumerate(contexts):
        mine = order[sum(pages[:s]) : sum(pages[: s + 1])]
        tables[s, : len(mine)] = mine
        for pos in range(n - 1):
            for array in caches:
                array[mine[pos // block], :, pos % block] = normal(g, n_kv_heads, dim)
        if n > 0 and s not in no_slot:
            slots[s] = mine[(n - 1) // block] * block + (n - 1) % block
    width = (n_heads + 2 * n_kv_heads) * dim
    out_pad = 2 * pad if out_pad is None else out_pad
    qkv = padded(g, n_seqs, width, pad)
    qkv[:, : n_heads * dim] *= std
    qkv[n_seqs - n_others : n_seqs] = np.nan
    positions = [max(n - 1, 0) if first is None else first for n in contexts]
    # Keys take the width of activations before that of the cache: as coarse as the coarser. Of 8
    # bits one that is turned to the other side of a boundary is an eighth off, its score much less.
    scale = scales_of(cache, scales)
    coarsest = max(TOLERANCE[act], TOLERANCE[cache])
    if cache == "fp8e4nv":
        out_tolerance = TOLERANCE[act] if first == 0 and not norm else 0.06
    else:
        out_tolerance = coarsest
    return Case(
        name,
        {
            "out_ptr": filled(n_seqs + 1, n_heads * dim + out_pad),
            "k_cache_ptr": caches[0],
            "v_cache_ptr": caches[1],
            "qkv_ptr": qkv,
            "q_norm_ptr": 1.0 + normal(g, dim, std=0.2) if norm else None,
            "k_norm_ptr": 1.0 + normal(g, dim, std=0.2) if norm else None,
            "positions_ptr": np.array(positions, np.int32),
            "inv_freq_ptr": inverse_frequencies(dim),
            "slots_ptr": slots,
            "block_tables_ptr": tables,
            "context_lens_ptr": np.array(contexts, np.int32),
            "n_seqs": n_seqs - n_others,
            "n_heads": n_heads,
            "n_kv_heads": n_kv_heads,
            "max_blocks": tables.shape[1],
            "window": window,
            "out_stride": n_heads * dim + out_pad,
            "qkv_stride": width + pad,
            "scale": dim**-0.5 * scale["k_scale"],
            "softcap": softcap,
            "qk_eps": 1e-6,
            **scale,
        },
        {
            "out_ptr": act,
            "k_cache_ptr": cache,
            "v_cache_ptr": cache,
            "qkv_ptr": act,
            "q_norm_ptr": norm_type,
            "k_norm_ptr": norm_type,
            "positions_ptr": "i32",
            "inv_freq_ptr": "fp32",
            "slots_ptr": slot,
            "block_tables_ptr": "i32",
            "context_lens_ptr": "i32",
        },
        {
            "HEAD_DIM": dim,
            "BLOCK_TOKENS": block,
            "HAS_SOFTCAP": int(softcap > 0),
            "HAS_QK_NORM": int(norm),
        },
        choice=choice or {},
        units={
            "out_ptr": max(1.0, scale["v_scale"]),
            "k_cache_ptr": 1.0 / scale["k_scale"],
        },
        tolerance={
            "k_cache_ptr": coarsest,
            "v_cache_ptr": 0.0,
            "out_ptr": out_tolerance + score_error(std) + cap_error(act, softcap),
        },
    )


def draw_contexts(d, block, n_elements):
    """Context lengths of some sequences at the borders of tiles, none among them; `n_elements` of a
    token in the cache."""
    # Tokens: few where heads are wide, but more than a block.
    left = max(block + 6, 24000 // n_elements)
    contexts = []
    for _ in range(d.case.between(1, 5)):
        n = d.rows(min(left, 600), tile=d.case.of(16, block, 64))
        contexts.append(n)
        left = max(left - n, 1)
    return contexts


def draw_window(d):
    """None, or whether 16 divides it: the variant's."""
    kind = d.variant.of("none", "none", "whole", "odd")
    if kind == "none":
        return 0
    sixteens = (16, 32, 64, 128, 4096)
    return d.case.of(*(sixteens if kind == "whole" else (1, 2, 3, 15, 17, 63, 65, 100, 1001)))


def draw_attention(d, act, cache, decode, dims=HEAD_DIMS, blocks=(16, 32, 64, 64), longer=1,
                   scales=None):  # fmt: skip
    """`longer`: so many times the contexts."""
    v, c = d.variant, d.case
    dim, (n_heads, n_kv_heads), block = d.turn(*dims), v.of(*GROUPS), v.of(*blocks)
    has_softcap = v.chance(0.3)
    contexts = draw_contexts(d, block, 2 * n_kv_heads * dim // longer)
    width = n_heads * dim

    def new_tokens(n):
        # More tokens than context: the first of them see nothing.
        n_new = c.of(n, n, 0, 1, c.between(0, n), c.near(block, max(n, 1)), n + 3)
        return min(n_new, max(1, 6000 // width))

    sequences = [(1, n) if decode else (new_tokens(n), n) for n in contexts]
    n_others = c.of(0, 0, 1, c.between(0, len(contexts)))
    n_tokens = sum(n_new for n_new, _ in sequences)
    case = attention_case(
        d.name,
        sequences,
        n_heads,
        n_kv_heads,
        dim,
        act=act,
        decode=decode,
        n_others=n_others,
        cache=cache,
        window=draw_window(d),
        softcap=c.of(1.0, 5.0, 30.0) if has_softcap else 0.0,
        block=block,
        pad=d.gap(width, n_tokens),
        out_pad=d.gap(width, n_tokens),
        q_std=c.of(1.0, 1.0, 0.0, 8.0, 1e4),
        # Of 8 bits the cache holds no more than 448.
        v_std=c.of(1.0, 1.0, 100.0 if scales is None else 30.0, 2.0**-10),
        scales=scales,
    )
    if not decode:
        # A grid may reach further than the longest sequence.
        case.args["max_q_len"] += c.of(0, 0, 1, 100)
    return case


def draw_fused(d, act, choices):
    """One of `choices` too; "group" is the query heads of a key's."""
    v, c = d.variant, d.case
    dim, (n_heads, n_kv_heads), block = d.turn(*HEAD_DIMS), v.of(*GROUPS), v.of(16, 64)
    group = n_heads // n_kv_heads
    norm, has_softcap = v.chance(0.3), v.chance(0.3)
    choice = {name: group if n == "group" else n for name, n in v.of(*choices).items()}
    contexts = draw_contexts(d, block, 2 * n_kv_heads * dim)
    n_seqs = len(contexts)
    width = (n_heads + 2 * n_kv_heads) * dim
    # A turned query is rounded to its type, which at large scores decides who wins: large queries
    # stand at position 0, where nothing turns.
    is_huge = c.chance(0.2)
    cache, scales = draw_cache(d)
    return fused_case(
        d.name, contexts, n_heads, n_kv_heads, dim, act=d.types(act), cache=cache, scales=scales,
        window=draw_window(d), softcap=c.of(1.0, 5.0, 30.0) if has_softcap else 0.0, block=block,
        norm=norm, pad=d.gap(width, n_seqs), out_pad=d.gap(n_heads * dim, n_seqs),
        std=1e4 if is_huge else 1.0,
        no_slot=c.of((), (0,), (1, 2)), slot=v.of("i32", "i64"), norm_type=d.types("fp16"),
        first=0 if is_huge else None, choice=choice, n_others=c.of(0, 0, c.between(0, n_seqs)),
    )  # fmt: skip
