"""Triton's idea of the machine while the user's file is imported: one GPU, the target's, that
launches nothing."""

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

from aot.kernel.stand_ins import StandIn
from aot.targets.common import set_target


def _launches() -> list[tuple[Any, str]]:
    """What would run on the GPU."""
    import triton.testing
    from triton.runtime.autotuner import Autotuner, Heuristics
    from triton.runtime.jit import JITFunction, KernelInterface

    return [
        *((cls, "run") for cls in (JITFunction, Autotuner, Heuristics)),
        *((cls, "warmup") for cls in (KernelInterface, Autotuner)),
        (triton.testing.Mark, "run"),
        *((triton.testing, name) for name in ("do_bench", "do_bench_cudagraph")),
    ]


@contextlib.contextmanager
def stand_in_gpu(target: Any, answers: dict[str, Any]) -> Iterator[None]:
    """`target`: Triton's GPUTarget. A program that computes with its kernels while it is imported,
    as the tutorials do, gets stand-ins back. Its output goes to stderr: stdout is the command's."""
    import triton
    from triton.backends import backends

    set_target(target)
    nothing = StandIn("the launch of a kernel", answers)
    changed = [(owner, name, lambda *args, **kwargs: nothing) for owner, name in _launches()]
    for backend in backends.values():
        is_active = functools.partial(bool, backend.compiler.supports_target(target))
        changed.append((backend.driver, "is_active", staticmethod(is_active)))
    before = [(owner, name, vars(owner).get(name)) for owner, name, _ in changed]
    interpret = triton.knobs.runtime.interpret
    triton.knobs.runtime.interpret = False  # @triton.jit makes what can be compiled
    for owner, name, value in changed:
        setattr(owner, name, value)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for owner, name, value in before:
            if value is None:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
        triton.knobs.runtime.interpret = interpret
