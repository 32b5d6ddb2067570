/* A descriptor as an argument: its address, shape and strides. */
#include <stdio.h>

#include "block_of.h"

int main(void) {
  static float x[10][20], out[4][8];
  for (int i = 0; i < 10; ++i)
    for (int j = 0; j < 20; ++j) x[i][j] = (float)(100 * i + j);
  const block_of_args args = {{x, {9, 15}, {20, 1}, 0, 0}, 7, 10, out};
  if (block_of_launch(&args, 1, 1, 1) != 0) return 1;
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 8; ++j) {
      const float want = 9 + (7 + i < 9 && 10 + j < 15 ? 2 * x[7 + i][10 + j] : 0);
      if (out[i][j] != want) return printf("%d %d: %f, not %f\n", i, j, out[i][j], want), 1;
    }
  return 0;
}
