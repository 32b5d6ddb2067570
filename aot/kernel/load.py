"""The user's file as a module: within its package, with stand-ins for packages that are not here
and for the GPU. What goes wrong in it is told in a line: where, and what.
"""

import ast
import contextlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from aot.kernel.driver import stand_in_gpu
from aot.kernel.packages import Finder, is_users
from aot.kernel.stand_ins import StandIn
from aot.kernel.torch_answers import answers
from aot.targets.common import CompileError

_CURE = "PYTHONPATH or NEREID_PYTHON can give what is missing"


@dataclass
class Program:
    """A loaded file."""

    path: Path
    module: ModuleType
    stood_in: list[str] = field(default_factory=list)  # packages
    notes: list[str] = field(default_factory=list)  # for stderr

    def find(self, name: str) -> Any:
        """What the file, or a module, calls `name`: "square", "utils.square", "Class.kernel"."""
        words = name.split(".")
        with contextlib.suppress(AttributeError):
            return _attribute(self.module, words)
        for n in range(len(words) - 1, 0, -1):
            with contextlib.suppress(ImportError, AttributeError):
                return _attribute(importlib.import_module(".".join(words[:n])), words[n:])
        raise LookupError(f"{self.path.name} has no {name}")


def _attribute(owner: Any, words: list[str]) -> Any:
    for word in words:
        owner = getattr(owner, word)
    return owner


def is_kernel(value: Any) -> bool:
    """@triton.jit, or that beneath @triton.autotune, @triton.heuristics and others' wrappers."""
    return beneath(value) is not None


def beneath(value: Any) -> Any:
    """The @triton.jit function; None where there is none."""
    from triton.runtime.jit import JITFunction, KernelInterface

    for _ in range(32):  # wrappers that wrap themselves are nobody's kernels
        if isinstance(value, JITFunction | StandIn | type):
            break
        if not callable(value) and not isinstance(value, KernelInterface):
            break
        value = getattr(value, "fn", None) or getattr(value, "__wrapped__", None)
    return value if isinstance(value, JITFunction) else None


def load(path: Path, function: str, target: Any) -> Program:
    """`target`: the GPU that the file is told of. First as on this machine; where that gives no
    kernel, as with a GPU and with all that the file would do without."""
    if not path.is_file():
        raise CompileError(f"no file {path}")
    first: CompileError | None = None
    for has_gpu in (False, True):
        try:
            program = _load_without_broken(path, function, target, has_gpu)
            break
        except CompileError as error:
            first = first or error
    else:
        raise first
    if program.stood_in:
        program.notes.insert(
            0,
            f"note: stand-ins serve {path.name} for {', '.join(program.stood_in)}, which"
            f" {sys.executable} lacks; {_CURE}",
        )
    return program


class _BrokenModuleError(Exception):
    """A module that the file imports fails."""

    def __init__(self, name: str, told: str) -> None:
        super().__init__(told)
        self.name = name


def _load_without_broken(path: Path, function: str, target: Any, has_gpu: bool) -> Program:
    """A neighbour that fails, as it finds no GPU or is not built, gets a stand-in like one that is
    missing."""
    broken: dict[str, str] = {}
    while True:
        try:
            program = _Loader(path, function, target, has_gpu, set(broken)).load()
        except _BrokenModuleError as error:
            broken[error.name] = str(error)
            continue
        program.notes += [f"note: {told}; a stand-in serves for it" for told in broken.values()]
        return program


