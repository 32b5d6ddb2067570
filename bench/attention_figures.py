#!/usr/bin/env python3
"""The study of attention as figures and tables: `nereid bench attention` beside PyTorch's.

    python3 bench/merge.py --out bench/results/h200_attention.json ours.json theirs.json
    python3 bench/attention_figures.py bench/results/h200_attention.json

Writes docs/attention/*.svg (in the manner of the report's Fig. 8 and 9) and what stands between the
marks in docs/attention.md. Beside ours stands what the report published: of Fig. 5 and 8; of Fig. 9
no figures are known here.
"""

import argparse
import json
from html import escape
from pathlib import Path

from attention_cells import PROMPT, VARIANTS
from plot import FAINT, HERE, INK, OUTLINE, Bar, Group, nice_step, svg
from report import markdown_table, source_name

ROOT = HERE.parent
BEGIN, END = "<!-- made by bench/attention_figures.py -->", "<!-- end of what is made -->"
# (engine, design): what it is called, its colour. The first is ours, those of torch are rivals.
SERIES = {
    ("nereid", "nereid"): ("Nereid", "#2f6f9f"),
    ("nereid", "amd"): ("amd", "#6f9f2f"),
    ("nereid", "tutorial"): ("tutorial", "#3f9f8f"),
    ("nereid", "dao"): ("dao", "#8f6fbf"),
    ("nereid", "flex"): ("flex", "#bf6f8f"),
    ("nereid", "split-k"): ("split-k", "#9f8f3f"),
    ("nereid", "split-k-atomic"): ("split-k-atomic", "#7f7f4f"),
    ("torch", "cudnn"): ("cuDNN", "#c0813a"),
    ("torch", "flash"): ("flash SDPA", "#d0501f"),
    ("torch", "flex"): ("FlexAttention", "#902020"),
}
BAR_LABELS = {"split-k-atomic": "split-k|atomic", "FlexAttention": "Flex-|Attention"}
OURS = ("nereid", "nereid")
RIVALS = [series for series in SERIES if series[0] == "torch"]
VARIANT_TEXT = {
    "causal": "causal", "alibi": "ALiBi", "softcap": "soft cap", "window": "window of 1,024",
}  # fmt: skip
# As the report names a layer's operations, and the program.
OPERATIONS = {
    "qkv": "self_attn.q_proj",
    "attention": "attention",
    "output": "self_attn.o_proj",
    "gate and up": "mlp.gate_proj",
    "down": "mlp.down_proj",
}
PANEL_WIDTH, PANEL_HEIGHT, PANEL_GAP, LEFT, TOP = 300, 220, 56, 56, 84


def attention_times(rows: list[dict], part: str) -> dict[tuple, dict]:
    """{(variant, queries, keys): {series: row}}, of what was measured twice the first."""
    found: dict[tuple, dict] = {}
    for row in rows:
        if row["part"] != part or row.get("name") != "attention":
            continue
        cell = (row["variant"], row["query"], row["context"])
        found.setdefault(cell, {}).setdefault((row["engine"], row["design"]), row)
    return found


def best_rival(times: dict) -> tuple | None:
    return min((s for s in RIVALS if s in times), key=lambda s: times[s]["us"], default=None)


def ratio(times: dict) -> float | None:
    """The best rival's time by ours: above one where ours is faster."""
    rival = best_rival(times)
    return times[rival]["us"] / times[OURS]["us"] if rival and OURS in times else None


def speed(times: dict, series: tuple) -> float:
    """TFLOP/s by the smallest count of the cell, that which knows of a window."""
    tflop = min(row["tflop_per_s"] * row["us"] for row in times.values())
    return tflop / times[series]["us"]


def by_ratio(cells: dict[tuple, dict]) -> list[tuple[tuple, dict]]:
    """The worst first; those without a ratio last."""
    return sorted(cells.items(), key=lambda cell: ratio(cell[1]) or float("inf"))


def us_text(times: dict, series: tuple | None) -> str:
    return f"{times[series]['us']:.1f}" if series in times else "-"


