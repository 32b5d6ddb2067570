"""Triton's idea of the machine while the user's file is imported: one GPU, the target's, that
launches nothing."""

import contextlib
import functools
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from aot.kernel.stand_ins import StandIn
from aot.targets.common import NoDriver

# Shared memory of a block, multiprocessors of the largest card: for files that size tiles or grids
# by these while they are imported. Unlisted ones are as those of cuda:90.
_CARDS = {
    "75": (65536, 72), "80": (166912, 108), "86": (101376, 84), "89": (101376, 142),
    "90": (232448, 132), "100": (232448, 148), "103": (232448, 160), "120": (101376, 188),
    "gfx90a": (65536, 104), "gfx942": (65536, 304), "gfx950": (163840, 256),
}  # fmt: skip


class _Driver(NoDriver):
    """One GPU; what is not known of it is a stand-in."""

    def __init__(self, target: Any, answers: dict[str, Any]) -> None:
        super().__init__(target)
        self._others = StandIn("triton.runtime.driver.active", answers)
        shared, n_multiprocessors = _CARDS.get(str(target.arch), _CARDS["90"])
        self._properties = {
            "max_shared_mem": shared,
            "max_num_regs": 65536,
            "multiprocessor_count": n_multiprocessors,
            "warpSize": target.warp_size,
            "sm_clock_rate": 1500000,
            "mem_clock_rate": 2500000,
            "mem_bus_width": 5120,
            "arch": str(target.arch),
        }
        self.utils = SimpleNamespace(get_device_properties=lambda device=0: self._properties)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._others, name)

    def get_device_capability(self, device: int | None = None) -> tuple[int, int]:
        return divmod(self.target.arch, 10) if self.target.backend == "cuda" else (9, 4)

    def get_active_torch_device(self) -> Any:
        return SimpleNamespace(type="cuda", index=0)


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
    from triton.runtime import driver

    driver.set_active(_Driver(target, answers))
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
