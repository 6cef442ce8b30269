"""What a device can do at most, as its maker publishes it: dense rates only, looked up by the device's name.

A rate that is not known is None, never a guess and never that of a neighbour. Makers print rates with 2:4 sparsity in
large type; dense ones are half of those. This file needs the standard library only.
"""

import re
from typing import NamedTuple

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


class Peak(NamedTuple):
    """Dense peak rates of one device, in TFLOP/s (1e12 multiply and add operations a second); None: not published.

    fp32: outside the matrix units. tf32, bf16, fp16: in them, with fp32 accumulation. bandwidth: of memory, in GB/s.
    """

    pattern: str  # a regular expression, looked for in the device's name without regard to case
    fp32: float | None
    tf32: float | None
    bf16: float | None
    fp16: float | None
    bandwidth: float | None
    source: str


H100 = "https://www.nvidia.com/en-us/data-center/h100/"
H200 = "https://www.nvidia.com/en-us/data-center/h200/"
A100 = "https://www.nvidia.com/en-us/data-center/a100/"
V100 = "https://images.nvidia.com/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf"
ADA = "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"
GA102 = "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.pdf"
HGX = "https://www.nvidia.com/en-us/data-center/hgx/"
GB200 = "https://www.nvidia.com/en-us/data-center/gb200-nvl72/"
TORCHTITAN = "https://github.com/pytorch/torchtitan/blob/main/torchtitan/tools/utils.py"
AMD = "https://www.amd.com/en/products/accelerators/instinct/"

# (?![0-9a-z]) ends a name: "l4" is not "l40", "a10" is neither "a100" nor "a10g"
PEAKS = (
    Peak(r"gb200", 80.0, 1250.0, 2500.0, 2500.0, 8000.0, GB200),
    Peak(r"b200(?![0-9a-z])", 75.0, 1125.0, 2250.0, 2250.0, 8000.0, HGX),
    Peak(r"gh200", 67.0, 494.7, 989.4, 989.4, None, "https://www.nvidia.com/en-us/data-center/grace-hopper-superchip/"),
    Peak(r"h200 nvl", 60.0, 417.5, 835.5, 835.5, 4800.0, H200),
    Peak(r"h200(?![0-9a-z])", 67.0, 494.7, 989.4, 989.4, 4800.0, H200),
    Peak(r"h100 nvl", 60.0, 417.5, 835.5, 835.5, 3900.0, H100),
    Peak(r"h100 pcie", 51.0, 378.0, 756.0, 756.0, 2000.0, H100),
    Peak(r"h100 (sxm5|80gb hbm3)", 67.0, 494.7, 989.4, 989.4, 3350.0, H100),
    Peak(r"h20(?![0-9a-z])", None, None, 148.0, 148.0, None, TORCHTITAN),
    Peak(r"a100[- ]sxm4-80gb", 19.5, 156.0, 312.0, 312.0, 2039.0, A100),
    Peak(r"a100[- ]sxm4-40gb", 19.5, 156.0, 312.0, 312.0, 1555.0, A100),
    Peak(r"a100 80gb pcie", 19.5, 156.0, 312.0, 312.0, 1935.0, A100),
    Peak(r"a100(?![0-9a-z])", 19.5, 156.0, 312.0, 312.0, None, A100),
    Peak(r"a30(?![0-9a-z])", 10.3, 82.0, 165.0, 165.0, 933.0, "https://www.nvidia.com/en-us/data-center/products/a30-gpu/"),
    Peak(r"a40(?![0-9a-z])", 37.4, 74.8, 149.7, 149.7, 696.0, "https://www.nvidia.com/en-us/data-center/a40/"),
    Peak(r"a10(?![0-9a-z])", 31.2, 62.5, 125.0, 125.0, 600.0, "https://www.nvidia.com/en-us/data-center/products/a10-gpu/"),
    Peak(r"rtx a6000", 38.7, 77.4, 154.8, 154.8, 768.0, GA102),
    Peak(r"rtx 3090(?! ti)", 35.6, 35.6, 71.0, 71.0, 936.0, GA102),
    Peak(r"rtx 4090(?! d)(?! laptop)", 82.6, 82.6, 165.2, 165.2, 1008.0, ADA),
    Peak(r"l40s(?![0-9a-z])", 91.6, 183.0, 362.0, 362.0, 864.0, "https://www.nvidia.com/en-us/data-center/l40s/"),
    Peak(r"l40(?![0-9a-z])", 90.5, 90.5, 181.05, 181.05, 864.0, "https://www.nvidia.com/en-us/data-center/l40/"),
    Peak(r"l4(?![0-9a-z])", 30.3, 60.0, 121.0, 121.0, 300.0, "https://www.nvidia.com/en-us/data-center/l4/"),
    Peak(r"t4(?![0-9a-z])", 8.1, None, None, 65.0, 320.0, "https://www.nvidia.com/en-us/data-center/tesla-t4/"),
    Peak(r"v100-sxm2", 15.7, None, None, 125.0, 900.0, V100),
    Peak(r"v100-pcie", 14.0, None, None, 112.0, 900.0, V100),
    Peak(r"p100-sxm2", 10.6, None, None, 21.2, 732.0, "https://www.nvidia.com/en-us/data-center/tesla-p100/"),
    Peak(r"p100-pcie-16gb", 9.3, None, None, 18.7, 732.0, "https://www.nvidia.com/en-us/data-center/tesla-p100/"),
    Peak(r"mi300x(?![0-9a-z])", 163.4, 653.7, 1307.4, 1307.4, 5300.0, f"{AMD}mi300/mi300x.html"),
    Peak(r"mi250x(?![0-9a-z])", 47.9, None, 383.0, 383.0, 3277.0, f"{AMD}mi200/mi250x.html"),
)  # fmt: skip


def peak_of(device: str) -> Peak | None:
    """The published peak of a device, by the name that PyTorch gives it; None where it is not in the table.

    Of several patterns that fit, the one that matches most of the name holds. A part of a device (MIG) is not one.
    """
    if re.search(r"\bmig\b", device, re.I):
        return None
    found = [
        (len(match[0]), peak) for peak in PEAKS if (match := re.search(rf"(?<![0-9a-z]){peak.pattern}", device, re.I))
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def flops_of(device: str, precision: str) -> tuple[float | None, str]:
    """Published dense FLOP/s of a device in a precision of PRECISIONS, and the source; (None, "") where unknown."""
    peak = peak_of(device)
    rate = getattr(peak, precision) if peak else None
    return (rate * 1e12, peak.source) if peak is not None and rate is not None else (None, "")
