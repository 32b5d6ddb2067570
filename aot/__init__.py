"""The ahead-of-time compiler: kernel requests in, a bundle of objects out (docs/formats.md)."""
