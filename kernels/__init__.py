"""The kernels: one file per operation, each ending in `SPEC` (see docs/formats.md, section 1)."""

# In the order of the listing that the engine embeds. A kernel exists when it is named here.
KERNELS = (
    "gather_rows",
    "rms_norm",
    "add_rms_norm",
    "linear_gemv",
    "linear_tiled",
    "linear_skinny",
    "rope",
    "kv_write",
    "rope_kv_write",
    "attention_prefill",
    "attention_decode",
    "attention_decode_fused",
    "silu_mul",
    "add",
    "scale",
    "greedy",
    "greedy_split",
    "sample",
    "mark_seen",
    "token_logprob",
    "random_fill",
    "dot_peak",
    "stream_read",
)
