"""On which device and in which number format a network computes.

Taught in notebooks/09_training.ipynb.

The integral is always float32.
"""

import os

import torch

from ..files import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("float32", "bfloat16", "native")
# Instructions that multiply bfloat16: x86 (AVX-512, AMX) and ARM, as torch.cpu.get_capabilities
# calls them.
INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
# Values of ONEDNN_MAX_CPU_ISA under which the library that convolves may not use these
# instructions, and emulates them.
LIMITS_WITHOUT_BFLOAT16 = (
    "SSE41",
    "AVX",
    "AVX2",
    "AVX2_VNNI",
    "AVX2_VNNI_2",
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
)


def default_device() -> torch.device:
    """The device that IPR_DEVICE names, which --device sets: one of DEVICES.

    "auto", the default, is an NVIDIA GPU where there is one, else the CPU. An Apple GPU, "mps",
    wants to be asked for, because nobody has compared its results yet.

    Raises:
        InputError: there is no such device.
    """
    name = os.environ.get("IPR_DEVICE", "auto")
    if name not in DEVICES:
        raise InputError(f"device {name!r}: expected one of {', '.join(DEVICES)}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if there["cuda"] else "cpu"
    if not there.get(name, True):
        raise InputError(
            f"device {name}: PyTorch finds none on this machine; take --device auto or cpu"
        )
    return torch.device(name)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 numbers itself;
    those that do not emulate it, several times slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if device.type != "cpu" or limit in LIMITS_WITHOUT_BFLOAT16:
        return False
    if not hasattr(torch.cpu, "get_capabilities"):
        return False  # an older torch does not say: float32 is always right
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in INSTRUCTIONS)


def resolved(precision: str, device: torch.device) -> str:
    """The number format, "float32" or "bfloat16", that one of PRECISIONS means on a device.

    "native" is bfloat16 where the device computes in it, else float32: the same training, up to
    twice as fast where it can be.

    Raises:
        InputError: "bfloat16" on an Apple GPU.
    """
    if precision == "bfloat16" and device.type == "mps":
        raise InputError(
            "precision=bfloat16 on an Apple GPU: expected float32 there; --set precision=float32"
        )
    if precision == "native":
        return "bfloat16" if computes_bfloat16(device) else "float32"
    return precision


def uses_tf32(precision: str, device: torch.device) -> bool:
    """Whether float32 convolutions of a network are computed in TF32:
    a GPU's 10 bits of mantissa instead of 23.
    """
    if device.type != "cuda" or resolved(precision, device) != "float32":
        return False
    ampere = torch.cuda.get_device_capability(device) >= (8, 0)
    return ampere and torch.backends.cudnn.allow_tf32


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which a network of one of PRECISIONS runs on a device.

    Weights stay float32; in bfloat16, convolutions and matrix products take copies of them.
    """
    return torch.autocast(
        device.type, torch.bfloat16, enabled=resolved(precision, device) == "bfloat16"
    )


def memory_format(precision: str, device: torch.device) -> torch.memory_format:
    """How the network's images and kernels should lie in memory.

    Channels-last is what a GPU's convolutions like, and a processor's in bfloat16; in float32 it
    makes no difference there.
    """
    halved = resolved(precision, device) == "bfloat16"
    return torch.channels_last if device.type == "cuda" or halved else torch.contiguous_format
