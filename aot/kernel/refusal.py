"""A compiler's refusal in the user's terms: the line of the Python file, what, and where the
Triton IR is."""

import re
from pathlib import Path

from aot.targets.common import CompileError

_LOCATION = re.compile(r"^(#loc\w*) = loc\((.*)\)$", re.MULTILINE)
_PLACE = re.compile(r'"([^"]+)":(\d+)')
_REFERENCE = re.compile(r"loc\((#loc\w*)\)")


def of_triton(error: Exception, kernel: str) -> CompileError:
    """Of Triton's front end, which counts from the `def` of the function in which it stopped."""
    from triton.compiler.errors import CompilationError

    inner, where = error, kernel
    cause: BaseException | None = error
    while cause is not None:  # outermost first: the caller, then what it called
        if isinstance(cause, CompilationError):
            inner = cause
        cause = cause.__cause__ or cause.__context__
    if isinstance(inner, CompilationError):
        where = _line_of(inner) or kernel
        reason = inner.error_message or _innermost(inner) or type(inner).__name__
        excerpt = str(inner.src or "").split("\n")
        line = getattr(inner.node, "lineno", 0)
        code = f"\n    {excerpt[line - 1].strip()}" if 0 < line <= len(excerpt) else ""
        return CompileError(f"{where}: {_one_line(reason)}{code}")
    return CompileError(f"{where}: {type(error).__name__}: {_one_line(str(error))}")


def of_ttir(error: CompileError, name: str, located: str, kept: Path) -> CompileError:
    """Of nereid-ttir, which names a line of the IR. `located`: the same lines with locations."""
    text = str(error)
    found = re.search(rf"{re.escape(name)}\.ttir:(\d+): (.*)", text, re.DOTALL)
    if found is None:
        return CompileError(f"{text}\n  its Triton IR: {kept}")
    where = python_line(located, int(found[1])) or name
    return CompileError(f"{where}: {found[2]}\n  its Triton IR: {kept}:{found[1]}")


def python_line(located: str, number: int) -> str | None:
    """FILE:LINE of a line of the IR, `number` counted without the lines that define locations."""
    places = dict(_LOCATION.findall(located))
    lines = [line for line in located.split("\n") if not line.startswith("#loc")]
    for line in lines[number - 1 :]:  # an operation with a body has its location at the end
        references = _REFERENCE.findall(line)
        if references:
            return _resolved(references[-1], places)
    return None


def _resolved(reference: str, places: dict[str, str]) -> str | None:
    text = places.get(reference, "")
    found = _PLACE.search(text)
    if found:
        return f"{found[1]}:{found[2]}"
    for inner in re.findall(r"#loc\w*", text):  # the place in the callee comes first
        place = _resolved(inner, places)
        if place:
            return place
    return None


def _line_of(error: Exception) -> str | None:
    from triton.runtime.jit import _triton_jit_function_registry as functions

    line = getattr(error.node, "lineno", None)
    for fn in functions.values():
        if fn.src == error.src and line is not None:
            return f"{fn.file_name}:{fn.def_file_line_number + line - 1}"
    return None


def _innermost(error: BaseException) -> str:
    cause = error.__cause__ or error.__context__
    return f"{type(cause).__name__}: {cause}" if cause is not None else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:2000]
