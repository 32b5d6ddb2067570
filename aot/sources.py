"""Where the kernels lie and what an object is made from.

Works on files only: a request answered from the cache never waits for Triton to be imported.
"""

import ast
import dataclasses
import functools
import hashlib
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the repository, or share/nereid of an installation
TRITON_VERSION = "3.9.0"


def kernels_dir() -> Path:
    return ROOT / "kernels"


# Of the bundle in work: sources that the engine wrote, and users' own, beside those of kernels/.
_generated_dir: Path | None = None
# Users' own that are in no bundle yet, by the name that requests give them.
_own_files: dict[str, Path] = {}


def use_generated(folder: Path | None) -> None:
    global _generated_dir
    _generated_dir = None if folder is None else folder.resolve()


def own_name(path: Path) -> str:
    """What requests call a user's file: its name, and digits of a hash of its text. The engine's
    rule too (src/kernel/own_op.h)."""
    stem = re.sub(r"[^0-9A-Za-z]", "_", path.stem)
    return f"{stem}_{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def use_own(path: Path, name: str = "") -> str:
    """Takes a user's file as it lies; the name that it goes by."""
    name = name or own_name(path)
    _own_files[name] = path.resolve()
    return name


def function_path(name: str) -> Path:
    """A user's file of functions, under the name that requests give it: with a hash of its text."""
    if _generated_dir is None:
        return Path("generated", "functions", f"{name}.py")
    return _generated_dir / "functions" / f"{name}.py"


def generated_names() -> tuple[str, ...]:
    lying = () if _generated_dir is None else _generated_dir.glob("*.py")
    return tuple(sorted({*_own_files, *(path.stem for path in lying)}))


def is_generated(name: str) -> bool:
    return name not in kernel_names() and name in generated_names()


def exists(name: str) -> bool:
    return name in kernel_names() or is_generated(name)


def kernel_path(name: str) -> Path:
    if name in _own_files:
        return _own_files[name]
    return _generated_dir / f"{name}.py" if is_generated(name) else _kernel_paths()[name]


@functools.cache
def _kernel_paths() -> dict[str, Path]:
    """The files of kernels/ and its folders that define a SPEC, by their kernel."""
    paths = [*kernels_dir().glob("*.py"), *kernels_dir().glob("*/*.py")]
    found = [path for path in paths if re.search(r"^SPEC = ", path.read_text(), re.M)]
    return {path.stem: path for path in sorted(found, key=lambda path: path.stem)}


def kernel_names() -> tuple[str, ...]:
    return tuple(_kernel_paths())


def _imports(path: Path) -> set[Path]:
    """The kernel sources that a kernel source imports: kernels/lib/*.py and the like."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kernels"):
            base = ROOT / node.module.replace(".", "/")
            if base.with_suffix(".py").is_file():
                found.add(base.with_suffix(".py"))
            found.update(
                base / f"{alias.name}.py"
                for alias in node.names
                if (base / f"{alias.name}.py").is_file()
            )
    return found


def kernel_sources(name: str) -> set[Path]:
    """The kernel's file and all that it imports from here."""
    seen: set[Path] = set()
    pending = [kernel_path(name)]
    while pending:
        path = pending.pop()
        if path not in seen:
            seen.add(path)
            pending.extend(_imports(path))
    return seen


@functools.cache
def _file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def source_sha256(name: str) -> str:
    """Of all that an object is made from: kernel, helpers, the driver's lowering, the operators of
    expressions."""
    targets = sorted((ROOT / "aot" / "targets").glob("*.py"))
    targets += sorted((ROOT / "src" / "graph" / "expression").glob("*.def"))
    files = {}
    for path in [*kernel_sources(name), *targets]:
        is_kernels = path != kernel_path(name) or not is_generated(name)
        files[str(path.relative_to(ROOT)) if is_kernels else f"generated/{name}.py"] = path
    digest = hashlib.sha256(f"triton {TRITON_VERSION}\n".encode())
    for where, path in sorted(files.items()):  # wherever the tree and the user's file lie
        digest.update(f"{where} {_file_sha256(path)}\n".encode())
    return digest.hexdigest()


def cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "nereid"


def load_spec(name: str):
    """Imports the kernel (and Triton with it)."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    import importlib.util

    if not is_generated(name):
        path = kernel_path(name).relative_to(ROOT).with_suffix("")
        return importlib.import_module(".".join(path.parts)).SPEC
    module_name = f"generated.{name}"
    if module_name not in sys.modules:
        found = importlib.util.spec_from_file_location(module_name, kernel_path(name))
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        sys.modules[module_name] = module
    spec = sys.modules[module_name].SPEC
    return spec if spec.name == name else dataclasses.replace(spec, file=name)
