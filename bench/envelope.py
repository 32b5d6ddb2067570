"""What `nereid bench sweep --json` measured, as text and as a heat map."""

LEAST, MOST = 1.0, 2.0  # of the ratios that colours tell apart


def decode_cells(sweep: dict, engine: str) -> dict[tuple[int, int, str], dict]:
    return {
        (row["context"], row["sequences"], row["sampler"]): row
        for row in sweep["rows"]
        if row["bench"] == "sweep" and row["engine"] == engine and "sequences" in row
    }


def attention_table(sweep: dict) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and lines, the worst by its rival first; those without one last."""
    rows = [row for row in sweep["rows"] if row["bench"] == "decode_attention"]
    rows.sort(key=lambda row: (row["cudnn_us"] or 0) / row["us"] or float("inf"))
    return ("sequences", "context", "us", "cuDNN, us", "cuDNN / ours"), [
        (
            str(row["sequences"]),
            str(row["context"]),
            f"{row['us']:.1f}",
            f"{row['cudnn_us']:.1f}" if row["cudnn_us"] else "-",
            f"{row['cudnn_us'] / row['us']:.2f}" if row["cudnn_us"] else "-",
        )
        for row in rows
    ]


def product_table(sweep: dict) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and lines, the worst by its rival first."""
    rows = [row for row in sweep["rows"] if row["bench"] == "product"]
    rows.sort(key=lambda row: row["cublas_us"] / row["us"])
    return ("product", "outputs x inputs", "rows", "us", "cuBLAS, us", "cuBLAS / ours"), [
        (
            row["name"],
            row["shape"],
            str(row["tokens"]),
            f"{row['us']:.1f}",
            f"{row['cublas_us']:.1f}",
            f"{row['cublas_us'] / row['us']:.2f}",
        )
        for row in rows
    ]


def prompt_cells(sweep: dict) -> dict[int, float]:
    return {row["prompt"]: row["first_token_ms"] for row in sweep["rows"] if "prompt" in row}


def decode_table(sweep: dict) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and lines, the cell that is farthest from its floor first."""
    ours, theirs = decode_cells(sweep, "nereid"), decode_cells(sweep, "torch")
    header = ("sequences", "context", "sampler", "ms a step", "p99", "floor", "x floor",
              "CUDA stack, ms", "CUDA stack / ours")  # fmt: skip
    lines = []
    for key, row in sorted(
        ours.items(), key=lambda cell: -cell[1]["step_ms"] / cell[1]["floor_ms"]
    ):
        context, sequences, sampler = key
        rival = theirs.get(key)
        lines.append(
            (
                str(sequences),
                str(context),
                sampler,
                f"{row['step_ms']:.3f}",
                f"{row['step_ms_p99']:.3f}",
                f"{row['floor_ms']:.3f}",
                f"{row['step_ms'] / row['floor_ms']:.2f}",
                f"{rival['step_ms']:.2f}" if rival else "-",
                f"{rival['step_ms'] / row['step_ms']:.2f}" if rival else "-",
            )
        )
    return header, lines


def colour(ratio: float) -> str:
    """From green at the floor to red at twice its time."""
    part = min(max((ratio - LEAST) / (MOST - LEAST), 0.0), 1.0)
    return f"hsl({120 - 120 * part:.0f}, 60%, 75%)"


def heat_map(sweep: dict) -> str:
    """Time by floor: a column a number of sequences, a row a context and sampler. SVG."""
    cells = decode_cells(sweep, "nereid")
    columns = sorted({sequences for _, sequences, _ in cells})
    rows = list(dict.fromkeys((context, sampler) for context, _, sampler in cells))
    left, top, width, height = 170, 46, 62, 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width * len(columns) + 10}" '
        f'height="{top + height * len(rows) + 10}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="18">{sweep["device"]["description"].split(",")[0]}: a decode step by the '
        "time that streaming its bytes takes</text>",
    ]
    for i, sequences in enumerate(columns):
        x = left + width * i + width / 2
        parts.append(f'<text x="{x:.0f}" y="{top - 8}" text-anchor="middle">{sequences}</text>')
    for j, (context, sampler) in enumerate(rows):
        y = top + height * j
        parts.append(f'<text x="8" y="{y + 20}">{context} tokens, {sampler}</text>')
        for i, sequences in enumerate(columns):
            cell = cells.get((context, sequences, sampler))
            if cell is None:
                continue
            ratio, x = cell["step_ms"] / cell["floor_ms"], left + width * i
            parts.append(
                f'<rect x="{x}" y="{y}" width="{width - 2}" height="{height - 2}" '
                f'fill="{colour(ratio)}"/><text x="{x + width / 2 - 1:.0f}" y="{y + 19}" '
                f'text-anchor="middle">{ratio:.2f}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"
