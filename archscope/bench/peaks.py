"""Published peak rates of devices, dense only, looked up by the device's name.

An unknown rate is None, never a guess; so is a rate on which the sources disagree. Datasheets often print rates with
2:4 sparsity, which are twice the dense ones. Each row names its sources: repositories of NVIDIA and PyTorch, tables
that cite datasheets, AMD's documentation. This file imports the standard library only.
"""

import re
from typing import NamedTuple

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


class Peak(NamedTuple):
    """Dense peak rates of one device, in TFLOP/s (1e12 multiply and add operations a second); None: unknown.

    fp32: outside the matrix units. tf32, bf16, fp16: in them, with fp32 accumulation. bandwidth: of memory, in GB/s.
    sources: where the figures were read, that of the matrix units first.
    """

    pattern: str  # a regular expression for a part of the device's name; case is ignored
    fp32: float | None
    tf32: float | None
    bf16: float | None
    fp16: float | None
    bandwidth: float | None
    sources: tuple[str, ...]

    @property
    def source(self) -> str:
        return ", ".join(self.sources)


GITHUB = "https://github.com"
# NVIDIA's own tables of its datasheets; float32 there is TF32, and the rows of H200 are with sparsity
TRTLLM = f"{GITHUB}/NVIDIA/TensorRT-LLM/blob/16d2467/tensorrt_llm/auto_parallel/cluster_info.py"
ML = f"{GITHUB}/stas00/ml-engineering/blob/b9e2972/compute/accelerator/README.md"
# its bf16 and fp16 of GeForce, A40 and RTX A6000 are those outside the matrix units, and not taken from there
LIGHTNING = f"{GITHUB}/Lightning-AI/pytorch-lightning/blob/1526f84/src/lightning/fabric/utilities/throughput.py"
TORCHTITAN = f"{GITHUB}/pytorch/torchtitan/blob/0258167/torchtitan/tools/utils.py"
INDUCTOR = f"{GITHUB}/pytorch/pytorch/blob/00604d0/torch/_inductor/analysis/device_info.py"  # AMD's datasheet
NANOCHAT = f"{GITHUB}/karpathy/nanochat/issues/60"  # "Peak BF16 Tensor TFLOPS with FP32 Accumulate" of the whitepapers
SPECS = f"{GITHUB}/winston-zhang-orz/gpu-specs/blob/097f0fb/specs.md"
SHEETS = f"{GITHUB}/astroC86/gpu-datasheet/blob/main/README.md"
MICRO = f"{GITHUB}/fanghostt/transformers-benchmarks/blob/main/README.md"
TRITEIA = f"{GITHUB}/xiaozheyao/triteia/blob/main/triteia/python/configs/gpus/specs.py"
BLACKWELL = "https://zdszero.github.io/Computer/Artificial_Intelligence/Hardware.html"  # copies NVIDIA's datasheet
H20 = "https://zangshuxian.com/new/674733024499207168"
P100 = "https://tech4gamers.com/nvidia-tesla-p100-will-be-available-in-two-variants-of-16gb-12gb-hbm2/"
MI250 = "https://instinct.docs.amd.com/projects/system-acceptance/en/latest/gpus/mi250.html"

