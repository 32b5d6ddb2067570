"""The two ways in which ttir/runtime/dot_int8.h multiplies int8, against numpy: which of them a
program takes, its processor decides.
"""

import ctypes
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from aot.targets import cpu  # noqa: E402

WIDTHS = (16, 48, 64, 128)
SOURCE = """
#include "runtime/runtime.h"
namespace rt = nereid::rt;
#define EXPORT extern "C" __attribute__((visibility("default")))
#define PARAMETERS                                                                  \\
  const std::int8_t *a, std::int64_t lda, const std::int32_t *b, std::int32_t *c,  \\
      std::int64_t m, std::int64_t n, std::int64_t n_quads
#define WAY(name, how, width)                                                      \\
  EXPORT void name##_set_##width(PARAMETERS) {                                     \\
    rt::dot_quads_by<rt::how, width>(a, lda, b, c, m, n, n_quads, rt::Set());       \\
  }                                                                                \\
  EXPORT void name##_add_##width(PARAMETERS) {                                     \\
    rt::dot_quads_by<rt::how, width>(a, lda, b, c, m, n, n_quads, rt::Add());       \\
  }
#define WIDTHS(name, how) \\
  WAY(name, how, 16) WAY(name, how, 48) WAY(name, how, 64) WAY(name, how, 128)
#define QUADS(name, how)                                                                   \\
  EXPORT void name##_quads(std::int32_t* sums, const std::int32_t* a, const std::int32_t* b) { \\
    rt::store(sums, rt::add_quads<rt::how>(rt::load(sums), rt::load(a), rt::load(b)),          \\
              rt::All());                                                                      \\
  }
WIDTHS(pairs, Pairs)
QUADS(pairs, Pairs)
#if RT_HAS_VNNI
WIDTHS(vnni, Vnni)
QUADS(vnni, Vnni)
EXPORT int has_vnni() { return rt::Vnni::is_there(); }
#else
EXPORT int has_vnni() { return 0; }
#endif
"""


def levels():
    best = cpu.default_isa()
    return ("x86-64-v3", best) if best == "x86-64-v4" else (best,)


def library(level, folder):
    toolchain = cpu.Toolchain(level)
    (folder / "dot.cc").write_text(SOURCE)
    made = folder / f"{level}.so"
    command = [toolchain.cxx, *toolchain.flags, "-I", str(toolchain.include), "dot.cc", "-shared"]
    subprocess.run([*command, "-o", str(made)], cwd=folder, check=True)
    return ctypes.CDLL(str(made))


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


class DotInt8(unittest.TestCase):
    def check(self, run, width, is_sum, rng):
        m, n_quads = int(rng.integers(0, 20)), int(rng.integers(0, 40))
        n = int(rng.integers(1, width + 1))
        lda = 4 * n_quads + int(rng.integers(0, 9))
        a = rng.integers(-128, 128, (m, lda)).astype(np.int8)
        b = rng.integers(-128, 128, (4 * n_quads, width)).astype(np.int8)
        if rng.random() < 0.3:  # what saturates where pairs are added in 16 bits
            a[:] = b[:] = -128
        before = rng.integers(-(2**31), 2**31, (m, width)).astype(np.int32)
        panel = np.ascontiguousarray(b.reshape(n_quads, 4, width).transpose(0, 2, 1))
        got = before.copy()
        run(pointer(a), ctypes.c_int64(lda), pointer(panel), pointer(got), ctypes.c_int64(m),
            ctypes.c_int64(n), ctypes.c_int64(n_quads))  # fmt: skip
        want = a[:, : 4 * n_quads].astype(np.int32) @ b.astype(np.int32)
        want = before + want if is_sum else want
        # Whole vectors of columns are computed, and nothing beyond them.
        n_vectors = -(-n // 16) * 16
        want[:, n_vectors:] = before[:, n_vectors:]
        np.testing.assert_array_equal(got, want)

    def check_quads(self, run, rng):
        a = rng.integers(0, 256, 64).astype(np.uint8)
        b = rng.integers(-128, 128, 64).astype(np.int8)
        if rng.random() < 0.3:  # what saturates where pairs are added in 16 bits
            a[:], b[:] = 255, -128
        sums = rng.integers(-(2**31), 2**31, 16).astype(np.int32)
        products = a.astype(np.int32) * b
        want = sums + products.reshape(16, 4).sum(axis=1, dtype=np.int32)
        run(pointer(sums), pointer(a), pointer(b))
        np.testing.assert_array_equal(sums, want)

    def test_ways(self):
        with tempfile.TemporaryDirectory() as folder:
            for level in levels():
                objects = library(level, Path(folder))
                ways = ("pairs", "vnni") if objects.has_vnni() else ("pairs",)
                print(level, *ways)
                for way in ways:
                    rng = np.random.default_rng(len(level))
                    with self.subTest(level=level, way=way, quads=True):
                        for _ in range(40):
                            self.check_quads(getattr(objects, f"{way}_quads"), rng)
                    for width in WIDTHS:
                        for mode in ("set", "add"):
                            rng = np.random.default_rng([len(level), width, len(mode)])
                            run = getattr(objects, f"{way}_{mode}_{width}")
                            with self.subTest(level=level, way=way, width=width, mode=mode):
                                for _ in range(40):
                                    self.check(run, width, mode == "add", rng)


if __name__ == "__main__":
    unittest.main()
