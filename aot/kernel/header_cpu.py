"""The functions of a CPU kernel's header: a program, a grid, a grid over threads."""

from collections.abc import Callable
from typing import Any

from aot.kernel.layout import Argument, Layout

INCLUDES = ("<pthread.h>", "<stddef.h>", "<stdint.h>", "<stdlib.h>")


def body(name: str, manifest: dict[str, Any], layout: Layout) -> list[str]:
    symbol = manifest["symbol"]
    return [
        f"#define {name.upper()}_ARENA_BYTES {manifest['arena_bytes']}",
        "",
        f"/* In {manifest['kernel']}.o and {manifest['kernel']}.so. One program of the grid. */",
        f"void {symbol}(const void* const* args, void* arena, uint32_t x, uint32_t y, uint32_t z,",
        "    uint32_t n_x, uint32_t n_y, uint32_t n_z);",
        "",
        f"/* One program. `arena`: {name.upper()}_ARENA_BYTES of this thread's own, 64-byte",
        " * aligned; any thread may run any program. */",
        f"static inline void {name}_program(const {name}_args* a, void* arena, uint32_t x,",
        "    uint32_t y, uint32_t z, uint32_t n_x, uint32_t n_y, uint32_t n_z) {",
        *call(symbol, layout.arguments),
        "}",
        "",
        *launches(name, lambda variant: f"{name.upper()}_ARENA_BYTES"),
    ]


def call(symbol: str, arguments: list[Argument]) -> list[str]:
    list_ = ", ".join(f"&a->{argument.place}" for argument in arguments) or "NULL"
    unused = [] if arguments else ["  (void)a;"]
    return [
        *unused,
        f"  const void* const args[] = {{{list_}}};",
        f"  {symbol}(args, arena, x, y, z, n_x, n_y, n_z);",
    ]


def launches(name: str, arena_bytes: Callable[[str], str], n_variants: int = 0) -> list[str]:
    """A grid on this thread, and on several. `n_variants`: of a set, whose functions are told which
    to run. `arena_bytes`: an expression in C, given how that is called where it stands."""
    parameter = "int variant, " if n_variants else ""
    variant = "variant, " if n_variants else ""
    of_work = "w->variant, " if n_variants else ""
    none = f"  if (variant < 0 || variant >= {n_variants}) return -1;"
    check = [none] if n_variants else []
    return [
        "/* The whole grid, one program after the other; 0, or -1 if there is no memory. */",
        f"static inline int {name}_launch({parameter}const {name}_args* a, uint32_t n_x,",
        "    uint32_t n_y, uint32_t n_z) {",
        *check,
        f"  char* raw = (char*)malloc({arena_bytes(variant)} + 64);",
        "  if (raw == NULL) return -1;",
        "  void* arena = raw + (64 - (uintptr_t)raw % 64) % 64;",
        "  for (uint32_t z = 0; z < n_z; ++z)",
        "    for (uint32_t y = 0; y < n_y; ++y)",
        "      for (uint32_t x = 0; x < n_x; ++x)",
        f"        {name}_program({variant}a, arena, x, y, z, n_x, n_y, n_z);",
        "  free(raw);",
        "  return 0;",
        "}",
        "",
        f"/* What the threads of {name}_launch_threads share. */",
        f"typedef struct {name}_work {{",
        *(["  int variant;"] if n_variants else []),
        f"  const {name}_args* a;",
        "  uint32_t n_x, n_y, n_z;",
        "  uint64_t next, at_once; /* the first program that nobody has; how many one takes */",
        f"}} {name}_work;",
        "",
        "/* Runs programs until none is left; without memory for an arena none. */",
        f"static inline void* {name}_worker(void* shared) {{",
        f"  {name}_work* w = ({name}_work*)shared;",
        f"  char* raw = (char*)malloc({arena_bytes(of_work)} + 64);",
        "  if (raw == NULL) return NULL;",
        "  void* arena = raw + (64 - (uintptr_t)raw % 64) % 64;",
        "  const uint64_t n = (uint64_t)w->n_x * w->n_y * w->n_z;",
        "  for (;;) {",
        "    uint64_t i = __atomic_fetch_add(&w->next, w->at_once, __ATOMIC_RELAXED);",
        "    if (i >= n) break;",
        "    for (const uint64_t end = n - i < w->at_once ? n : i + w->at_once; i < end; ++i)",
        f"      {name}_program({of_work}w->a, arena, (uint32_t)(i % w->n_x),",
        "          (uint32_t)(i / w->n_x % w->n_y), (uint32_t)(i / w->n_x / w->n_y), w->n_x,",
        "          w->n_y, w->n_z);",
        "  }",
        "  free(raw);",
        "  return NULL;",
        "}",
        "",
        "/* The whole grid over `n_threads` threads, this one among them; each has an arena of its",
        " * own. Programs run in any order. 0, or -1 if there is no memory. */",
        f"static inline int {name}_launch_threads({parameter}const {name}_args* a, uint32_t n_x,",
        "    uint32_t n_y, uint32_t n_z, unsigned n_threads) {",
        *check,
        "  const uint64_t n = (uint64_t)n_x * n_y * n_z;",
        "  if (n == 0) return 0;",
        "  if (n_threads > n) n_threads = (unsigned)n;",
        "  if (n_threads == 0) n_threads = 1;",
        "  pthread_t* threads = (pthread_t*)malloc(n_threads * sizeof(pthread_t));",
        "  if (threads == NULL) return -1;",
        f"  {name}_work w = {{{variant}a, n_x, n_y, n_z, 0, n / n_threads / 8 + 1}};",
        "  unsigned n_started = 0; /* where the system gives fewer, fewer do the work */",
        "  while (n_started + 1 < n_threads &&",
        f"         pthread_create(&threads[n_started], NULL, {name}_worker, &w) == 0)",
        "    ++n_started;",
        f"  {name}_worker(&w);",
        "  for (unsigned i = 0; i < n_started; ++i) pthread_join(threads[i], NULL);",
        "  free(threads);",
        "  return w.next >= n ? 0 : -1;",
        "}",
    ]
