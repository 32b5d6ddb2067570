/* Launches the compiled kernel: the whole grid by the helper, then one program by hand. */
#include <stdio.h>

#include "add_kernel.h"

int main(void) {
  enum { n = 1000, block = 128 };
  static float x[n], y[n], out[n];
  for (int i = 0; i < n; ++i) x[i] = (float)i, y[i] = 0.5f, out[i] = -1;
  const add_kernel_args args = {x, y, out, n, 3.0f};
  const uint32_t n_programs = (n + block - 1) / block;
  if (add_kernel_launch(&args, n_programs, 1, 1) != 0) return 1;
  for (int i = 0; i < n; ++i)
    if (out[i] != (float)i + 1.5f) return printf("out[%d] = %f\n", i, out[i]), 1;
  for (int i = 0; i < n; ++i) out[i] = -1;
  add_kernel_program(&args, NULL, 2, 0, 0, n_programs, 1, 1);
  for (int i = 0; i < n; ++i) {
    const float want = i / block == 2 ? (float)i + 1.5f : -1;
    if (out[i] != want) return printf("one program: out[%d] = %f\n", i, out[i]), 1;
  }
  puts("ok");
  return 0;
}
