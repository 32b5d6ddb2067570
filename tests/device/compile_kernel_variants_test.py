"""nereid compile-kernel --variants: which variant a launch chooses, and that it computes."""

import json
import random
import unittest

from compile_kernel.harness import FOLDER, Case

AXPY = f"{FOLDER}/variants.py:axpy"
# x and y alike; what each row asks of a launch is written a second time in `wanted`.
ROWS = [
    {"signature": "*fp32:16,*fp32:16,None,i32:16,fp32,constexpr=256", "when": {"n": [256, 9999]}},
    {"signature": "*fp32,*fp32,None,constexpr=1,fp32,BLOCK=constexpr=1"},
    {"signature": "*fp32,*fp32,None,i32,fp32,constexpr=32", "num_warps": 2},
    {"signature": "*fp32,*fp32,*fp32,i64,fp32,constexpr=64", "when": {"n": 77}},
    {"signature": "*fp64,*fp64,None,i32,fp32", "config": 1},
]


def wanted(x: int, y: int, bias: int, n: int, element: str) -> int:
    is_int = -(2**31) <= n < 2**31
    if element == "FP64":
        return 4 if not bias and is_int else -1
    if bias:
        return 3 if n == 77 else -1
    if x % 16 == y % 16 == n % 16 == 0 and 256 <= n <= 9999:
        return 0
    if n == 1:
        return 1
    return 2 if is_int else -1


class Variants(Case):
    def compiles_set(self, rows, target="cpu"):
        path = self.write("set.json", json.dumps({"variants": rows}))
        done = self._variants(path, target)
        self.assertEqual(done.status, 0, done.stderr)
        self.header_is_clean("axpy")
        return self.manifest("axpy")

    def _variants(self, path, target="cpu"):
        from compile_kernel.harness import run

        return run(AXPY, "--variants", path, "--target", target, "--out", self.out)

    def test_the_choice(self):
        manifest = self.compiles_set(ROWS)
        names = [f"axpy_{i}" for i in range(5)]
        self.assertEqual((manifest["abi"], manifest["variants"]), (1, names))
        seed = random.randrange(10**6)
        rng = random.Random(seed)
        asked = []
        for _ in range(2000):
            n = rng.choice((0, 1, 16, 77, 240, 256, 272, 257, 9984, 10000, 2**31 - 1, 2**31, -1,
                            -(2**31), -(2**31) - 1, 2**40))  # fmt: skip
            x, y = (4096 + rng.choice((0, 0, 16, 4)) for _ in range(2))
            asked.append((x, y, rng.choice((0, 0, 4096)), n, rng.choice(("FP32", "FP32", "FP64"))))
        macros = ",\n".join(f"  {{{x}, {y}, {b}, INT64_C({n}), NEREID_TYPE_{t}}}"
                            for x, y, b, n, t in asked).replace("INT64_C(-2147483649)",
                                                                "-INT64_C(2147483649)")  # fmt: skip
        source = self.write("choose.c", f"""
#include <stdio.h>
#include "axpy.h"
static const struct {{ int x, y, b; int64_t n; int type; }} asked[] = {{
{macros}}};
int main(void) {{
  for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); ++i) {{
    const axpy_args a = {{(void*)(intptr_t)asked[i].x, asked[i].type, (void*)(intptr_t)asked[i].y,
                          asked[i].type, (void*)(intptr_t)asked[i].b, asked[i].n, 2.0f}};
    printf("%d\\n", axpy_choose(&a));
  }}
  return 0;
}}
""")  # fmt: skip
        printed = [int(line) for line in self.c_program(source, *self.objects()).split()]
        right = [wanted(*arguments) for arguments in asked]
        self.assertEqual(set(right), {-1, 0, 1, 2, 3, 4})
        for arguments, got, want in zip(asked, printed, right, strict=True):
            self.assertEqual(got, want, f"seed {seed}: {arguments}")

    def objects(self):
        return [f"axpy_{i}.o" for i in range(5)]

    def test_a_launch(self):
        self.compiles_set(ROWS)
        for compiler in ("c99", "c++17"):
            self.c_program(FOLDER / "variants.c", *self.objects(), compiler=compiler)

    def test_gpus(self):
        for target, extension in (("cuda:90", "cubin"), ("hip:gfx942", "hsaco")):
            self.out = self.folder / target
            self.compiles_set(ROWS[:3], target)
            header = (self.out / "axpy.h").read_text()
            n_threads = 64 * (2 if "hip" in target else 1)
            self.assertIn(f'{{"axpy_2.{extension}", "axpy_2", {n_threads}, 0, 0, 1, 0}}', header)

    def test_messages(self):
        for rows, message in (
            ([], "has no variants"),
            ([{"signatures": "*fp32"}], "variant 0: signatures; expected signature, config"),
            ([{"signature": "*fp32"}], "1 types for 6 parameters"),
            ([ROWS[2] | {"when": {"n": "x"}}], "when n: 'x'; expected N or [LEAST, MOST]"),
            ([ROWS[2] | {"when": {"m": 1}}], "when m: no such parameter"),
            ([ROWS[2] | {"when": {"x_ptr": 1}}], "when x_ptr: it is no integer of a launch"),
            ([ROWS[2], ROWS[2]], "variant 1 is never chosen: variant 0 serves all arguments"),
            ([ROWS[2], ROWS[2] | {"signature": ROWS[2]["signature"].replace(",fp32,", ",fp64,")}],
             "parameter a: the variants take it as"),
        ):  # fmt: skip
            done = self._variants(self.write("set.json", json.dumps({"variants": rows})))
            self.assertEqual(done.status, 1)
            self.assertIn(message, done.stderr)
            self.assertNotIn("Traceback", done.stderr)
        done = self._variants(self.write("set.json", "[1, 2"))
        self.assertIn('expected {"variants": [{"signature": "..."', done.stderr)


if __name__ == "__main__":
    unittest.main()
