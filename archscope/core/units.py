"""Amounts with a unit, as users type them: `3.5 M` parameters, `64 MB`, `16 GiB`.

K, M, G and T are powers of 1000. In bytes kB, MB, GB and TB are powers of 1000 too, and KiB, MiB, GiB and TiB powers of
1024 (IEC 80000-13).
"""

import re
from fractions import Fraction

COUNTS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
NUMBER = r"\d[\d_,]*(?:\.\d+)?|\.\d+"  # 3.5, 3_500_000, 3,500,000
_AMOUNT = re.compile(rf"\s*({NUMBER})\s*([A-Za-z]*)\s*")


def amount(text: str, in_bytes: bool = False) -> Fraction:
    """The exact number that `3.5 M` or, in bytes, `64 MB` is. Upper and lower case are the same.

    Raises ValueError, naming the units that there are, for an unknown unit and for what is no number.
    """
    units, names = (BYTES, "B kB MB GB TB KiB MiB GiB TiB") if in_bytes else (COUNTS, "K M G T, powers of 1000")
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no number with a unit; the units are {names}")
    if found[2].upper() not in units:
        raise ValueError(f"{found[2]!r} is no unit of it; there is {names}")
    return Fraction(re.sub("[_,]", "", found[1])) * units[found[2].upper()]