# (?![0-9a-z]) ends a name: "l4" is not "l40", "a10" is neither "a100" nor "a10g"
PEAKS = (
    Peak(r"gb200", 80.0, 1250.0, 2500.0, 2500.0, 8000.0, (ML, BLACKWELL)),
    Peak(r"b200(?![0-9a-z])", None, 1125.0, 2250.0, 2250.0, None, (ML, TORCHTITAN)),  # fp32: 75 or 80; 7.7 or 8 TB/s
    Peak(r"gh200", 67.0, 494.5, 989.0, 989.0, None, (ML,)),  # with HBM3 or HBM3e: the name does not say
    Peak(r"h200 nvl", 60.0, None, 835.5, 835.5, 4800.0, (TRTLLM,)),
    Peak(r"h200(?![0-9a-z])(?! nvl)", 67.0, 494.5, 989.0, 989.0, 4800.0, (ML, TRTLLM)),
    Peak(r"h100 nvl", None, None, 835.0, None, 3900.0, (TORCHTITAN, ML)),
    Peak(r"h100 pcie", 51.0, 378.0, 756.0, 756.0, 2000.0, (TRTLLM, ML)),
    Peak(r"h100 (sxm5|80gb hbm3)", 67.0, 494.5, 989.0, 989.0, 3350.0, (ML, TRTLLM)),
    Peak(r"h20(?![0-9a-z])(?!-3e)", 44.0, 74.0, 148.0, 148.0, 4000.0, (H20, TRTLLM)),
    Peak(r"a100[- ]sxm4-80gb", 19.5, 156.0, 312.0, 312.0, 2039.0, (TRTLLM, LIGHTNING)),
    Peak(r"a100[- ]sxm4-40gb", 19.5, 156.0, 312.0, 312.0, 1555.0, (TRTLLM, LIGHTNING)),
    Peak(r"a100 80gb pcie", 19.5, 156.0, 312.0, 312.0, 1935.0, (TRTLLM, LIGHTNING)),
    Peak(r"a100-pcie-40gb", 19.5, 156.0, 312.0, 312.0, 1555.0, (TRTLLM, LIGHTNING)),
    Peak(r"a100(?![0-9a-z])(?!-sxm-64gb)", 19.5, 156.0, 312.0, 312.0, None, (TRTLLM, LIGHTNING)),
    Peak(r"a30(?![0-9a-z])", None, 82.0, 165.0, 165.0, 933.0, (TRTLLM,)),
    Peak(r"a40(?![0-9a-z])", 37.4, 74.8, 149.7, 149.7, 696.0, (SHEETS, LIGHTNING)),
    Peak(r"a10(?![0-9a-z])", 31.2, 62.5, 125.0, 125.0, 600.0, (TRTLLM, SPECS)),
    Peak(r"rtx a6000", 38.7, 77.4, 154.8, 154.8, 768.0, (NANOCHAT, LIGHTNING, MICRO)),
    Peak(r"rtx 6000 ada", None, None, 364.0, None, None, (NANOCHAT,)),
    Peak(r"rtx 3090(?! ti)", 35.6, 35.6, 71.0, 71.0, 936.2, (NANOCHAT, LIGHTNING, TRITEIA)),
    Peak(r"rtx 4090(?! d)(?! laptop)", 82.6, 82.6, 165.2, 165.2, 1008.0, (NANOCHAT, LIGHTNING, SPECS)),
    Peak(r"rtx 5090(?! d)(?! laptop)", None, None, 209.5, None, None, (NANOCHAT,)),
    Peak(r"l40s(?![0-9a-z])", 91.6, 183.0, 362.0, 362.0, 864.0, (TRTLLM, ML)),
    Peak(r"l40(?![0-9a-z])", 90.5, 90.5, 181.0, 181.0, 864.0, (TRTLLM, LIGHTNING)),
    Peak(r"l4(?![0-9a-z])", 30.3, 60.0, 121.0, 121.0, 300.0, (LIGHTNING, SPECS)),
    Peak(r"t4(?![0-9a-z])", 8.1, None, None, 65.0, None, (LIGHTNING,)),  # 300 or 320 GB/s
    Peak(r"v100-sxm2", 15.7, None, None, 125.0, 900.0, (LIGHTNING, SPECS)),
    Peak(r"v100-pcie", 14.0, None, None, 112.0, 900.0, (LIGHTNING, SPECS)),
    Peak(r"p100-sxm2", 10.6, None, None, 21.2, None, (P100,)),  # no matrix units: fp16 with fp16 accumulation
    Peak(r"p100-pcie", 9.3, None, None, 18.7, None, (P100,)),
    Peak(r"mi300x(?![0-9a-z])", 163.4, 653.7, 1307.4, 1307.4, 5300.0, (INDUCTOR,)),
    # a card of two dies, each of which is a device to PyTorch: half of 47.9, 383 and 3.2 TB/s
    Peak(r"mi250x(?![0-9a-z])", 23.95, None, 191.5, 191.5, 1600.0, (TORCHTITAN, ML, MI250)),
)  # fmt: skip


def peak_of(device: str) -> Peak | None:
    """The published peak of a device, by its name in PyTorch; None if it is not in the table.

    If several patterns fit, the longest match holds. A part of a device has no entry: a MIG instance, a virtual GPU
    ("NVIDIA A40-8Q").
    """
    if re.search(r"\bmig\b|-\d+[abcq]\b", device, re.I):
        return None
    found = [
        (len(match[0]), peak) for peak in PEAKS if (match := re.search(rf"(?<![0-9a-z]){peak.pattern}", device, re.I))
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def flops_of(device: str, precision: str) -> tuple[float | None, str]:
    """Published dense FLOP/s of a device in a precision of PRECISIONS, and the sources; (None, "") where unknown."""
    peak = peak_of(device)
    rate = getattr(peak, precision) if peak else None
    return (rate * 1e12, peak.source) if peak is not None and rate is not None else (None, "")
