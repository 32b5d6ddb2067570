"""The constants and functions of a GPU kernel's header: what the driver's launch takes."""

from typing import Any

from aot.kernel.layout import Layout

INCLUDES = ("<stddef.h>", "<stdint.h>", "<string.h>")
# The driver's CUtensorMapDataType by Triton's number, where they differ; tf32 is a choice of fp32.
_DRIVER_ELEMENTS = {8: 10, 9: 8, 10: 9}
_TF32 = 11


def body(name: str, manifest: dict[str, Any], layout: Layout) -> list[str]:
    upper = name.upper()
    return [
        f'#define {upper}_SYMBOL "{manifest["symbol"]}"  /* in {manifest["object"]} */',
        f"#define {upper}_N_THREADS {manifest['n_threads']}",
        f"#define {upper}_SHARED_BYTES {manifest['shared_bytes']}",
        f"#define {upper}_SCRATCH_BYTES {manifest['global_scratch_bytes']}  /* a program */",
        f"#define {upper}_N_PARAMS {len(layout.arguments) + 2}",
        f"#define {upper}_N_CTAS {manifest['num_ctas']}  /* blocks of a program */",
        f"#define {upper}_LAUNCH_PDL {int(manifest['programmatic_launch'])}",
        "",
        *(_encode(name, manifest, layout) if manifest["tensor_maps"] else []),
        *_params(name, manifest, layout),
    ]


def _params(name: str, manifest: dict[str, Any], layout: Layout) -> list[str]:
    upper = name.upper()
    is_cuda = manifest["target"].startswith("cuda")
    launch = "cuLaunchKernel" if is_cuda else "hipModuleLaunchKernel"
    extended = []
    if manifest["num_ctas"] > 1:
        extended.append(
            f" * This one goes through cuLaunchKernelEx: {upper}_N_CTAS * n_x blocks in x, with the"
            f"\n * attribute CLUSTER_DIMENSION {upper}_N_CTAS, 1, 1."
        )
    if manifest["programmatic_launch"]:
        extended.append(
            " * It waits itself for the kernel before it: cuLaunchKernelEx with the attribute"
            "\n * PROGRAMMATIC_STREAM_SERIALIZATION may start it early."
        )
    lines = [
        f"/* For {launch}(function, n_x, n_y, n_z, {upper}_N_THREADS, 1, 1,",
        f" *     {upper}_SHARED_BYTES, stream, params, NULL). Above 48 KiB of shared memory the",
        " * function's limit is raised first. `scratch`: a device address of SCRATCH_BYTES for",
        " * each block, and a 0; both stay until the call returns.",
        *extended,
        " */",
        f"static inline void {name}_params(const {name}_args* a, const uint64_t scratch[2],",
        f"                                  void* params[{upper}_N_PARAMS]) {{",
    ]
    if not layout.arguments:
        lines.append("  (void)a;")
    for i, argument in enumerate(layout.arguments):
        lines.append(f"  params[{i}] = (void*)&a->{argument.place};")
    n = len(layout.arguments)
    return [
        *lines,
        f"  params[{n}] = (void*)&scratch[0];",
        f"  params[{n + 1}] = (void*)&scratch[1];",
        "}",
    ]


def _encode(name: str, manifest: dict[str, Any], layout: Layout) -> list[str]:
    rank = max(len(descriptor.block) for descriptor in layout.descriptors.values())
    lines = [
        "/* cuTensorMapEncodeTiled of the driver, without its header. */",
        f"typedef int (*{name}_encode_tiled)(void*, int, uint32_t, void*, const uint64_t*,",
        "    const uint64_t*, const uint32_t*, const uint32_t*, int, int, int, int);",
        "",
        "/* Makes the map of each descriptor of `a` from its address, shape and strides; again",
        " * after a change of these. `encode`: the address of cuTensorMapEncodeTiled, from",
        " * cuGetProcAddress or dlsym. 0, or the driver's error. */",
        f"static inline int {name}_encode({name}_args* a, void* encode) {{",
        f"  {name}_encode_tiled function;",
        "  uint64_t room[16 + 7], *map = room;",
        f"  uint64_t sizes[{rank}], strides[{rank}];",
        "  const uint32_t ones[5] = {1, 1, 1, 1, 1};",
        "  int status;",
        "  memcpy(&function, &encode, sizeof(function));",
        "  while ((uintptr_t)map % 64 != 0) ++map; /* the driver writes there */",
    ]
    for place, row in zip(layout.descriptors, manifest["tensor_maps"].values(), strict=True):
        lines += _encode_one(place, row)
    return [*lines, "  return 0;", "}", ""]


def _encode_one(place: str, row: dict[str, Any]) -> list[str]:
    """The driver counts dimensions from the innermost; that one's stride is not asked for."""
    rank, box = len(row["box"]), ", ".join(str(size) for size in reversed(row["box"]))
    code = _DRIVER_ELEMENTS.get(row["element_code"], row["element_code"])
    element = f"a->{place}.round_tf32 ? {_TF32} : {code}" if row["element"] == "fp32" else f"{code}"
    twice = " * 2" if row["fp4_padded"] else ""
    swizzle = {0: 0, 32: 1, 64: 2, 128: 3}[row["swizzle_bytes"]]
    lines = ["  {", f"    const uint32_t box[] = {{{box}}};"]
    for i in range(rank):
        lines.append(
            f"    sizes[{i}] = (uint64_t)a->{place}.shape[{rank - 1 - i}]{twice if i == 0 else ''};"
        )
        if i > 0:
            lines.append(
                f"    strides[{i - 1}] = (uint64_t)a->{place}.strides[{rank - 1 - i}]"
                f" * {row['element_bytes']};"
            )
    if rank == 1:
        lines.append(f"    strides[0] = sizes[0] * {row['element_bytes']};")
    return [
        *lines,
        f"    status = function(map, {element}, {rank}, (void*)(uintptr_t)a->{place}.address,",
        f"        sizes, strides, box, ones, 0, {swizzle}, 2 /* of L2: 128 bytes */,",
        f"        a->{place}.pad_nan);",
        "    if (status != 0) return status;",
        f"    memcpy(a->{place}.map, map, sizeof(a->{place}.map));",
        "  }",
    ]
