"""A Llama in PyTorch as its best-known inference code writes it: for the baselines beside this.

QKV and gate+up are one matrix each; keys and values go to a static cache of the whole context.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

WEIGHT_STD = 0.02
E4M3_MOST = 448.0
INT4_GROUP = 128


@dataclass(frozen=True)
class Config:
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    eps: float
    theta: float
    attention_bias: bool
    mlp_bias: bool
    tied: bool
    dtype: torch.dtype

    @staticmethod
    def load(directory: Path) -> "Config":
        c = json.loads((directory / "config.json").read_text())
        if c["architectures"] != ["LlamaForCausalLM"] or c.get("rope_scaling"):
            sys.exit(
                f"{directory}: expected a Llama without rope_scaling; got {c['architectures']}"
            )
        return Config(
            hidden=c["hidden_size"],
            inner=c["intermediate_size"],
            layers=c["num_hidden_layers"],
            heads=c["num_attention_heads"],
            kv_heads=c["num_key_value_heads"],
            head_dim=c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"],
            vocab=c["vocab_size"],
            eps=c["rms_norm_eps"],
            theta=float(c.get("rope_theta", 10000.0)),
            attention_bias=c.get("attention_bias", False),
            mlp_bias=c.get("mlp_bias", False),
            tied=c.get("tie_word_embeddings", False),
            dtype=getattr(torch, c.get("torch_dtype", "float16")),
        )


def in_e4m3(x: torch.Tensor, dims: list[int] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """x, and by what it is to be multiplied; a scale for all that lies along `dims`."""
    most = x.abs().amax(dims, keepdim=True) if dims else x.abs().amax()
    scale = (most.float() / E4M3_MOST).clamp(min=1e-12)
    q = (x.float() / scale).clamp(-E4M3_MOST, E4M3_MOST)
    return q.to(torch.float8_e4m3fn), scale


class Fp8Linear(nn.Module):
    """Products of fp8 weights and activations, whose scales are taken anew at each step: one for
    all of a matrix (cuBLASLt), or one a row (CUTLASS)."""

    def __init__(self, linear: nn.Linear, has_row_scales: bool) -> None:
        super().__init__()
        self.dims = [-1] if has_row_scales else None
        q, scale = in_e4m3(linear.weight.data, self.dims)
        self.weight = nn.Parameter(q, requires_grad=False)
        self.scale = nn.Parameter(scale.t().contiguous() if has_row_scales else scale)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, scale = in_e4m3(x.reshape(-1, x.shape[-1]), self.dims)
        # Products with a scale a row give bf16 only.
        out = torch.bfloat16 if self.dims else x.dtype
        y = torch._scaled_mm(
            q, self.weight.t(), scale_a=scale, scale_b=self.scale, out_dtype=out,
            use_fast_accum=True,
        ).to(x.dtype)  # fmt: skip
        y = y if self.bias is None else y + self.bias
        return y.view(*x.shape[:-1], -1)


class Int4Linear(nn.Module):
    """4 bits in groups of columns, by the kernel that PyTorch has for them; it takes bf16."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        w = linear.weight.data.float()
        groups = w.view(w.shape[0], -1, INT4_GROUP)
        scale = (groups.abs().amax(-1) / 7).clamp(min=1e-12)
        q = (groups / scale[..., None]).round().clamp(-8, 7).add(8).view(w.shape).to(torch.uint8)
        packed = torch._convert_weight_to_int4pack(q[:, ::2] << 4 | q[:, 1::2], 8)
        zeros = torch.zeros_like(scale)
        scales = torch.stack((scale, zeros), -1).transpose(0, 1).to(torch.bfloat16).contiguous()
        self.packed = nn.Parameter(packed, requires_grad=False)
        self.scales = nn.Parameter(scales, requires_grad=False)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        y = torch._weight_int4pack_mm(rows, self.packed, INT4_GROUP, self.scales).to(x.dtype)
        y = y if self.bias is None else y + self.bias
        return y.view(*x.shape[:-1], -1)


