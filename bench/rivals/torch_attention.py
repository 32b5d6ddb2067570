#!/usr/bin/env python3
"""PyTorch's attention at the shapes of `nereid bench attention`: SDPA by cuDNN and by flash, and
FlexAttention compiled; and the layer's products at the report's prompt by cuBLAS.

    python3 bench/rivals/torch_attention.py --json theirs.json
    python3 bench/rivals/torch_attention.py --variants causal,window --lengths 128,4096

Timed as torch_kernels.py does: in CUDA graphs, over keys and values that no cache holds. What a
back end computes is first held against a reference where that is small; what is wrong, or what it
refuses, has no row and is told on stderr. FlexAttention is compiled for each shape by itself, in
processes side by side; they time one after the other. It is compiled by the Triton that is found:
take the one that this PyTorch was made for.

How SDPA gets what it has no argument for: ALiBi, and by cuDNN a window, as a tensor added to the
scores; flash takes a window through its own operation; of one token only the keys in the window are
given. A soft cap it has not.
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import triton
from torch.nn.attention import sdpa_kernel
from torch_kernels import ATTENTION, POOL_BYTES, Pool, graph_us, time_linear

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import attention_cells as study

# Scores of this many standard deviations show a cap, a slope and a window.
CHECK_SPREAD, CHECK_TOKENS, CHECK_ERROR = 6.0, 2048, 2e-2
MAX_BIAS_BYTES = 8 << 30
WORKER_END_S = 5.0
# What a back end of SDPA has no way to: a cap; a tensor added to the scores.
CANNOT = {("cudnn", "softcap"), ("flash", "softcap"), ("flash", "alibi")}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Unserved(Exception):
    pass


def alibi_slopes(heads: int) -> torch.Tensor:
    return torch.exp2(-8.0 / heads * torch.arange(1, heads + 1, device="cuda"))


def distances(cell: study.Cell) -> torch.Tensor:
    """Of each query from each key; negative: the key comes later."""
    q = torch.arange(cell.context - cell.query, cell.context, device="cuda")
    return q[:, None] - torch.arange(cell.context, device="cuda")[None, :]


class Attention:
    """One variant at one size: how a back end computes it."""

    def __init__(self, cell: study.Cell, shape: study.Shape, args: argparse.Namespace) -> None:
        self.cell, self.shape, self.args = cell, shape, args
        self.dtype = DTYPES[args.dtype]
        self.is_prompt = cell.query > 1
        # A window that hides nothing is none.
        self.has_window = cell.variant == "window" and cell.context > args.window

    def operands(self, pool: Pool) -> tuple[torch.Tensor, list[torch.Tensor]]:
        shape = self.shape
        q = torch.randn(
            1, shape.heads, self.cell.query, shape.head_dim, dtype=self.dtype, device="cuda"
        )
        return q, pool.views(2, 1, shape.kv_heads, self.cell.context, shape.head_dim)

    def seen(self, keys: torch.Tensor) -> torch.Tensor:
        """Of one token only what is in the window."""
        return keys[..., -self.args.window :, :] if self.has_window and not self.is_prompt else keys

    def bias(self) -> torch.Tensor:
        """What SDPA adds to the scores: [1, H or 1, Q, K]."""
        heads = self.shape.heads if self.cell.variant == "alibi" else 1
        n_bytes = 2 * heads * self.cell.query * self.cell.context
        if n_bytes > MAX_BIAS_BYTES:
            raise Unserved(f"a bias of {n_bytes >> 30} GiB")
        distance = distances(self.cell)
        made = torch.zeros(1, heads, *distance.shape, dtype=self.dtype, device="cuda")
        if self.cell.variant == "alibi":
            for head, slope in enumerate(alibi_slopes(heads)):
                made[0, head] = -slope * distance
        is_hidden = distance < 0
        if self.has_window:
            is_hidden |= distance >= self.args.window
        return made.masked_fill_(is_hidden, float("-inf"))

    def sdpa(self, name: str):
        """q, k, v -> out, by the back end of this name."""
        cell = self.cell
        if self.has_window and self.is_prompt and name == "flash":
            return self.flash_window()
        bias = None
        if cell.variant == "alibi" or (self.has_window and self.is_prompt):
            bias = self.bias()

        def attend(q, k, v):
            with sdpa_kernel(ATTENTION[name]):
                return F.scaled_dot_product_attention(
                    q, self.seen(k), self.seen(v), attn_mask=bias,
                    is_causal=bias is None and self.is_prompt, enable_gqa=True,
                )  # fmt: skip

        return attend

    def flash_window(self):
        n = self.cell.context

        def attend(q, k, v):
            out = torch.ops.aten._flash_attention_forward(
                *(x.transpose(1, 2) for x in (q, k, v)), None, None, n, n, 0.0, True, False,
                window_size_left=self.args.window - 1, window_size_right=0,
            )[0]  # fmt: skip
            return out.transpose(1, 2)

        return attend

    def flex(self):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        cell, cap, window = self.cell, self.args.softcap, self.args.window
        slopes = alibi_slopes(self.shape.heads)
        n_before = cell.context - cell.query

        def alibi(score, _, head, q, k):
            return score - slopes[head] * (q + n_before - k)

        def softcap(score, _, head, q, k):
            return cap * torch.tanh(score / cap)

        def causal(_, head, q, k):
            return q >= k

        def windowed(_, head, q, k):
            return (q >= k) & (q - k < window)

        mask = windowed if self.has_window else causal
        blocks = None
        if self.is_prompt:
            blocks = create_block_mask(mask, None, None, cell.query, cell.context, device="cuda")
        score = {"alibi": alibi, "softcap": softcap}.get(cell.variant)
        # As it is for everyone who compiles a model: no shape is symbolic.
        compiled = torch.compile(
            flex_attention, dynamic=False,
            mode="max-autotune-no-cudagraphs" if self.args.max_autotune else None,
        )  # fmt: skip

        def attend(q, k, v):
            return compiled(
                q, self.seen(k), self.seen(v), score_mod=score, block_mask=blocks, enable_gqa=True
            )

        return attend

    def reference(self, q, k, v):
        group = self.shape.heads // self.shape.kv_heads
        k, v = (x.float().repeat_interleave(group, 1) for x in (k, v))
        score = q.float() @ k.mT / math.sqrt(self.shape.head_dim)
        distance = distances(self.cell)
        if self.cell.variant == "alibi":
            score -= alibi_slopes(self.shape.heads)[:, None, None] * distance
        if self.cell.variant == "softcap":
            score = self.args.softcap * torch.tanh(score / self.args.softcap)
        is_hidden = distance < 0
        if self.cell.variant == "window":
            is_hidden |= distance >= self.args.window
        return score.masked_fill_(is_hidden, float("-inf")).softmax(-1) @ v

    def check(self, attend) -> None:
        if self.cell.context > CHECK_TOKENS:
            return
        n = self.shape.head_dim

        def drawn(heads: int, tokens: int) -> torch.Tensor:
            return torch.randn(1, heads, tokens, n, dtype=self.dtype, device="cuda")

        q = CHECK_SPREAD * drawn(self.shape.heads, self.cell.query)
        k, v = (drawn(self.shape.kv_heads, self.cell.context) for _ in range(2))
        error = (attend(q, k, v).float() - self.reference(q, k, v)).abs().max().item()
        if not error < CHECK_ERROR * (8 if self.dtype == torch.bfloat16 else 1):
            raise Unserved(f"differs from the reference by {error:.3g}")


def prepared(design: str, cell: study.Cell, shape: study.Shape, args) -> tuple:
    """The attention and its function, compiled and checked."""
    attention = Attention(cell, shape, args)
    attend = attention.flex() if design == "flex" else attention.sdpa(design)
    attention.check(attend)
    if cell.context > CHECK_TOKENS:  # compiled all the same before anything is timed
        q, pairs = attention.operands(Pool(2 * shape.kv_heads * cell.context * shape.head_dim))
        attend(q, *pairs[0])
    torch.cuda.synchronize()
    return attention, attend


def timed(design: str, attention: Attention, attend, pool: Pool, args) -> dict:
    cell = attention.cell
    q, pairs = attention.operands(pool)
    us = graph_us([lambda kv=kv: attend(q, *kv) for kv in pairs], args.repeats)
    return study.row(
        args.model, cell.part, design, "attention", design, variant=cell.variant,
        query=cell.query, context=cell.context, us=us,
        tflop_per_s=study.flops(cell, attention.shape, args.window) / us / 1e6,
    )  # fmt: skip


def attempt(what: str, call):
    """What the call gives, or None with a line on stderr."""
    try:
        return call()
    except Exception as error:  # whatever a back end throws, the others are measured
        lines = str(error).strip().splitlines() or [""]
        told = " ... ".join(line.strip()[:160] for line in dict.fromkeys((lines[0], lines[-1])))
        print(f"{what}: {type(error).__name__}: {told}", file=sys.stderr, flush=True)
        return None


def text_of(design: str, cell: study.Cell) -> str:
    return f"{design} {cell.variant} {cell.query} x {cell.context}"


def flex_worker(mine: list, shape: study.Shape, args: argparse.Namespace, pipe) -> None:
    """Compiles its cells; when told, times them."""
    torch._dynamo.config.recompile_limit = 10_000
    torch._dynamo.config.accumulated_recompile_limit = 10_000
    with torch.no_grad():
        ready = [
            attempt(text_of("flex", cell), lambda cell=cell: prepared("flex", cell, shape, args))
            for cell in mine
        ]
        pipe.send(sum(made is not None for made in ready))
        pipe.recv()
        pool = Pool(POOL_BYTES // 2, DTYPES[args.dtype])
        rows = []
        for made in filter(None, ready):
            if time.monotonic() > args.deadline:
                break
            what = text_of("flex", made[0].cell)
            row = attempt(what, lambda made=made: timed("flex", *made, pool, args))
            rows += [row] if row else []
        pipe.send(rows)


def flex_workers(cells: list[study.Cell], shape: study.Shape, args) -> list[tuple]:
    """Started: (process, pipe) each."""
    context = multiprocessing.get_context("spawn")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    workers = []
    n = max(1, min(args.workers, len(cells)))
    for i in range(n):
        mine, theirs = context.Pipe()
        process = context.Process(
            target=flex_worker, args=(cells[i::n], shape, args, theirs), daemon=True
        )
        process.start()
        theirs.close()
        workers.append((process, mine))
    return workers


def received(pipe, seconds: float, otherwise):
    """What the other end sends; another thing where it has ended or takes too long."""
    try:
        return pipe.recv() if pipe.poll(max(0.0, seconds)) else otherwise
    except EOFError:
        return otherwise


def layer_rows(shape: study.Shape, pool: Pool, args) -> list[dict]:
    rows = []
    for name, (n_out, n_in, has_residual) in study.products(shape).items():
        product = {"rows": study.PROMPT, "n_out": n_out, "n_in": n_in}
        product["choice"] = f"HAS_RESIDUAL={int(has_residual)}"
        found = attempt(name, lambda product=product: time_linear(product, pool, args.repeats))
        if found:
            figures = {"query": study.PROMPT, "context": study.PROMPT, "us": found["us"]}
            figures["tflop_per_s"] = found["tflop_per_s"]
            rows.append(study.row(args.model, "layer", "", name, found["kernel"], **figures))
    return rows


def sdpa_rows(cells: list[study.Cell], shape: study.Shape, pool: Pool, args) -> list[dict]:
    rows = []
    for cell in cells:
        for design in args.designs:
            if design == "flex" or (design, cell.variant) in CANNOT:
                continue
            if time.monotonic() > args.deadline:
                return rows
            what = text_of(design, cell)
            made = attempt(
                what, lambda design=design, cell=cell: prepared(design, cell, shape, args)
            )
            row = made and attempt(
                what, lambda design=design, made=made: timed(design, *made, pool, args)
            )
            rows += [row] if row else []
    return rows


def measured(args: argparse.Namespace) -> list[dict]:
    shape = study.Shape(args.heads, args.kv_heads, args.head_dim, args.hidden, args.inner)
    cells = study.cells(args.variants, args.lengths)
    workers = flex_workers(cells, shape, args) if "flex" in args.designs else []
    for _, pipe in workers:  # nothing is timed while others compile
        received(pipe, args.deadline - time.monotonic(), 0)
    rows = []
    for process, pipe in workers:
        answer = None
        if time.monotonic() < args.deadline and process.is_alive():
            pipe.send("time")
            answer = received(pipe, WORKER_END_S + args.deadline - time.monotonic(), None)
        if answer is not None:
            rows += answer
            process.join(WORKER_END_S)
        process.terminate()  # one that still compiles
    with torch.no_grad():
        pool = Pool(max(POOL_BYTES // 2, 4 * shape.inner * shape.hidden), DTYPES[args.dtype])
        if "causal" in args.variants:
            rows += layer_rows(shape, pool, args)
        rows += sdpa_rows(cells, shape, pool, args)
    return rows


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])

    def listed(text: str) -> list[str]:
        return text.split(",")

    shape = study.Shape()
    for name in ("heads", "kv_heads", "head_dim", "hidden", "inner"):
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=int, default=getattr(shape, name))
    parser.add_argument("--dtype", choices=DTYPES, default="fp16")
    parser.add_argument("--model", default="llama3-8b-shape", help="as its rows name it")
    parser.add_argument("--variants", type=listed, default=list(study.VARIANTS))
    parser.add_argument("--designs", type=listed, default=[*ATTENTION, "flex"])
    parser.add_argument(
        "--lengths",
        type=lambda text: [int(n) for n in listed(text)],
        default=list(study.LENGTHS),
    )
    parser.add_argument("--window", type=int, default=study.WINDOW)
    parser.add_argument("--softcap", type=float, default=study.SOFTCAP)
    parser.add_argument("--max-autotune", action="store_true", help="FlexAttention tunes its tiles")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--seconds", type=float, default=600, help="begins nothing after these")
    parser.add_argument("--json", type=Path, help="where the rows go; stdout without it")
    args = parser.parse_args()
    for name, known in (("variants", study.VARIANTS), ("designs", (*ATTENTION, "flex"))):
        if unknown := set(getattr(args, name)) - set(known):
            parser.error(f"--{name}: {', '.join(unknown)}: expected some of {', '.join(known)}")
    args.deadline = time.monotonic() + args.seconds
    return args


def main() -> None:
    args = parsed()
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU; this measures the vendor's kernels")
    document = {
        "device": {
            "description": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "triton": triton.__version__,
        },
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows": measured(args),
    }
    text = json.dumps(document, indent=1) + "\n"
    if args.json:
        args.json.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
