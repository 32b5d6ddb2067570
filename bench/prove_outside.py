#!/usr/bin/env python3
"""The proof from outside: the kernels that the driver's own profiler sees are those of the bundle.

    python3 bench/prove_outside.py --bundle DIR -- nereid generate MODEL --bundle DIR -p "x" -n 8

Runs the command under nsys, or ncu where that is what is installed, and compares the names of the
kernels seen with the symbols of the manifest. Exit code 1 where a name is not there.
"""

import argparse
import csv
import io
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# ncu runs each launch several times; this many cover a step of a model with all its kernels.
NCU_LAUNCHES = 400


def seen_by_nsys(command: list[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        report = str(Path(folder) / "report")
        subprocess.run(["nsys", "profile", "-t", "cuda", "-o", report, *command], check=True)
        stats = [
            "nsys",
            "stats",
            "-r",
            "cuda_gpu_kern_sum",
            "--format",
            "csv",
            f"{report}.nsys-rep",
        ]
        return subprocess.run(stats, check=True, capture_output=True, text=True).stdout


def seen_by_ncu(command: list[str]) -> str:
    profile = ["ncu", "--csv", "--metrics", "gpu__time_duration.sum"]
    profile += ["--clock-control", "none", "--launch-count", str(NCU_LAUNCHES)]
    return subprocess.run([*profile, *command], check=True, capture_output=True, text=True).stdout


def kernel_names(text: str) -> set[str]:
    """The names in a profiler's CSV, which may stand after other lines."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        header = next(csv.reader([line]), [])
        for column in ("Kernel Name", "Name"):
            if column in header:
                rows = csv.DictReader(io.StringIO("\n".join(lines[number:])))
                return {row[column].split("(")[0].strip() for row in rows if row.get(column)}
    sys.exit("the profiler reported no kernels")


def unknown_names(seen: set[str], manifest: dict) -> set[str]:
    return seen - {variant["symbol"] for variant in manifest["variants"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("command", nargs="+", help="after --")
    args = parser.parse_args()
    manifest = json.loads((args.bundle / "manifest.json").read_text())
    if shutil.which("nsys"):
        profiler, seen = "nsys", kernel_names(seen_by_nsys(args.command))
    elif shutil.which("ncu"):
        profiler, seen = "ncu", kernel_names(seen_by_ncu(args.command))
    else:
        sys.exit("neither nsys nor ncu is installed here")
    unknown = unknown_names(seen, manifest)
    print(f"{profiler} saw {len(seen)} kernels: {', '.join(sorted(seen))}")
    if unknown:
        sys.exit(f"not of {args.bundle}: {', '.join(sorted(unknown))}")
    print(f"all of them are of {args.bundle}")


if __name__ == "__main__":
    main()
