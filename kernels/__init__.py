"""The kernels: one file per operation, each ending in `SPEC` (see docs/formats.md, section 1)."""
