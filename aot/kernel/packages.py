"""Which imports get a stand-in: those of the user's files for what no folder on the path has. Not
those of installed packages, nor those that the file itself provides for (`try ... except
ImportError`), unless it defines no kernel without them.
"""

import ast
import functools
import importlib.abc
import importlib.machinery
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from aot.kernel.stand_ins import StandIn

_INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_CATCH_IMPORTS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def is_users(filename: str) -> bool:
    """Whether code is of the user's files: neither of Python nor of an installed package."""
    return not filename.startswith(("<", *_INSTALLED)) and not _is_ours(filename)


def _is_ours(filename: str) -> bool:
    return Path(filename).parent == Path(__file__).parent


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Goes last on sys.meta_path: only what no other finder has comes here."""

    def __init__(self, answers: dict[str, Any], also_guarded: bool) -> None:
        self.answers = answers
        self.also_guarded = also_guarded
        self.packages: dict[str, None] = {}  # what was stood in for, in order

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        parent, _, _ = name.rpartition(".")
        if not isinstance(sys.modules.get(parent), StandIn) and not self._is_wanted():
            return None
        if not isinstance(sys.modules.get(parent), StandIn):
            self.packages[name] = None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return StandIn(spec.name, self.answers)

    def exec_module(self, module: Any) -> None:
        pass

    def _is_wanted(self) -> bool:
        frame = _importing_frame()
        if frame is None or not is_users(frame.f_code.co_filename):
            return False
        return self.also_guarded or not _is_guarded(frame.f_code.co_filename, frame.f_lineno)


def _importing_frame() -> FrameType | None:
    """The code that imports; None for a question whether there is such a module."""
    frame = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename.endswith("importlib/util.py"):
            return None
        inner = filename.startswith("<frozen importlib") or filename == __file__
        if not inner and not filename.endswith("importlib/__init__.py"):
            return frame
        frame = frame.f_back
    return None


def _is_guarded(filename: str, line: int) -> bool:
    return any(first <= line <= last for first, last in _guarded_lines(filename))


@functools.cache
def _guarded_lines(filename: str) -> list[tuple[int, int]]:
    """The bodies of `try` whose handlers take a failed import."""
    try:
        tree = ast.parse(Path(filename).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(_takes_imports(h) for h in node.handlers):
            found.append((node.body[0].lineno, node.body[-1].end_lineno or node.body[-1].lineno))
    return found


def _takes_imports(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(t, ast.Name) and t.id in _CATCH_IMPORTS for t in types)
