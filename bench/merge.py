#!/usr/bin/env python3
"""Joins what the benchmarks wrote into one file of results.

    python3 bench/merge.py --out results.json [--fact gpu="NVIDIA H100"]... run1.json run2.json ...

Runs of the same thing (same bench, engine, model, mode and shape) become one row: the median of
each figure, and the samples of all.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

IDENTITY = (
    "bench", "engine", "model", "mode", "batch", "prompt", "output", "op", "name", "kernel",
    "rows", "n_out", "n_in", "query", "context", "grid", "choice", "part", "design", "variant",
)  # fmt: skip


def model_name(path: str) -> str:
    return Path(path).name


def identity(row: dict) -> tuple:
    return tuple(row.get(name) for name in IDENTITY)


def joined(rows: list[dict]) -> dict:
    """One row of several runs."""
    result = dict(rows[0])
    for name, value in rows[0].items():
        if name in IDENTITY or not all(name in row for row in rows):
            continue
        if name == "repeats":
            result[name] = sum(row[name] for row in rows)
        elif isinstance(value, list):
            result[name] = [sample for row in rows for sample in row[name]]
        elif isinstance(value, int | float):
            result[name] = statistics.median(row[name] for row in rows)
    return result


def merge(documents: list[dict], facts: dict[str, str]) -> dict:
    groups: dict[tuple, list[dict]] = {}
    for document in documents:
        for row in document["rows"]:
            row = row | {"model": model_name(row["model"])}
            groups.setdefault(identity(row), []).append(row)

    def of_all(name: str) -> list:
        return [document[name] for document in documents if name in document]

    ours = [
        d for d in documents if "device" in d and any(r["engine"] == "nereid" for r in d["rows"])
    ]
    if not ours:
        sys.exit("no run of nereid among the files")
    limits: dict[str, float] = {}
    for document in ours:
        for name, value in document.get("limits", {}).items():
            limits[name] = max(value, limits.get(name, value)) if name != "dot_dtype" else value
    return {
        "facts": facts,
        "time": min(of_all("time")),
        "machine": ours[0]["machine"],
        "device": ours[0]["device"],
        "rivals": [d["device"] for d in documents if "device" in d and d not in ours],
        "limits": limits,
        "proofs": [
            proof | {"bundles": [Path(bundle).name for bundle in proof["bundles"]]}
            for proof in of_all("proof")
        ],
        "rows": [joined(rows) for rows in groups.values()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fact", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    facts = dict(fact.split("=", 1) for fact in args.fact)
    documents = [json.loads(path.read_text()) for path in args.runs]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(merge(documents, facts), indent=1) + "\n")


if __name__ == "__main__":
    main()
