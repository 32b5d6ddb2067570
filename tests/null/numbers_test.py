"""Element types that numpy lacks, code by code and between codes."""

import sys
import unittest
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kernels.lib.numbers import from_storage, rounded, to_storage

FORMATS = {"fp8e4nv": (3, 7, 448), "fp8e5": (2, 15, 57344)}
CODES = np.arange(256, dtype=np.uint8)


def defined(code, n_fraction, bias):
    """Of the format's definition, as an exact fraction; the code is finite."""
    exponent, fraction = code >> n_fraction & (0x7F >> n_fraction), code & ((1 << n_fraction) - 1)
    size = Fraction(fraction + (exponent > 0) * 2**n_fraction) * Fraction(2) ** (
        max(exponent, 1) - bias - n_fraction
    )
    return -size if code >> 7 else size


class EightBitFloats(unittest.TestCase):
    def test_every_code(self):
        for dtype, (n_fraction, bias, largest) in FORMATS.items():
            values = from_storage(CODES, dtype)
            finite = np.isfinite(values)
            self.assertEqual(finite.sum(), 254 if dtype == "fp8e4nv" else 248)
            self.assertEqual(np.abs(values[finite]).max(), largest)
            for code in CODES[finite]:
                self.assertEqual(
                    Fraction(float(values[code])), defined(int(code), n_fraction, bias)
                )
                self.assertEqual(np.signbit(values[code]), code >= 128)
            np.testing.assert_array_equal(to_storage(values, dtype)[finite], CODES[finite])
        nan = np.isnan(from_storage(CODES, "fp8e4nv"))
        self.assertEqual(list(CODES[nan]), [0x7F, 0xFF])
        # e5m2 is the upper byte of an fp16, infinities and NaN included.
        half = (CODES.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
        np.testing.assert_array_equal(from_storage(CODES, "fp8e5"), half)

    def test_between_codes(self):
        """A tie goes to the even code; a little less or more to the nearer one."""
        for dtype in FORMATS:
            rising = from_storage(CODES[:128], dtype).astype(np.float64)
            rising = rising[np.isfinite(rising)]
            halfway = (rising[1:] + rising[:-1]) / 2
            below = np.arange(len(halfway))
            for sign in (1.0, -1.0):
                code = 128 if sign < 0 else 0
                expected = {
                    1.0: below + below % 2, 1.0 - 2.0**-20: below, 1.0 + 2.0**-20: below + 1
                }  # fmt: skip
                for factor, want in expected.items():
                    got = to_storage(sign * factor * halfway, dtype)
                    np.testing.assert_array_equal(got, want + code, f"{dtype} {sign} {factor}")

    def test_beyond_the_largest(self):
        for dtype, (_, _, largest) in FORMATS.items():
            beyond = np.array([largest * 1.01, largest * 4.0, np.inf, 3e38])
            np.testing.assert_array_equal(rounded(beyond, dtype), largest)
            np.testing.assert_array_equal(rounded(-beyond, dtype), -largest)
            self.assertTrue(np.isnan(rounded(np.array([np.nan]), dtype))[0])
            tiny = rounded(np.array([1e-30, -1e-30]), dtype)
            np.testing.assert_array_equal(np.signbit(tiny), [False, True])
            np.testing.assert_array_equal(tiny, 0.0)


class BrainFloat(unittest.TestCase):
    def test_every_code(self):
        codes = np.arange(65536).astype(np.uint16)
        values = from_storage(codes, "bf16")
        number = ~np.isnan(values)
        np.testing.assert_array_equal(to_storage(values, "bf16")[number], codes[number])
        self.assertTrue(np.isnan(rounded(values[~number], "bf16")).all())


if __name__ == "__main__":
    unittest.main()