WEIGHTS = {
    "floats": None,
    "fp8": lambda linear: Fp8Linear(linear, has_row_scales=False),
    "fp8-rows": lambda linear: Fp8Linear(linear, has_row_scales=True),
    "int4": Int4Linear,
}


def quantise(module: nn.Module, weights: str) -> None:
    """Every product's weights."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, WEIGHTS[weights](child))
        else:
            quantise(child, weights)


class Norm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


class Block(nn.Module):
    def __init__(self, c: Config, batch: int, context: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = c.heads, c.kv_heads, c.head_dim
        kv_width = c.kv_heads * c.head_dim
        q_width = c.heads * c.head_dim
        self.splits = [q_width, kv_width, kv_width]
        self.norm1, self.norm2 = Norm(c.hidden, c.eps), Norm(c.hidden, c.eps)
        self.qkv = nn.Linear(c.hidden, sum(self.splits), bias=c.attention_bias)
        self.out = nn.Linear(q_width, c.hidden, bias=c.attention_bias)
        self.gate_up = nn.Linear(c.hidden, 2 * c.inner, bias=c.mlp_bias)
        self.down = nn.Linear(c.inner, c.hidden, bias=c.mlp_bias)
        shape = (batch, c.kv_heads, context, c.head_dim)
        self.register_buffer("k_cache", torch.zeros(shape))
        self.register_buffer("v_cache", torch.zeros(shape))

    def forward(self, x, cos, sin, positions, mask):
        batch, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).split(self.splits, -1)
        q = rotate(q.view(batch, n, self.heads, self.head_dim), cos, sin).transpose(1, 2)
        k = rotate(k.view(batch, n, self.kv_heads, self.head_dim), cos, sin).transpose(1, 2)
        v = v.view(batch, n, self.kv_heads, self.head_dim).transpose(1, 2)
        self.k_cache[:, :, positions] = k
        self.v_cache[:, :, positions] = v
        if mask is None:  # the prompt: its own keys are all there are
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            y = F.scaled_dot_product_attention(
                q, self.k_cache, self.v_cache, attn_mask=mask, enable_gqa=True
            )
        x = x + self.out(y.transpose(1, 2).reshape(batch, n, -1))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, c: Config, batch: int, context: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(c.vocab, c.hidden)
        self.blocks = nn.ModuleList(Block(c, batch, context) for _ in range(c.layers))
        self.norm = Norm(c.hidden, c.eps)
        self.head = nn.Linear(c.hidden, c.vocab, bias=False)
        if c.tied:
            self.head.weight = self.embedding.weight

    def set_tables(self, c: Config, context: int, device: str) -> None:
        """Angles in fp32, whatever the weights are."""
        steps = torch.arange(0, c.head_dim, 2, device=device, dtype=torch.float32)
        angles = torch.outer(
            torch.arange(context, device=device, dtype=torch.float32),
            1.0 / c.theta ** (steps / c.head_dim),
        )
        self.register_buffer("cos", angles.cos()[None, :, None])
        self.register_buffer("sin", angles.sin()[None, :, None])
        self.register_buffer("columns", torch.arange(context, device=device))

    def forward(self, tokens: torch.Tensor, positions: torch.Tensor, is_prompt: bool):
        x = self.embedding(tokens)
        cos, sin = self.cos[:, positions], self.sin[:, positions]
        mask = None
        if not is_prompt:
            mask = (self.columns[None, :] <= positions[:, None])[None, None]
        for block in self.blocks:
            x = block(x, cos, sin, positions, mask)
        return self.head(self.norm(x[:, -1:]))[:, -1].argmax(-1, keepdim=True)


def build(c: Config, batch: int, context: int, device: str, weights: str = "floats") -> Model:
    torch.set_default_dtype(c.dtype)
    with torch.device(device):
        model = Model(c, batch, context)
    torch.set_default_dtype(torch.float32)
    model.set_tables(c, context, device)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, WEIGHT_STD)
    if WEIGHTS[weights]:
        quantise(model, weights)
    return model.eval().requires_grad_(False)


def streamed_bytes(model: Model, c: Config) -> int:
    """What a decode step reads whole: all weights but an embedding that is not the head as well."""
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    return total if c.tied else total - model.embedding.weight.nbytes
