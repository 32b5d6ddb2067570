"""The header and the manifest of a set of variants: the common arguments, which variant serves
them, and its launch."""

import json
from pathlib import Path

from aot import sources
from aot.cache import write_atomically
from aot.kernel import c_names, header, header_cpu
from aot.kernel.build import SCHEMA, Built
from aot.kernel.constants import SignatureError
from aot.kernel.signature import ELEMENTS
from aot.kernel.variants import Set, type_macro

# Behind NAME_: not for a constant.
_FUNCTIONS = ("args", "choose", "program", "launch", "launch_threads", "work", "worker",
              "arena_bytes", "params", "variant", "variant_of")  # fmt: skip


def write_set(name: str, made: Set, built: list[Built]) -> list[Path]:
    job = built[0].job
    if any(b.manifest.get("tensor_maps") for b in built):
        raise SignatureError(
            f"a set with descriptors on {job.target}: their maps differ between variants; compile"
            " each by itself with --name"
        )
    names = [b.manifest["kernel"] for b in built]
    manifest = {
        "schema": SCHEMA,
        "abi": header.ABI,
        "kernel": name,
        "source": job.source,
        "target": job.target,
        "triton": sources.TRITON_VERSION,
        "variants": names,
    }
    c_name = c_names.field(name)
    about = [
        f"Kernel {name}, a set of {len(names)} variants made by nereid compile-kernel from"
        f" {job.source} for {job.target}.",
        f"{c_name}_choose says which variant serves given arguments; the others are told which.",
    ]
    body = _body(c_name, made, built)
    includes = (*header_cpu.INCLUDES, *(f'"{n}.h"' for n in names))
    files = {
        "h": header.framed(c_name, about, includes, body),
        "json": json.dumps(manifest, indent=1) + "\n",
    }
    paths = []
    for kind, text in files.items():
        paths.append(job.out / f"{name}.{kind}")
        write_atomically(paths[-1], text.encode())
    return paths


def _body(name: str, made: Set, built: list[Built]) -> list[str]:
    types = [f"#define {type_macro(e)} {i}" for i, e in enumerate(ELEMENTS, 1)]
    parts = [*types, ""] if any(a.type_place for a in made.arguments) else []
    parts += header.struct(name, made.layout)
    parts += _choose(name, made)
    for constant, values in made.constants().items():
        declared = f"int64_t {name}_{c_names.field(constant, _FUNCTIONS)}"
        parts += _switch(declared, [f"INT64_C({v})" for v in values], "0")
    parts += (_cpu if made.target == "cpu" else _gpu)(name, made, built)
    return parts


def _switch(declared: str, values: list[str], other: str) -> list[str]:
    return [
        f"static inline {declared}(int variant) {{",
        "  switch (variant) {",
        *(f"    case {i}: return {value};" for i, value in enumerate(values)),
        f"    default: return {other};",
        "  }",
        "}",
        "",
    ]


def _choose(name: str, made: Set) -> list[str]:
    lines = [
        "/* The first variant that serves these arguments; -1: none does. */",
        f"static inline int {name}_choose(const {name}_args* a) {{",
        "  (void)a;",
    ]
    for i in range(len(made.rows)):
        conditions = made.conditions(i)
        if not conditions:  # the last
            return [*lines, f"  return {i};", "}", ""]
        lines.append(f"  if ({' && '.join(conditions)}) return {i};")
    return [*lines, "  return -1;", "}", ""]


def _places(made: Set, built: Built) -> list[str]:
    """Of a variant's arguments, in the common struct."""
    own = {argument.place.partition(".")[0]: argument.name for argument in built.layout.arguments}
    common = {argument.name: argument.place for argument in made.arguments}
    places = []
    for argument in built.layout.arguments:
        member, dot, rest = argument.place.partition(".")
        places.append(f"a->{common[own[member].partition('.shape')[0]]}{dot}{rest}")
    return places


def _cpu(name: str, made: Set, built: list[Built]) -> list[str]:
    cases = []
    for i, b in enumerate(built):
        list_ = ", ".join(f"&{place}" for place in _places(made, b)) or "NULL"
        cases += [
            f"    case {i}: {{",
            f"      const void* const args[] = {{{list_}}};",
            f"      {b.manifest['symbol']}(args, arena, x, y, z, n_x, n_y, n_z);",
            "      break;",
            "    }",
        ]
    arenas = [str(b.manifest["arena_bytes"]) for b in built]
    return [
        *_switch(f"size_t {name}_arena_bytes", arenas, "0"),
        "/* One program, as the variant's own. */",
        f"static inline void {name}_program(int variant, const {name}_args* a, void* arena,",
        "    uint32_t x, uint32_t y, uint32_t z, uint32_t n_x, uint32_t n_y, uint32_t n_z) {",
        "  (void)a;",
        "  switch (variant) {",
        *cases,
        "    default: break;",
        "  }",
        "}",
        "",
        *header_cpu.launches(
            name, lambda variant: f"{name}_arena_bytes({variant.rstrip(', ')})", len(built)
        ),
    ]


def _gpu(name: str, made: Set, built: list[Built]) -> list[str]:
    facts = [b.manifest for b in built]
    n_params = max(len(b.layout.arguments) for b in built) + 2
    cases = []
    for i, b in enumerate(built):
        places = [*_places(made, b), "scratch[0]", "scratch[1]"]
        cases += [
            f"    case {i}:",
            *(f"      params[{j}] = (void*)&{place};" for j, place in enumerate(places)),
            "      break;",
        ]
    fields = ["n_threads", "shared_bytes", "global_scratch_bytes", "num_ctas"]
    described = [
        "{"
        + ", ".join(
            [f'"{f["object"]}"', f'"{f["symbol"]}"', *(str(f[n]) for n in fields),
             str(int(f["programmatic_launch"]))]
        )
        + "}"
        for f in facts
    ]  # fmt: skip
    return [
        f"#define {name.upper()}_MAX_PARAMS {n_params}",
        "",
        "/* What a launch takes of a variant: see its own header. */",
        f"typedef struct {name}_variant {{",
        "  const char *object, *symbol;",
        "  unsigned n_threads, shared_bytes, scratch_bytes, n_ctas;",
        "  int launch_pdl;",
        f"}} {name}_variant;",
        "",
        f"static inline const {name}_variant* {name}_variant_of(int variant) {{",
        f"  static const {name}_variant all[] = {{",
        *(f"      {row}," for row in described),
        "  };",
        f"  return variant >= 0 && variant < {len(built)} ? &all[variant] : NULL;",
        "}",
        "",
        f"static inline void {name}_params(int variant, const {name}_args* a,",
        f"    const uint64_t scratch[2], void* params[{name.upper()}_MAX_PARAMS]) {{",
        "  (void)a;",
        "  switch (variant) {",
        *cases,
        "    default: break;",
        "  }",
        "}",
    ]
