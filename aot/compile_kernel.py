"""Any Triton kernel, ahead of time, for any C or C++ program: an object, a header to launch it, a
manifest and the texts of every stage (docs/compile_kernel.md).

python -m aot.compile_kernel FILE.py:FUNCTION --signature "*fp16,*fp16,i32,constexpr=128" \
    --target cpu|cuda:80|cuda:90|hip:gfx942 --out DIR [--num-warps N] [--num-stages N]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from aot.kernel import stand_ins
from aot.kernel.build import Built, Job, build
from aot.kernel.choose import complete, decorated, described, pick_config
from aot.kernel.header_set import write_set
from aot.kernel.load import Program, load
from aot.kernel.signature import bind
from aot.kernel.variants import Set, read_rows
from aot.targets import gpu
from aot.targets.common import CompileError

# What a kernel has where neither the command nor its config says.
_DEFAULTS = {"num_warps": 4, "num_stages": 3}


def run(options: argparse.Namespace) -> None:
    file, colon, function = options.kernel.rpartition(":")
    if not colon or not file:
        raise CompileError(f"{options.kernel!r}: expected FILE.py:FUNCTION")
    gpu_target = gpu.parse_target("cuda:90" if options.target == "cpu" else options.target)
    if options.target == "cpu" and options.num_ctas:
        raise CompileError("--num-ctas is of NVIDIA GPUs; target cpu has none")
    rows = read_rows(options.variants) if options.variants else None
    program = load(Path(file), function, gpu_target)
    kernel = decorated(program.find(function))
    for note in program.notes:
        print(note, file=sys.stderr)
    stand_ins.take_asked()
    where = f"{Path(file).name}:{function}"
    name = options.name or function.rpartition(".")[2]
    if rows is not None:
        jobs = []
        for i, row in enumerate(rows):
            how = (row.signature, row.config, row.options)
            try:
                jobs.append(_job(options, program, kernel, where, f"{name}_{i}", *how))
            except CompileError as error:
                raise CompileError(f"{options.variants}: variant {i}: {error}") from error
        variants = Set([job.parameters for job in jobs], rows, options.target)
        built = [_built(job) for job in jobs]
        files = [file for b in built for file in b.files] + write_set(name, variants, built)
    elif options.all_configs:
        if not kernel.configs:
            raise CompileError(f"--all-configs: {where} has no @triton.autotune")
        files = []
        for i, config in enumerate(kernel.configs):
            job = _job(options, program, kernel, where, f"{name}_{i}", options.signature, str(i))
            print(f"{name}_{i}: {described(config)}", file=sys.stderr)
            files += _built(job).files
    else:
        job = _job(options, program, kernel, where, name, options.signature, options.config)
        files = _built(job).files
    asked = stand_ins.take_asked()
    if asked:
        print(f"note: {where} branches on {', '.join(asked)}, of a package that is not here: taken"
              " as false", file=sys.stderr)  # fmt: skip
    for path in files:
        print(path)


def _job(options, program: Program, kernel: Any, where: str, name: str, signature: str,
         config_text: str | None, row_options: dict[str, int] | None = None) -> Job:  # fmt: skip
    given = bind(signature, kernel.parameters, program.find)
    config = pick_config(kernel, given, config_text, where)
    parameters = complete(kernel, given, config, where)
    return Job(
        fn=kernel.fn,
        parameters=parameters,
        name=name,
        source=where,
        signature=signature,
        target=options.target,
        out=options.out,
        options=_compiler_options(options, config, kernel, row_options or {}),
        debug=options.debug,
        isa=options.isa,
        ttir=options.ttir,
    )


def _compiler_options(options, config: Any, kernel: Any, row: dict[str, int]) -> dict[str, Any]:
    """The command's word counts most, then a variant's, then the config's."""
    said = {
        "num_warps": options.num_warps,
        "num_stages": options.num_stages,
        "num_ctas": options.num_ctas,
        "maxnreg": options.maxnreg,
        "launch_pdl": options.launch_pdl or None,
    }
    said = {name: value for name, value in said.items() if value is not None}
    names = {p.name for p in kernel.parameters}
    of_config = {n: v for n, v in (config.all_kwargs() if config else {}).items() if n not in names}
    if options.target != "cpu":
        gpu.check_options(options.target, {**of_config, **row, **said})
    return {**_DEFAULTS, **of_config, **row, **said}


def _built(job: Job) -> Built:
    built = build(job)
    facts = built.manifest
    if job.target != "cpu":
        print(
            f"{facts['object']}: {facts['n_threads']} threads, {facts['registers']} registers a"
            f" thread, {facts['spills']} bytes of spills, {facts['shared_bytes']} bytes of shared"
            " memory",
            file=sys.stderr,
        )
    return built


def _count(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of 1 or more")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="nereid compile-kernel",
        description="Compiles one Triton kernel ahead of time.",
        usage="%(prog)s FILE.py:FUNCTION --signature KINDS --target NAME --out DIR [options]",
    )
    parser.add_argument("kernel", metavar="FILE.py:FUNCTION")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--signature", help="a kind for each parameter, in order or by name")
    what.add_argument("--variants", type=Path, help="a file of signatures: a set with one launch")
    parser.add_argument("--target", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--name", help="of the files, the C names and the symbol; default: FUNCTION"
    )
    parser.add_argument("--config", help="of @triton.autotune: its number, or 'BLOCK=64,...'")
    parser.add_argument(
        "--all-configs", action="store_true", help="an object for each: NAME_0, ..."
    )
    parser.add_argument("--num-warps", type=_count)
    parser.add_argument("--num-stages", type=_count)
    parser.add_argument("--num-ctas", type=_count, help="cuda:90 and newer: blocks of a cluster")
    parser.add_argument("--maxnreg", type=_count, help="cuda: the most registers of a thread")
    parser.add_argument("--launch-pdl", action="store_true", help="cuda: programmatic launch")
    parser.add_argument("--debug", action="store_true", help="keep tl.device_assert")
    parser.add_argument("--isa", help="cpu: x86-64-v3, x86-64-v4 or aarch64")
    parser.add_argument("--ttir", help="cpu: the nereid-ttir program; default: NEREID_TTIR")
    options = parser.parse_args()
    if options.all_configs and (options.config or options.variants):
        parser.error("--all-configs excludes --config and --variants")
    try:
        run(options)
    except (CompileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
