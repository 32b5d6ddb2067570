#!/usr/bin/env python3
"""The CUDA stack at the same work: PyTorch with cuBLAS and SDPA (cuDNN, else flash).

    python3 bench/baselines/torch_cuda.py configs/llama3-8b --modes eager,compiled --json out.json
    python3 bench/baselines/torch_cuda.py configs/llama3-8b --sweep 1,2,4,8 --prompt 512 --output 64

Reads config.json alone and makes random weights, as `nereid bench e2e --random-weights` does, and
writes rows with the same fields. The settings are the best known for this stack:

* QKV and gate+up as one matrix each, so that cuBLAS is called four times a layer;
* a static key-value cache of the whole context, buffers that torch.compile need not copy;
* `compiled`: torch.compile with fullgraph and, for the decode step, mode="reduce-overhead": one
  CUDA graph a step; the prompt without that mode, which gains nothing there;
* SDPA may choose among cuDNN, flash and memory-efficient attention, in this order of preference,
  with grouped queries as they are, never repeated keys;
* greedy choice on the device; a token's id goes to the next step without passing the host, and the
  host waits only for a whole answer;
* `--sweep` measures decode steps alone, as `nereid bench sweep` does: the median gap of `compiled`;
* fp16 sums inside cuBLAS stay fp32 (the default), as ours do;
* `--weights fp8`, `fp8-rows`, `int4`: all products by torch._scaled_mm with activations in fp8, or
  by PyTorch's own kernel of 4 bits; what makes the operands is compiled with what is around it.
"""

import argparse
import fcntl
import gc
import itertools
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch_model import WEIGHTS, Config, Model, build, streamed_bytes

BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
STREAM_BYTES = 4 << 30


@torch.no_grad()
def stream_bytes_per_s() -> float:
    """A reduction over more than any cache holds, as a CUDA graph; the best of a few."""
    x = torch.zeros(STREAM_BYTES // 2, dtype=torch.float16, device="cuda").view(-1, 4096)
    for _ in range(2):
        x.amax(1)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(4):
            x.amax(1)
    best = 1e9
    for _ in range(5):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end) / 4e3)
    return x.nbytes / best


class Steps:
    """The two functions of a mode."""

    def __init__(self, model: Model, mode: str, *, compiles_prompt: bool = True) -> None:
        def prompt(tokens, positions):
            return model(tokens, positions, True)

        def decode(tokens, positions):
            return model(tokens, positions, False)

        self.prompt, self.decode = prompt, decode
        if mode == "compiled":
            if compiles_prompt:
                self.prompt = torch.compile(prompt, fullgraph=True)
            self.decode = torch.compile(decode, fullgraph=True, mode="reduce-overhead")
        elif mode != "eager":
            sys.exit(f"unknown mode {mode}; expected eager or compiled")


@torch.no_grad()
def generate(steps: Steps, prompt: torch.Tensor, n_output: int) -> dict:
    n_prompt = prompt.shape[1]
    positions = torch.arange(n_prompt + n_output, device=prompt.device)
    at = [positions[i : i + 1].clone() for i in range(n_prompt, n_prompt + n_output)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(n_output)]
    torch.cuda.synchronize()
    begin = time.perf_counter()
    token = steps.prompt(prompt, positions[:n_prompt]).clone()
    torch.cuda.synchronize()
    first = time.perf_counter()
    events[0].record()
    for i in range(n_output - 1):
        # A CUDA graph's output is overwritten by its next replay.
        token = steps.decode(token, at[i]).clone()
        events[i + 1].record()
    torch.cuda.synchronize()
    end = time.perf_counter()
    return {
        "ttft_ms": 1e3 * (first - begin),
        "itl_ms": 1e3 * (end - first) / (n_output - 1),
        "tokens_per_s": prompt.shape[0] * n_output / (end - begin),
        "gaps_ms": [a.elapsed_time(b) for a, b in itertools.pairwise(events)],
    }


