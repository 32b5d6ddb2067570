"""Writes the C++ behind builtin.h: specs, tuning tables and the hash of ttir/'s sources.

python embed.py SPECS_JSON SOURCE_DIR OUT_CC
"""

import hashlib
import sys
from pathlib import Path

DELIMITER = "nereid"
CHUNK = 16000  # characters a literal: compilers may refuse more than 64 KB


def literal(text: str) -> str:
    assert f"){DELIMITER}" not in text
    chunks = [text[i : i + CHUNK] for i in range(0, len(text), CHUNK)] or [""]
    return "\n".join(f'R"{DELIMITER}({chunk}){DELIMITER}"' for chunk in chunks)


def ttir_sha256(ttir: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in ttir.rglob("*") if p.suffix in (".cc", ".h", ".def")):
        digest.update(
            f"{path.relative_to(ttir)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()


def main() -> None:
    specs, source_dir, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    tables = sorted((source_dir / "tuning").glob("*/*.json"))
    names = [path.relative_to(source_dir) for path in tables]
    rows = "\n".join(
        f'    BuiltinText{{"{name}", {literal(path.read_text())}}},'
        for name, path in zip(names, tables, strict=True)
    )
    text = f"""// Written by src/kernel/embed.py.
#include "kernel/builtin.h"

#include <array>

namespace nereid::kernel {{

std::string_view builtin_specs() {{
  return {literal(specs.read_text())};
}}

std::span<const BuiltinText> builtin_tuning() {{
  static constexpr std::array<BuiltinText, {len(tables)}> kTables{{{{
{rows}
  }}}};
  return kTables;
}}

std::string_view builtin_ttir_sha256() {{
  return "{ttir_sha256(source_dir / "ttir")}";
}}

}}  // namespace nereid::kernel
"""
    if not out.is_file() or out.read_text() != text:
        out.write_text(text)


if __name__ == "__main__":
    main()
