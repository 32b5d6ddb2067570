/* Two variants of one kernel in one program, over threads too. */
#include <stdio.h>

#include "fill_f32.h"
#include "fill_f64.h"

#if NEREID_KERNEL_ABI != 1
#error "another ABI"
#endif

int main(void) {
  float x[16] = {0};
  double y[16] = {0};
  const fill_f32_args a = {x};
  const fill_f64_args b = {y};
  if (fill_f32_launch(&a, 1, 1, 1) != 0 || fill_f64_launch_threads(&b, 1, 1, 1, 4) != 0) return 1;
  printf("%g %g\n", (double)x[15], y[15]);
  return 0;
}
