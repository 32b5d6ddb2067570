"""Requests in, a complete bundle out (docs/formats.md, sections 3 and 4).

python -m aot.compile --requests FILE --target T --out DIR [--jobs N] [--progress json|bar|none]
"""

import argparse
import ctypes
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aot import sources
from aot.cache import ObjectCache, digest, locked, write_atomically
from aot.request import Request, RequestError
from aot.targets import cpu, gpu
from aot.targets.common import CompileError, triton_scratch

SCHEMA = 2
TARGETS = (*cpu.TARGETS, *gpu.TARGETS)


class Target:
    """A target's compiler, opened in a worker only when there is something to compile."""

    def __init__(self, name: str, isa: str | None = None, ttir: str | None = None) -> None:
        if name not in TARGETS:
            raise CompileError(f"no target {name}; there are {', '.join(TARGETS)}")
        self.name = name
        self.family = name.partition(":")[0]
        self.is_cpu = self.family == "cpu"
        if self.is_cpu:
            self._toolchain: Any = cpu.Toolchain(isa, ttir)
            self.isa, self.compiler = self._toolchain.isa, self._toolchain.compiler_id
            self.extension = cpu.EXTENSION
        else:
            self._toolchain = None
            self.isa, self.compiler = None, gpu.compiler_id(name)
            self.extension = gpu.EXTENSIONS[self.family]

    def prepare(self) -> None:
        """What all workers share, made before they start."""
        if self.is_cpu:
            self._toolchain.prepare()

    def compile(self, request: Request, keep: Path | None) -> tuple[dict[str, Any], bytes]:
        """The manifest row and the object of one request."""
        if self._toolchain is None:
            self._toolchain = gpu.Toolchain(self.name)
        module = cpu if self.is_cpu else gpu
        done = module.compile_request(request, self._toolchain, keep)
        sha256 = hashlib.sha256(done.data).hexdigest()
        row = {
            "key": request.key,
            "kernel": request.kernel,
            "symbol": done.symbol,
            "object": f"objects/{sha256}.{self.extension}",
            "object_sha256": sha256,
            "source_sha256": sources.source_sha256(request.kernel),
            **_generated_source(request.kernel),
            **({"isa": self.isa} if self.is_cpu else {}),
            "args": done.args,
            "grid": list(sources.load_spec(request.kernel).grid),
            "num_warps": request.num_warps,
            "n_threads": done.n_threads,
            "shared_bytes": 0,
            "arena_bytes": 0,
            "global_scratch_bytes": 0,
            "registers": None,
            "spills": None,
            **done.facts,
        }
        return row, done.data


def _generated_source(kernel: str) -> dict[str, str]:
    return {"source": f"generated/{kernel}.py"} if sources.is_generated(kernel) else {}


