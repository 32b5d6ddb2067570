#!/usr/bin/env python3
"""From the start of the process to the first token, weights in the page cache.

    python3 bench/start_time.py configs/llama3-8b --nereid build/release/apps/nereid --bundle DIR

Writes a snapshot of random numbers with the shapes of the model (Llama architecture), opens it a
few times and deletes it. What the weights' upload reaches is at least their bytes by all the time
before the prompt.
"""

import argparse
import json
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BLOCK_BYTES = 64 << 20


def tensors(config: dict) -> list[tuple[str, tuple[int, ...]]]:
    d, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or d // heads
    q, kv = heads * head_dim, config["num_key_value_heads"] * head_dim
    linears = {
        "self_attn.q_proj": (q, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d),
        "self_attn.o_proj": (d, q), "mlp.gate_proj": (f, d), "mlp.up_proj": (f, d),
        "mlp.down_proj": (d, f),
    }  # fmt: skip
    biased = {name for name in linears if config.get("mlp_bias") and name.startswith("mlp")}
    biased |= {n for n in linears if config.get("attention_bias") and n.startswith("self_attn")}
    found = [("model.embed_tokens.weight", (v, d)), ("model.norm.weight", (d,))]
    if not config.get("tie_word_embeddings"):
        found.append(("lm_head.weight", (v, d)))
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, shape in linears.items():
            found.append((f"{prefix}{name}.weight", shape))
            if name in biased:
                found.append((f"{prefix}{name}.bias", shape[:1]))
        for name in ("input_layernorm", "post_attention_layernorm"):
            found.append((f"{prefix}{name}.weight", (d,)))
    return found


def write_snapshot(config: dict, folder: Path) -> int:
    """Bytes of its weights, fp16."""
    (folder / "config.json").write_text(json.dumps(config))
    header, size = {}, 0
    for name, shape in tensors(config):
        end = size + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [size, end]}
        size = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = (np.random.default_rng(1).standard_normal(BLOCK_BYTES // 2) * 0.02).astype(np.float16)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for begin in range(0, size, BLOCK_BYTES):
            file.write(block.tobytes()[: size - begin])
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a folder with config.json")
    parser.add_argument("--nereid", default="build/release/apps/nereid")
    parser.add_argument("--bundle", required=True, help="compiled kernels")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--max-batch-tokens", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where the row goes; stdout without it")
    args = parser.parse_args()
    config = json.loads((args.model / "config.json").read_text())
    folder = Path(tempfile.mkdtemp(prefix="nereid-snapshot-"))
    try:
        size = write_snapshot(config, folder)
        command = [
            args.nereid, "generate", folder, "--ids", "1,2,3,4,5,6,7,8", "-n", "4", "--ignore-eos",
            "--json", "--device", args.device, "--bundle", args.bundle,
            "--max-batch-tokens", str(args.max_batch_tokens),
        ]  # fmt: skip
        runs = []
        for _ in range(args.repeats + 1):  # the first brings the file into the page cache
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode:
                sys.exit(run.stderr)
            runs.append(json.loads(run.stdout)["stats"])
    finally:
        shutil.rmtree(folder)
    start_ms = statistics.median(run["start_to_first_token_ms"] for run in runs[1:])
    ttft_ms = statistics.median(run["ttft_ms"] for run in runs[1:])
    row = {
        "bench": "start", "engine": "nereid", "model": str(args.model), "weight_bytes": size,
        "start_to_first_token_ms": start_ms, "upload_gb_per_s": size / (start_ms - ttft_ms) / 1e6,
    }  # fmt: skip
    document = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows": [row],
    }
    text = json.dumps(document, indent=1) + "\n"
    if args.json:
        args.json.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
