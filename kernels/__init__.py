"""The kernels: one file per operation, each ending in `SPEC` (see docs/formats.md, section 1)."""

# In the order of the listing that the engine embeds. A kernel exists when it is named here.
KERNELS = ("rms_norm",)
