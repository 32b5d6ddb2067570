"""The C header that comes with a kernel of `nereid compile-kernel`: C99 and C++."""

import re
from typing import Any

_C_TYPES = {
    "i1": "int8_t", "u1": "uint8_t", "i8": "int8_t", "u8": "uint8_t", "i16": "int16_t",
    "u16": "uint16_t", "i32": "int32_t", "u32": "uint32_t", "i64": "int64_t", "u64": "uint64_t",
    "fp16": "uint16_t", "bf16": "uint16_t", "fp32": "float", "fp64": "double",
}  # fmt: skip
_C_WORDS = {"auto", "case", "char", "const", "default", "do", "double", "float", "int", "long",
            "register", "short", "signed", "static", "struct", "union", "unsigned", "void",
            "volatile", "new", "this", "template", "class", "operator"}  # fmt: skip


def _name(parameter: str) -> str:
    return f"{parameter}_" if parameter in _C_WORDS else parameter


def _comment(text: str) -> str:
    return str(text).replace("*/", "* /")


def _struct(name: str, parameters: list[Any], is_cpu: bool) -> list[str]:
    lines = ["/* The kernel's arguments. fp16 and bf16 numbers are given as their bits. */",
             f"typedef struct {name}_args {{"]  # fmt: skip
    for p in parameters:
        if p.is_constant:
            continue
        divisible = ", a multiple of 16" if p.divisible else ""
        # A device address is a number to the host's compiler.
        pointer = f"void* {_name(p.name)};" if is_cpu else f"uint64_t {_name(p.name)};"
        declared = pointer if p.is_pointer else f"{_C_TYPES[p.element]} {_name(p.name)};"
        kind = f"address of {p.element}" if p.is_pointer else p.element
        lines.append(f"  {declared}  /* {kind}{divisible} */")
    return [*lines, f"}} {name}_args;", ""]


def _cpu(name: str, manifest: dict, fields: list[str]) -> list[str]:
    symbol, upper = manifest["symbol"], name.upper()
    list_ = ", ".join(f"&a->{field}" for field in fields) or "0"
    return [
        f"#define {upper}_ARENA_BYTES {manifest['arena_bytes']}",
        "",
        f"/* In {name}.o and {name}.so. One program of the grid. */",
        f"void {symbol}(const void* const* args, void* arena, uint32_t x, uint32_t y, uint32_t z,",
        "    uint32_t n_x, uint32_t n_y, uint32_t n_z);",
        "",
        f"/* One program. `arena`: {upper}_ARENA_BYTES of this thread's own, 64-byte aligned; any",
        " * thread may run any program. */",
        f"static inline void {name}_program(const {name}_args* a, void* arena, uint32_t x,",
        "    uint32_t y, uint32_t z, uint32_t n_x, uint32_t n_y, uint32_t n_z) {",
        f"  const void* const args[] = {{{list_}}};",
        f"  {symbol}(args, arena, x, y, z, n_x, n_y, n_z);",
        "}",
        "",
        "/* The whole grid, one program after the other; 0, or -1 if there is no memory. */",
        f"static inline int {name}_launch(const {name}_args* a, uint32_t n_x, uint32_t n_y,",
        "    uint32_t n_z) {",
        f"  char* raw = (char*)malloc({upper}_ARENA_BYTES + 64);",
        "  if (raw == NULL) return -1;",
        "  void* arena = raw + (64 - (uintptr_t)raw % 64) % 64;",
        "  for (uint32_t z = 0; z < n_z; ++z)",
        "    for (uint32_t y = 0; y < n_y; ++y)",
        "      for (uint32_t x = 0; x < n_x; ++x)",
        f"        {name}_program(a, arena, x, y, z, n_x, n_y, n_z);",
        "  free(raw);",
        "  return 0;",
        "}",
    ]


def _gpu(name: str, manifest: dict, fields: list[str]) -> list[str]:
    upper = name.upper()
    is_cuda = manifest["target"].startswith("cuda")
    launch = "cuLaunchKernel" if is_cuda else "hipModuleLaunchKernel"
    lines = [
        f'#define {upper}_SYMBOL "{manifest["symbol"]}"  /* in {manifest["object"]} */',
        f"#define {upper}_N_THREADS {manifest['n_threads']}",
        f"#define {upper}_SHARED_BYTES {manifest['shared_bytes']}",
        f"#define {upper}_SCRATCH_BYTES {manifest['global_scratch_bytes']}  /* a program */",
        f"#define {upper}_N_PARAMS {len(fields) + 2}",
        "",
        f"/* For {launch}(function, n_x, n_y, n_z, {upper}_N_THREADS, 1, 1,",
        f" *     {upper}_SHARED_BYTES, stream, params, NULL). Above 48 KiB of shared memory the",
        " * function's limit is raised first. `scratch`: a device address of SCRATCH_BYTES for",
        " * each program, and a 0; both stay until the call returns. */",
        f"static inline void {name}_params(const {name}_args* a, const uint64_t scratch[2],",
        f"                                  void* params[{upper}_N_PARAMS]) {{",
    ]
    for i, field in enumerate(fields):
        lines.append(f"  params[{i}] = (void*)&a->{field};")
    lines.append(f"  params[{len(fields)}] = (void*)&scratch[0];")
    lines.append(f"  params[{len(fields) + 1}] = (void*)&scratch[1];")
    return [*lines, "}"]


def text(manifest: dict, parameters: list[Any]) -> str:
    name = re.sub(r"\W", "_", manifest["kernel"])
    guard = f"NEREID_KERNEL_{name.upper()}_H"
    is_cpu = manifest["target"] == "cpu"
    fields = [_name(p.name) for p in parameters if not p.is_constant]
    constants = ", ".join(f"{n} = {_comment(v)}" for n, v in manifest["constexprs"].items())
    made = f"{manifest['source']} for {manifest['target']}"
    if is_cpu:
        made += f" ({manifest['isa']})"
    lines = [
        f"/* Kernel {name}, made by nereid compile-kernel from {_comment(made)}.",
        f" * Signature: {_comment(manifest['signature'])}",
        f" * Constants: {constants or 'none'}",
        " * A launch runs a grid of n_x * n_y * n_z programs; how many the kernel needs is its",
        " * author's rule: kernel[grid] in Triton. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stddef.h>",
        "#include <stdint.h>",
        *(["#include <stdlib.h>"] if is_cpu else []),
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *_struct(name, parameters, is_cpu),
        *(_cpu if is_cpu else _gpu)(name, manifest, fields),
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        f"#endif  /* {guard} */",
        "",
    ]
    return "\n".join(lines)
