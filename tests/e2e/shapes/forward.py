"""A float64 forward pass of every family in numpy: what the program's numbers are compared with.

It is written from the published definition of the models and shares nothing with the program. It
is itself held against PyTorch's logits of the fixtures (shapes_test.py).

Values that a program stores may be rounded to the type it stores them in: how far the logits then
move is what that alone costs.
"""

import dataclasses

import numpy as np

BF16_DROPPED_BITS = 16


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is true of every model of a family."""

    norms: str = "before"  # | after | around: attention and feed-forward
    one_plus: bool = False  # a norm multiplies by 1 + its weight
    qk_norm: str | None = None  # of each "head", of a whole "row"
    is_fused: bool = False  # q, k and v are one matrix, gate and up another
    is_gelu: bool = False  # the gate's activation; else silu
    is_embedding_scaled: bool = False  # by sqrt(hidden_size)
    is_tied: bool = False  # where config.json does not say
    eps: float = 1e-6
    window: int | None = None  # where config.json has no sliding_window
    window_pattern: int | None = None  # every n-th layer has none
    softcaps: tuple | None = None  # of scores and logits, where config.json does not say
    window_theta: float | None = None  # rotary positions of layers with a window are others
    theta: float = 10_000.0


GEMMA = Facts(
    norms="around",
    one_plus=True,
    is_gelu=True,
    is_embedding_scaled=True,
    is_tied=True,
    window=4096,
)
FAMILIES = {
    "LlamaForCausalLM": Facts(),
    "MistralForCausalLM": Facts(window=4096),
    "Qwen2ForCausalLM": Facts(),
    "Qwen3ForCausalLM": Facts(qk_norm="head"),
    "GraniteForCausalLM": Facts(),
    "Phi3ForCausalLM": Facts(is_fused=True, eps=1e-5),
    "Olmo2ForCausalLM": Facts(norms="after", qk_norm="row", eps=1e-5),
    "Gemma2ForCausalLM": dataclasses.replace(GEMMA, window_pattern=2, softcaps=(50.0, 30.0)),
    "Gemma3ForCausalLM": dataclasses.replace(
        GEMMA,
        qk_norm="head",
        window_pattern=6,
        softcaps=(None, None),
        theta=1_000_000.0,
        window_theta=10_000.0,
    ),
}


def facts_of(config):
    return FAMILIES[config["architectures"][0]]


def is_tied(config):
    return config.get("tie_word_embeddings", facts_of(config).is_tied)


def bf16_bits(array):
    """The array rounded to nearest even, as the upper half of its float32 bits."""
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> BF16_DROPPED_BITS) & 1)) >> BF16_DROPPED_BITS).astype(
        np.uint16
    )


def widened(dtype, array):
    """A stored tensor's values in float64."""
    if dtype == "BF16":
        array = (array.astype(np.uint32) << BF16_DROPPED_BITS).view(np.float32)
    return array.astype(np.float64)


def rounder(dtype):
    """A function that rounds float64 values to a type of safetensors; None: leaves them."""
    if dtype is None:
        return lambda x: x
    if dtype == "F16":
        return lambda x: x.astype(np.float16).astype(np.float64)
    if dtype == "BF16":
        return lambda x: widened("BF16", bf16_bits(x))
    if dtype == "F8_E4M3":
        return rounded_to_e4m3
    return lambda x: x.astype(np.float32).astype(np.float64)


def rounded_to_e4m3(x):
    """To three bits behind the first, no finer than the smallest normal number's and no larger than
    448, the largest."""
    size = np.minimum(np.abs(x), 448.0)
    exponent = np.maximum(np.frexp(size)[1] - 1, -6)
    unit = np.ldexp(1.0, exponent - 3)
    return np.copysign(np.minimum(np.round(size / unit) * unit, 448.0), x)


def rows_in_e4m3(x):
    scale = np.abs(x).max(axis=-1, keepdims=True) / 448.0
    return rounded_to_e4m3(x / scale) * scale


def first_of(*values):
    return next((value for value in values if value is not None), None)


