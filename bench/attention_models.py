#!/usr/bin/env python3
"""Models of one layer of Llama3-8B's shape, one a variant of attention: what
`nereid bench attention` measures where the rivals are asked for a variant.

    python3 bench/attention_models.py --out build/attention

Each is a family's config.json and nothing else: Gemma 2 caps scores, Mistral has windows. They go
as far as the longest of the sizes. The names end in the variant, by which
bench/attention_figures.py knows the rows. No family has ALiBi.
"""

import argparse
import json
from pathlib import Path

from attention_cells import LENGTHS, SOFTCAP, WINDOW, Shape

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = {
    "causal": {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
    "softcap": {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "hidden_activation": "gelu_pytorch_tanh",
        "attn_logit_softcapping": SOFTCAP,
        "final_logit_softcapping": None,
        "query_pre_attn_scalar": Shape().head_dim,
        "sliding_window": 4096,
        "layer_types": ["full_attention"],
    },
    "window": {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "sliding_window": WINDOW,
    },
}
# What every family has of the model whose shape it is; the vocabulary is no part of this.
SHARED = (
    "head_dim", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
    "rms_norm_eps", "rope_theta", "torch_dtype",
)  # fmt: skip
VOCABULARY = 32_000


def config(variant: str, of: dict) -> dict:
    """config.json of the variant, in the shape of another model's."""
    return {
        **FAMILIES[variant],
        **{name: of[name] for name in SHARED},
        "num_hidden_layers": 1,
        "max_position_embeddings": 2 * max(LENGTHS),
        "tie_word_embeddings": True,
        "vocab_size": VOCABULARY,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "configs" / "llama3-8b")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    of = json.loads((args.model / "config.json").read_text())
    for variant in FAMILIES:
        folder = args.out / f"{args.model.name}-{variant}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config(variant, of), indent=1) + "\n")


if __name__ == "__main__":
    main()
