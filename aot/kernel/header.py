"""The C header that comes with a kernel: C99 and C++. Its ABI has a number: headers of one number
go into one program."""

from typing import Any

from aot.kernel import c_names, header_cpu, header_gpu
from aot.kernel.layout import Layout

ABI = 1  # what NAME_args and the functions of a header are


def text(manifest: dict[str, Any], layout: Layout) -> str:
    name, is_cpu = c_names.field(manifest["kernel"]), manifest["target"] == "cpu"
    constants = ", ".join(f"{n} = {v}" for n, v in manifest["constexprs"].items())
    made = f"{manifest['source']} for {manifest['target']}"
    if is_cpu:
        made += f" ({manifest['isa']})"
    about = [
        f"Kernel {name}, made by nereid compile-kernel from {made}.",
        f"Signature: {manifest['signature']}",
        f"Constants: {constants or 'none'}",
        "A launch runs a grid of n_x * n_y * n_z programs; how many the kernel needs is its",
        "author's rule: kernel[grid] in Triton.",
    ]
    functions = (header_cpu if is_cpu else header_gpu).body(name, manifest, layout)
    body = [*struct(name, layout), *functions]
    return framed(name, about, header_cpu.INCLUDES if is_cpu else header_gpu.INCLUDES, body)


def struct(name: str, layout: Layout) -> list[str]:
    return [
        "/* The kernel's arguments. fp16 and bf16 numbers are given as their bits. */",
        f"typedef struct {name}_args {{",
        *(f"  {line}" for line in layout.members),
        f"}} {name}_args;",
        "",
    ]


def framed(name: str, about: list[str], includes: tuple[str, ...], body: list[str]) -> str:
    guard = f"NEREID_KERNEL_{name.upper()}_H"
    comment = "\n * ".join(" ".join(line.split()).replace("*/", "* /") for line in about)
    lines = [
        f"/* {comment} */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        *(f"#include {include}" for include in includes),
        "",
        f"#if defined(NEREID_KERNEL_ABI) && NEREID_KERNEL_ABI != {ABI}",
        '#error "headers of two versions of nereid compile-kernel: compile the kernels anew"',
        "#endif",
        "#undef NEREID_KERNEL_ABI",
        f"#define NEREID_KERNEL_ABI {ABI}",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *body,
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        f"#endif  /* {guard} */",
        "",
    ]
    return "\n".join(lines)
