"""Random models and what is asked of them, each a function of its seed.

A case is small enough to be computed in float64 within seconds and odd enough to meet what the
usual sizes never meet. Compiling its kernels is what a case costs, so it is used for eight runs.
"""

import dataclasses
import json
import math

import numpy as np

FAMILIES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "GraniteForCausalLM",
    "Phi3ForCausalLM",
    "Olmo2ForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
)
# Tiles are powers of two: at them, beside them, and far from them. Families and these take turns:
# ten seeds in a row meet all of them and, since their numbers have no divisor in common, as many as
# there are pairs meet every pair.
HEAD_DIMS = (
    (16, 18, 20, 24),
    (32, 36, 48, 50),
    (64,),
    (66, 80, 96, 100),
    (112, 120),
    (128,),
    (130, 144, 160),
    (176, 192, 200, 224),
    (256,),
    tuple(range(16, 258, 2)),
)
MIN_VOCAB, MAX_VOCAB = 33, 300_000
MAX_LAYERS = 4
MAX_HEADS = 32
MAX_PROMPT_TOKENS = 700
MAX_NEW_TOKENS = 12
MAX_BATCH = 20
# What keeps a float64 pass in seconds: elements of all heads, of a projection, of the embedding, of
# the logits of a run, tokens of a run.
MAX_HEAD_ELEMENTS = 2048
MAX_PROJECTION = 400_000
MAX_EMBEDDING = 8_000_000
MAX_LOGITS = 6_000_000
MAX_RUN_TOKENS = 1500


@dataclasses.dataclass(frozen=True)
class Pool:
    """Sizes and types that cases share: each pair of them costs two dozen kernels to compile.

    They lie on and off the borders of vectors and tiles; heads, windows, vocabularies are free.
    """

    hidden: tuple = (50, 72, 77, 96, 130, 192, 245, 320, 333, 480, 640)
    inner: tuple = (5, 48, 99, 250, 352, 501, 1000)
    dtypes: tuple = ("float16", "float16", "float16", "bfloat16", "bfloat16", "float32")
    free_share: float = 0.2  # of sizes that are drawn from all


WIDE = Pool()


@dataclasses.dataclass(frozen=True)
class Scales:
    """How large weights are; matrices are relative to what keeps the size of their input."""

    embedding: float = 1.0
    matrix: float = 1.0
    head: float = 1.0
    norm_spread: float = 0.2  # of norms' weights around 1
    bias: float = 0.3


@dataclasses.dataclass(frozen=True)
class Run:
    """One call of the program."""

    command: str  # score | generate
    mode: str  # eager | compiled | graph
    prompt_lengths: tuple
    batch_size: int
    max_batch_tokens: int
    n_new: int = 0
    kv_blocks: int = 0  # 0: enough for all
    sampling: dict = dataclasses.field(default_factory=dict)  # of temperature, top_k, ...


@dataclasses.dataclass(frozen=True)
class Case:
    seed: int
    config: dict
    scales: Scales
    runs: tuple
    kv_cache: str = "auto"  # | fp8

    def __str__(self):
        runs = "\n".join(f"  {json.dumps(dataclasses.asdict(run))}" for run in self.runs)
        scales = json.dumps(dataclasses.asdict(self.scales))
        head = f"seed {self.seed}, cache {self.kv_cache}"
        return f"{head}\n{json.dumps(self.config)}\n{scales}\n{runs}"


def rng_of(seed, *what):
    """Random numbers of its own for each thing drawn, so that dropping one leaves the others."""
    return np.random.default_rng([seed, *(b for text in what for b in str(text).encode())])


def log_uniform(rng, low, high):
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def log_integer(rng, low, high):
    return min(high, int(log_uniform(rng, low, high + 1)))


def chance(rng, probability):
    return bool(rng.random() < probability)


def pick(rng, values):
    """One of the values, as the Python object that it is."""
    return values[int(rng.integers(len(values)))]


def head_dim_of(config):
    return config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])


