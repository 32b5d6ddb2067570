"""A float64 forward pass of every family in numpy: what the program's numbers are compared with.

It is written from the published definition of the models and shares nothing with the program. It
is itself held against PyTorch's logits of the fixtures (shapes_test.py).

Values that a program stores may be rounded to the type it stores them in: how far the logits then
move is what that alone costs.
"""

import numpy as np

BF16_DROPPED_BITS = 16
MISTRAL_WINDOW = 4096  # of the class, where config.json says nothing


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
    return lambda x: x.astype(np.float32).astype(np.float64)


def first_of(*values):
    return next((value for value in values if value is not None), None)


def inverse_frequencies(config, head_dim):
    """Radians a position for each pair of elements of a head."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = first_of(rope.get("rope_theta"), config.get("rope_theta"), 10000.0)
    kind = first_of(rope.get("rope_type"), rope.get("type"), "default")
    frequencies = theta ** (-2.0 * np.arange(head_dim // 2) / head_dim)
    if kind == "linear":
        return frequencies / rope["factor"]
    if kind == "llama3":
        # Waves that fit often into the first context are kept, those that hardly fit are stretched.
        turns = rope["original_max_position_embeddings"] * frequencies / (2 * np.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return kept * frequencies + (1.0 - kept) * frequencies / rope["factor"]
    if kind == "yarn":
        return yarn_frequencies(rope, frequencies, theta, config["max_position_embeddings"])
    # "dynamic" stretches only what goes past the model's context.
    if kind not in ("default", "dynamic"):
        raise ValueError(f"rope type {kind}")
    return frequencies


def yarn_frequencies(rope, frequencies, theta, max_position):
    """YaRN (Peng et al. 2023, as transformers computes it): pairs that turn more than beta_fast
    times within the first context are kept, those that turn less than beta_slow times stretched."""
    head_dim = 2 * len(frequencies)
    first_context = first_of(rope.get("original_max_position_embeddings"), max_position)
    factor = first_of(rope.get("factor"), max_position / first_context)

    def pair_that_turns(n_times):
        return head_dim * np.log(first_context / (n_times * 2 * np.pi)) / (2 * np.log(theta))

    low, high = (pair_that_turns(rope.get(*each)) for each in (("beta_fast", 32), ("beta_slow", 1)))
    if rope.get("truncate", True):
        low, high = np.floor(low), np.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    high = high + 0.001 if low == high else high
    stretched = np.clip((np.arange(head_dim // 2) - low) / (high - low), 0.0, 1.0)
    return frequencies * (1.0 - stretched) + frequencies / factor * stretched


def rope_scale_of(config):
    """What turned queries and keys are multiplied by: other than 1 for YaRN only."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if first_of(rope.get("rope_type"), rope.get("type")) != "yarn":
        return 1.0
    if "attention_factor" in rope:
        return rope["attention_factor"]
    max_position = config["max_position_embeddings"]
    first_context = first_of(rope.get("original_max_position_embeddings"), max_position)
    factor = first_of(rope.get("factor"), max_position / first_context)

    def scale(weight):
        return 0.1 * weight * np.log(factor) + 1.0 if factor > 1 else 1.0

    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return scale(rope["mscale"]) / scale(rope["mscale_all_dim"])
    return scale(1.0)


def windows_of(config):
    """For each layer how many keys a query sees, itself included; None: all before it."""
    n_layers, architecture = config["num_hidden_layers"], config["architectures"][0]
    if architecture == "MistralForCausalLM":
        return [config.get("sliding_window", MISTRAL_WINDOW)] * n_layers
    if not architecture.startswith("Qwen") or not config.get("use_sliding_window"):
        return [None] * n_layers
    types = config.get("layer_types") or [
        "sliding_attention" if layer >= config["max_window_layers"] else "full_attention"
        for layer in range(n_layers)
    ]
    return [config["sliding_window"] if kind == "sliding_attention" else None for kind in types]


