"""Chance, as the Specs' `draw` functions use it: each takes a `Draw` and gives a case.

A case is a function of (kernel, seed, number). What decides the compiled code (element types,
flags, the power of two above a width, whether 16 divides it) is drawn from `variant`, which every
N_VARIANTS-th case of a seed shares; sizes that steps set, contents and places come from `case`. So
a hundred cases cost some dozen compilations. No kernel imports this file: a change of it makes no
object stale.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.expr import next_pow2
from kernels.spec import FLOATS

N_VARIANTS = 12
MOST_ELEMENTS = 16384  # of an operand, about
# What a float's range leaves for magnitudes of operands, sums and squares of them included.
LARGEST = {"fp16": 2.0**5, "bf16": 2.0**40, "fp32": 2.0**40}


class Choices:
    """One stream of chance."""

    def __init__(self, *key: int | str) -> None:
        numbers = [n for part in key for n in (part.encode() if isinstance(part, str) else (part,))]
        self.rng = np.random.default_rng(numbers)

    def of(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: int, high: int) -> int:
        """Both ends included."""
        return int(self.rng.integers(low, high + 1))

    def end(self, options: Sequence[int]) -> int:
        """The first or the last of a range, or any."""
        return int(options[self.of(0, -1, self.between(0, len(options) - 1))])

    def near(self, tile: int, most: int, least: int = 0) -> int:
        """A size at or beside a multiple of `tile`, or any, from least to most."""
        size = self.between(0, max(most // tile, 1)) * tile + self.of(-1, 0, 1)
        if self.chance(0.3):
            size = self.between(least, most)
        return min(max(size, least), most)


class Draw:
    def __init__(self, kernel: str, seed: int, number: int) -> None:
        self.name = f"random_{seed}_{number}"
        self._kernel, self._seed, self._number = kernel, seed, number
        self.variant = Choices("variant", kernel, seed, number % N_VARIANTS)
        self.case = Choices("case", kernel, seed, number)

    def turn(self, *options: Any) -> Any:
        """Each of at most N_VARIANTS options once in as many cases; the variant's."""
        order = Choices("turn", self._kernel, self._seed).rng.permutation(len(options))
        return options[order[self._number % N_VARIANTS % len(options)]]

    def types(self, act: str) -> str:
        """An element type: that of the target's activations more often than the others."""
        return self.variant.of(act, act, *FLOATS)

    def width(self, least: int, most: int, step: int = 1) -> int:
        """A size known when planning. Of it the compiled code knows the next power of two and
        whether 16 divides it."""
        top = self.variant.of(*powers_of_two(least, most))
        is_whole = self.variant.chance(0.5)
        sizes = range(max(least, top // 2 + 1), min(most, top) + 1)
        fit = [n for n in sizes if n % step == 0]
        return self.case.end([n for n in fit if (n % 16 == 0) == is_whole] or fit)

    def gap(self, width: int, n_rows: int) -> int:
        """What lies between a row's end and the next row: nothing, much (as far as so many rows
        are no large buffer), or an odd number. Whether 16 divides the stride is the variant's."""
        kind = self.variant.of("none", "long", "odd", "aligned")
        if kind == "none":
            return 0
        if kind == "long":
            lengths = [n for n in (16, 80, 1024, 4112) if n * n_rows <= MOST_ELEMENTS]
            return self.case.of(*lengths or (16,))
        offsets = range(1, 33)
        return self.case.of(*(n for n in offsets if ((width + n) % 16 == 0) == (kind == "aligned")))

    def rows(self, most: int, tile: int = 1) -> int:
        """A size that steps set: now and then 0."""
        return 0 if self.case.chance(0.06) else self.case.near(tile, most, least=1)

    def scale(self, *dtypes: str) -> float:
        """How large the elements of an operand are, as far as the types carry it."""
        most = min(LARGEST[dtype] for dtype in dtypes)
        return self.case.of(1.0, 1.0, 1.0, 2.0**-10, 2.0**-30, min(1000.0, most), most)

    def season(self, values: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """Some rows, in place, become what random numbers never are: zeros, all the same, one far
        out of line, or so small that squares vanish."""
        rows = values.reshape(-1, values.shape[-1])
        for kind in ("zero", "same", "spike", "denormal"):
            if len(rows) and self.case.chance(0.25):
                row = rows[self.case.between(0, len(rows) - 1)]
                if kind == "zero":
                    row[:] = 0.0
                elif kind == "same":
                    row[:] = scale
                elif kind == "spike":
                    row[self.case.between(0, len(row) - 1)] = 20.0 * scale
                else:
                    row *= np.float32(2.0**-100)
        return values


def powers_of_two(least: int, most: int) -> list[int]:
    powers = [next_pow2(least)]
    while powers[-1] < most:
        powers.append(2 * powers[-1])
    return powers


def draw(spec: Any, act: str, seed: int, number: int) -> Any:
    """The case `number` of a seed."""
    return spec.draw(Draw(spec.name, seed, number), act)
