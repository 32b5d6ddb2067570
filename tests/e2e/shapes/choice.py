"""Which ids the program may choose, given the reference's logits and how far off its own may be."""

import numpy as np

MASK = np.uint64(0xFFFFFFFF)
# Neighbouring tokens that take the same of Philox' four outputs (kernels/sample.py): with it and
# the seed, what is drawn is part of what the program promises.
RUN_TOKENS = 64


def philox(seed, c0, c1):
    """Philox4x32-10 of Salmon et al.: four uint32 for each counter."""
    key = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], np.uint64)
    c0, c1 = (np.array(c, np.uint64) for c in np.broadcast_arrays(c0, c1))
    c2, c3 = np.zeros_like(c0), np.zeros_like(c0)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c2 = (b >> np.uint64(32)) ^ c1 ^ key[0], (a >> np.uint64(32)) ^ c3 ^ key[1]
        c1, c3 = b & MASK, a & MASK
        key = (key + np.array([0x9E3779B9, 0xBB67AE85], np.uint64)) & MASK
    return np.stack([c0, c1, c2, c3])


def clocks(seed, step, vocab_size):
    """[V] an exponential variable for each token: the one that rings first is drawn."""
    token = np.arange(vocab_size)
    counter = token // (4 * RUN_TOKENS) * RUN_TOKENS + token % RUN_TOKENS
    bits = philox(seed, counter, step)[token // RUN_TOKENS % 4, token]
    return -np.log(((bits >> np.uint64(9)).astype(np.float64) + 0.5) * 2.0**-23)


def least_kept(row, sampling, margin):
    """The smallest logit that may be drawn; with a negative margin: from which all surely may."""
    temperature, ordered = sampling["temperature"], np.sort(row)[::-1]
    least = ordered[-1]
    if "top_k" in sampling:
        least = ordered[min(sampling["top_k"], len(row)) - 1]
    if "top_p" in sampling:
        # Those before a token may be less likely, by the margin, than the reference has them.
        p = np.exp((ordered - ordered[0]) / temperature)
        mass = np.cumsum(p) / p.sum() * np.exp(-2 * margin / temperature)
        least = max(least, ordered[min(np.searchsorted(mass, sampling["top_p"]), len(row) - 1)])
    if "min_p" in sampling:
        least = max(least, ordered[0] + temperature * np.log(sampling["min_p"]))
    return least


def shortfalls(sampling, index, prompt, ids, logits, limits):
    """[new] by how much each id's logit is too small to be chosen: 0 or less where it may be.

    `sampling`: the program's options; `index`: of the prompt, which is added to their seed;
    `limits`: [new] how far off the logits of a row may be.
    """
    penalty, temperature = sampling.get("repetition_penalty", 1.0), sampling.get("temperature", 0.0)
    short = np.empty(len(ids))
    for step, chosen in enumerate(ids):
        # Two logits are compared.
        margin = 2 * limits[step] * max(penalty, 1 / penalty)
        row = logits[step].copy()
        seen = np.unique(prompt + ids[:step])
        row[seen] = np.where(row[seen] > 0, row[seen] / penalty, row[seen] * penalty)
        said, times = np.unique(np.array(ids[:step], int), return_counts=True)
        row[said] -= sampling.get("presence_penalty", 0.0)
        row[said] -= times * sampling.get("frequency_penalty", 0.0)
        if temperature > 0:
            least = least_kept(row, sampling, margin)
            is_kept = row >= least_kept(row, sampling, -margin) + margin
            race = row - temperature * np.log(clocks(sampling["seed"] + index, step, len(row)))
            behind = race[is_kept].max(initial=-np.inf) - race[chosen]
        else:
            least, behind = row.max(), -np.inf
        short[step] = max(least - row[chosen], behind) - margin
    return short