class _Loader:
    """One attempt. What it leaves in sys.modules goes where it fails."""

    def __init__(
        self, path: Path, function: str, target: Any, has_gpu: bool, broken: set[str]
    ) -> None:
        self.path, self.function = path, function
        self.target = target
        self.answers = answers(target, has_gpu)
        self.folders = package_folders(path)
        self.root = f"{self.folders[0]}{os.sep}" if self.folders else str(path.resolve())
        self.finder = Finder(self.answers, has_gpu, broken, self.root)
        self.notes: list[str] = []

    def load(self) -> Program:
        before = set(sys.modules)
        try:
            with stand_in_gpu(self.target, self.answers), _apart_from_ours(), self._paths():
                module = self._import()
            self._check(module)
        except BaseException:
            for name in set(sys.modules) - before:
                if self._is_own(sys.modules[name]):
                    del sys.modules[name]
            raise
        return Program(self.path, module, list(self.finder.packages), self.notes)

    @contextlib.contextmanager
    def _paths(self) -> Iterator[None]:
        """The file's own folder and that of its package are searched first, from now on."""
        own = self.path.resolve().parent
        sys.path[:0] = [str(own), str(self.folders[0].parent if self.folders else own)]
        with self.finder.installed():
            yield

    def _import(self) -> ModuleType:
        package = ""
        for folder in self.folders:
            package = self._package(folder, package)
        name = _free_name(package, self.path.stem)
        if name in sys.modules:  # its package imports it
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(
            name, self.path, loader=importlib.machinery.SourceFileLoader(name, str(self.path))
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if not is_kernel(self._found(module)):
                self._give_up_on_neighbour(error)
                raise CompileError(self._told(error) + self._cure(error)) from error
            self.notes.append(
                f"note: {self._told(error)}; {self.function} was made before that, the rest of the"
                " file was not run"
            )
        return module

    def _package(self, folder: Path, parent: str) -> str:
        """Imports a folder as a package. Its __init__.py may want more than its kernels do: where
        it fails, what it made until then counts."""
        name = _free_name(parent, folder.name)
        if name in sys.modules:
            return name
        init = folder / "__init__.py"
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        if init.is_file():
            spec = importlib.util.spec_from_file_location(
                name, init, submodule_search_locations=[str(folder)]
            )
        else:
            spec.submodule_search_locations = [str(folder)]
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        if parent:
            setattr(sys.modules[parent], name.rpartition(".")[2], module)
        if spec.loader is not None:
            try:
                spec.loader.exec_module(module)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self.notes.append(f"note: {self._told(error)}; the rest of {init} was not run")
        return name

    def _give_up_on_neighbour(self, error: BaseException) -> None:
        """Raises, where it was a neighbour's module that failed."""
        failed = ""
        for frame, _ in traceback.walk_tb(error.__traceback__):
            code = frame.f_code
            if code.co_name == "<module>" and is_users(code.co_filename, self.root):
                is_this = Path(code.co_filename).resolve() == self.path.resolve()
                failed = "" if is_this else frame.f_globals["__name__"]
        if failed and failed not in self.finder.broken:
            raise _BrokenModuleError(failed, self._told(error)) from error

    def _found(self, module: ModuleType) -> Any:
        try:
            return _attribute(module, self.function.split("."))
        except AttributeError:
            return None

    def _check(self, module: ModuleType) -> None:
        found = self._found(module)
        if is_kernel(found):
            return
        kernels = ", ".join(name for name, value in vars(module).items() if is_kernel(value))
        if isinstance(found, StandIn):
            raise CompileError(
                f"{self.path}: {self.function} is of a package that is not here; {_CURE}"
            )
        if found is not None and callable(getattr(found, "fn", found)):
            raise CompileError(
                f"{self.path}: {self.function} is a plain function here; expected one with"
                f" @triton.jit: {kernels or 'the file has none'}"
            )
        raise CompileError(
            f"{self.path} has no @triton.jit function {self.function}; it has {kernels or 'none'}"
        )

    def _is_own(self, module: Any) -> bool:
        if isinstance(module, StandIn):
            return True
        file = getattr(module, "__file__", None)
        # A folder without __init__.py has a path alone.
        return is_users(file, self.root) if file else hasattr(module, "__path__")

    def _told(self, error: BaseException) -> str:
        """FILE:LINE: what, in a line."""
        what = " ".join(str(error).split()) or "no message"
        where = str(self.path)
        if isinstance(error, SyntaxError) and error.filename:
            where, what = f"{error.filename}:{error.lineno}", error.msg
        else:
            for frame in traceback.extract_tb(error.__traceback__):
                if is_users(frame.filename, self.root):
                    where = f"{frame.filename}:{frame.lineno}"
        return f"{where}: {type(error).__name__}: {what[:500]}"

    def _cure(self, error: BaseException) -> str:
        packages = ", ".join(self.finder.packages)
        if isinstance(error, ImportError) or not packages:
            return f"; {_CURE}" if isinstance(error, ImportError) else ""
        return f" (with stand-ins for {packages}; {_CURE})"


def package_folders(path: Path) -> list[Path]:
    """The folders that are packages above a file, the outermost first: those with __init__.py, and
    as many more as its relative imports climb."""
    n_folders = _relative_level(path)
    folders: list[Path] = []
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file() or len(folders) < n_folders:
        if folder.parent == folder:
            break
        folders.insert(0, folder)
        folder = folder.parent
    return folders


def _relative_level(path: Path) -> int:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return 0  # the import says it
    return max((n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)), default=0)


def _free_name(package: str, stem: str) -> str:
    """The module's name: never one that Python or Triton already has."""
    stem = stem.replace(".", "_")
    if package:
        return f"{package}.{stem}"
    taken = stem in sys.stdlib_module_names or stem in sys.modules
    return f"{stem}_" if taken else stem


@contextlib.contextmanager
def _apart_from_ours() -> Iterator[None]:
    """A user's package may be called as ours are: `kernels`, `aot`."""
    ours = {n: m for n, m in sys.modules.items() if n.partition(".")[0] in ("aot", "kernels")}
    for name in ours:
        del sys.modules[name]
    root = str(Path(__file__).resolve().parents[2])
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or ".") != root]
    try:
        yield
    finally:
        sys.modules.update(ours)
        sys.path.append(root)
