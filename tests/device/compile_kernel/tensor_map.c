/* Prints what block_of_encode gives to cuTensorMapEncodeTiled, and checks what it takes back. */
#include <stdio.h>

#include "block_of.h"

static int encode(void* map, int type, uint32_t rank, void* address, const uint64_t* sizes,
                  const uint64_t* strides, const uint32_t* box, const uint32_t* steps,
                  int interleave, int swizzle, int promotion, int fill) {
  if ((uintptr_t)map % 64 != 0) return 1;
  for (int i = 0; i < 128; ++i) ((unsigned char*)map)[i] = (unsigned char)i;
  printf("%d %u %lu %lu %lu %lu ", type, rank, (unsigned long)(uintptr_t)address,
         (unsigned long)sizes[0], (unsigned long)sizes[1], (unsigned long)strides[0]);
  printf("%u %u %u %u %d %d %d %d\n", box[0], box[1], steps[0], steps[1], interleave, swizzle,
         promotion, fill);
  return 0;
}

int main(void) {
  block_of_args args = {{4096, {50, 100}, {128, 1}, 1, 0, {0}}, 3, 4, 0};
  int (*const function)(void*, int, uint32_t, void*, const uint64_t*, const uint64_t*,
                        const uint32_t*, const uint32_t*, int, int, int, int) = encode;
  void* address;
  memcpy(&address, &function, sizeof(address));
  if (block_of_encode(&args, address) != 0) return 1;
  const uint64_t scratch[2] = {0, 0};
  void* params[BLOCK_OF_N_PARAMS];
  block_of_params(&args, scratch, params);
  for (int i = 0; i < 128; ++i)
    if (((unsigned char*)params[0])[i] != i) return 2;
  if (*(int32_t*)params[1] != 50 || *(int32_t*)params[2] != 100) return 3;
  if (*(int64_t*)params[3] != 128 || *(int64_t*)params[4] != 1) return 4;
  return *(int32_t*)params[5] == 3 && *(int32_t*)params[6] == 4 ? 0 : 5;
}
