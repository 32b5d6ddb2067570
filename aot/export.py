"""Prints every kernel's Spec and the tuning data as JSON: what the engine embeds.

python -m aot.export [--out FILE]
"""

import argparse
import json
import sys
from pathlib import Path

from aot import sources


def spec_json(name: str) -> dict:
    spec = sources.load_spec(name).to_json()
    return {"name": spec.pop("name"), "source_sha256": sources.source_sha256(name), **spec}


def export() -> dict:
    kernels = {}
    for name in sources.kernel_names():
        kernels[name] = spec_json(name)
    from kernels.lib.attention_functions import to_json

    return {
        "schema": 1,
        "triton": sources.TRITON_VERSION,
        "kernels": kernels,
        "functions": to_json(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="aot.export", description=__doc__)
    parser.add_argument("--out", type=Path, help="write here instead of stdout, only if it differs")
    args = parser.parse_args()
    text = json.dumps(export(), indent=1) + "\n"
    if args.out is None:
        sys.stdout.write(text)
    elif not args.out.is_file() or args.out.read_text() != text:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