class Progress:
    """On stdout for a program that listens (json), on stderr for a person (bar)."""

    def __init__(self, kind: str, total: int) -> None:
        if kind == "bar" and not sys.stderr.isatty():
            kind = "none"
        self.kind, self.total, self.started = kind, total, time.monotonic()

    def show(self, done: int, kernel: str) -> None:
        if self.kind == "json":
            print(json.dumps({"done": done, "total": self.total, "kernel": kernel}), flush=True)
        elif self.kind == "bar":
            width = 30
            filled = width * done // max(self.total, 1)
            seconds = time.monotonic() - self.started
            text = f"[{'#' * filled}{' ' * (width - filled)}] {done}/{self.total} {seconds:.0f} s"
            print(f"\r{text} {kernel:<24}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.kind == "bar":
            print(file=sys.stderr)


def read_requests(lines: Iterable[str]) -> list[Request]:
    """In order, each once."""
    requests = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                request = Request.parse(line)
            except RequestError as error:
                raise RequestError(f"line {number}: {error}") from error
            requests[request.key] = request
    return list(requests.values())


# A worker's state: set before it is forked, so that Triton is imported once for all.
_worker: tuple[Target, ObjectCache, Path | None] | None = None


def _work(job: tuple[str, Request, bool]) -> tuple[str, dict[str, Any] | None, str | None]:
    """A name and its row, or why there is none; neither where another process is at it and `wait`
    is not asked for."""
    name, request, wait = job
    target, cache, keep = _worker
    try:
        if keep:
            row, data = target.compile(request, keep / f"{request.kernel}-{name[:12]}")
            cache.put(name, row, data)
            return name, row, None
        with locked(name, wait=wait) as is_ours:
            found = cache.get(name)  # another process may have made it meanwhile
            if found is not None:
                return name, found[0], None
            if not is_ours:
                return name, None, None
            row, data = target.compile(request, None)
            cache.put(name, row, data)
            return name, row, None
    except (CompileError, RequestError) as error:
        return name, None, str(error)
    except Exception:  # the compiler's own: its last lines say more than its type
        return name, None, traceback.format_exc()[-6000:]


def _start_worker() -> None:
    # The parent ends its workers; a traceback from each would hide its message.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG: a parent that is killed leaves no worker waiting for it.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _terminate(*_: Any) -> None:
    raise KeyboardInterrupt


def compile_all(
    requests: list[Request],
    target: Target,
    *,
    jobs: int = 0,
    progress: str = "none",
    keep: Path | None = None,
    cache: ObjectCache | None = None,
) -> tuple[list[dict[str, Any]], list[tuple[Request, str]]]:
    """Manifest rows in the order of the requests, and what failed with its reason."""
    global _worker
    cache = cache or ObjectCache(target.extension)
    names = [digest(request, target.name, target.compiler, target.isa) for request in requests]
    rows: dict[str, dict[str, Any]] = {}
    pending = []
    for name in names:
        found = None if keep else cache.get(name)
        if found:
            rows[name] = found[0]
        else:
            pending.append(name)
    shown = Progress(progress, len(requests))
    shown.show(len(rows), "")
    failures = []
    by_name = dict(zip(names, requests))
    if pending:
        target.prepare()
        import triton  # noqa: F401  once, here: forked workers share it

        n_jobs = min(jobs or len(os.sched_getaffinity(0)), len(pending))
        _worker = (target, cache, keep)
        context = multiprocessing.get_context("fork")
        with triton_scratch(), context.Pool(n_jobs, initializer=_start_worker) as pool:
            # What other processes are at comes last: by then most of it is done.
            for wait in (False, True):
                work = [(name, by_name[name], wait) for name in pending]
                pending = []
                for name, row, error in pool.imap_unordered(_work, work):
                    if row is not None:
                        rows[name] = row
                    elif error is not None:
                        failures.append((by_name[name], error))
                    else:
                        pending.append(name)
                        continue
                    shown.show(len(rows) + len(failures), by_name[name].kernel)
    shown.end()
    return [rows[name] for name in names if name in rows], failures


def _place(row: dict[str, Any]) -> tuple[str, str]:
    """What a bundle has once: a request at a level of instruction set."""
    return row["key"], row.get("isa", "")


def _kept_rows(
    manifest: Path, head: dict[str, Any], new: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Rows of an earlier run into the same folder that still hold."""
    try:
        old = json.loads(manifest.read_text())
        if {key: old.get(key) for key in head} != head:
            return []
        return [
            row
            for row in old["variants"]
            if _place(row) not in new
            and sources.exists(row["kernel"])
            and row["source_sha256"] == sources.source_sha256(row["kernel"])
            and (manifest.parent / row["object"]).is_file()
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write_bundle(out: Path, target: Target, rows: list[dict[str, Any]], cache: ObjectCache,
                 names: dict[str, str]) -> None:  # fmt: skip
    """Objects first, the manifest last: a manifest in place is complete."""
    head = {
        "schema": SCHEMA,
        "target": target.name,
        "triton": sources.TRITON_VERSION,
        "compiler": target.compiler,
    }
    for row in rows:
        path = out / row["object"]
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == row["object_sha256"]:
            continue
        found = cache.get(names[row["key"]])
        if found is None:
            raise CompileError(f"the object of {row['kernel']} vanished from {cache.folder}")
        write_atomically(path, found[1])
    manifest = out / "manifest.json"
    kept = _kept_rows(manifest, head, {_place(row) for row in rows})
    rows = [row | {"programmatic_launch": is_programmatic(row["key"])} for row in rows]
    variants = sorted([*rows, *kept], key=_place)
    write_atomically(
        manifest, (json.dumps({**head, "variants": variants}, indent=1) + "\n").encode()
    )


def is_programmatic(key: str) -> bool:
    """Whether a kernel waits itself for the one before it: its constexpr PDL says so."""
    return Request.parse(key).constexprs.get("PDL", 0) != 0


def bundle(requests: list[Request], target: Target, out: Path, **options: Any) -> int:
    """Makes the bundle; the number of requests that failed. Nothing is written if any did."""
    cache = ObjectCache(target.extension)
    rows, failures = compile_all(requests, target, cache=cache, **options)
    for request, error in failures:
        print(f"error: {request.kernel} for {target.name}: {error}", file=sys.stderr)
        print(f"  request: {request.key}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {len(requests)} kernels did not compile", file=sys.stderr)
        return len(failures)
    names = {r.key: digest(r, target.name, target.compiler, target.isa) for r in requests}
    write_bundle(out, target, rows, cache, names)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="aot.compile", description="Compiles kernel requests into a bundle."
    )
    parser.add_argument("--requests", type=Path, required=True, help="one JSON request a line")
    parser.add_argument("--target", required=True, choices=TARGETS)
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--jobs", type=int, default=0, help="processes; default: one a core")
    parser.add_argument("--progress", choices=("json", "bar", "none"), default="bar")
    parser.add_argument(
        "--isa",
        type=lambda text: text.split(","),
        default=[None],
        help="cpu: x86-64-v3, x86-64-v4, aarch64; several with commas; default: this machine's",
    )
    parser.add_argument("--ttir", help="cpu: the nereid-ttir program; default: NEREID_TTIR")
    parser.add_argument(
        "--keep", type=Path, help="compile all anew and leave every stage's text here"
    )
    parser.add_argument(
        "--generated", type=Path, help="sources that are not in kernels/; default: OUT/generated"
    )
    parser.add_argument(
        "--spec", type=Path, action="append", default=[], help="a user's file that requests name"
    )
    args = parser.parse_args()
    sources.use_generated(args.generated or args.out / "generated")
    for path in args.spec:
        sources.use_own(path)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        requests = read_requests(args.requests.read_text().splitlines())
        options = {"jobs": args.jobs, "progress": args.progress, "keep": args.keep}
        n_failed = 0
        for isa in args.isa:  # each adds its rows to what the folder holds
            target = Target(args.target, isa, args.ttir)
            n_failed += bundle(requests, target, args.out, **options)
        return 1 if n_failed else 0
    except (CompileError, RequestError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
