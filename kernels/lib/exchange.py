"""How ranks of one model hand each other what they computed: by writing into each other's memory.

Each rank has an inbox, which all ranks write and only it reads: flags [RANKS, PROGRAMS] of i32,
then slots [2, RANKS, slot_words], of a size that 16 divides. An exchange has a number, its epoch,
the same on all ranks and one more than that of the exchange before it; its parity says which of the
two sets of slots it uses. Program p of a rank writes its share into the rank's slot of every inbox,
then sets its flag there to the epoch; it waits until its own flags from all ranks have reached the
epoch, then reads its own slots.

Why that is right.
Data before flag: the stores of all threads come before the barrier, that before the flag's store,
which releases at the scope of the system; who reads the flag acquires at the same scope, and its
threads read behind another barrier. So who sees the epoch sees the data.
Nothing overwritten unread: a rank writes slots of one parity in epochs e and e + 2. Before its
exchange e + 2 it has ended e + 1, so that all other ranks had sent theirs of e + 1, and a rank runs
one exchange after another: they had ended e, and read what e had sent.
No deadlock: a program waits for that of the same number on other ranks, which sends before it
waits. Ranks run an exchange's programs in rising order or all at the same time: of the programs
that have not ended the lowest number waits for nobody who waits for a higher one.
Nothing waits for ever: a rank that is told to stop by its word `stop` leaves every wait and goes on
with whatever is there; who set the word throws the step away. Flags only compare as later or
earlier than an epoch, so that a number that was given up does no harm: the next ones are higher,
and wrap around as 32-bit integers do.
"""

import triton
import triton.language as tl

RANKS_MOST = 8
PROGRAMS = tl.constexpr(64)  # the most of an exchange
POLLS = tl.constexpr(128)  # looks at a flag between two at `stop`, which may lie across a bus


@triton.jit
def slot(inbox_ptr, like_ptr, epoch, source, slot_words, RANKS: tl.constexpr):
    """Where the rank `source` writes in an inbox, as elements of another pointer's type."""
    words = RANKS * PROGRAMS + ((epoch & 1) * RANKS + source).to(tl.int64) * slot_words
    return (inbox_ptr + words).to(like_ptr.dtype)


@triton.jit
def exchange(
    inboxes, x_ptr, n_elements, n_cols, x_stride, epoch, rank, slot_words, mine_ptr, stop_ptr,
    RANKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """This program's blocks of x go to all ranks; when it returns, theirs are in its own slots."""
    program = tl.program_id(0)
    first = program.to(tl.int64) * BLOCK
    for begin in range(first, n_elements, tl.num_programs(0) * BLOCK):
        offs = begin + tl.arange(0, BLOCK)
        mask = offs < n_elements
        x = tl.load(x_ptr + offs // n_cols * x_stride + offs % n_cols, mask=mask)
        for to in tl.static_range(RANKS):
            tl.store(slot(inboxes[to], x_ptr, epoch, rank, slot_words, RANKS) + offs, x, mask=mask)
    tl.debug_barrier()
    for to in tl.static_range(RANKS):
        flag_ptr = inboxes[to] + rank * PROGRAMS + program
        tl.atomic_xchg(flag_ptr, epoch, sem="release", scope="sys")
    for source in tl.static_range(RANKS):
        flag_ptr = mine_ptr + source * PROGRAMS + program
        polls = 0
        stop = 0
        while (stop == 0) & (tl.atomic_add(flag_ptr, 0, sem="acquire", scope="sys") - epoch < 0):
            polls += 1
            if polls % POLLS == 0:
                stop = tl.load(stop_ptr, volatile=True)
    tl.debug_barrier()