def draw_case(seed, pool=WIDE):
    rng = rng_of(seed, "case")
    config = draw_config(rng, pool, seed)
    kv_cache = pick(rng_of(seed, "cache"), ("auto", "auto", "fp8"))
    return Case(seed, config, draw_scales(rng, config), draw_runs(rng, config), kv_cache)


def draw_size(rng, sizes, limit, free_share):
    """One of the sizes, or any, up to a limit; the limit where all are larger."""
    fitting = [size for size in sizes if size <= limit]
    if not fitting:
        return limit
    return log_integer(rng, min(sizes), limit) if chance(rng, free_share) else pick(rng, fitting)


def draw_config(rng, pool, turn):
    family = FAMILIES[turn % len(FAMILIES)]
    head_dim = pick(rng, HEAD_DIMS[turn % len(HEAD_DIMS)])
    n_heads = log_integer(rng, 1, min(MAX_HEADS, MAX_HEAD_ELEMENTS // head_dim))
    n_kv_heads = pick(rng, [n for n in range(1, n_heads + 1) if n_heads % n == 0])
    if chance(rng, 0.12):
        vocab_size = int(rng.integers(100_000, MAX_VOCAB + 1))
    else:
        vocab_size = log_integer(rng, MIN_VOCAB, 40_000)
    q_size = n_heads * head_dim
    hidden_limit = min(640, MAX_PROJECTION // q_size, MAX_EMBEDDING // vocab_size)
    hidden_size = draw_size(rng, pool.hidden, hidden_limit, pool.free_share)
    config = {"architectures": [family], "num_attention_heads": n_heads}
    may_omit_kv_heads = not family.startswith(("Mistral", "Qwen", "Gemma"))
    if n_kv_heads != n_heads or not may_omit_kv_heads or chance(rng, 0.5):
        config["num_key_value_heads"] = n_kv_heads
    has_default_size = family.startswith(("Qwen3", "Gemma"))
    if not has_default_size and q_size <= hidden_limit and chance(rng, pool.free_share):
        hidden_size = q_size
        if chance(rng, 0.5):
            config["head_dim"] = head_dim
    else:
        config["head_dim"] = head_dim
    config |= {
        "hidden_size": hidden_size,
        "intermediate_size": draw_size(
            rng, pool.inner, MAX_PROJECTION // hidden_size, pool.free_share
        ),
        "num_hidden_layers": int(rng.integers(1, MAX_LAYERS + 1)),
        "vocab_size": vocab_size,
        "max_position_embeddings": pick(rng, (712, 768, 1024, 2048, 4096)),
        "rms_norm_eps": pick(rng, (1e-6, 1e-5, 1e-3)),
        "tie_word_embeddings": chance(rng, 0.5),
        pick(rng, ("dtype", "torch_dtype")): pick(rng, pool.dtypes),
    }
    return config | draw_rope(rng, config) | draw_windows(rng, config) | draw_parts(rng, config)


def draw_theta(rng):
    return pick(rng, (10_000.0, 500_000.0, 1_000_000.0, round(log_uniform(rng, 100, 1e7), 3)))


def draw_rope(rng, config):
    kinds = ("default", "linear", "llama3", "yarn", "dynamic")
    if config["architectures"][0] == "Phi3ForCausalLM":
        kinds = ("default", "longrope")
    kind = pick(rng, kinds)
    fields = rope_fields(rng, kind, draw_theta(rng), head_dim_of(config))
    if config["architectures"][0] == "Gemma3ForCausalLM":
        return of_both_kinds(rng, fields, draw_theta(rng))
    # No text is longer than the first context: what counts beyond it is not supported.
    return fields | ({"original_max_position_embeddings": 712} if kind == "longrope" else {})


def of_both_kinds(rng, fields, theta):
    """The fields are those of layers without a window; the theta that of the others."""
    if "rope_parameters" not in fields:
        return fields | pick(rng, ({}, {"rope_local_base_freq": theta}))
    windowed = pick(rng, ({"rope_type": "default"}, {"rope_type": "linear", "factor": 2.0}))
    kinds = {
        "full_attention": fields["rope_parameters"],
        "sliding_attention": windowed | {"rope_theta": theta},
    }
    return {"rope_parameters": kinds}


def rope_fields(rng, kind, theta, head_dim):
    """In one of the forms that the years have had."""
    rope = {"rope_type": kind}
    if kind == "longrope":
        rope["short_factor"] = [round(float(f), 3) for f in rng.uniform(1, 4, head_dim // 2)]
        rope["long_factor"] = [2 * f for f in rope["short_factor"]]
        rope |= pick(rng, ({}, {"attention_factor": 1.3}))
    elif kind != "default":
        rope["factor"] = pick(rng, (1.0, 2.0, 2.5, 8.0, 32.0))
    if kind == "llama3":
        rope["low_freq_factor"] = pick(rng, (1.0, 2.0))
        rope["high_freq_factor"] = pick(rng, (4.0, 5.5))
        rope["original_max_position_embeddings"] = pick(rng, (16, 64, 300, 8192))
    if kind == "yarn":
        rope["original_max_position_embeddings"] = pick(rng, (16, 64, 300))
        rope |= pick(rng, ({}, {"beta_fast": 8, "beta_slow": 2}, {"truncate": False}))
        rope |= pick(rng, ({}, {"attention_factor": 1.3}, {"mscale": 0.7, "mscale_all_dim": 1.2}))
    form = pick(rng, ("new", "old", "oldest"))
    if form == "new":
        return {"rope_parameters": rope | {"rope_theta": theta}}
    if kind == "default":
        return {"rope_theta": theta}
    if form == "oldest":
        rope["type"] = rope.pop("rope_type")
    return {"rope_theta": theta, "rope_scaling": rope}


def draw_windows(rng, config):
    family, n_layers = config["architectures"][0], config["num_hidden_layers"]
    window = pick(
        rng,
        (
            log_integer(rng, 1, 16),
            log_integer(rng, 8, 130),
            log_integer(rng, 8, 130),
            log_integer(rng, 60, 1200),
        ),
    )
    if family in ("MistralForCausalLM", "Phi3ForCausalLM"):
        kind = rng.random()
        if kind < 0.1:
            return {}
        return {"sliding_window": None if kind < 0.2 else window}
    kinds = ("full_attention", "sliding_attention")
    if family.startswith("Gemma"):
        fields = pick(rng, ({}, {"layer_types": [pick(rng, kinds) for _ in range(n_layers)]}))
        if family == "Gemma3ForCausalLM":
            fields |= pick(rng, ({}, {"sliding_window_pattern": 2}, {"sliding_window_pattern": 3}))
        return fields | ({} if chance(rng, 0.1) else {"sliding_window": window})
    if not family.startswith("Qwen"):
        return {}
    if chance(rng, 0.15):
        return {"use_sliding_window": False, "sliding_window": window, "max_window_layers": 1}
    fields = {"use_sliding_window": True, "sliding_window": window}
    if chance(rng, 0.5):
        return fields | {"layer_types": [pick(rng, kinds) for _ in range(n_layers)]}
    return fields | {"max_window_layers": int(rng.integers(0, n_layers))}


def draw_parts(rng, config):
    """Biases and multipliers, where the family has them."""
    family, fields = config["architectures"][0], {}
    if family not in ("MistralForCausalLM", "Qwen2ForCausalLM", "Phi3ForCausalLM"):
        fields["attention_bias"] = chance(rng, 0.4)
    if family.startswith("Gemma"):
        fields["query_pre_attn_scalar"] = pick(rng, (head_dim_of(config), 100, 256))
        cap = round(log_uniform(rng, 0.5, 50), 3)
        fields |= pick(rng, ({}, {"final_logit_softcapping": cap}))
    if family == "Gemma2ForCausalLM":
        fields |= pick(rng, ({}, {"attn_logit_softcapping": round(log_uniform(rng, 1, 50), 3)}))
    if family in ("LlamaForCausalLM", "GraniteForCausalLM"):
        fields["mlp_bias"] = chance(rng, 0.4)
    if family == "GraniteForCausalLM":
        fields["embedding_multiplier"] = round(log_uniform(rng, 0.3, 15), 3)
        fields["residual_multiplier"] = round(log_uniform(rng, 0.1, 1.2), 3)
        fields["logits_scaling"] = pick(rng, (0.5, 1.0, 3.0, 8.0, 16.0))
        fields["attention_multiplier"] = round(
            log_uniform(rng, 0.3, 2) * head_dim_of(config) ** -0.5, 5
        )
    return fields


def draw_scales(rng, config):
    """Of several sizes, and so that what any layer adds shows in the logits."""
    is_scaled = config["architectures"][0].startswith("Gemma")
    default = math.sqrt(config["hidden_size"]) if is_scaled else 1.0
    share = config.get("residual_multiplier", 1.0) / config.get("embedding_multiplier", default)
    return Scales(
        embedding=pick(rng, (0.02, 0.3, 1.0, 2.0)) * share,
        matrix=pick(rng, (0.6, 1.0, 1.0, 1.6)),
        head=pick(rng, (0.5, 1.0, 3.0)) * config.get("logits_scaling", 1.0),
        norm_spread=pick(rng, (0.0, 0.2, 0.5)),
        bias=pick(rng, (0.05, 0.3, 1.0)),
    )


def draw_lengths(rng, n, limit):
    """Prompts from one token to the limit, short ones and some as long as a tile among them."""
    lengths = []
    for _ in range(n):
        kind = rng.random()
        if kind < 0.35:
            length = int(rng.integers(1, 17))
        elif kind < 0.55:
            length = pick(rng, (31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257))
        else:
            length = log_integer(rng, 17, MAX_PROMPT_TOKENS)
        lengths.append(max(1, min(length, limit - sum(lengths) - (n - len(lengths) - 1))))
    return tuple(lengths)


def draw_runs(rng, config):
    """Both phases and both tails in every mode, in one chunk and in several, alone and together."""
    score_limit = min(MAX_PROMPT_TOKENS, max(2, MAX_LOGITS // config["vocab_size"]))

    def score(mode, lengths, step_tokens):
        n = min(score_limit, int(rng.integers(lengths[0], lengths[1] + 1)))
        step_tokens = step_tokens or n
        return Run("score", mode, (n,), step_tokens, step_tokens)

    def generate(mode, n_prompts, batch_size, max_batch_tokens, **more):
        lengths = draw_lengths(rng, n_prompts, MAX_RUN_TOKENS)
        n_new = int(rng.integers(1, MAX_NEW_TOKENS + 1))
        return Run("generate", mode, lengths, batch_size, max_batch_tokens, n_new, **more)

    any_mode = ("eager", "compiled", "graph")
    many = int(rng.integers(5, MAX_BATCH + 1))
    sampling = {"temperature": pick(rng, (0.3, 1.0, 1.7)), "seed": int(rng.integers(1, 1000))}
    sampling |= pick(rng, ({}, {"top_k": int(rng.integers(1, 12))}, {"top_p": 0.7}, {"min_p": 0.2}))
    penalty = {"temperature": 0.0, "repetition_penalty": pick(rng, (0.8, 1.0, 1.3, 2.0))}
    if rng.random() < 0.5:
        penalty |= {
            "presence_penalty": pick(rng, (-0.5, 0.0, 2.0)),
            "frequency_penalty": pick(rng, (-0.25, 0.5)),
        }
    most_context = -(-(MAX_PROMPT_TOKENS + MAX_NEW_TOKENS) // 64)
    return (
        score("eager", (200, MAX_PROMPT_TOKENS), None),
        score("compiled", (130, MAX_PROMPT_TOKENS), int(rng.integers(2, 200))),
        score(pick(rng, any_mode), (66, 150), 1),
        generate("eager", int(rng.integers(1, 5)), 64, 1024),
        generate("graph", many, many, int(rng.integers(many, 300))),
        generate(pick(rng, any_mode), 3, int(rng.integers(1, 4)), 512, sampling=sampling),
        generate(pick(rng, any_mode), 3, 3, 129, sampling=penalty),
        generate("compiled", 6, 6, 256, kv_blocks=most_context + int(rng.integers(0, 3))),
    )
