"""CPU: Triton IR text; C++ by our own compiler (`nereid-ttir`); an object by the system's compiler.

An object is for one level of instruction set: `isa`.
"""

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from aot import sources
from aot.cache import locked
from aot.request import Request
from aot.targets import common
from aot.targets.triton_ir import source_text

EXTENSION = "so"
TARGETS = ("cpu",)


def default_isa() -> str:
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return "aarch64"
    if machine not in ("x86_64", "amd64"):
        raise common.CompileError(
            f"the CPU target is for x86-64 and Arm; this machine is {machine}"
        )
    flags = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = line
            break
    v3 = {"avx2", "bmi2", "f16c", "fma"}
    v4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
    if v4 <= set(flags.split()):
        return "x86-64-v4"
    if v3 <= set(flags.split()):
        return "x86-64-v3"
    raise common.CompileError("the CPU target needs AVX2 (x86-64-v3); this processor lacks it")


def ttir_text(request: Request) -> tuple[object, str]:
    """(spec, the kernel as Triton IR)."""
    spec, source = common.source(request)
    if spec.form(request.constexprs) is not None:
        raise common.CompileError(f"{request.kernel}: this form of it is for GPUs")
    return spec, source_text(source)


# Why each: emitted code means IEEE infinities and NaN (never -ffast-math); Highway 1.0.3 drops to
# SSSE3 under -march=x86-64-v3 or -v4 unless told that AES and CLMUL are not wanted.
_FLAGS = (
    "-std=c++20", "-O3", "-DHWY_COMPILE_ONLY_STATIC", "-DHWY_DISABLE_PCLMUL_AES",
    "-ffp-contract=fast", "-fno-math-errno", "-fwrapv", "-fno-strict-aliasing", "-fno-exceptions",
    "-fno-rtti", "-fvisibility=hidden", "-fPIC",
)  # fmt: skip
# Highway's functions for Arm are compiled with cryptography; ours must be, to be inlined with them.
_MARCH = {"aarch64": "armv8.2-a+fp16+crypto"}


def _compiler_for(isa: str) -> str:
    """This machine's compiler, or Debian's cross compiler where the level is of another machine."""
    family = "aarch64" if isa == "aarch64" else "x86_64"
    if platform.machine().lower().replace("arm64", "aarch64").replace("amd64", "x86_64") == family:
        return shutil.which("c++") or "g++"
    cross = shutil.which(f"{family.replace('_', '-')}-linux-gnu-g++")
    if cross is None:
        package = f"g++-{family.replace('_', '-')}-linux-gnu"
        raise common.CompileError(f"no compiler for {isa} on this machine; install {package}")
    return cross


