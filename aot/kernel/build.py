"""A kernel, with a kind for each parameter, to its files: object, texts, header, manifest."""

import functools
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aot import sources
from aot.cache import write_atomically
from aot.kernel import c_names, header, refusal
from aot.kernel.constants import text_of
from aot.kernel.layout import Layout, layout
from aot.kernel.signature import Constant, Kind, Plain, leaves, triton_type
from aot.targets import cpu, gpu, triton_ir
from aot.targets.common import CompileError, triton_scratch

SCHEMA = 1


@dataclass(frozen=True)
class Job:
    """What is asked of one object."""

    fn: Any
    parameters: list[tuple[str, Kind]]
    name: str  # of the files, the C names and the symbol
    source: str  # FILE.py:FUNCTION, for people
    signature: str  # as given
    target: str
    out: Path
    options: dict[str, Any] = field(default_factory=dict)  # num_warps, num_stages, ...
    debug: bool = False
    isa: str | None = None
    ttir: str | None = None


@dataclass(frozen=True)
class Built:
    job: Job
    manifest: dict[str, Any]
    layout: Layout
    files: list[Path]


def build(job: Job) -> Built:
    if not re.fullmatch(r"\w[\w.-]*", job.name):
        raise CompileError(f"--name {job.name!r}: expected letters, digits and _ . -")
    job.out.mkdir(parents=True, exist_ok=True)
    job.fn._repr = lambda _: c_names.symbol(job.name)  # what Triton calls the function
    if job.target == "cpu":
        facts, files = _compile_cpu(job)
    else:
        with triton_scratch():
            facts, files = _compile_gpu(job)
    made = layout(job.parameters, job.target, has_maps=bool(facts.get("tensor_maps")))
    extension = next(e for e in ("so", *gpu.EXTENSIONS.values()) if e in files)
    manifest = {
        "schema": SCHEMA,
        "abi": header.ABI,
        "kernel": job.name,
        "source": job.source,
        "signature": job.signature,
        "target": job.target,
        "triton": sources.TRITON_VERSION,
        "args": [argument.in_manifest for argument in made.arguments],
        "constexprs": {n: text_of(k.value) for n, k in job.parameters if isinstance(k, Constant)},
        "object": f"{job.name}.{extension}",
        "object_sha256": hashlib.sha256(files[extension]).hexdigest(),
        **facts,
    }
    files["h"] = header.text(manifest, made).encode()
    files["json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    for kind, data in files.items():
        write_atomically(job.out / f"{job.name}.{kind}", data)
    return Built(job, manifest, made, [job.out / f"{job.name}.{kind}" for kind in sorted(files)])


def _source(job: Job) -> Any:
    from triton.compiler import ASTSource

    found = [leaf for i, (_, kind) in enumerate(job.parameters) for leaf in leaves(kind, (i,))]
    return ASTSource(
        fn=job.fn,
        signature={name: triton_type(kind) for name, kind in job.parameters},
        constexprs={path: kind.value for path, kind in found if isinstance(kind, Constant)},
        attrs={
            path: [["tt.divisibility", 16]]
            for path, kind in found
            if isinstance(kind, Plain) and kind.divisible
        },
    )


@functools.cache
def _cpu_toolchain(isa: str | None, ttir: str | None) -> cpu.Toolchain:
    toolchain = cpu.Toolchain(isa, ttir)
    toolchain.prepare()
    return toolchain


def _compile_cpu(job: Job) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(what the manifest says, files by extension)."""
    toolchain = _cpu_toolchain(job.isa, job.ttir)
    text = _lowered(job, lambda: triton_ir.source_text(_source(job), debug=job.debug))
    files = {"ttir": text.encode()}
    kept = job.out / f"{job.name}.ttir"
    write_atomically(kept, files["ttir"])  # stays where the next step refuses
    for kind in ("o", "so"):
        try:
            files[kind], meta = cpu.compile_text(job.name, text, toolchain, job.out, kind)
        except CompileError as error:
            raise refusal.of_ttir(error, job.name, job.fn.file_name, kept) from error
    files["cc"] = (job.out / f"{job.name}.cc").read_bytes()
    facts = {
        "isa": toolchain.isa,
        "compiler": toolchain.compiler_id,
        "symbol": meta["symbol"],
        "n_threads": 1,
        "arena_bytes": int(meta["arena_bytes"]),
    }
    return facts, files


def _compile_gpu(job: Job) -> tuple[dict[str, Any], dict[str, bytes]]:
    import triton

    toolchain = gpu.Toolchain(job.target)
    options = {
        **job.options,
        "enable_fp_fusion": True,
        "debug": job.debug,
        "sanitize_overflow": False,
    }
    done = _lowered(
        job,
        lambda: triton.compile(_source(job), target=toolchain.target, options=options),
        os.environ["TRITON_CACHE_DIR"],
    )
    meta, extension = done.metadata, gpu.EXTENSIONS[toolchain.family]
    facts = {
        "compiler": gpu.compiler_id(job.target),
        "symbol": meta.name,
        **gpu.object_facts(done, toolchain),
        "num_stages": job.options["num_stages"],
        "num_ctas": int(getattr(meta, "num_ctas", 1)),
        "programmatic_launch": bool(getattr(meta, "launch_pdl", False)),
        "n_threads": int(meta.num_warps) * toolchain.target.warp_size,
        "tensor_maps": _tensor_maps(job, getattr(meta, "tensordesc_meta", None) or []),
    }
    texts = {stage: text.encode() for stage, text in done.asm.items() if isinstance(text, str)}
    texts.pop("source", None)
    return facts, {**texts, extension: bytes(done.asm[extension])}


def _tensor_maps(job: Job, made: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By name, as docs/formats.md has them; none where Triton took the descriptors apart."""
    if not made:
        return {}
    if job.target.startswith("hip"):
        raise CompileError(f"{job.source}: a descriptor as an argument on {job.target}; make it in"
                           " the kernel with tl.make_tensor_descriptor")  # fmt: skip
    as_maps = layout(job.parameters, job.target, has_maps=True)
    maps = [argument.name for argument in as_maps.arguments if argument.type == "tensor_map"]
    described = zip(maps, as_maps.descriptors.values(), made, strict=True)
    return {
        name: {
            "element": descriptor.element,
            "element_code": int(row["elem_type"]),
            "element_bytes": int(row["elem_size"]),
            "swizzle_bytes": {0: 0, 1: 32, 2: 64, 3: 128}[int(row["swizzle"])],
            "box": [int(size) for size in row["block_size"]],
            "fp4_padded": bool(row["fp4_padded"]),
        }
        for name, descriptor, row in described
    }


def _lowered(job: Job, lower: Callable[[], Any], scratch: str | None = None) -> Any:
    """Triton's part. What it raises is of the user's kernel, whatever its type; the IR that it
    left in its own cache, `scratch`, stays."""
    try:
        return lower()
    except CompileError:
        raise
    except Exception as error:
        told = str(refusal.of_triton(error, job.source))
        for path in Path(scratch).rglob("*.tt*ir") if scratch else ():
            kept = job.out / f"{job.name}{path.suffix}"
            shutil.copy(path, kept)
            told += f"\n  its Triton IR: {kept}"
        raise CompileError(told) from error
