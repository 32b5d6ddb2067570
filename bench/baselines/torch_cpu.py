#!/usr/bin/env python3
"""PyTorch eager on the processor, at a model's shapes and random weights.

    python3 bench/baselines/torch_cpu.py models/demo --threads 1,2 --dtypes float32,bfloat16

Prints one JSON object a line, as llama_bench does: threads, test (prefill512, decode128), tokens a
second. Decoding begins with an empty cache of the length it will need. Needs `pip install torch`.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import torch
from torch_model import Config, build


@torch.no_grad()
def rates(config: Config, n_prompt: int, n_output: int, repeats: int) -> dict[str, float]:
    prompt = torch.randint(0, config.vocab, (1, n_prompt))
    long = build(config, 1, n_prompt, "cpu")
    short = build(config, 1, n_output, "cpu")
    positions = torch.arange(max(n_prompt, n_output))
    prefill, decode = [], []
    for i in range(-1, repeats):  # once to settle
        begin = time.perf_counter()
        token = long(prompt, positions[:n_prompt], True)
        prompted = time.perf_counter()
        for at in range(n_output):
            token = short(token, positions[at : at + 1], False)
        end = time.perf_counter()
        if i >= 0:
            prefill.append(n_prompt / (prompted - begin))
            decode.append(n_output / (end - prompted))
    return {
        f"prefill{n_prompt}": statistics.median(prefill),
        f"decode{n_output}": statistics.median(decode),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a folder with config.json")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--output", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    for threads in map(int, args.threads.split(",")):
        torch.set_num_threads(threads)
        for dtype in args.dtypes.split(","):
            config = dataclasses.replace(Config.load(args.model), dtype=getattr(torch, dtype))
            for test, rate in rates(config, args.prompt, args.output, args.repeats).items():
                row = {"engine": "torch", "dtype": dtype, "threads": threads, "test": test}
                print(json.dumps({**row, "tokens_per_s": round(rate, 1)}), flush=True)


if __name__ == "__main__":
    main()
