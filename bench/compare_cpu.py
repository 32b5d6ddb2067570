#!/usr/bin/env python3
"""Nereid and its rivals on one processor, in turns: prompts, decoding, start.

    python3 bench/compare_cpu.py --rounds 6 --threads 1,2
    python3 bench/compare_cpu.py --llama "PROGRAM MODEL.gguf" --torch --json out.json
    python3 bench/compare_cpu.py --quantize int4 --llama-type Q4_0

A shared machine's speed drifts within seconds, so each round runs every program once and a ratio is
taken within the round; medians over the rounds are told. Prompts of 512 tokens; 128 tokens decoded
from an empty cache; milliseconds from a program's start to the first token after a prompt of 16.
Without --llama, bench/baselines/llama_cpp.sh builds llama.cpp first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BASELINES = Path(__file__).resolve().parent / "baselines"
# Where a smaller number is better.
TIMES = ("first_token_ms",)


def output_of(command: list) -> str:
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{run.stderr}")
    return run.stdout


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'}, {os.cpu_count()} cpus"


def nereid(args: argparse.Namespace, threads: int) -> dict[str, float]:
    common = ["--device", "cpu", "--threads", threads]
    if args.bundle:
        common += ["--bundle", args.bundle]
    if args.quantize:
        common += ["--quantize", args.quantize]
    ids = ",".join(str(i) for i in range(1, 17))
    answer = json.loads(
        output_of([args.nereid, "generate", args.model, "--ids", ids, "-n", 1, "--json", *common])
    )
    found = {"first_token_ms": answer["stats"]["start_to_first_token_ms"]}
    for test, prompt, output in (("prefill512", 512, 2), ("decode128", 1, 129)):
        sizes = ["--batch", 1, "--prompt", prompt, "--output", output, "--repeats", args.repeats]
        modes = ["--modes", args.mode, "--json"]
        text = output_of([args.nereid, "bench", "e2e", args.model, *sizes, *modes, *common])
        row = json.loads(text)["rows"][0]
        per_token_ms = row["ttft_ms"] / prompt if test == "prefill512" else row["itl_ms"]
        found[test] = 1e3 / per_token_ms
    return found


def lines_by_test(text: str) -> dict[str, float]:
    found = {}
    for row in map(json.loads, text.splitlines()):
        if "test" in row:
            found[row["test"]] = row["tokens_per_s"]
        else:
            found["first_token_ms"] = row["first_token_ms"]
    return found


def llama(args: argparse.Namespace, threads: int) -> dict[str, float]:
    program, model = args.llama.split()
    return lines_by_test(output_of([program, model, threads, 512, 128, args.repeats]))


def torch(args: argparse.Namespace, threads: int) -> dict[str, float]:
    script = [sys.executable, BASELINES / "torch_cpu.py", args.model, "--dtypes", args.torch]
    return lines_by_test(output_of([*script, "--threads", threads, "--repeats", args.repeats]))


def ratio(test: str, ours: float, theirs: float) -> float:
    """Above 1: ours is faster."""
    return theirs / ours if test in TIMES else ours / theirs


def summary(samples: list[dict]) -> list[dict]:
    """Medians of each program and of the ratios within a round, a row a test."""
    rows = []
    for threads in dict.fromkeys(sample["threads"] for sample in samples):
        of_threads = [sample for sample in samples if sample["threads"] == threads]
        rivals = [name for name in of_threads[0] if name not in ("threads", "nereid")]
        for test in of_threads[0]["nereid"]:
            row = {"threads": threads, "test": test}
            row["nereid"] = statistics.median(s["nereid"][test] for s in of_threads)
            for rival in rivals:
                both = [s for s in of_threads if test in s[rival]]
                if both:
                    row[rival] = statistics.median(s[rival][test] for s in both)
                    row[f"times_{rival}"] = statistics.median(
                        ratio(test, s["nereid"][test], s[rival][test]) for s in both
                    )
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="models/demo", help="a snapshot of a Llama")
    parser.add_argument("--nereid", default="build/release/apps/nereid")
    parser.add_argument("--bundle", help="compiled kernels")
    parser.add_argument("--mode", default="compiled")
    parser.add_argument("--quantize", help="our weights: int8, fp8 or int4")
    parser.add_argument("--llama-type", default="F16", help="its weights: Q8_0, Q4_0 or Q4_K_M")
    parser.add_argument("--llama", help="program and converted model; built without it")
    parser.add_argument("--torch", nargs="?", const="float32", help="PyTorch too, in this type")
    parser.add_argument("--threads", default=f"1,{os.cpu_count()}")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2, help="within a round")
    parser.add_argument("--json", type=Path, help="where samples and medians go")
    args = parser.parse_args()
    if not args.llama:
        script = [BASELINES / "llama_cpp.sh", args.model, "--only-build", "--type", args.llama_type]
        args.llama = output_of(script).splitlines()[-1]

    samples = []
    for i in range(args.rounds):
        for threads in map(int, args.threads.split(",")):
            sample = {"threads": threads, "nereid": nereid(args, threads)}
            sample["llama.cpp"] = llama(args, threads)
            if args.torch:
                sample["torch"] = torch(args, threads)
            samples.append(sample)
        print(f"round {i + 1} of {args.rounds}", file=sys.stderr)
    rows = summary(samples)
    for row in rows:
        print(
            "  ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
        )
    if args.json:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        weights = {"nereid": args.quantize or "as they are", "llama.cpp": args.llama_type}
        document = {"time": now, "machine": processor(), "weights": weights}
        document |= {"rows": rows, "samples": samples}
        args.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
