"""Any Triton kernel, ahead of time, for any C or C++ program: an object, a header to launch it, a
manifest and the texts of every stage.

python -m aot.compile_kernel FILE.py:FUNCTION --signature "*fp16,*fp16,i32,constexpr=128" \
    --target cpu|cuda:80|cuda:90|hip:gfx942 --out DIR [--num-warps N] [--num-stages N]
"""

import argparse
import hashlib
import importlib.util
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aot import launch_header, sources
from aot.cache import write_atomically
from aot.targets import cpu, gpu
from aot.targets.common import CompileError, set_target, triton_scratch

SCHEMA = 1
TARGETS = (*cpu.TARGETS, *gpu.TARGETS)
_ELEMENTS = ("i1", "i8", "i16", "i32", "i64", "u1", "u8", "u16", "u32", "u64", "fp16", "bf16",
             "fp32", "fp64", "fp8e4nv", "fp8e5", "fp8e4b8", "fp8e5b16")  # fmt: skip
_SCALARS = tuple(e for e in _ELEMENTS if not e.startswith("fp8"))


class SignatureError(ValueError):
    """The signature is not of this function; says where."""


@dataclass
class Parameter:
    name: str
    is_pointer: bool = False
    element: str = ""  # empty: a constant
    divisible: bool = False
    value: Any = None

    @property
    def is_constant(self) -> bool:
        return not self.element

    @property
    def triton_type(self) -> str:
        if self.is_constant:
            return "constexpr"
        return f"*{self.element}" if self.is_pointer else self.element


def constant(text: str, where: str) -> Any:
    """128, 0.5, True, None, 'relu' or the name of an element type."""
    import triton.language as tl

    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (lambda t: int(t, 0), float):
        try:
            return kind(text)
        except ValueError:
            pass
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    dtype = getattr(tl, text.removeprefix("tl."), None)
    if isinstance(dtype, tl.dtype):
        return dtype
    raise SignatureError(f"{where}: constant {text!r}; expected a number, True, False, None, a"
                         " 'text' or an element type such as tl.float16")  # fmt: skip


def parameter(name: str, text: str) -> Parameter:
    where = f"parameter {name}"
    if text.startswith("constexpr"):
        if not text.startswith("constexpr="):
            raise SignatureError(f"{where}: a constexpr has a value: constexpr=128")
        return Parameter(name, value=constant(text.removeprefix("constexpr="), where))
    if text.startswith("tensordesc"):
        raise SignatureError(f"{where}: a descriptor as an argument; take a pointer and make it in"
                             " the kernel with tl.make_tensor_descriptor")  # fmt: skip
    type_, _, divisible = text.partition(":")
    is_pointer = type_.startswith("*")
    element = type_.removeprefix("*").removeprefix("k" if is_pointer else "")
    known = _ELEMENTS if is_pointer else _SCALARS
    if element not in known or divisible not in ("", "16"):
        raise SignatureError(f"{where}: type {text!r}; expected [*]TYPE[:16] with TYPE one of"
                             f" {', '.join(known)}, or constexpr=VALUE")  # fmt: skip
    return Parameter(name, is_pointer, element, divisible == "16")


def parse_signature(text: str, names: list[str]) -> list[Parameter]:
    parts = [part.strip() for part in re.findall(r"(?:'[^']*'|\"[^\"]*\"|[^,])+", text)]
    if len(parts) != len(names):
        raise SignatureError(f"{len(parts)} types for {len(names)} parameters:"
                             f" {', '.join(names)}")  # fmt: skip
    return [parameter(name, part) for name, part in zip(names, parts)]


def load(path: Path, function: str) -> Any:
    """The @triton.jit function of a file, which may import from its own folder."""
    from triton.runtime.jit import JITFunction

    if not path.is_file():
        raise CompileError(f"no file {path}")
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    fn = getattr(module, function, None)
    while fn is not None and not isinstance(fn, JITFunction) and hasattr(fn, "fn"):
        fn = fn.fn  # beneath @triton.autotune and @triton.heuristics: the choice is the caller's
    if not isinstance(fn, JITFunction):
        found = [name for name, value in vars(module).items() if isinstance(value, JITFunction)]
        raise CompileError(f"{path} has no @triton.jit function {function}; it has"
                           f" {', '.join(found) or 'none'}")  # fmt: skip
    return fn


def triton_source(fn: Any, parameters: list[Parameter]) -> Any:
    from triton.compiler import ASTSource

    return ASTSource(
        fn=fn,
        signature={p.name: p.triton_type for p in parameters},
        constexprs={p.name: p.value for p in parameters if p.is_constant},
        attrs={(i,): [["tt.divisibility", 16]] for i, p in enumerate(parameters) if p.divisible},
    )


