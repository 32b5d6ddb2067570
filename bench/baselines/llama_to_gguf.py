#!/usr/bin/env python3
"""A Llama checkpoint in the format of llama.cpp: matrices in fp16, vectors in fp32.

    python3 bench/baselines/llama_to_gguf.py models/demo demo-f16.gguf

Llamas with or without biases, tied or not, fp16 weights, a byte-level BPE tokenizer and RoPE
without scaling: what a comparison at the same weights needs.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

ALIGNMENT = 32
U32, I32, F32, STRING, ARRAY = 4, 5, 6, 8, 9
TENSOR_F32, TENSOR_F16 = 0, 1
NORMAL, CONTROL = 1, 3  # types of tokens


def text(s: str) -> bytes:
    data = s.encode()
    return struct.pack("<Q", len(data)) + data


def number(kind: int, value: float) -> bytes:
    return struct.pack({U32: "<I", I32: "<i", F32: "<f"}[kind], value)


def field(key: str, kind: int, value) -> bytes:
    head = text(key)
    if isinstance(value, list):
        items = b"".join(text(v) if kind == STRING else number(kind, v) for v in value)
        return head + struct.pack("<IIQ", ARRAY, kind, len(value)) + items
    return head + struct.pack("<I", kind) + (text(value) if kind == STRING else number(kind, value))


def read_tensors(directory: Path) -> dict[str, np.ndarray]:
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        raw = path.read_bytes()
        (size,) = struct.unpack("<Q", raw[:8])
        for name, entry in json.loads(raw[8 : 8 + size]).items():
            if name == "__metadata__":
                continue
            if entry["dtype"] != "F16":
                sys.exit(f"{path}: {name} is {entry['dtype']}; expected F16")
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(raw[begin:end], np.float16).reshape(entry["shape"])
    return tensors


def interleaved(x: np.ndarray, n_heads: int) -> np.ndarray:
    """llama.cpp rotates neighbours, the checkpoint halves of a head."""
    return x.reshape(n_heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def renamed(name: str) -> str:
    fixed = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem, kind = name.rsplit(".", 1)
    if stem in fixed:
        return f"{fixed[stem]}.{kind}"
    _, _, layer, *rest = stem.split(".")
    parts = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
             "o_proj": "attn_output"}  # fmt: skip
    part = parts.get(rest[-1])
    if part is None:
        prefix = "attn" if rest[0] == "self_attn" else "ffn"
        part = f"{prefix}_{rest[-1].removesuffix('_proj')}"
    return f"blk.{layer}.{part}.{kind}"


def tokenizer_fields(directory: Path, n_vocab: int) -> list[bytes]:
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    tokens, types = [f"[unused{i}]" for i in range(n_vocab)], [NORMAL] * n_vocab
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i] = token
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], CONTROL
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    return [
        field("tokenizer.ggml.model", STRING, "gpt2"),
        field("tokenizer.ggml.pre", STRING, "llama-bpe"),
        field("tokenizer.ggml.tokens", STRING, tokens),
        field("tokenizer.ggml.token_type", I32, types),
        field("tokenizer.ggml.merges", STRING, merges),
    ]


def model_fields(c: dict, name: str) -> list[bytes]:
    n_heads = c["num_attention_heads"]
    head_dim = c.get("head_dim") or c["hidden_size"] // n_heads
    rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default":
        sys.exit(f"RoPE of type {rope['rope_type']}; expected default")
    numbers = {
        "context_length": c["max_position_embeddings"],
        "embedding_length": c["hidden_size"],
        "block_count": c["num_hidden_layers"],
        "feed_forward_length": c["intermediate_size"],
        "attention.head_count": n_heads,
        "attention.head_count_kv": c.get("num_key_value_heads", n_heads),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
        "vocab_size": c["vocab_size"],
    }
    theta = rope.get("rope_theta") or c.get("rope_theta", 10000.0)
    return [
        field("general.architecture", STRING, "llama"),
        field("general.name", STRING, name),
        field("general.file_type", U32, 1),
        *(field(f"llama.{key}", U32, value) for key, value in numbers.items()),
        field("llama.attention.layer_norm_rms_epsilon", F32, c["rms_norm_eps"]),
        field("llama.rope.freq_base", F32, theta),
        field("tokenizer.ggml.bos_token_id", U32, c["bos_token_id"]),
        field("tokenizer.ggml.eos_token_id", U32, c["eos_token_id"]),
    ]


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    directory, target = Path(sys.argv[1]), Path(sys.argv[2])
    c = json.loads((directory / "config.json").read_text())
    if c["architectures"] != ["LlamaForCausalLM"]:
        sys.exit(f"{directory}: {c['architectures']}; expected a Llama")
    fields = model_fields(c, directory.name) + tokenizer_fields(directory, c["vocab_size"])
    n_heads = {"q_proj": c["num_attention_heads"], "k_proj": c.get("num_key_value_heads")}
    infos, blobs, offset = [], [], 0
    for name, tensor in read_tensors(directory).items():
        part = name.split(".")[-2]
        if part in n_heads:
            tensor = interleaved(tensor, n_heads[part] or c["num_attention_heads"])
        kind = TENSOR_F16 if tensor.ndim == 2 else TENSOR_F32
        data = np.ascontiguousarray(tensor, np.float16 if kind == TENSOR_F16 else np.float32)
        shape = tensor.shape[::-1]
        infos.append(
            text(renamed(name))
            + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            + struct.pack("<IQ", kind, offset)
        )
        blob = data.tobytes()
        blobs.append(blob + bytes(-len(blob) % ALIGNMENT))
        offset += len(blobs[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(fields)) + b"".join(fields + infos)
    target.write_bytes(head + bytes(-len(head) % ALIGNMENT) + b"".join(blobs))


if __name__ == "__main__":
    main()
