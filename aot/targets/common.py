"""What every target does first: a request becomes Triton's own source object."""

import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass, field
from typing import Any

from aot import sources
from aot.request import Request, RequestError, split_type
from aot.targets.functions import composed
from kernels import expr


@dataclass
class Compiled:
    """One object and what its manifest row says beside the request."""

    data: bytes
    symbol: str
    args: list[list[str]]
    n_threads: int
    facts: dict[str, Any] = field(default_factory=dict)


class CompileError(RuntimeError):
    """The compiler refused; the message names the kernel and the reason."""


def source(request: Request):
    """(spec, ASTSource) of a request; imports the kernel."""
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    spec = sources.load_spec(request.kernel)
    request.check(spec)
    form = spec.form(request.constexprs)
    signature, attrs = {}, {}
    for index, param in enumerate(spec.params):
        if param.role == "constexpr":
            signature[param.name] = "constexpr"
            continue
        is_pointer, element, divisible = split_type(request.args[param.name])
        block = descriptor_block(spec, param, request)
        if block is not None:
            layout = f",{_layout(element, block)!r}" if form is not None else ""
            signature[param.name] = f"tensordesc<{element}{block}{layout}>"
            continue
        signature[param.name] = f"*{element}" if is_pointer else element
        if divisible:
            attrs[(index,)] = [["tt.divisibility", 16]]
    # A flag is a number in a request and a truth in a kernel: both read 0 and 1.
    constexprs: dict[str, Any] = {name: int(value) for name, value in request.constexprs.items()}
    for param in spec.params:
        if param.function:
            text = request.functions.get(param.name)
            constexprs[param.name] = composed(param.function, text) if text else None
    make, fn = (ASTSource, spec.fn) if form is None else (GluonASTSource, form)
    return spec, make(fn=fn, signature=signature, constexprs=constexprs, attrs=attrs)


def _layout(element: str, block: list[int]):
    """How a Gluon kernel's tile lies in shared memory: swizzled by its rows, of at most 128 bytes,
    so that it is one box and boxes one behind the other are a wider tile."""
    from triton.experimental.gluon.language import NVMMASharedLayout

    from kernels.spec import SIZEOF

    return NVMMASharedLayout(
        swizzle_byte_width=block[-1] * SIZEOF[element],
        element_bitwidth=8 * SIZEOF[element],
        rank=len(block),
    )


def descriptor_block(spec, param, request: Request) -> list[int] | None:
    """The tile of a pointer that this variant takes as a tensor map; None for a plain pointer."""
    how = param.descriptor
    if how is None or not expr.evaluate(how.when, request.constexprs):
        return None
    if not request.args[param.name].endswith(":16"):
        raise RequestError(f"{spec.name}: {param.name} may lie anywhere; a tensor map needs :16")
    return [expr.evaluate(text, request.constexprs) for text in how.block]


def launch_args(spec, request: Request) -> list[list[str]]:
    """A tensor map is followed by the shape and the strides of what it maps."""
    rows = []
    for param in spec.params:
        if param.role == "constexpr":
            continue
        block = descriptor_block(spec, param, request)
        if block is None:
            is_pointer, element, _ = split_type(request.args[param.name])
            rows.append([param.name, "pointer" if is_pointer else element])
            continue
        rows.append([param.name, "tensor_map"])
        rows += [[f"{param.name}.shape{i}", "i32"] for i in range(len(block))]
        rows += [[f"{param.name}.stride{i}", "i64"] for i in range(len(block))]
    return rows


def check_triton_version() -> None:
    import triton

    if triton.__version__ != sources.TRITON_VERSION:
        raise CompileError(
            f"{sys.executable} has Triton {triton.__version__}; expected {sources.TRITON_VERSION}:"
            f" {sys.executable} -m pip install triton=={sources.TRITON_VERSION}, or set"
            " NEREID_PYTHON to a Python that has it"
        )


@contextlib.contextmanager
def triton_scratch():
    """Around all compiling: the Triton is the one that objects are labelled with, nothing is read
    from or left in the user's own Triton cache, and no source path gets into an object."""
    check_triton_version()
    with tempfile.TemporaryDirectory(prefix="nereid-triton-", ignore_cleanup_errors=True) as folder:
        ours = {"TRITON_CACHE_DIR": folder, "TRITON_DISABLE_LINE_INFO": "1"}
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


class NoDriver:
    """Stands in for a GPU driver. Without it Triton's target checks answer for no GPU at all, and
    kernels that branch on them would compile the wrong branch in silence."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


def set_target(target: Any) -> None:
    from triton.runtime import driver

    driver.set_active(NoDriver(target))


def check_options(request: Request, allowed: set[str]) -> None:
    """Triton ignores an option that it does not know; we do not."""
    unknown = set(request.options) - allowed
    if unknown:
        raise RequestError(f"{request.kernel}: unknown options {', '.join(sorted(unknown))}")
