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


def build(c: Config, batch: int, context: int, device: str) -> Model:
    torch.set_default_dtype(c.dtype)
    with torch.device(device):
        model = Model(c, batch, context)
    torch.set_default_dtype(torch.float32)
    model.set_tables(c, context, device)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, WEIGHT_STD)
    return model.eval().requires_grad_(False)


def streamed_bytes(model: Model, c: Config) -> int:
    """What a decode step reads whole: all weights but an embedding that is not the head as well."""
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    return total if c.tied else total - model.embedding.weight.nbytes
