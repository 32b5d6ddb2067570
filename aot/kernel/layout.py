"""A kernel's arguments as C has them: members of a struct, and which member each argument of the
object is. Both x86-64 and Arm are little-endian: a 32-bit argument may point at a 64-bit member.
"""

from dataclasses import dataclass, field

from aot.kernel import c_names
from aot.kernel.signature import Descriptor, Group, Kind, Plain

C_TYPES = {
    "i1": "int8_t", "u1": "uint8_t", "i8": "int8_t", "u8": "uint8_t", "i16": "int16_t",
    "u16": "uint16_t", "i32": "int32_t", "u32": "uint32_t", "i64": "int64_t", "u64": "uint64_t",
    "fp16": "uint16_t", "bf16": "uint16_t", "fp32": "float", "fp64": "double",
}  # fmt: skip
POINTER, TENSOR_MAP = "pointer", "tensor_map"


@dataclass(frozen=True)
class Argument:
    """One of the object, in its order. `type`: as docs/formats.md has it."""

    name: str
    type: str
    place: str  # in the struct

    @property
    def in_manifest(self) -> list[str]:
        return [self.name, self.type]


@dataclass
class Layout:
    members: list[str] = field(default_factory=list)  # declarations in C
    arguments: list[Argument] = field(default_factory=list)
    descriptors: dict[str, Descriptor] = field(default_factory=dict)  # by place
    _taken: set[str] = field(default_factory=set)

    def add(self, name: str, kind: Kind, address: str, has_maps: bool) -> None:
        if isinstance(kind, Group):
            for i, member in enumerate(kind.members):
                of = kind.names[i] if kind.names else i
                self.add(f"{name}.{of}", member, address, has_maps)
        elif isinstance(kind, Plain):
            self._add_plain(name, kind, address)
        elif isinstance(kind, Descriptor):
            self._add_descriptor(name, kind, address, has_maps)

    def add_type(self, pointer: str) -> str:
        """A member that says the type of what a pointer of the struct points at."""
        place = self._place(f"{pointer}_type")
        self.members[-1] = f"{self.members[-1].partition(';')[0]};  /* address of {place} */"
        self.members.append(f"int {place};  /* NEREID_TYPE_... of {pointer} */")
        return place

    def _place(self, name: str) -> str:
        place = c_names.field(name, self._taken)
        self._taken.add(place)
        return place

    def _add_plain(self, name: str, kind: Plain, address: str) -> None:
        place = self._place(name)
        c_type = address if kind.is_pointer else C_TYPES[kind.element]
        what = f"address of {kind.element}" if kind.is_pointer else kind.element
        divisible = ", a multiple of 16" if kind.divisible else ""
        self.members.append(f"{c_type} {place};  /* {what}{divisible} */")
        self.arguments.append(Argument(name, POINTER if kind.is_pointer else kind.element, place))

    def _add_descriptor(self, name: str, kind: Descriptor, address: str, has_maps: bool) -> None:
        place, rank = self._place(name), len(kind.block)
        block = " x ".join(str(size) for size in kind.block)
        self.members += [
            "struct {",
            f"  {address} address;  /* of {kind.element}, a multiple of 16 */",
            f"  int64_t shape[{rank}];",
            f"  int64_t strides[{rank}];  /* in elements; the last is 1 */",
            "  int8_t pad_nan, round_tf32;  /* 1: what is outside reads as NaN; fp32 as tf32 */",
            *(["  uint64_t map[16];  /* made of the others */"] if has_maps else []),
            f"}} {place};  /* loaded {block} at once */",
        ]
        self.descriptors[place] = kind
        shapes = [(f"{name}.shape{i}", f"{place}.shape[{i}]") for i in range(rank)]
        strides = [(f"{name}.stride{i}", f"{place}.strides[{i}]") for i in range(rank)]
        if has_maps:
            self.arguments.append(Argument(name, TENSOR_MAP, f"{place}.map"))
        else:  # as Triton takes a descriptor apart
            self.arguments.append(Argument(name, POINTER, f"{place}.address"))
            self.arguments += [Argument(n, "i64", at) for n, at in (*shapes, *strides)]
            for flag in ("pad_nan", "round_tf32"):
                self.arguments.append(Argument(f"{name}.{flag}", "i1", f"{place}.{flag}"))
        self.arguments += [Argument(n, "i32", at) for n, at in shapes]
        self.arguments += [Argument(n, "i64", at) for n, at in strides]


def layout(parameters: list[tuple[str, Kind]], target: str, has_maps: bool) -> Layout:
    """`has_maps`: whether the object takes tensor maps for descriptors."""
    made = Layout()
    # A device address is a number to the host's compiler.
    address = "void*" if target == "cpu" else "uint64_t"
    for name, kind in parameters:
        made.add(name, kind, address, has_maps)
    if not made.members:
        made.members.append("char none;  /* the kernel has no arguments */")
    return made