def rope_of(config, has_window):
    """What config.json says of a layer's rotary positions, in one form."""
    facts = facts_of(config)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = first_of(config.get("rope_theta"), facts.theta)
    if facts.window_theta is not None:
        if has_window:
            theta = first_of(config.get("rope_local_base_freq"), facts.window_theta)
            kind = "sliding_attention"
        else:
            kind = "full_attention"
        if config.get("rope_parameters"):
            rope = rope.get(kind, {})
        elif has_window:
            rope = {}
    rope = {"rope_theta": theta} | rope
    rope["rope_type"] = first_of(rope.get("rope_type"), rope.get("type"), "default")
    first_context = first_of(
        rope.get("original_max_position_embeddings"),
        config.get("original_max_position_embeddings"),
        config["max_position_embeddings"],
    )
    return rope | {"first_context": first_context}


def stretch_of(rope, config):
    return first_of(rope.get("factor"), config["max_position_embeddings"] / rope["first_context"])


def inverse_frequencies(rope, config, head_dim):
    """Radians a position for each pair of elements of a head."""
    theta, kind = rope["rope_theta"], rope["rope_type"]
    frequencies = theta ** (-2.0 * np.arange(head_dim // 2) / head_dim)
    if kind == "linear":
        return frequencies / rope["factor"]
    if kind == "llama3":
        # Waves that fit often into the first context are kept, those that hardly fit are stretched.
        turns = rope["first_context"] * frequencies / (2 * np.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return kept * frequencies + (1.0 - kept) * frequencies / rope["factor"]
    if kind == "yarn" and not facts_of(config).is_fused:
        return yarn_frequencies(rope, config, frequencies)
    if kind in ("longrope", "su", "yarn"):
        # Of texts within the first context.
        return frequencies / np.array(rope["short_factor"])
    # "dynamic" stretches only what goes past the model's context.
    if kind not in ("default", "dynamic"):
        raise ValueError(f"rope type {kind}")
    return frequencies


def yarn_frequencies(rope, config, frequencies):
    """YaRN (Peng et al. 2023, as transformers computes it): pairs that turn more than beta_fast
    times within the first context are kept, those that turn less than beta_slow times stretched."""
    head_dim = 2 * len(frequencies)

    def pair_that_turns(n_times):
        turns = rope["first_context"] / (n_times * 2 * np.pi)
        return head_dim * np.log(turns) / (2 * np.log(rope["rope_theta"]))

    low, high = (pair_that_turns(rope.get(*each)) for each in (("beta_fast", 32), ("beta_slow", 1)))
    if rope.get("truncate", True):
        low, high = np.floor(low), np.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    high = high + 0.001 if low == high else high
    stretched = np.clip((np.arange(head_dim // 2) - low) / (high - low), 0.0, 1.0)
    return frequencies * (1.0 - stretched) + frequencies / stretch_of(rope, config) * stretched


def rope_scale_of(rope, config):
    """What turned queries and keys are multiplied by: other than 1 for YaRN and longrope only."""
    kind = rope["rope_type"]
    if kind not in ("yarn", "longrope", "su"):
        return 1.0
    if "attention_factor" in rope:
        return rope["attention_factor"]
    factor = stretch_of(rope, config)
    if kind != "yarn" or facts_of(config).is_fused:
        return np.sqrt(1.0 + np.log(factor) / np.log(rope["first_context"])) if factor > 1 else 1.0

    def scale(weight):
        return 0.1 * weight * np.log(factor) + 1.0 if factor > 1 else 1.0

    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return scale(rope["mscale"]) / scale(rope["mscale_all_dim"])
    return scale(1.0)


def windows_of(config):
    """For each layer how many keys a query sees, itself included; None: all before it."""
    n_layers, facts = config["num_hidden_layers"], facts_of(config)
    architecture = config["architectures"][0]
    window = config.get("sliding_window", facts.window)
    if architecture in ("MistralForCausalLM", "Phi3ForCausalLM"):
        return [window] * n_layers
    is_qwen = architecture.startswith("Qwen") and config.get("use_sliding_window")
    if not is_qwen and facts.window_pattern is None:
        return [None] * n_layers

    def kind_of(layer):
        if is_qwen:
            has_window = layer >= config["max_window_layers"]
        else:
            has_window = (layer + 1) % config.get(
                "sliding_window_pattern", facts.window_pattern
            ) != 0
        return "sliding_attention" if has_window else "full_attention"

    types = config.get("layer_types") or [kind_of(layer) for layer in range(n_layers)]
    return [window if kind == "sliding_attention" else None for kind in types]


def soft_capped(x, cap):
    return cap * np.tanh(x / cap) if cap else x


class Model:
    """A config.json (as a dict) and its tensors {name: (dtype, array)}.

    `activations`, `cache` (keys and values) and `frequencies`: the types those are rounded to;
    None: not at all. `has_fp8_products`: rows that matrices multiply are those of e4m3 times the
    448th part of their largest number. A cache of F8_E4M3 is divided by the tensors k_scale and
    v_scale of the layer before, where there are such.
    """

    def __init__(
        self, config, tensors, activations=None, cache=None, frequencies=None,
        has_fp8_products=False,
    ):  # fmt: skip
        self.config, self.facts = config, facts_of(config)
        self.weights = {name: widened(*tensor) for name, tensor in tensors.items()}
        self.round, self.round_cache = rounder(activations), rounder(cache)
        self.round_rows = rows_in_e4m3 if has_fp8_products else rounder(None)
        self.n_heads = config["num_attention_heads"]
        self.n_kv_heads = first_of(config.get("num_key_value_heads"), self.n_heads)
        self.head_dim = first_of(config.get("head_dim"), config["hidden_size"] // self.n_heads)
        self.windows = windows_of(config)
        self.turns = []  # of each layer: frequencies, and the scale of what is turned
        for window in self.windows:
            rope = rope_of(config, window is not None)
            table = rounder(frequencies)(inverse_frequencies(rope, config, self.head_dim))
            self.turns.append((table, rope_scale_of(rope, config)))
        if self.facts.is_fused:
            self._split_matrices()
        query_scalar = config.get("query_pre_attn_scalar", self.head_dim)
        # Fields of Granite; other families have none of these names.
        self.attention_scale = config.get("attention_multiplier", query_scalar**-0.5)
        self.residual_scale = config.get("residual_multiplier", 1.0)
        self.embedding_scale = config.get("embedding_multiplier", 1.0)
        if self.facts.is_embedding_scaled:
            self.embedding_scale = self.round(np.sqrt(np.array(float(config["hidden_size"]))))
        self.score_cap = self.logit_cap = None
        if self.facts.softcaps is not None:
            score_cap, logit_cap = self.facts.softcaps
            self.score_cap = config.get("attn_logit_softcapping", score_cap)
            self.logit_cap = config.get("final_logit_softcapping", logit_cap)

    @staticmethod
    def numbers(tensors):
        """Of weights in e4m3, each with a weight_scale, the tensors that these stand for."""
        codes = np.arange(0x80)
        exponent, fraction = codes >> 3, codes & 7
        sizes = np.ldexp(np.where(exponent, 8.0, 0.0) + fraction, np.maximum(exponent, 1) - 10)
        table = np.concatenate([sizes, -sizes])
        plain = dict(tensors)
        for name, (dtype, array) in tensors.items():
            if dtype == "F8_E4M3":
                scale = widened(*plain.pop(f"{name}_scale"))
                plain[name] = ("F64", table[array] * scale)
        return plain

    def _split_matrices(self):
        """The parts of fused projections under the names that other families have."""
        q_size, kv_size = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        inner = self.config["intermediate_size"]
        for layer in range(self.config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            qkv = self.weights[prefix + "self_attn.qkv_proj.weight"]
            q, k, v = np.split(qkv, [q_size, q_size + kv_size])
            gate, up = np.split(self.weights[prefix + "mlp.gate_up_proj.weight"], [inner])
            for name, part in (("q", q), ("k", k), ("v", v)):
                self.weights[f"{prefix}self_attn.{name}_proj.weight"] = part
            for name, part in (("gate", gate), ("up", up)):
                self.weights[f"{prefix}mlp.{name}_proj.weight"] = part

    def logits(self, ids, rows=slice(None)):
        """[rows, V]: after each of the ids what comes next."""
        weights, config = self.weights, self.config
        x = self.round(weights["model.embed_tokens.weight"][np.asarray(ids)] * self.embedding_scale)
        for layer in range(config["num_hidden_layers"]):
            x = self._block(x, layer)
        x = self._norm(x[rows], "model.norm")
        head = "model.embed_tokens" if is_tied(config) else "lm_head"
        logits = (
            self.round_rows(x) @ weights[head + ".weight"].T / config.get("logits_scaling", 1.0)
        )
        return soft_capped(logits, self.logit_cap)

    def _block(self, x, layer):
        prefix = f"model.layers.{layer}."
        attend_norms, forward_norms = {
            "before": (("input_layernorm", None), ("post_attention_layernorm", None)),
            "after": ((None, "post_attention_layernorm"), (None, "post_feedforward_layernorm")),
            "around": (
                ("input_layernorm", "post_attention_layernorm"),
                ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
            ),
        }[self.facts.norms]

        def added(x, norms, compute):
            before, after = norms
            h = self._norm(x, prefix + before) if before else x
            h = compute(h)
            h = self._norm(h, prefix + after) if after else h
            return self.round(x + h * self.residual_scale)

        x = added(x, attend_norms, lambda h: self._attention(h, prefix + "self_attn.", layer))
        return added(x, forward_norms, lambda h: self._feed_forward(h, prefix + "mlp."))

    def _norm(self, x, name):
        eps = self.config.get("rms_norm_eps", self.facts.eps)
        mean = np.mean(x * x, axis=-1, keepdims=True)
        factor = self.weights[name + ".weight"] + (1.0 if self.facts.one_plus else 0.0)
        return self.round(x / np.sqrt(mean + eps) * factor)

    def _linear(self, x, name):
        y = self.round_rows(x) @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return self.round(y if bias is None else y + bias)

    def _heads(self, x, name, n_heads, norm_name=None):
        """[T, E] -> [heads, T, Dh]"""
        x = self._linear(x, name)
        if norm_name and self.facts.qk_norm == "row":
            x = self._norm(x, norm_name)
        x = x.reshape(len(x), n_heads, self.head_dim)
        if norm_name and self.facts.qk_norm == "head":
            x = self._norm(x, norm_name)
        return x.transpose(1, 0, 2)

    def _turned(self, x, layer):
        frequencies, scale = self.turns[layer]
        angle = np.arange(x.shape[1])[:, None] * frequencies
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        low, high = np.split(x, 2, axis=-1)
        return self.round(np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1))

    def _attention(self, x, prefix, layer):
        q = self._heads(x, prefix + "q_proj", self.n_heads, prefix + "q_norm")
        k = self._heads(x, prefix + "k_proj", self.n_kv_heads, prefix + "k_norm")
        v = self._heads(x, prefix + "v_proj", self.n_kv_heads)
        q, k = self._turned(q, layer), self._turned(k, layer)
        k_scale, v_scale = (
            self.weights.get(f"{prefix}{name}_scale", np.ones(1)).item() for name in "kv"
        )
        k, v = self.round_cache(k / k_scale) * k_scale, self.round_cache(v / v_scale) * v_scale
        n_tokens, window = len(x), self.windows[layer]
        behind = np.arange(n_tokens)[:, None] - np.arange(n_tokens)
        is_seen = (behind >= 0) & (behind < (window or n_tokens))
        out = np.empty((n_tokens, self.n_heads, self.head_dim))
        for head in range(self.n_heads):
            kv_head = head * self.n_kv_heads // self.n_heads
            scores = soft_capped(q[head] @ k[kv_head].T * self.attention_scale, self.score_cap)
            scores = np.where(is_seen, scores, -np.inf)
            p = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, head] = p @ v[kv_head] / p.sum(axis=-1, keepdims=True)
        return self._linear(self.round(out.reshape(n_tokens, -1)), prefix + "o_proj")

    def _feed_forward(self, x, prefix):
        gate, up = self._linear(x, prefix + "gate_proj"), self._linear(x, prefix + "up_proj")
        if self.facts.is_gelu:
            turned = np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))
            gate = 0.5 * gate * (1.0 + turned)
        else:
            gate = gate / (1.0 + np.exp(-gate))
        return self._linear(self.round(gate * up), prefix + "down_proj")


def log_softmax(logits):
    largest = logits.max(axis=-1, keepdims=True)
    return logits - largest - np.log(np.exp(logits - largest).sum(axis=-1, keepdims=True))
