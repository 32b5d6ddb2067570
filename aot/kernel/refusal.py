"""A compiler's refusal in the user's terms: the line of the Python file, what, and where the
Triton IR is."""

import re
from pathlib import Path
from typing import Any

from aot.kernel.stand_ins import StandIn
from aot.targets.common import CompileError


def of_triton(error: Exception, kernel: str) -> CompileError:
    """Of Triton's front end, which counts from the `def` of the function in which it stopped."""
    from triton.compiler.errors import CompilationError

    inner: BaseException = error
    cause: BaseException | None = error
    while cause is not None:  # outermost first: the caller, then what it called
        inner = cause if isinstance(cause, CompilationError) else inner
        cause = cause.__cause__ or cause.__context__
    if not isinstance(inner, CompilationError):
        return CompileError(f"{kernel}: {type(error).__name__}: {_one_line(str(error))}")
    line, function = getattr(inner.node, "lineno", 0), _function(inner)
    where = (
        f"{function.file_name}:{function.def_file_line_number + line - 1}" if function else kernel
    )
    reason = (
        inner.error_message or f"{type(inner).__name__}: {inner.__cause__ or inner.__context__}"
    )
    missing = re.search(r"global variable (\w+)", reason)
    value = function.fn.__globals__.get(missing[1]) if function and missing else None
    if isinstance(value, StandIn):
        reason = f"the kernel uses {missing[1]}, {value!r}; PYTHONPATH or NEREID_PYTHON can give it"
    lines = str(inner.src or "").split("\n")
    code = f"\n    {lines[line - 1].strip()}" if 0 < line <= len(lines) else ""
    return CompileError(f"{where}: {_one_line(reason)}{code}")


def of_ttir(error: CompileError, name: str, file: str, kept: Path) -> CompileError:
    """Of nereid-ttir, which names a line of the IR and, at the end, those of the Python files it
    comes from, without their folders. `file`: that of the kernel."""
    text = str(error)
    found = re.search(
        rf"{re.escape(name)}\.ttir:(?: kernel [^:]*:)?(\d+): (.*?)(?: \(at ([^()]*)\))?\s*$",
        text,
        re.DOTALL,
    )
    if found is None:
        return CompileError(f"{text}\n  its Triton IR: {kept}")
    number, reason, places = found.groups()
    where = [
        place.replace(Path(file).name, file, 1) if place.partition(":")[0] == Path(file).name
        else place
        for place in (places or file).split(" from ")
    ]  # fmt: skip
    called = f", called from {', '.join(where[1:])}" if where[1:] else ""
    return CompileError(f"{where[0]}: {reason}{called}\n  its Triton IR: {kept}:{number}")


def _function(error: Exception) -> Any:
    """The @triton.jit function whose text a CompilationError has."""
    from triton.runtime.jit import _triton_jit_function_registry as functions

    return next((fn for fn in functions.values() if fn.src == error.src), None)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:2000]