def compile_cpu(source: Any, options: argparse.Namespace, name: str) -> tuple[dict, dict]:
    """(what the manifest says, files by extension)."""
    toolchain = cpu.Toolchain(options.isa, options.ttir)
    toolchain.prepare()
    text = cpu.source_text(source, debug=options.debug)
    files = {}
    for kind in ("o", "so"):
        files[kind], meta = cpu.compile_text(name, text, toolchain, options.out, kind)
    facts = {
        "isa": toolchain.isa,
        "compiler": toolchain.compiler_id,
        "symbol": meta["symbol"],
        "n_threads": 1,
        "arena_bytes": int(meta["arena_bytes"]),
    }
    return facts, files


def compile_gpu(source: Any, options: argparse.Namespace, name: str) -> tuple[dict, dict]:
    import triton

    toolchain = gpu.Toolchain(options.target)
    set_target(toolchain.target)
    done = triton.compile(
        source,
        target=toolchain.target,
        options={
            "num_warps": options.num_warps,
            "num_stages": options.num_stages,
            "enable_fp_fusion": True,
            "debug": options.debug,
            "sanitize_overflow": False,
        },
    )
    extension = gpu.EXTENSIONS[toolchain.family]
    meta = done.metadata
    facts = {
        "compiler": gpu.compiler_id(options.target),
        "symbol": meta.name,
        "num_warps": int(meta.num_warps),
        "num_stages": options.num_stages,
        "n_threads": int(meta.num_warps) * toolchain.target.warp_size,
        "shared_bytes": int(meta.shared),
        "global_scratch_bytes": int(getattr(meta, "global_scratch_size", 0) or 0),
    }
    texts = {stage: text.encode() for stage, text in done.asm.items() if isinstance(text, str)}
    texts.pop("source", None)
    return facts, {**texts, extension: bytes(done.asm[extension])}


def run(options: argparse.Namespace) -> None:
    file, colon, function = options.kernel.rpartition(":")
    if not colon or not file:
        raise CompileError(f"{options.kernel!r}: expected FILE.py:FUNCTION")
    fn = load(Path(file), function)
    parameters = parse_signature(options.signature, list(fn.arg_names))
    name = options.name or function
    options.out.mkdir(parents=True, exist_ok=True)
    with triton_scratch():
        compile_one = compile_cpu if options.target == "cpu" else compile_gpu
        facts, files = compile_one(triton_source(fn, parameters), options, name)
    arguments = [
        [p.name, "pointer" if p.is_pointer else p.element] for p in parameters if not p.is_constant
    ]
    extension = next(e for e in ("so", "cubin", "hsaco") if e in files)
    manifest = {
        "schema": SCHEMA,
        "kernel": name,
        "source": f"{Path(file).name}:{function}",
        "signature": options.signature,
        "target": options.target,
        "triton": sources.TRITON_VERSION,
        "args": arguments,
        "constexprs": {p.name: str(p.value) for p in parameters if p.is_constant},
        "object": f"{name}.{extension}",
        "object_sha256": hashlib.sha256(files[extension]).hexdigest(),
        **facts,
    }
    for kind, data in files.items():
        write_atomically(options.out / f"{name}.{kind}", data)
    header = launch_header.text(manifest, parameters)
    write_atomically(options.out / f"{name}.h", header.encode())
    write_atomically(options.out / f"{name}.json", (json.dumps(manifest, indent=1) + "\n").encode())
    for path in sorted(options.out.glob(f"{name}.*")):
        print(path)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="nereid compile-kernel", description="Compiles one Triton kernel ahead of time."
    )
    parser.add_argument("kernel", metavar="FILE.py:FUNCTION")
    parser.add_argument("--signature", required=True, help="a type for each parameter, in order")
    parser.add_argument("--target", required=True, choices=TARGETS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", help="of the files and of the header's names; default: FUNCTION")
    parser.add_argument("--num-warps", type=int, default=4)
    parser.add_argument("--num-stages", type=int, default=3)
    parser.add_argument("--debug", action="store_true", help="keep tl.device_assert")
    parser.add_argument("--isa", help="cpu: x86-64-v3, x86-64-v4 or aarch64")
    parser.add_argument("--ttir", help="cpu: the nereid-ttir program; default: NEREID_TTIR")
    options = parser.parse_args()
    try:
        run(options)
    except (CompileError, SignatureError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # Triton's own: its text points at the line of the kernel
        if type(error).__module__.partition(".")[0] != "triton":
            raise
        print(f"error: {options.kernel}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