def sizes_table(cells: dict[tuple, dict]) -> str:
    header = ("variant", "queries", "keys", "Nereid, us", "its kernel",
              *(f"{SERIES[s][0]}, us" for s in RIVALS), "best rival / Nereid")  # fmt: skip
    lines = []
    for (variant, query, context), times in by_ratio(cells):
        value = ratio(times)
        lines.append(
            (
                VARIANT_TEXT[variant],
                f"{query:,}",
                f"{context:,}",
                us_text(times, OURS),
                f"`{times[OURS]['kernel']}`" if OURS in times else "-",
                *(us_text(times, s) for s in RIVALS),
                f"{value:.2f}" if value else "-",
            )
        )
    return markdown_table(header, lines)


def designs_table(cells: dict[tuple, dict]) -> str:
    """Of the designs beside ours, causal: a row a size."""
    designs = [s for s in SERIES if s[0] == "nereid"]
    lines = [
        (f"{query:,}", f"{context:,}", *(us_text(times, s) for s in designs))
        for (variant, query, context), times in sorted(
            cells.items(), key=lambda cell: (cell[0][1] == 1, cell[0][2])
        )
        if variant == "causal" and any(s in times for s in designs)
    ]
    header = ("queries", "keys", *(f"`{s[1]}`" for s in designs))
    return markdown_table(header, lines) if lines else ""


def layer_times(rows: list[dict]) -> dict[str, dict[str, float]]:
    """{operation: {who: us}} of the report's prompt; of attention the program's own, and the best
    rival."""
    found: dict[str, dict[str, float]] = {}
    attention = attention_times(rows, "layer").get(("causal", PROMPT, PROMPT), {})
    for operation, name in OPERATIONS.items():
        times = {
            row["engine"]: row["us"]
            for row in reversed(rows)
            if row["part"] == "layer" and row["name"] == name and name != "attention"
        }
        if name == "attention":
            rival = best_rival(attention)
            times = {"nereid": attention[OURS]["us"]} if OURS in attention else {}
            times |= {"torch": attention[rival]["us"]} if rival else {}
        found[operation] = times
    return found


def report_layer(report: dict, results: dict) -> dict[str, dict[str, float]]:
    """{operation: {"Triton", "CUDA": us}}; empty on a CPU, which the report did not measure."""
    if results["device"]["target"].startswith("cpu"):
        return {}
    theirs = report["kernels_us"]["H100"]
    return {
        operation: {stack: theirs[stack][operation] for stack in ("Triton", "CUDA")}
        for operation in OPERATIONS
    }


def layer_table(rows: list[dict], published: dict) -> str:
    lines = []
    ours_by = layer_times(rows)
    for operation, times in sorted(
        ours_by.items(), key=lambda item: item[1].get("torch", 0) / item[1].get("nereid", 1)
    ):
        ours, theirs = times.get("nereid"), times.get("torch")
        figures = published.get(operation, {})
        lines.append(
            (
                operation,
                f"{ours:.1f}" if ours else "-",
                f"{theirs:.1f}" if theirs else "-",
                f"{theirs / ours:.2f}" if ours and theirs else "-",
                *(str(figures.get(stack, "-")) for stack in ("Triton", "CUDA")),
                f"{figures['CUDA'] / figures['Triton']:.2f}" if figures else "-",
            )
        )
    return markdown_table(
        ("operation", "Nereid, us", "CUDA stack, us", "CUDA stack / Nereid",
         "report: Triton", "report: CUDA", "report: CUDA / Triton"),
        lines,
    )  # fmt: skip


def answers_table(rows: list[dict], report: dict) -> str:
    lines = []
    for row in rows:
        if row["part"] != "answers":
            continue
        published = report["designs"].get(row["design"], "-")
        same = f"{row['same_ids']}/{row['ids']}"
        lengths = f"{row['same_lengths']}/{row['lengths']}"
        text = (row["problem"] or row["text"].strip()).split("\n")[0].replace("|", "\\|")
        lines.append((f"`{row['design']}`", row["mode"], same, lengths, f"`{text}`", published))
    header = ("design", "mode", "ids", "lengths", "text begins", "the report's (Fig. 5)")
    return markdown_table(header, lines) if lines else ""


