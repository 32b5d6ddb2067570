/* Grids of random shapes over 1 to 9 threads: each program runs once. */
#include <stdio.h>

#include "count.h"

int main(int argc, char** argv) {
  srand(argc > 1 ? (unsigned)atoi(argv[1]) : 1);
  for (int round = 0; round < 200; ++round) {
    const uint32_t x = (uint32_t)rand() % 20, y = (uint32_t)rand() % 6, z = (uint32_t)rand() % 4;
    const unsigned n_threads = (unsigned)rand() % 10;
    int32_t* out = (int32_t*)calloc(x * y * z * 8 + 1, sizeof(int32_t));
    const count_args args = {out};
    if (count_launch_threads(&args, x, y, z, n_threads) != 0) return 1;
    for (uint32_t i = 0; i < x * y * z * 8; ++i) {
      const uint32_t at = i / 8;
      const uint32_t want = at % x + 100 * (at / x % y) + 10000 * (at / x / y) + i % 8;
      if (out[i] != (int32_t)want)
        return printf("%u x %u x %u, %u threads: %u: %d, not %u\n", x, y, z, n_threads, i, out[i],
                      want);
    }
    free(out);
  }
  return 0;
}
