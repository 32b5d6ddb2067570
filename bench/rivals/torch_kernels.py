#!/usr/bin/env python3
"""The vendor's kernels at the shapes of `nereid bench kernels`: cuBLAS, and SDPA by cuDNN or flash.

    nereid bench kernels MODEL --json > ours.json
    python3 bench/rivals/torch_kernels.py --shapes ours.json --json theirs.json

Every product and attention of the first file is timed in the same way: in a CUDA graph, over
weights (keys and values) that no cache holds. For attention the best back end counts.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

POOL_BYTES = 512 << 20
TARGET_MS = 5.0
ATTENTION = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def graph_us(calls: list, repeats: int) -> float:
    """Median microseconds of one of the calls, all of them queued again and again in one graph."""
    for call in calls[:2]:
        call()
    torch.cuda.synchronize()

    def captured(rounds: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(rounds):
                for call in calls:
                    call()
        return graph

    def replay_ms(graph: torch.cuda.CUDAGraph) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end)

    trial = captured(1)
    replay_ms(trial)
    rounds = max(1, round(TARGET_MS / max(replay_ms(trial), 1e-3)))
    graph = captured(rounds)
    replay_ms(graph)
    samples = [replay_ms(graph) for _ in range(repeats)]
    return 1e3 * statistics.median(samples) / (rounds * len(calls))


class Pool:
    """Random numbers, of which every operand that must not be in a cache is a view."""

    def __init__(self, elements: int, dtype: torch.dtype = torch.float16) -> None:
        self.data = torch.empty(elements, dtype=dtype, device="cuda").normal_(0, 0.02)

    def views(self, *shape: int) -> list[torch.Tensor]:
        n = torch.Size(shape).numel()
        count = min(max(2, self.data.numel() // n), 1024)
        return [
            self.data[i * n % (self.data.numel() - n + 1) :][:n].view(shape) for i in range(count)
        ]


def time_linear(row: dict, pool: Pool, repeats: int) -> dict:
    m, n, k = row["rows"], row["n_out"], row["n_in"]
    dtype = pool.data.dtype
    x = torch.randn(m, k, dtype=dtype, device="cuda")
    # As ours: the residual or the bias is added by the product's own kernel (cuBLAS adds one).
    if "HAS_RESIDUAL=1" in row["choice"]:
        y = torch.zeros(m, n, dtype=dtype, device="cuda")
        calls = [lambda w=w: torch.addmm(y, x, w.t(), out=y) for w in pool.views(n, k)]
    else:
        bias = torch.randn(n, dtype=dtype, device="cuda")
        bias = bias if "HAS_BIAS=1" in row["choice"] else None
        calls = [lambda w=w: F.linear(x, w, bias) for w in pool.views(n, k)]
    us = graph_us(calls, repeats)
    return {"kernel": "cublas", "us": us, "tflop_per_s": 2e-6 * m * n * k / us}


def time_attention(row: dict, shape: dict, pool: Pool, repeats: int) -> dict:
    b, q_len, context = row["batch"], row["query"], row["context"]
    h, kv, d = shape["heads"], shape["kv_heads"], shape["head_dim"]
    q = torch.randn(b, h, q_len, d, dtype=torch.float16, device="cuda")
    pairs = pool.views(2, b, kv, context, d)
    found = {}
    for name, backend in ATTENTION.items():
        try:
            with sdpa_kernel(backend):
                calls = [
                    lambda kv_pair=kv_pair: F.scaled_dot_product_attention(
                        q, kv_pair[0], kv_pair[1], is_causal=q_len > 1, enable_gqa=True
                    )
                    for kv_pair in pairs
                ]
                found[name] = graph_us(calls, repeats)
        except RuntimeError as error:
            print(f"{name}: {str(error).splitlines()[0][:120]}", file=sys.stderr)
    if not found:
        sys.exit(f"no back end of SDPA takes {row}")
    best = min(found, key=found.get)
    return {"kernel": best, "us": found[best], "candidates": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=Path, required=True, help="JSON of nereid bench kernels")
    parser.add_argument("--config", type=Path, help="the model's folder, for its heads")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where the rows go; stdout without it")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU; this measures the vendor's kernels")

    rows = json.loads(args.shapes.read_text())["rows"]
    linear = {(r["rows"], r["n_out"], r["n_in"]): r for r in rows if r["op"] == "linear"}
    attention = {(r["batch"], r["query"], r["context"]): r for r in rows if r["op"] == "attention"}
    folder = args.config or Path(rows[0]["model"])
    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    shape = {
        "heads": heads,
        "kv_heads": config["num_key_value_heads"],
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
    }
    largest = max((n * k for _, n, k in linear), default=0)
    pool = Pool(max(POOL_BYTES // 2, 2 * largest))
    common = {"bench": "kernels", "engine": "torch", "model": rows[0]["model"]}
    document = {
        "device": {
            "description": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        },
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows": [],
    }
    with torch.no_grad():
        for row in linear.values():
            key = {name: row[name] for name in ("op", "name", "rows", "n_out", "n_in")}
            document["rows"].append(common | key | time_linear(row, pool, args.repeats))
        for row in attention.values():
            key = {name: row[name] for name in ("op", "name", "batch", "query", "context")}
            document["rows"].append(common | key | time_attention(row, shape, pool, args.repeats))
    text = json.dumps(document, indent=1) + "\n"
    if args.json:
        args.json.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