def layer_figure(rows: list[dict], published: dict, note: str) -> str:
    """Bars by operation, after Fig. 8."""
    data = []
    for operation, times in layer_times(rows).items():
        bars = [
            Bar(label, times[engine], color)
            for engine, label, color in (
                ("nereid", "Nereid", SERIES[OURS][1]),
                ("torch", "CUDA|stack", SERIES["torch", "cudnn"][1]),
            )
            if engine in times
        ]
        bars += [
            Bar(f"report|{stack}", us, None) for stack, us in published.get(operation, {}).items()
        ]
        if bars:
            data.append(Group(operation, bars))
    return svg(f"Microseconds of a layer's operations, prompt {PROMPT}", note, data) if data else ""


def attention_figure(rows: list[dict], published: dict, note: str) -> str:
    """Bars by design at the report's prompt."""
    data = []
    for (_, query, context), times in attention_times(rows, "layer").items():
        bars = [
            Bar(BAR_LABELS.get(name, name), times[series]["us"], color)
            for series, (name, color) in SERIES.items()
            if series in times
        ]
        if query > 1:
            figures = published.get("attention", {})
            bars += [Bar(f"report|{stack}", us, None) for stack, us in figures.items()]
        title = f"prompt of {context}" if query > 1 else f"one token behind {context}"
        data.append(Group(title, bars))
    return svg("Microseconds of attention by design", note, data) if data else ""


def panel(title: str, cells: dict[int, dict], left: float, top: float) -> list[str]:
    """TFLOP/s by keys, which double from place to place: a line for each series."""
    keys = sorted(cells)
    most = 1.08 * max(speed(times, series) for times in cells.values() for series in times)

    def x(n: int) -> float:
        return left + PANEL_WIDTH * (keys.index(n) + 0.5) / len(keys)

    def y(value: float) -> float:
        return top + PANEL_HEIGHT * (1 - value / most)

    parts = [f'<text x="{left}" y="{top - 8}" font-size="13">{escape(title)}</text>']
    step, tick = nice_step(most), 0.0
    while tick <= most:
        parts.append(
            f'<line x1="{left}" x2="{left + PANEL_WIDTH}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" '
            f'stroke="{FAINT}"/><text x="{left - 6}" y="{y(tick) + 4:.1f}" '
            f'text-anchor="end">{tick:g}</text>'
        )
        tick += step
    for n in keys:
        parts.append(
            f'<text x="{x(n):.1f}" y="{top + PANEL_HEIGHT + 14}" text-anchor="middle">{n}</text>'
        )
    for series, (_, color) in reversed(SERIES.items()):  # ours above the others
        points = [(n, speed(cells[n], series)) for n in keys if series in cells[n]]
        if not points:
            continue
        path = " ".join(f"{x(n):.1f},{y(value):.1f}" for n, value in points)
        width = 2.5 if series == OURS else 1.3
        dash = ' stroke-dasharray="5 3"' if series in RIVALS else ""
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dash}/>'
        )
        parts += [
            f'<circle cx="{x(n):.1f}" cy="{y(value):.1f}" r="{width:g}" fill="{color}"/>'
            for n, value in points
        ]
    return parts


def legend(present: set[tuple]) -> list[str]:
    parts, left = [], LEFT
    for series, (name, color) in SERIES.items():
        if series not in present:
            continue
        dash = ' stroke-dasharray="5 3"' if series in RIVALS else ""
        parts.append(
            f'<line x1="{left}" x2="{left + 22}" y1="50" y2="50" stroke="{color}" '
            f'stroke-width="2"{dash}/><text x="{left + 26}" y="54">{escape(name)}</text>'
        )
        left += 40 + 7 * len(name)
    return parts