class Model:
    """A config.json (as a dict) and its tensors {name: (dtype, array)}.

    `activations` and `cache` (keys and values): the types those are rounded to; None: not at all.
    """

    def __init__(self, config, tensors, activations=None, cache=None):
        self.config = config
        self.weights = {name: widened(*tensor) for name, tensor in tensors.items()}
        self.round, self.round_cache = rounder(activations), rounder(cache)
        self.n_heads = config["num_attention_heads"]
        self.n_kv_heads = first_of(config.get("num_key_value_heads"), self.n_heads)
        self.head_dim = first_of(config.get("head_dim"), config["hidden_size"] // self.n_heads)
        self.frequencies = inverse_frequencies(config, self.head_dim)
        self.rope_scale = rope_scale_of(config)
        self.windows = windows_of(config)
        # Fields of Granite; other families have none of these names.
        self.attention_scale = config.get("attention_multiplier", self.head_dim**-0.5)
        self.residual_scale = config.get("residual_multiplier", 1.0)

    def logits(self, ids, rows=slice(None)):
        """[rows, V]: after each of the ids what comes next."""
        weights, config = self.weights, self.config
        scale = config.get("embedding_multiplier", 1.0)
        x = self.round(weights["model.embed_tokens.weight"][np.asarray(ids)] * scale)
        for layer in range(config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            h = self._norm(x, prefix + "input_layernorm")
            h = self._attention(h, prefix + "self_attn.", self.windows[layer])
            x = self.round(x + h * self.residual_scale)
            h = self._norm(x, prefix + "post_attention_layernorm")
            x = self.round(x + self._feed_forward(h, prefix + "mlp.") * self.residual_scale)
        x = self._norm(x[rows], "model.norm")
        head = "model.embed_tokens" if config.get("tie_word_embeddings") else "lm_head"
        return x @ weights[head + ".weight"].T / config.get("logits_scaling", 1.0)

    def _norm(self, x, name):
        eps = self.config.get("rms_norm_eps", 1e-6)
        mean = np.mean(x * x, axis=-1, keepdims=True)
        return self.round(x / np.sqrt(mean + eps) * self.weights[name + ".weight"])

    def _linear(self, x, name):
        y = x @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return self.round(y if bias is None else y + bias)

    def _heads(self, x, name, n_heads, norm_name=None):
        """[T, E] -> [heads, T, Dh]"""
        x = self._linear(x, name).reshape(len(x), n_heads, self.head_dim)
        if norm_name and norm_name + ".weight" in self.weights:
            x = self._norm(x, norm_name)
        return x.transpose(1, 0, 2)

    def _turned(self, x):
        angle = np.arange(x.shape[1])[:, None] * self.frequencies
        cos, sin = self.rope_scale * np.cos(angle), self.rope_scale * np.sin(angle)
        low, high = np.split(x, 2, axis=-1)
        return self.round(np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1))

    def _attention(self, x, prefix, window):
        q = self._turned(self._heads(x, prefix + "q_proj", self.n_heads, prefix + "q_norm"))
        k = self._turned(self._heads(x, prefix + "k_proj", self.n_kv_heads, prefix + "k_norm"))
        v = self._heads(x, prefix + "v_proj", self.n_kv_heads)
        k, v = self.round_cache(k), self.round_cache(v)
        n_tokens = len(x)
        behind = np.arange(n_tokens)[:, None] - np.arange(n_tokens)
        is_seen = (behind >= 0) & (behind < (window or n_tokens))
        out = np.empty((n_tokens, self.n_heads, self.head_dim))
        for head in range(self.n_heads):
            kv_head = head * self.n_kv_heads // self.n_heads
            scores = np.where(is_seen, q[head] @ k[kv_head].T * self.attention_scale, -np.inf)
            p = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, head] = p @ v[kv_head] / p.sum(axis=-1, keepdims=True)
        return self._linear(self.round(out.reshape(n_tokens, -1)), prefix + "o_proj")

    def _feed_forward(self, x, prefix):
        gate, up = self._linear(x, prefix + "gate_proj"), self._linear(x, prefix + "up_proj")
        return self._linear(self.round(gate / (1.0 + np.exp(-gate)) * up), prefix + "down_proj")


def log_softmax(logits):
    largest = logits.max(axis=-1, keepdims=True)
    return logits - largest - np.log(np.exp(logits - largest).sum(axis=-1, keepdims=True))
