"""`nereid compile-kernel`: what makes an object and a header of a Triton kernel of anybody's."""
