"""About every use of torch and its kin that a module of kernels has while it is imported."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional, Union

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
import triton
import triton.language as tl
from einops import rearrange
from torch import Tensor
from torch.autograd import Function
from torch.library import Library
from triton.runtime import driver
from vllm.logger import init_logger
from vllm.platforms import current_platform
from vllm.utils import direct_register_custom_op

logger = init_logger(__name__)
is_hip = torch.version.hip is not None
is_sm90 = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 9
major, minor = torch.cuda.get_device_capability()
assert tuple(int(x) for x in torch.__version__.split(".")[:2]) >= (2, 4)
custom_fwd = functools.partial(torch.amp.custom_fwd, device_type="cuda")
TYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}
assert len(TYPES) == 3
assert TYPES[torch.bfloat16] is tl.bfloat16
FP8_MAX = tl.constexpr(torch.finfo(torch.float8_e4m3fn).max)
LOG2E = tl.constexpr(math.log2(math.e))
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(0)
torch.backends.cuda.matmul.allow_tf32 = True
library = Library("mine", "FRAGMENT")
library.define("foo(Tensor x) -> Tensor")
N_SMS = driver.active.utils.get_device_properties(torch.cuda.current_device())[
    "multiprocessor_count"
]


@dataclass
class Config:
    dtype: torch.dtype = torch.float16
    x: Optional[torch.Tensor] = None  # noqa: UP045
    shape: list[int] = field(default_factory=list)


class Meta(NamedTuple):
    a: torch.Tensor
    b: Union[Tensor, int] = 0


@torch.library.custom_op("mine::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor:
    return x


@op.register_fake
def _(x):
    return torch.empty_like(x)


op.register_autograd(lambda ctx, g: g, setup_context=None)


@torch.compile(dynamic=True)
def compiled(x: Tensor | None, y: "torch.Tensor" = None) -> torch.Tensor | tuple[Tensor, int]:
    return x


@torch.no_grad()
def configs():
    """Called below: a decorated function stays one."""
    return [
        triton.Config({"BLOCK": block}, num_warps=n_warps, num_stages=stages)
        for block in (16, 32)
        for n_warps in (2, 4)
        for stages in ((1,) if current_platform.is_rocm() else (2,))
    ]


class Apply(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda")
    def forward(ctx, x):
        return x

    @staticmethod
    @torch.cuda.amp.custom_bwd
    def backward(ctx, dy):
        return dy


apply = Apply.apply


class Module(nn.Module):
    def __init__(self, n: int, act: Callable[[torch.Tensor], Any] = F.silu):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n))
        self.register_buffer("bias", torch.zeros(1))


class Both(Function, nn.Module):
    pass


module = Module(4)
for _name, _parameter in module.named_parameters():
    _parameter.zero_()
direct_register_custom_op(
    op_name="op", op_func=compiled, mutates_args=[], dispatch_key=current_platform.dispatch_key
)
with torch.cuda.device(0), torch.no_grad():
    buffer = torch.empty((4, 4), device="cuda", dtype=torch.float32)
n_bytes = buffer.numel() * 4 // 2 + 1 - -buffer.stride(0)
rearrange(buffer[:, None] @ buffer.t(), "a b -> b a")
assert not isinstance(4, torch.Tensor)
if current_platform.is_cuda() and dist.is_initialized():
    raise SystemExit


@triton.autotune(configs=configs(), key=["n"])
@triton.heuristics(
    {
        "EVEN": lambda args: args["n"] % args["BLOCK"] == 0,
        "HAS_BIAS": lambda args: args["bias_ptr"] is not None,
        "IS_HIP": lambda args: is_hip,
    }
)
@triton.jit
def scale(
    x_ptr,
    y_ptr,
    bias_ptr,
    n,
    BLOCK: tl.constexpr,
    EVEN: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    IS_HIP: tl.constexpr,
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if EVEN:
        x = tl.load(x_ptr + i)
    else:
        x = tl.load(x_ptr + i, mask=i < n)
    if HAS_BIAS:
        x += tl.load(bias_ptr + i, mask=i < n)
    tl.store(y_ptr + i, x * FP8_MAX, mask=i < n)


def run(x: torch.Tensor):
    y = torch.empty_like(x)
    scale[(1,)](x, y, None, 16)
    return y
