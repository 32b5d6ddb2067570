"""A case's weights, drawn by name, and its model directory."""

import json
import math

import numpy as np

from shapes.draw import head_dim_of, rng_of
from shapes.forward import bf16_bits, facts_of, is_tied

DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}


def dtype_of(config):
    return DTYPES[config.get("dtype") or config.get("torch_dtype")]


def shapes_of(config):
    """{name: shape} of every tensor that the model has."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    n_heads, head_dim = config["num_attention_heads"], head_dim_of(config)
    q_size, kv_size = (n * head_dim for n in (n_heads, config.get("num_key_value_heads", n_heads)))
    facts = facts_of(config)
    family = config["architectures"][0]
    has_bias = {
        "qkv": config.get("attention_bias", family == "Qwen2ForCausalLM"),
        "o": config.get("attention_bias", False),
        "mlp": config.get("mlp_bias", False),
    }
    linears = {
        "self_attn.q_proj": (q_size, hidden, "qkv"),
        "self_attn.k_proj": (kv_size, hidden, "qkv"),
        "self_attn.v_proj": (kv_size, hidden, "qkv"),
        "mlp.gate_proj": (inner, hidden, "mlp"),
        "mlp.up_proj": (inner, hidden, "mlp"),
    }
    if facts.is_fused:
        linears = {
            "self_attn.qkv_proj": (q_size + 2 * kv_size, hidden, "qkv"),
            "mlp.gate_up_proj": (2 * inner, hidden, "mlp"),
        }
    linears["self_attn.o_proj"] = (hidden, q_size, "o")
    linears["mlp.down_proj"] = (hidden, inner, "mlp")
    norms = {
        "before": ("input_layernorm", "post_attention_layernorm"),
        "after": ("post_attention_layernorm", "post_feedforward_layernorm"),
        "around": (
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ),
    }[facts.norms]
    qk_norms = {
        None: (),
        "head": (("q_norm", head_dim), ("k_norm", head_dim)),
        "row": (("q_norm", q_size), ("k_norm", kv_size)),
    }[facts.qk_norm]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, (n_out, n_in, part) in linears.items():
            shapes[f"{prefix}{name}.weight"] = (n_out, n_in)
            if has_bias[part]:
                shapes[f"{prefix}{name}.bias"] = (n_out,)
        for name in norms:
            shapes[f"{prefix}{name}.weight"] = (hidden,)
        for name, size in qk_norms:
            shapes[f"{prefix}self_attn.{name}.weight"] = (size,)
    shapes["model.norm.weight"] = (hidden,)
    if not is_tied(config):
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    return shapes


def draw_tensor(case, name, shape):
    values = rng_of(case.seed, name).standard_normal(shape, dtype=np.float32)
    scales = case.scales
    if name == "model.embed_tokens.weight":
        return values * np.float32(scales.embedding)
    if name == "lm_head.weight":
        return values * np.float32(scales.head / math.sqrt(shape[1]))
    if name.endswith(".bias"):
        return values * np.float32(scales.bias)
    if len(shape) == 1:
        around = 0 if facts_of(case.config).one_plus else 1
        return around + values * np.float32(scales.norm_spread)
    return values * np.float32(scales.matrix / math.sqrt(shape[1]))


def stored(dtype, values):
    if dtype == "BF16":
        return bf16_bits(values)
    return values.astype(np.float16 if dtype == "F16" else np.float32)


def draw_tensors(case):
    """{name: (dtype, array)} as a file holds them."""
    dtype = dtype_of(case.config)
    return {
        name: (dtype, stored(dtype, draw_tensor(case, name, shape)))
        for name, shape in shapes_of(case.config).items()
    }


def write_config(case, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(case.config))


def prompt_ids(case, run, index):
    """The ids of one prompt; a shorter one begins as the longer does."""
    rng = rng_of(case.seed, "prompt", run.command, index)
    return [int(i) for i in rng.integers(0, case.config["vocab_size"], run.prompt_lengths[index])]
