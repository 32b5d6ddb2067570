#!/usr/bin/env python3
"""Makes docs/benchmarks.md and its plots from files of results, and nothing by hand.

    python3 bench/report.py bench/results/h100.json [bench/results/h200.json]...
                            [--sweep bench/results/h200_sweep.json]

The first machine gets the whole page, each other a section of its end-to-end figures; a sweep comes
before all, its worst cells first.
"""

import argparse
import json
from pathlib import Path

import compare_kernels
import envelope
import plot

ROOT = Path(__file__).resolve().parent.parent


def markdown_table(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rows = [header, tuple("---" for _ in header), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def engine_name(row: dict) -> str:
    return "Nereid" if row["engine"] == "nereid" else "CUDA stack"


def machine_text(results: dict) -> str:
    device, machine, limits = results["device"], results["machine"], results["limits"]
    lines = [
        ("device", device["description"]),
        ("host", f"{machine['cpu']}, {machine['n_cpus']} processors, {machine['system']}"),
        *((name, value) for name, value in results["facts"].items()),
        ("measured", results["time"]),
        ("streaming read, by a Triton kernel", f"{limits['stream_gb_per_s']:.0f} GB/s"),
        (
            "matrix products, by a Triton kernel, for long at the power limit",
            f"{limits['dot_tflop_per_s']:.4g} TFLOP/s ({limits['dot_dtype']})",
        ),
    ]
    for rival in results["rivals"][:1]:
        versions = f"PyTorch {rival['torch']}, CUDA {rival['cuda']}, cuDNN {rival['cudnn']}"
        lines.append(("CUDA stack", versions))
    return markdown_table(("", ""), lines)


def end_to_end_text(rows: list[dict], results: dict) -> str:
    header = (
        "model", "engine", "mode", "tokens/s", "first token, ms", "next token, ms", "p99, ms",
        "weights, GB/s", "% of streaming", "launches a step",
    )  # fmt: skip
    lines = [
        (
            row["model"],
            engine_name(row),
            row["mode"],
            f"{row['tokens_per_s']:.1f}",
            f"{row['ttft_ms']:.1f}",
            f"{row['itl_ms']:.3f}",
            f"{row['itl_ms_p99']:.3f}",
            f"{row['weight_gb_per_s']:.0f}",
            f"{100 * row['weight_gb_per_s'] / results['limits']['stream_gb_per_s']:.0f}",
            str(round(row["launches_per_step"])) if "launches_per_step" in row else "-",
        )
        for row in rows
    ]
    floors = {row["model"]: row["floor_ms"] for row in rows if row["engine"] == "nereid"}
    floor_text = "; ".join(f"{model} {floor:.3f} ms" for model, floor in floors.items())
    first = rows[0]
    return (
        f"Batch {first['batch']}, prompts of {first['prompt']} random tokens, answers of "
        f"{first['output']}, greedy, random weights of the models' shapes; medians of "
        f"{round(first['repeats'])} or more. Tokens a second count generated tokens over the "
        "whole time, prompts included. The next token's time is the whole time without the first "
        "token's, by the number of further tokens. What streaming the weights alone would take: "
        f"{floor_text}.\n\n{markdown_table(header, lines)}"
    )


PLOTS = (
    "\n![Milliseconds a token](benchmarks/itl.svg)\n\n"
    "![Tokens a second](benchmarks/throughput.svg)\n"
)


def report_text(results: dict, rows: list[dict]) -> str:
    """The figures of the report beside ours; empty on a machine it did not measure."""
    gpu = plot.report_gpu(results)
    figures = json.loads((ROOT / "bench" / "report_figures.json").read_text())
    lines = []
    for model, theirs in figures["itl_ms"].get(gpu, {}).items():
        mine = {row["mode"]: row for row in rows if row["model"] == model}
        best = min((row["itl_ms"] for row in mine.values()), default=None)
        if best is None:
            continue
        eager = f"{mine['eager']['itl_ms']:.2f}" if "eager" in mine else "-"
        lines.append(
            (
                model,
                f"{theirs['Triton eager']:.2f}",
                eager,
                f"{theirs['Triton compiled']:.2f}",
                f"{best:.2f}",
                f"{theirs['CUDA compiled']:.2f}",
            )
        )
    if not lines:
        return ""
    header = (
        "model", "report: Triton eager", "ours: eager", "report: Triton compiled", "ours: best",
        "report: CUDA compiled",
    )  # fmt: skip
    return (
        f"\n## Beside the report\n\n{figures['source']}. Its GPU was an {gpu}; milliseconds a "
        f"token.\n\n{markdown_table(header, lines)}"
    )


def kernels_text(results: dict) -> str:
    lines = compare_kernels.table(results["rows"])
    if not lines:
        return ""
    return (
        "\n## Kernel by kernel\n\nEach as the planner launches it, on weights, keys and values "
        "that no cache holds. A product's shape is rows x outputs x inputs. Both add the residual "
        "or else the bias; ours of the gate is the gate times up through SiLU as well, and ours "
        "of up to 8 rows has the norm in it, where the model has one. Decode attention is RoPE "
        "and the cache's write, too.\n\n" + markdown_table(compare_kernels.HEADER, lines)
    )


def start_text(results: dict) -> str:
    rows = [row for row in results["rows"] if row["bench"] == "start"]
    if not rows:
        return ""
    header = ("model", "weights, GB", "process start to first token, ms", "upload, GB/s, at least")
    lines = [
        (
            row["model"],
            f"{row['weight_bytes'] / 1e9:.2f}",
            f"{row['start_to_first_token_ms']:.0f}",
            f"{row['upload_gb_per_s']:.1f}",
        )
        for row in rows
    ]
    return (
        "\n## Start\n\nA snapshot in the page cache, bundle complete, by `bench/start_time.py`. "
        "The upload's rate counts all the time before the prompt as upload.\n\n"
        + markdown_table(header, lines)
    )


def proof_text(results: dict) -> str:
    proofs = results["proofs"]
    if not proofs:
        return ""
    launches = sum(proof["launches"] for proof in proofs)
    return (
        f"\n## Nothing but Triton\n\nThe runs above were made with `--prove`: all {launches} "
        "launches were of functions whose objects' SHA-256, computed of the bytes given to the "
        "driver, stand in the bundle's manifest, and no vendor's compute library was mapped.\n"
    )


def end_to_end_rows(results: dict) -> list[dict]:
    return [row for row in results["rows"] if row["bench"] == "e2e"]


def sweep_text(sweep: dict) -> str:
    facts = "".join(f"{name}: {value}. " for name, value in sweep["facts"].items())
    prompts = [
        (str(n_tokens), f"{ms:.1f}", f"{1e3 * n_tokens / ms:.0f}")
        for n_tokens, ms in envelope.prompt_cells(sweep).items()
    ]
    return (
        f"\n## The envelope\n\n{sweep['device']['description']}, {sweep['time']}, llama3-8b, "
        f"random weights, one engine for all cells (`nereid bench sweep`). {facts}The floor is what"
        " streaming the weights and each sequence's keys and values takes.\n\n"
        "![A step by its floor](benchmarks/envelope.svg)\n\n"
        + markdown_table(*envelope.decode_table(sweep))
        + "\nOne prompt, until its first token:\n\n"
        + markdown_table(("tokens", "ms", "tokens/s"), prompts)
        + "\nDecode attention of a layer alone, RoPE and the cache's write in it; cuDNN without, "
        "in the same run:\n\n"
        + markdown_table(*envelope.attention_table(sweep))
        + "\nProducts of a layer and the head alone, on weights that no cache holds:\n\n"
        + markdown_table(*envelope.product_table(sweep))
    )


def page(results: dict, sources: list[str], others: list[dict], sweep: dict | None = None) -> str:
    rows = end_to_end_rows(results)
    ours = [row for row in rows if row["engine"] == "nereid"]
    names = " and ".join(f"`{source}`" for source in sources)
    text = (
        f"# Benchmarks\n\nMade from {names} by `bench/report.py`; measured by "
        "`bench/run_gpu.sh`, ours and the CUDA stack's in turns on one machine.\n\n"
        + machine_text(results)
    )
    if sweep:
        text += sweep_text(sweep)
    if ours:
        text += f"\n## End to end\n\n{end_to_end_text(rows, results)}{PLOTS}"
        text += report_text(results, ours)
    text += start_text(results)
    for other in others:
        text += f"\n## The same on {other['device']['description']}\n\n{machine_text(other)}\n"
        text += end_to_end_text(end_to_end_rows(other), other)
    return text + kernels_text(results) + proof_text(results)


def source_name(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(ROOT))
    except ValueError:
        return path.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--sweep", type=Path)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    results, *others = [json.loads(path.read_text()) for path in args.results]
    sources = [source_name(path) for path in args.results]
    sweep = json.loads(args.sweep.read_text()) if args.sweep else None
    sources += [source_name(args.sweep)] if args.sweep else []
    (args.docs / "benchmarks.md").write_text(page(results, sources, others, sweep))
    plots = plot.plots(results) if end_to_end_rows(results) else {}
    if sweep:
        plots["envelope.svg"] = envelope.heat_map(sweep)
    folder = args.docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in plots.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
