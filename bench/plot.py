#!/usr/bin/env python3
"""Bars of the end-to-end results as SVG, in the manner of the report's Fig. 1 and 7.

    python3 bench/plot.py results.json --out docs/benchmarks

Writes itl.svg (milliseconds a token; shorter is better; a line where the memory's speed ends) and
throughput.svg (tokens a second). The report's own figures stand beside in outline.
"""

import argparse
import json
from dataclasses import dataclass
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
OURS, THEIRS, OUTLINE, INK, FAINT = "#2f6f9f", "#c0813a", "#8a8a8a", "#222222", "#dddddd"
BAR, GAP, GROUP_GAP, HEIGHT, LEFT, TOP, BOTTOM = 46, 10, 44, 260, 56, 56, 74


@dataclass(frozen=True)
class Bar:
    label: str  # two lines, split at "|"
    value: float
    color: str | None  # None: outline only
    text: str = ""


@dataclass(frozen=True)
class Group:
    title: str
    bars: list[Bar]
    floor: float | None = None


def report_gpu(results: dict) -> str | None:
    """The GPU of the report that this one is compared with; none on a CPU."""
    if results["device"]["target"].startswith("cpu"):
        return None
    return "A100" if "A100" in results["device"]["description"] else "H100"


def names(row: dict) -> str:
    engine = "ours" if row["engine"] == "nereid" else "CUDA stack"
    return f"{engine}|{row['mode']}"


def groups(results: dict, field: str) -> list[Group]:
    report = json.loads((HERE / "report_figures.json").read_text())
    gpu = report_gpu(results)
    rows = [row for row in results["rows"] if row["bench"] == "e2e"]
    made = []
    for model in dict.fromkeys(row["model"] for row in rows):
        bars = []
        mine = [row for row in rows if row["model"] == model]
        for row in mine:
            color = OURS if row["engine"] == "nereid" else THEIRS
            bars.append(Bar(names(row), row[field], color))
        figures = report["itl_ms"].get(gpu, {}).get(model, {}) if field == "itl_ms" else {}
        for name, value in figures.items():
            bars.append(Bar(f"report|{name}", value, None))
        floor = None
        if field == "itl_ms":
            floor = min(row["floor_ms"] for row in mine if row["engine"] == "nereid")
        made.append(Group(model, bars, floor))
    return made


def nice_step(top: float) -> float:
    step = 10.0 ** len(str(int(top)))
    while top / step < 4:
        step /= 2 if str(step / 2).strip("0.") in ("1", "5", "25") else 2.5
    return step


def svg(title: str, unit: str, data: list[Group]) -> str:
    top = 1.08 * max(bar.value for group in data for bar in group.bars)
    widths = [len(group.bars) * (BAR + GAP) - GAP for group in data]
    width = LEFT + sum(widths) + GROUP_GAP * len(data) + 20
    height = TOP + HEIGHT + BOTTOM
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
        f'<text x="{LEFT}" y="36" fill="{OUTLINE}">{escape(unit)}</text>',
    ]

    def y(value: float) -> float:
        return TOP + HEIGHT * (1 - value / top)

    step = nice_step(top)
    tick = 0.0
    while tick <= top:
        out.append(
            f'<line x1="{LEFT}" x2="{width - 20}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" '
            f'stroke="{FAINT}"/><text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" '
            f'text-anchor="end">{tick:g}</text>'
        )
        tick += step
    x = LEFT + GROUP_GAP / 2
    for group, group_width in zip(data, widths):
        for i, bar in enumerate(group.bars):
            left = x + i * (BAR + GAP)
            fill = bar.color or "none"
            out.append(
                f'<rect x="{left:.1f}" y="{y(bar.value):.1f}" width="{BAR}" '
                f'height="{y(0) - y(bar.value):.1f}" fill="{fill}" '
                f'stroke="{bar.color or OUTLINE}"/>'
            )
            middle = left + BAR / 2
            out.append(
                f'<text x="{middle:.1f}" y="{y(bar.value) - 4:.1f}" '
                f'text-anchor="middle">{bar.value:.4g}</text>'
            )
            for line, text in enumerate(bar.label.replace("|", "\n").replace(" ", "\n").split()):
                out.append(
                    f'<text x="{middle:.1f}" y="{y(0) + 14 + 12 * line:.1f}" '
                    f'text-anchor="middle" font-size="10">{escape(text)}</text>'
                )
        if group.floor is not None:
            out.append(
                f'<line x1="{x - 8:.1f}" x2="{x + group_width + 8:.1f}" '
                f'y1="{y(group.floor):.1f}" y2="{y(group.floor):.1f}" stroke="{INK}" '
                f'stroke-dasharray="5 3"/><text x="{x + group_width + 8:.1f}" '
                f'y="{y(group.floor) - 4:.1f}" text-anchor="end" font-size="10">'
                f"floor {group.floor:.3g}</text>"
            )
        out.append(
            f'<text x="{x + group_width / 2:.1f}" y="{height - 8}" text-anchor="middle" '
            f'font-size="13">{escape(group.title)}</text>'
        )
        x += group_width + GROUP_GAP
    return "\n".join([*out, "</svg>", ""])


def setting(results: dict) -> str:
    row = next(row for row in results["rows"] if row["bench"] == "e2e")
    return (
        f"batch {row['batch']}, prompt {row['prompt']}, output {row['output']}; "
        f"{results['device']['description']}"
    )


def plots(results: dict) -> dict[str, str]:
    """{file name: SVG}"""
    return {
        "itl.svg": svg(
            "Milliseconds a token (shorter is better)",
            setting(results),
            groups(results, "itl_ms"),
        ),
        "throughput.svg": svg(
            "Tokens a second, prompts included (taller is better)",
            setting(results),
            groups(results, "tokens_per_s"),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, text in plots(json.loads(args.results.read_text())).items():
        (args.out / name).write_text(text)


if __name__ == "__main__":
    main()
