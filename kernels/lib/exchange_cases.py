"""Inboxes for exchanges' cases: one rank's launch, to which the others have sent already.

What it writes into its own inbox goes to an array of its own here, so that a case needs no other
rank and no memory that two arguments share. How ranks meet is a test of devices
(tests/device/exchange_test.cc).
"""

import numpy as np

from kernels.lib.exchange import PROGRAMS, RANKS_MOST
from kernels.lib.numbers import from_storage, to_storage
from kernels.spec import inout, inp, size, step_size

N_PROGRAMS = PROGRAMS.value
INBOXES = tuple(f"inbox{rank}_ptr" for rank in range(RANKS_MOST))

# Parameters that exchanges share, in the order of their roles.
inbox_params = tuple(inout(name, "i32", "slot_words") for name in INBOXES)
meeting_params = (
    inp("epoch_ptr", "i32", "1"),
    inp("stop_ptr", "i32", "1"),
    inp("mine_ptr", "i32", "slot_words"),
)
# Of no variant, but for the size of a slot, which 16 divides.
place_params = (
    step_size("rank", of="@rank"),
    step_size("index", of="@index"),
    size("slot_words", "i64", of="@slot_words"),
)


def rows_of(values, gap):
    """[N, C] and a row behind; what lies between is NaN, never to be looked at."""
    n_rows, n_cols = values.shape
    rows = np.full((n_rows + 1, n_cols + gap), np.nan, np.float32)
    rows[:n_rows, :n_cols] = values
    return rows


def wrapped(number):
    """As integers of 32 bits wrap around."""
    return (number + 2**31) % 2**32 - 2**31


def words_of(values, dtype):
    """Numbers as they lie in words of 32 bits, the last filled up with zeros."""
    raw = to_storage(np.asarray(values, np.float32), dtype).reshape(-1).view(np.uint8)
    return np.pad(raw, (0, -len(raw) % 4)).view(np.int32)


def numbers_of(words, dtype, n):
    storage = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}[dtype]
    return from_storage(np.ascontiguousarray(words).view(storage)[:n], dtype)


def _slot(epoch, source, n_ranks, slot_words):
    first = n_ranks * N_PROGRAMS + ((epoch & 1) * n_ranks + source) * slot_words
    return slice(first, first + slot_words)


def meeting(g, sent, dtype, rank, epoch, index, n_spare=1):
    """Arguments and their types: `sent` [RANKS, ...] is what each rank has to send."""
    n_ranks = len(sent)
    words = [words_of(values, dtype) for values in sent]
    slot_words = (len(words[0]) + n_spare + 15) // 16 * 16
    n_words = n_ranks * (N_PROGRAMS + 2 * slot_words)
    mine = g.integers(-(2**31), 2**31, n_words, dtype=np.int64).astype(np.int32)
    flags = mine[: n_ranks * N_PROGRAMS]
    flags[:] = np.int32(wrapped(epoch + index))
    for source in range(n_ranks):
        mine[_slot(epoch + index, source, n_ranks, slot_words)][: len(words[source])] = words[
            source
        ]
    # Of the next exchange, where one has gone ahead to it.
    flags[g.integers(len(flags))] = np.int32(wrapped(epoch + index + 1))
    args = {"epoch_ptr": np.array([epoch], np.int32), "stop_ptr": np.zeros(1, np.int32)}
    args |= {"mine_ptr": mine, "rank": rank, "index": index, "slot_words": slot_words}
    args |= dict.fromkeys(INBOXES, None)
    args |= {INBOXES[to]: np.zeros(n_words, np.int32) for to in range(n_ranks)}
    types = {name: "i32" for name in ("epoch_ptr", "stop_ptr", "mine_ptr", *INBOXES)}
    return args, types


def received(a, n):
    """[RANKS, n]: what the ranks have sent."""
    epoch = int(a["epoch_ptr"][0]) + a["index"]
    dtype = a["dtypes"]["x_ptr"]
    n_ranks = a["RANKS"]
    slots = (_slot(epoch, source, n_ranks, a["slot_words"]) for source in range(n_ranks))
    return np.stack([numbers_of(a["mine_ptr"][slot], dtype, n) for slot in slots])


def delivered(a, x, n_programs):
    """The inboxes as the launch leaves them."""
    epoch = int(a["epoch_ptr"][0]) + a["index"]
    words = words_of(x, a["dtypes"]["x_ptr"])
    outputs = {}
    for name in INBOXES[: a["RANKS"]]:
        inbox = a[name].copy()
        first = a["rank"] * N_PROGRAMS
        inbox[first : first + n_programs] = wrapped(epoch)
        slot = _slot(epoch, a["rank"], a["RANKS"], a["slot_words"])
        inbox[slot][: len(words)] = words
        outputs[name] = inbox
    return outputs