def sizes_figure(cells: dict[tuple, dict], is_prompt: bool, note: str) -> str:
    """A panel a variant, after Fig. 9."""
    variants: dict[str, dict[int, dict]] = {}
    for variant in VARIANTS:
        mine = {
            context: {series: row for series, row in times.items() if series in SERIES}
            for (other, query, context), times in cells.items()
            if other == variant and (query > 1) == is_prompt
        }
        if mine:
            variants[variant] = mine
    if not variants:
        return ""
    n_columns = min(2, len(variants))
    n_rows = (len(variants) + n_columns - 1) // n_columns
    # The legend takes a line of its own above.
    width = max(LEFT + n_columns * (PANEL_WIDTH + PANEL_GAP), 760)
    height = TOP + n_rows * (PANEL_HEIGHT + PANEL_GAP)
    what = "one prompt" if is_prompt else "one token behind its keys"
    present = {s for mine in variants.values() for times in mine.values() for s in times}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">Attention of {what}: TFLOP/s by number of keys '
        "(taller is better)</text>",
        f'<text x="{LEFT}" y="36" fill="{OUTLINE}">{escape(note)}</text>',
        *legend(present),
    ]
    for i, (variant, mine) in enumerate(variants.items()):
        left = LEFT + (i % n_columns) * (PANEL_WIDTH + PANEL_GAP)
        top = TOP + (i // n_columns) * (PANEL_HEIGHT + PANEL_GAP)
        parts += panel(VARIANT_TEXT[variant], mine, left, top)
    return "\n".join([*parts, "</svg>", ""])


def attention_rows(results: dict) -> list[dict]:
    return [row for row in results["rows"] if row["bench"] == "attention"]


def published_figures() -> dict:
    return json.loads((HERE / "report_figures.json").read_text())


def figures(results: dict) -> dict[str, str]:
    """{file name: SVG}, of what there are rows for."""
    rows, note = attention_rows(results), results["device"]["description"]
    published = report_layer(published_figures(), results)
    sizes = attention_times(rows, "sizes")
    made = {
        "layer.svg": layer_figure(rows, published, f"{note}; the report's in outline: H100"),
        "designs.svg": attention_figure(rows, published, f"{note}; the report's in outline: H100"),
        "prompts.svg": sizes_figure(sizes, True, note),
        "decoding.svg": sizes_figure(sizes, False, note),
    }
    return {name: text for name, text in made.items() if text}


def setting_text(results: dict, source: str) -> str:
    facts = "".join(f" {name}: {value}." for name, value in results["facts"].items())
    stack = ""
    for rival in results["rivals"][:1]:
        stack = f" PyTorch {rival['torch']}, CUDA {rival['cuda']}, cuDNN {rival['cudnn']}"
        stack += f", Triton {rival['triton']} (of FlexAttention)." if "triton" in rival else "."
    return (
        f"Made from `{source}` by `bench/attention_figures.py`: {results['device']['description']},"
        f" {results['time']}.{stack}{facts} Rivals: `bench/rivals/torch_attention.py`."
    )


def made_part(results: dict, source: str) -> str:
    """What stands between the marks."""
    rows, report = attention_rows(results), published_figures()
    published = report_layer(report, results)
    images = figures(results)
    sizes = attention_times(rows, "sizes")

    def image(name: str, what: str) -> str:
        return f"![{what}](attention/{name})\n\n" if name in images else ""

    parts = [setting_text(results, source) + "\n\n"]
    if answers := answers_table(rows, report):
        parts.append(f"#### Answers, beside the report's Fig. 5\n\n{answers}\n")
    if any(row["part"] == "layer" for row in rows):
        parts.append(
            "#### A layer at the report's prompt\n\nThe CUDA stack is cuBLAS, and of attention the "
            "fastest back end. Ours of gate and up is the product of both through SiLU as well.\n\n"
            + image("layer.svg", "Microseconds of a layer's operations")
            + layer_table(rows, published)
            + "\n"
            + image("designs.svg", "Microseconds of attention by design")
        )
    if sizes:
        parts.append(
            "#### Sizes\n\nThe worst by its best rival first.\n\n"
            + image("prompts.svg", "TFLOP/s of a prompt's attention")
            + image("decoding.svg", "TFLOP/s of one token's attention")
            + sizes_table(sizes)
            + "\n"
        )
        if designs := designs_table(sizes):
            parts.append(f"The designs, causal, microseconds:\n\n{designs}\n")
    return "".join(parts)


def with_part(document: str, part: str) -> str:
    """The document with another part between its marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"expected the lines {BEGIN} and {END} in the document")
    return f"{before}{BEGIN}\n\n{part}{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="of bench/merge.py")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    results = json.loads(args.results.read_text())
    page = args.docs / "attention.md"
    page.write_text(with_part(page.read_text(), made_part(results, source_name(args.results))))
    folder = args.docs / "attention"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in figures(results).items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
