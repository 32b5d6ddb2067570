#!/usr/bin/env python3
"""Kernel times side by side, from a results file or from two files of rows.

python3 bench/compare_kernels.py results.json
python3 bench/compare_kernels.py ours.json theirs.json
"""

import json
import sys
from pathlib import Path


def shape_of(row: dict) -> tuple:
    if row["op"] == "attention":
        return ("attention", row["batch"], row["query"], row["context"])
    return ("linear", row["rows"], row["n_out"], row["n_in"])


def shape_text(shape: tuple) -> str:
    op, *sizes = shape
    if op == "attention":
        batch, query, context = sizes
        kind = "decode" if query == 1 else "prefill"
        return f"{kind}, batch {batch}, {query if query > 1 else context} tokens"
    return " x ".join(map(str, sizes))


def pairs(rows: list[dict]) -> list[tuple[dict, dict | None]]:
    """Ours and the vendor's of the same shape; None where only we were measured."""
    kernels = [r for r in rows if r["bench"] == "kernels" and r["op"] in ("linear", "attention")]
    theirs = {(r["model"], shape_of(r)): r for r in kernels if r["engine"] == "torch"}
    ours = [r for r in kernels if r["engine"] == "nereid"]
    return [(row, theirs.get((row["model"], shape_of(row)))) for row in ours]


def table(rows: list[dict]) -> list[tuple[str, ...]]:
    """(model, name, shape, our kernel, our us, % of limit, their kernel, their us, theirs/ours)"""
    lines = []
    for ours, theirs in pairs(rows):
        lines.append(
            (
                ours["model"],
                ours["name"],
                shape_text(shape_of(ours)),
                ours["kernel"],
                f"{ours['us']:.2f}",
                f"{ours['percent']:.0f} % of {ours['limit']}",
                theirs["kernel"] if theirs else "-",
                f"{theirs['us']:.2f}" if theirs else "-",
                f"{theirs['us'] / ours['us']:.2f}" if theirs else "-",
            )
        )
    return lines


HEADER = (
    "model", "kernel of", "shape", "ours", "us", "reaches", "vendor's", "us", "vendor's / ours",
)  # fmt: skip


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = []
    for path in sys.argv[1:]:
        for row in json.loads(Path(path).read_text())["rows"]:
            rows.append(row | {"model": Path(row["model"]).name})
    lines = [HEADER, *table(rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


if __name__ == "__main__":
    main()