def measure(model: Model, c: Config, mode: str, args: argparse.Namespace, stream: float) -> dict:
    started = time.perf_counter()
    steps = Steps(model, mode)
    generator = torch.Generator(device="cuda").manual_seed(args.seed)
    shape = (args.batch, args.prompt)
    prompt = torch.randint(0, c.vocab, shape, device="cuda", generator=generator)
    with sdpa_kernel(BACKENDS, set_priority=True):
        for _ in range(args.warmup):
            # Compiles, captures and settles; a short answer does.
            generate(steps, prompt, min(args.output, 16))
        runs = [generate(steps, prompt, args.output) for _ in range(args.repeats)]
    gaps = sorted(gap for run in runs for gap in run["gaps_ms"])

    def median(name: str) -> float:
        return statistics.median(run[name] for run in runs)

    weights = streamed_bytes(model, c)
    rate = weights / median("itl_ms") * 1e3
    return {
        "bench": "e2e",
        "engine": "torch",
        "weights": args.weights,
        "model": str(args.model),
        "mode": mode,
        "batch": args.batch,
        "prompt": args.prompt,
        "output": args.output,
        "repeats": args.repeats,
        "tokens_per_s": median("tokens_per_s"),
        "ttft_ms": median("ttft_ms"),
        "itl_ms": median("itl_ms"),
        "itl_ms_median": statistics.median(gaps),
        "itl_ms_p99": gaps[round(0.99 * (len(gaps) - 1))],
        "weight_bytes": weights,
        "weight_gb_per_s": rate / 1e9,
        "bandwidth_percent": 100 * rate / stream,
        "floor_ms": 1e3 * weights / stream,
        "device_bytes": torch.cuda.max_memory_allocated(),
        "samples_tokens_per_s": [run["tokens_per_s"] for run in runs],
        "setup_s": time.perf_counter() - started,
    }


def write(document: dict, path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(document, indent=1) + "\n")


def measure_step(c: Config, n_sequences: int, args: argparse.Namespace) -> dict:
    """A decode step of so many sequences. Compiles before it takes the lock: several processes may
    prepare beside each other, and who holds the lock lets them measure when all are ready."""
    model = build(c, n_sequences, args.prompt + args.output, "cuda", args.weights)
    steps = Steps(model, "compiled", compiles_prompt=False)
    generator = torch.Generator(device="cuda").manual_seed(args.seed)
    shape = (n_sequences, args.prompt)
    prompt = torch.randint(0, c.vocab, shape, device="cuda", generator=generator)
    with sdpa_kernel(BACKENDS, set_priority=True), open(args.lock, "w") as lock:
        for _ in range(args.warmup):
            generate(steps, prompt, min(args.output, 16))
        print("ready", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
        gaps = [
            g for _ in range(args.repeats) for g in generate(steps, prompt, args.output)["gaps_ms"]
        ]
    gaps.sort()
    return {
        "bench": "sweep",
        "engine": "torch",
        "weights": args.weights,
        "sequences": n_sequences,
        "context": args.prompt,
        "sampler": "greedy",
        "step_ms": statistics.median(gaps),
        "step_ms_p99": gaps[round(0.99 * (len(gaps) - 1))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a folder with config.json")
    parser.add_argument("--modes", default="eager,compiled")
    parser.add_argument(
        "--weights", choices=WEIGHTS, default="floats", help="floats: as config.json has them"
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--output", type=int, default=256)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--sweep", default="", help="measure decode steps of so many sequences: 1,2,4"
    )
    parser.add_argument("--lock", default=os.devnull, help="with --sweep: a file to measure under")
    parser.add_argument("--json", type=Path, help="where the rows go; stdout without it")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU; this baseline measures the CUDA stack")

    c = Config.load(args.model)
    stream = stream_bytes_per_s() if not args.sweep else 0.0
    gc.collect()
    torch.cuda.empty_cache()
    properties = torch.cuda.get_device_properties(0)
    document = {
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "device": {
            "name": "cuda:0",
            "description": properties.name,
            "memory_bytes": properties.total_memory,
            "units": properties.multi_processor_count,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        },
        "limits": {"stream_gb_per_s": stream / 1e9, "stream_bytes": STREAM_BYTES},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows": [],
    }
    for n_sequences in filter(None, args.sweep.split(",")):
        row = measure_step(c, int(n_sequences), args)
        document["rows"].append(row)
        print(f"torch, {n_sequences} sequences: {row['step_ms']:.3f} ms", file=sys.stderr)
        write(document, args.json)
        torch.compiler.reset()
    if not args.sweep:
        model = build(c, args.batch, args.prompt + args.output, "cuda", args.weights)
    for mode in args.modes.split(",") if not args.sweep else ():
        row = measure(model, c, mode, args, stream)
        document["rows"].append(row)
        print(
            f"torch {mode}: {row['tokens_per_s']:.1f} tokens/s, first token "
            f"{row['ttft_ms']:.1f} ms, next {row['itl_ms']:.3f} ms",
            file=sys.stderr,
        )
        # Written after each mode, so that what was measured is not lost with what fails.
        write(document, args.json)
    if not args.json:
        print(json.dumps(document))


if __name__ == "__main__":
    main()
