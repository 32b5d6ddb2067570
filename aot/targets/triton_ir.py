"""Triton programs as Triton IR for the CPU target: inlined, simplified, each operation with the
Python line that it comes from."""

import contextlib
import os
import re
import tempfile
from typing import Any

from aot.targets import common

# Descriptors become pointers only where there are any: the pass is not free.
_DESCRIPTORS = ("!tt.tensordesc", "tt.make_tensor_descriptor")
_FP8 = ("fp8e4nv", "fp8e5", "fp8e4b8", "fp8e5b16", "fp8e4b15")

# Triton makes atomics of a descriptor's minima and maxima, but not of those of 16-bit floats: they
# go through its pass as bitwise operations, which floats have none of.
_FLOAT_EXTREMA = {"min": "and", "max": "or"}
_REDUCE = re.compile(r"(tt\.descriptor_reduce )(min|max)(, .*: !tt\.tensordesc<[0-9x]*b?f16\b)")
_ATOMIC = re.compile(r"(tt\.atomic_rmw )(and|or)(, .*: \(tensor<[0-9x]*!tt\.ptr<b?f16>)")


def source_text(source: Any, debug: bool = False) -> str:
    """An ASTSource as Triton IR text. `debug` keeps tl.device_assert."""
    from triton._C.libtriton import ir, passes
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend

    # The front end wants a GPU target. Only its dialects and types are used, not its lowering.
    target = GPUTarget("cuda", 90, 32)
    common.set_target(target)
    backend = make_backend(target)
    options = backend.parse_options(
        {
            "num_warps": 1,
            "num_stages": 1,
            "enable_fp_fusion": True,
            "debug": debug,
            "sanitize_overflow": False,
            "supported_fp8_dtypes": _FP8,
        }
    )
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    functions = backend.get_codegen_implementation(options)
    functions["min_dot_size"] = lambda lhs, rhs: (1, 1, 1)
    functions["convert_custom_types"] = _convert_e4b15
    with _python_lines():
        module = source.make_ir(target, options, functions, backend.get_module_map(), context)
    text = module.str_nodebug()
    has_descriptors = any(word in text for word in _DESCRIPTORS)
    if "noinline = true" in text or _REDUCE.search(text):
        # Emitted code has no calls: what asks not to be inlined is inlined too.
        text = module.str().replace("noinline = true", "noinline = false")
        text = _REDUCE.sub(lambda m: m[1] + _FLOAT_EXTREMA[m[2]] + m[3], text)
        with tempfile.NamedTemporaryFile("w", suffix=".mlir") as file:
            file.write(text)
            file.flush()
            module = ir.parse_mlir_module(file.name, context)
    manager = ir.pass_manager(context)
    passes.common.add_inliner(manager)
    if has_descriptors:
        passes.ttir.add_rewrite_tensor_descriptor_to_pointer(manager)
    passes.common.add_canonicalizer(manager)
    passes.common.add_cse(manager)
    passes.common.add_symbol_dce(manager)
    manager.run(module, "make_ttir")
    text = _annotated(module.str_nodebug(), module.str())
    names = {by: name for name, by in _FLOAT_EXTREMA.items()}
    return _ATOMIC.sub(lambda m: m[1] + names[m[2]] + m[3], text)


@contextlib.contextmanager
def _python_lines():
    """Line numbers are off while objects are compiled, for no path may get into them; here they
    become comments of the text, which do not."""
    name = "TRITON_DISABLE_LINE_INFO"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


_ALIAS = re.compile(r"^(#loc\d*) = loc\((.*)\)$")
_USE = re.compile(r" loc\((.*)\)$")
_FILE = re.compile(r'^"(?:[^"]*[/\\])?([^"/\\]*)":(\d+):\d+$')


def _annotated(text: str, located: str) -> str:
    """`text` with the Python lines that `located`, the same module with locations, says."""
    aliases = {m[1]: m[2] for m in map(_ALIAS.match, located.splitlines()) if m}
    body = [line for line in located.splitlines() if not _ALIAS.match(line)]
    rows = text.rstrip("\n").split("\n")
    comments = [""] * len(rows)
    begun = []  # operations with regions, whose locations stand at their ends
    for number, (row, full) in enumerate(zip(rows, body, strict=True)):
        first = begun.pop() if row.lstrip().startswith("}") else number
        if row.endswith("{"):
            begun.append(first)
        elif use := _USE.search(full):
            comments[first] = " from ".join(_places(use[1], aliases))
    rows = [
        f"{row}  // {c}" if c and "//" not in row else row
        for row, c in zip(rows, comments, strict=True)
    ]
    return "\n".join(rows) + "\n"


def _places(location: str, aliases: dict[str, str]) -> list[str]:
    """FILE:LINE, of a function that was inlined first, then of who called it."""
    location = aliases.get(location, location)
    if location.startswith("callsite("):
        callee, _, caller = location[len("callsite(") : -1].partition(" at ")
        return list(dict.fromkeys(_places(callee, aliases) + _places(caller, aliases)))
    if found := _FILE.match(location):
        return [f"{found[1]}:{found[2]}"]
    if named := re.match(r'^"[^"]*"\((.*)\)$', location):
        return _places(named[1], aliases)
    return []


def _convert_e4b15(arg, dst_ty, fp_downcast_rounding=None, _semantic=None):
    """fp8e4b15, which is no type of the IR's: fp16 without its highest exponent bit, which is 0,
    and the seven lowest of its mantissa. To it as NVIDIA's conversion: halves away from zero,
    saturated at 1.75, fp32 by way of fp16 towards zero."""
    import triton.language as tl

    s = _semantic

    def bits(value: int):
        return s.to_tensor(tl.full((), value, tl.uint16, _semantic=s))

    if arg.type.scalar.is_fp8e4b15():
        x = arg.to(tl.uint8, bitcast=True, _semantic=s).to(tl.uint16, _semantic=s)
        number = s.shl(s.and_(x, bits(0x7F)), bits(7))
        half = s.or_(number, s.shl(s.and_(x, bits(0x80)), bits(8)))
        return half.to(tl.float16, bitcast=True, _semantic=s).to(dst_ty.scalar, _semantic=s)
    if arg.type.scalar.is_fp32():
        arg = arg.to(tl.float16, fp_downcast_rounding="rtz", _semantic=s)
    half = arg.to(tl.float16, _semantic=s).to(tl.uint16, bitcast=True, _semantic=s)
    number = s.minimum(s.and_(half, bits(0x7FFF)), bits(0x3F00), tl.PropagateNan.NONE)
    number = s.lshr(s.add(s.shl(number, bits(1)), bits(0x80), False), bits(8))
    sign = s.lshr(s.and_(half, bits(0x8000)), bits(8))
    byte = s.or_(number, sign).to(tl.uint8, _semantic=s)
    return byte.to(tl.float8e4b15, bitcast=True, _semantic=s)