class Toolchain:
    """The programs behind an object: nereid-ttir, its runtime headers, the C++ compiler."""

    def __init__(self, isa: str | None = None, ttir: str | None = None) -> None:
        self.isa = isa or default_isa()
        self.cxx = os.environ.get("CXX") or _compiler_for(self.isa)
        self.ttir = _find_ttir(ttir)
        self.include = sources.ROOT / "ttir"
        level = [f"-march={_MARCH.get(self.isa, self.isa)}"]
        if self.isa == "x86-64-v4":
            level.append("-mprefer-vector-width=512")
        self.flags = [*_FLAGS, *level]

    @functools.cached_property
    def compiler_id(self) -> str:
        """Changes when anything but the kernel's source and the level would change an object."""
        digest = hashlib.sha256()
        for path in [self.ttir, *sorted((self.include / "runtime").glob("*.h"))]:
            digest.update(path.name.encode() + path.read_bytes())
        version = _run([self.cxx, "--version"], "the C++ compiler").splitlines()[0]
        digest.update("\n".join([version, *_FLAGS]).encode())
        return f"nereid-ttir {digest.hexdigest()[:16]}, {version}"

    def prepare(self) -> None:
        """Makes the precompiled header, once a compiler: it saves most of every kernel's time."""
        if self.pch_dir.is_dir():
            return
        with locked(self.pch_dir.name):
            if not self.pch_dir.is_dir():  # else another process has just made it
                self._make_pch()

    def _make_pch(self) -> None:
        parent = self.pch_dir.parent
        parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=parent, prefix=".partial-"))
        try:
            (partial / "runtime").mkdir()
            header = self.include / "runtime" / "runtime.h"
            made = partial / "runtime" / "runtime.h.gch"
            _run(
                [self.cxx, *self.flags, "-x", "c++-header", str(header), "-o", str(made)],
                "the runtime header",
            )
            try:
                partial.rename(self.pch_dir)
            except OSError:
                if not self.pch_dir.is_dir():  # no locks there, and another was first: as good
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        # 50 MB each: those of earlier compilers go. Who still uses one compiles without it.
        others = [p for p in parent.glob("[0-9a-f]*") if p != self.pch_dir]
        for path in sorted(others, key=lambda p: p.stat().st_mtime)[:-1]:
            shutil.rmtree(path, ignore_errors=True)

    @functools.cached_property
    def pch_dir(self) -> Path:
        tag = hashlib.sha256("\n".join([self.compiler_id, *self.flags]).encode()).hexdigest()[:16]
        return sources.cache_dir() / "pch" / tag


def _find_ttir(path: str | None) -> Path:
    """The option, the environment, then beside an installed share/nereid."""
    beside = sources.ROOT.parent.parent / "bin" / "nereid-ttir"
    for candidate in (path, os.environ.get("NEREID_TTIR"), beside, shutil.which("nereid-ttir")):
        if candidate and Path(candidate).is_file():
            return Path(candidate).resolve()
    raise common.CompileError(
        "nereid-ttir not found: the CPU target needs it; build the project, or name it with"
        " --ttir FILE or NEREID_TTIR"
    )


def _run(command: list[str], what: str, cwd: str | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode != 0:
        raise common.CompileError(f"{what}: {Path(command[0]).name}: {done.stderr.strip()[:4000]}")
    return done.stdout


def compile_request(request: Request, toolchain: Toolchain, keep: Path | None = None):
    """One request to a `Compiled`. `keep`: a folder that receives the text of every stage."""
    common.check_options(request, set())
    spec, text = ttir_text(request)
    data, meta = compile_text(request.kernel, text, toolchain, keep)
    return common.Compiled(
        data=data,
        symbol=meta["symbol"],
        args=common.launch_args(spec, request),
        n_threads=1,
        facts={"arena_bytes": int(meta["arena_bytes"])},
    )


def compile_text(
    name: str, text: str, toolchain: Toolchain, keep: Path | None = None, kind: str = "so"
) -> tuple[bytes, dict]:
    """Triton IR to an object, shared (so) or to be linked (o), and what nereid-ttir says of it."""
    with tempfile.TemporaryDirectory(prefix="nereid-aot-") as folder:
        # Relative names: nothing of this machine's folders ends in the object.
        (Path(folder) / f"{name}.ttir").write_text(text)
        _run(
            [str(toolchain.ttir), f"{name}.ttir", "--source", f"{name}.cc", "--meta", "meta.json"],
            name,
            cwd=folder,
        )
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for part in (f"{name}.ttir", f"{name}.cc"):
                shutil.copy(Path(folder) / part, keep)
        meta = json.loads((Path(folder) / "meta.json").read_text())
        includes = ["-I", str(toolchain.pch_dir), "-I", str(toolchain.include)]
        command = [toolchain.cxx, *toolchain.flags, *includes, f"{name}.cc", "-o", f"{name}.{kind}"]
        link = ["-shared", "-s", "-Wl,--build-id=none"] if kind == "so" else ["-c"]
        _run([*command, *link], name, cwd=folder)
        return (Path(folder) / f"{name}.{kind}").read_bytes(), meta
