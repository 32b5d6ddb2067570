"""NVIDIA and AMD: Triton's own compilers, with no GPU and no driver present."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from aot import sources
from aot.request import Request, split_type
from aot.targets import common
from kernels import expr

TARGETS = ("cuda:80", "cuda:90", "hip:gfx942")
EXTENSIONS = {"cuda": "cubin", "hip": "hsaco"}
# What the compilers within the pinned Triton make code for; TARGETS are those that Nereid runs on.
ARCHITECTURES = {
    "cuda": ("75", "80", "86", "87", "89", "90", "100", "103", "110", "120", "121"),
    "hip": ("gfx906", "gfx908", "gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1101", "gfx1102",
            "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153", "gfx1200", "gfx1201", "gfx1250"),
}  # fmt: skip
# Options that a request may set beside num_warps and num_stages; Triton drops unknown ones.
_OPTIONS = {
    "cuda": {"maxnreg", "launch_pdl", "launch_cooperative_grid", "num_ctas"},
    "hip": {"waves_per_eu", "matrix_instr_nonkdim", "kpack"},
}


def parse_target(target: str) -> Any:
    """Triton's GPUTarget of a name such as cuda:90."""
    from triton.backends.compiler import GPUTarget

    family, _, arch = target.partition(":")
    if arch not in ARCHITECTURES.get(family, ()):
        names = ", ".join(f"{f}:{a}" for f, known in ARCHITECTURES.items() for a in known)
        raise common.CompileError(f"no target {target}; there are cpu, {names}")
    if family == "cuda":
        return GPUTarget("cuda", int(arch), 32)
    return GPUTarget("hip", arch, 64 if arch.startswith("gfx9") else 32)


def check_options(target: str, options: dict[str, Any]) -> None:
    """Triton ignores an option that it does not know; we do not."""
    known = {"num_warps", "num_stages", *_OPTIONS[target.partition(":")[0]]}
    unknown = set(options) - known
    if options.get("num_ctas") == 1:  # what every config says
        unknown.discard("num_ctas")
    if unknown:
        raise common.CompileError(
            f"{', '.join(sorted(unknown))}: no option of {target}, which has"
            f" {', '.join(sorted(known))}"
        )


class Toolchain:
    isa = None

    def __init__(self, target: str) -> None:
        self.family = target.partition(":")[0]
        self.target = parse_target(target)
        common.set_target(self.target)


def compiler_id(target: str) -> str:
    """Triton carries its own LLVM, ptxas and lld: its version says it all."""
    return f"triton {sources.TRITON_VERSION}, {target}"


def compile_request(request: Request, toolchain: Toolchain, keep: Path | None = None):
    """One request to a `Compiled`. `keep`: a folder that receives the text of every stage."""
    import triton

    from kernels.spec import SIZEOF

    common.check_options(request, _OPTIONS[toolchain.family])
    spec, source = common.source(request)
    options = {
        "num_warps": request.num_warps,
        "num_stages": request.num_stages,
        "enable_fp_fusion": True,
    }
    element_bytes = {
        name: SIZEOF[split_type(text)[1]] for name, text in request.args.items() if text[0] == "*"
    }
    registers = expr.evaluate(spec.registers, request.constexprs, element_bytes)
    if toolchain.family == "cuda" and registers:
        options["maxnreg"] = registers
    options |= request.options
    done = triton.compile(source, target=toolchain.target, options=options)
    extension = EXTENSIONS[toolchain.family]
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for stage, text in done.asm.items():
            if isinstance(text, str):
                (keep / f"{request.kernel}.{stage}").write_text(text)
    data = done.asm[extension]
    meta = done.metadata
    if getattr(meta, "profile_scratch_size", 0):
        raise common.CompileError(f"{request.kernel}: asks for profiling scratch")
    facts = object_facts(done, toolchain)
    maps = _tensor_maps(spec, request, getattr(meta, "tensordesc_meta", None) or [])
    if maps:
        facts["tensor_maps"] = maps
    n_threads = facts["num_warps"] * toolchain.target.warp_size
    args = common.launch_args(spec, request)
    return common.Compiled(bytes(data), meta.name, args, n_threads, facts)


def object_facts(done: Any, toolchain: Toolchain) -> dict[str, Any]:
    """What an object takes of a GPU. `done`: what triton.compile gives."""
    is_nvidia = toolchain.family == "cuda"
    registers, spills = (
        _nvidia_registers(done.asm["cubin"]) if is_nvidia else _amd_registers(done.asm)
    )
    return {
        "num_warps": int(done.metadata.num_warps),
        "shared_bytes": int(done.metadata.shared),
        "global_scratch_bytes": int(getattr(done.metadata, "global_scratch_size", 0) or 0),
        "registers": registers,
        "spills": spills,
    }


def _tensor_maps(spec, request: Request, made: list) -> dict[str, dict]:
    """What a launch needs to make each tensor map: how the kernel reads it is the compiler's choice
    (swizzle, box), what it maps is the Spec's."""
    described = [p for p in spec.params if common.descriptor_block(spec, p, request) is not None]
    if len(described) != len(made):
        raise common.CompileError(
            f"{request.kernel}: {len(described)} tensor maps, the compiler made {len(made)}; this"
            " target has none"
        )
    maps = {}
    for param, row in zip(described, made, strict=True):
        maps[param.name] = {
            "element": split_type(request.args[param.name])[1],
            "swizzle_bytes": {0: 0, 1: 32, 2: 64, 3: 128}[int(row["swizzle"])],
            "box": [int(n) for n in row["block_size"]],
            "shape": list(param.descriptor.shape),
            "strides": list(param.descriptor.strides),
        }
    return maps


def _nvidia_registers(cubin: bytes) -> tuple[int | None, int | None]:
    """Registers a thread and bytes of spilled ones, from the cubin's own resource table."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.is_file():
        return None, None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    registers = re.search(r"\bREG:(\d+)", text)
    stack = re.search(r"\bSTACK:(\d+)", text)
    return (int(registers[1]) if registers else None, int(stack[1]) if stack else None)


def _amd_registers(asm) -> tuple[int | None, int | None]:
    text = asm.get("amdgcn", "")
    registers = re.search(r"\.vgpr_count:\s*(\d+)", text)
    spills = re.search(r"\.vgpr_spill_count:\s*(\d+)", text)
    return (int(registers[1]) if registers else None, int(spills[1]) if spills else None)
