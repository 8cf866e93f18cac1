import pytest
import torch

from ipr_lib.config import load_config
from ipr_lib.files import InputError
from ipr_lib.run import build_network
from ipr_lib.training import distributed, precision

CPU = torch.device("cpu")


@pytest.fixture
def capabilities(monkeypatch):
    """A function that makes this processor one of the capabilities given, with no limit on their use."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)

    def pose_as(**found):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda: {"architecture": "any", **found}, raising=False
        )

    return pose_as


@pytest.mark.parametrize(
    "found, computes",
    [
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
        ({"neon": True}, False),
        ({}, False),
    ],
)
def test_native_is_bfloat16_where_the_processor_computes_in_it(capabilities, found, computes):
    capabilities(**found)
    assert precision.computes_bfloat16(CPU) is computes
    assert precision.resolved("native", CPU) == ("bfloat16" if computes else "float32")
    assert precision.memory_format("native", CPU) == (
        torch.channels_last if computes else torch.contiguous_format
    )


@pytest.mark.parametrize(
    "limit, computes",
    [
        ("AVX2", False),
        ("avx2", False),
        ("AVX512_CORE", False),
        ("AVX512_CORE_BF16", True),
        ("AVX512_CORE_AMX", True),
        ("", True),
    ],
)
def test_native_follows_a_limit_on_the_instructions(capabilities, monkeypatch, limit, computes):
    """Under such a limit bfloat16 is emulated: a training step took seven times as long as in float32."""
    capabilities(avx512_bf16=True, amx_bf16=True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert precision.resolved("native", CPU) == ("bfloat16" if computes else "float32")


def test_a_torch_that_does_not_tell_gets_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision.resolved("native", CPU) == "float32"


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_what_is_asked_for_is_taken(capabilities, asked):
    for found in ({}, {"avx512_bf16": True}):
        capabilities(**found)
        assert precision.resolved(asked, CPU) == asked


def test_other_devices_are_float32():
    assert precision.resolved("native", torch.device("meta")) == "float32"


def test_autocast_halves_the_network_and_nothing_else(training_seed):
    cfg = load_config("smoke", seed=training_seed)
    model = build_network(cfg).eval()
    crops = torch.rand(2, 3, cfg.crop_px, cfg.crop_px, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        with precision.autocast("bfloat16", CPU):
            halved = model(crops)
        with precision.autocast("float32", CPU):
            whole = model(crops)
    assert halved.dtype == torch.bfloat16 and whole.dtype == torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(
        halved.float(), whole, rtol=0.05, atol=0.05 * whole.abs().max().item()
    )


@pytest.mark.parametrize(
    ("asked", "capability", "allowed", "expected"),
    [
        ("float32", (9, 0), True, True),
        ("native", (8, 0), True, False),  # bfloat16 there
        ("float32", (7, 5), True, False),
        ("float32", (9, 0), False, False),
        ("bfloat16", (9, 0), True, False),
    ],
)
def test_float32_of_a_gpu_may_be_tf32(monkeypatch, asked, capability, allowed, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    assert precision.uses_tf32(asked, torch.device("cuda")) is expected


def test_float32_of_a_processor_is_float32():
    assert precision.uses_tf32("float32", CPU) is False


# --- devices ---


def test_the_device_that_is_asked_for(monkeypatch):
    monkeypatch.delenv("IPR_DEVICE", raising=False)
    cases = [  # IPR_DEVICE, an NVIDIA GPU, an Apple GPU -> device
        (None, True, False, "cuda"),
        (None, False, True, "cpu"),  # an Apple GPU wants to be asked for
        ("auto", False, False, "cpu"),
        ("cpu", True, True, "cpu"),
        ("cuda", True, False, "cuda"),
        ("mps", False, True, "mps"),
    ]
    for asked, cuda, mps, expected in cases:
        if asked is not None:
            monkeypatch.setenv("IPR_DEVICE", asked)
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert precision.default_device() == torch.device(expected)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("mps", "device mps: PyTorch finds none on this machine; take --device auto or cpu"),
        ("cuda", "device cuda: PyTorch finds none"),
        ("tpu", "device 'tpu': expected one of auto, cpu, cuda, mps"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, asked, message):
    monkeypatch.setenv("IPR_DEVICE", asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        precision.default_device()


def test_an_apple_gpu_computes_in_float32():
    apple = torch.device("mps")
    assert precision.resolved("native", apple) == precision.resolved("float32", apple) == "float32"
    assert precision.memory_format("native", apple) == torch.contiguous_format
    with pytest.raises(InputError, match="on an Apple GPU: expected float32 there"):
        precision.resolved("bfloat16", apple)


def test_an_apple_gpu_has_one_process(monkeypatch):
    monkeypatch.setenv("IPR_DEVICE", "mps")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    group = distributed.process_group()
    with pytest.raises(InputError, match="several processes on an Apple GPU"):
        group.__enter__()
