/* Launches what is chosen: with the grid that the variant's block needs, on threads and on one. */
#include <stdio.h>

#include "axpy.h"

static int launch(const axpy_args* a, int want) {
  const int variant = axpy_choose(a);
  if (variant != want) return printf("variant %d, not %d\n", variant, want), 1;
  const int64_t block = axpy_BLOCK(variant);
  const uint32_t n_programs = (uint32_t)((a->n + block - 1) / block);
  return variant % 2 == 0 ? axpy_launch_threads(variant, a, n_programs, 1, 1, 3)
                          : axpy_launch(variant, a, n_programs, 1, 1);
}

int main(void) {
  enum { n = 512 };
  static float x[n + 4] __attribute__((aligned(16))), y[n + 4] __attribute__((aligned(16))), b[n];
  static double wide_x[n], wide_y[n];
  for (int i = 0; i < n; ++i) x[i] = (float)i, wide_x[i] = i, wide_y[i] = 1, b[i] = 5;
  axpy_args a = {x, NEREID_TYPE_FP32, y, NEREID_TYPE_FP32, NULL, n, 2.0f};
  if (launch(&a, 0) != 0) return 1;
  a.n = 1;
  if (launch(&a, 1) != 0) return 2;
  a.n = 501;
  if (launch(&a, 2) != 0) return 3;
  a.n = 77, a.bias_ptr = b;
  if (launch(&a, 3) != 0) return 4;
  for (int i = 0; i < n; ++i) {
    const int rounds = 1 + (i < 1) + (i < 501) + (i < 77);
    if (y[i] != (float)(2 * i * rounds + (i < 77 ? 5 : 0))) return printf("y[%d]\n", i), 5;
  }
  axpy_args wide = {wide_x, NEREID_TYPE_FP64, wide_y, NEREID_TYPE_FP64, NULL, 100, 2.0f};
  if (launch(&wide, 4) != 0) return 6;
  for (int i = 0; i < n; ++i)
    if (wide_y[i] != (i < 100 ? 2 * i + 1 : 1)) return printf("wide_y[%d]\n", i), 7;
  return axpy_launch(-1, &a, 1, 1, 1) == -1 ? 0 : 8;
}
