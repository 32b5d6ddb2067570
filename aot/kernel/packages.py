"""Which imports get a stand-in: those of the user's files for what no folder on the path has. Not
those of installed packages, nor those that the file itself provides for (`try ... except
ImportError`), unless it defines no kernel without them.
"""

import ast
import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.metadata
import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from aot.kernel.stand_ins import NEWEST, StandIn

_INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {site.getusersitepackages()}
)
_IMPORTERS = ("importlib", "_frozen_importlib", "_frozen_importlib_external", "aot")
_CATCH_IMPORTS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def is_users(filename: str, root: str) -> bool:
    """Whether code is of the user's files: of the kernel's package, `root`, wherever that is, or
    neither of Python nor of another installed package."""
    if os.path.realpath(filename).startswith(root):
        return True
    return not filename.startswith(("<", *_INSTALLED)) and not _is_ours(filename)


def _is_ours(filename: str) -> bool:
    return Path(filename).parent == Path(__file__).parent


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Goes last on sys.meta_path: only what no other finder has comes here. `broken`: modules that
    get a stand-in though they are here, as they fail."""

    def __init__(
        self, answers: dict[str, Any], also_guarded: bool, broken: set[str], root: str
    ) -> None:
        self.answers = answers
        self.root = root
        self.also_guarded = also_guarded
        self.broken = broken
        self.packages: dict[str, None] = {}  # what was stood in for, in order

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        parent, _, _ = name.rpartition(".")
        if not isinstance(sys.modules.get(parent), StandIn):
            if not self._is_wanted():
                return None
            self.packages[name] = None  # a part of what is here, or a package as a whole
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        before = _Broken(self)
        sys.meta_path.insert(0, before)
        sys.meta_path.append(self)
        version = importlib.metadata.version
        if self.also_guarded:
            importlib.metadata.version = self._version
        try:
            yield
        finally:
            importlib.metadata.version = version
            sys.meta_path.remove(before)
            sys.meta_path.remove(self)

    def _version(self, package: str) -> str:
        try:
            return importlib.metadata.distribution(package).version
        except importlib.metadata.PackageNotFoundError:
            return NEWEST

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return StandIn(spec.name, self.answers)

    def exec_module(self, module: Any) -> None:
        pass

    def _is_wanted(self) -> bool:
        frame, only_asks = _importing_frame()
        if frame is None or not is_users(frame.f_code.co_filename, self.root):
            return False
        filename, line = frame.f_code.co_filename, frame.f_lineno
        return self.also_guarded or not (only_asks or _is_guarded(filename, line))


class _Broken(importlib.abc.MetaPathFinder):
    """Goes first: modules that are here, and fail."""

    def __init__(self, finder: Finder) -> None:
        self.finder = finder

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self.finder.broken:
            return None
        return importlib.machinery.ModuleSpec(name, self.finder, is_package=True)


def _importing_frame() -> tuple[FrameType | None, bool]:
    """The code that imports, and whether it only asks if there is such a module."""
    frame, only_asks = sys._getframe(1), False
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        only_asks = only_asks or module == "importlib.util"
        if module.partition(".")[0] not in _IMPORTERS:
            return frame, only_asks
        frame = frame.f_back
    return None, only_asks


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
