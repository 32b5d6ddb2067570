"""Writes the C++ behind builtin.h: specs, tuning tables and the hashes of sources.

python embed.py SPECS_JSON SOURCE_DIR OUT_CC
"""

import hashlib
import json
import sys
from pathlib import Path

DELIMITER = "nereid"
CHUNK = 16000  # characters a literal: compilers may refuse more than 64 KB


def literal(text: str) -> str:
    assert f"){DELIMITER}" not in text
    chunks = [text[i : i + CHUNK] for i in range(0, len(text), CHUNK)] or [""]
    return "\n".join(f'R"{DELIMITER}({chunk}){DELIMITER}"' for chunk in chunks)


def compact(path: Path) -> str:
    """Without the blanks, which the program would read each time it starts."""
    return json.dumps(json.loads(path.read_text()), separators=(",", ":"))


# What of src/ decides which kernels a model needs.
PLANNER = ("kernel", "graph", "model", "program")


def sources_sha256(root: Path, folders: tuple[str, ...], text: str = "") -> str:
    digest = hashlib.sha256(text.encode())
    for folder in folders:
        paths = (p for p in (root / folder).rglob("*") if p.suffix in (".cc", ".h", ".def"))
        for path in sorted(paths):
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root)} {sha256}\n".encode())
    return digest.hexdigest()


def main() -> None:
    specs, source_dir, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    tables = sorted((source_dir / "tuning").glob("*/*.json"))
    names = [path.relative_to(source_dir) for path in tables]
    rows = "\n".join(
        f'    BuiltinText{{"{name}", {literal(compact(path))}}},'
        for name, path in zip(names, tables, strict=True)
    )
    planner_sha256 = sources_sha256(source_dir / "src", PLANNER, compact(specs) + rows)
    text = f"""// Written by src/kernel/embed.py.
#include "kernel/builtin.h"

#include <array>

namespace nereid::kernel {{

std::string_view builtin_specs() {{
  return {literal(compact(specs))};
}}

std::span<const BuiltinText> builtin_tuning() {{
  static constexpr std::array<BuiltinText, {len(tables)}> kTables{{{{
{rows}
  }}}};
  return kTables;
}}

std::string_view builtin_ttir_sha256() {{
  return "{sources_sha256(source_dir, ("ttir",))}";
}}

std::string_view builtin_planner_sha256() {{
  return "{planner_sha256}";
}}

}}  // namespace nereid::kernel
"""
    if not out.is_file() or out.read_text() != text:
        out.write_text(text)


if __name__ == "__main__":
    main()
