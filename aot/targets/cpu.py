"""CPU: Triton IR text, through our own compiler (`nereid-ttir`) to C++, through the system's to an object.

Compiles once per machine type: `isa` says which.
"""

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from aot import sources
from aot.request import Request
from aot.targets import common

EXTENSION = "so"
TARGETS = ("cpu",)


def default_isa() -> str:
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return "aarch64"
    flags = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = line
            break
    v4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
    return "x86-64-v4" if v4 <= set(flags.split()) else "x86-64-v3"


def ttir_text(request: Request) -> tuple[object, str]:
    """The kernel as Triton IR: inlined, simplified, without locations."""
    from triton._C.libtriton import ir, passes
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend

    # The front end wants a GPU target; only its dialects and types are used, nothing of its lowering.
    target = GPUTarget("cuda", 90, 32)
    common.set_target(target)
    backend = make_backend(target)
    options = backend.parse_options({"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True})
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    functions = backend.get_codegen_implementation(options)
    functions["min_dot_size"] = lambda lhs, rhs: (1, 1, 1)
    spec, source = common.source(request)
    module = source.make_ir(target, options, functions, backend.get_module_map(), context)
    manager = ir.pass_manager(context)
    passes.common.add_inliner(manager)
    if hasattr(passes.ttir, "add_rewrite_tensor_pointer"):
        passes.ttir.add_rewrite_tensor_pointer(manager)
    passes.common.add_canonicalizer(manager)
    passes.common.add_cse(manager)
    passes.common.add_symbol_dce(manager)
    manager.run(module, "make_ttir")
    return spec, module.str_nodebug()
