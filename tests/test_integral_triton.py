"""The GPU kernels without a GPU: run by Triton's interpreter, and compiled for one."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from ipr_lib.integral import expectation as integral

SHAPES = [(2, 3, 4, 5, 6), (1, 2, 3, 33, 31), (1, 2, 16, 16, 16), (1, 1, 9, 64, 64), (2, 1, 1, 1, 7), (0, 3, 4, 5, 6)]


def run_this_file(name, **environment):
    process = subprocess.run(
        [sys.executable, "-m", f"tests.{Path(__file__).stem}", name], cwd=Path(__file__).parents[1], text=True,
        capture_output=True, env={**os.environ, **environment},
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def channels_last(volume):
    return volume.flatten(1, 2).contiguous(memory_format=torch.channels_last).unflatten(1, volume.shape[1:3])


def with_gradient(volume):
    volume = volume.detach().requires_grad_()
    joints = integral.soft_argmax(volume)
    weights = torch.linspace(-1, 2, joints.numel()).view_as(joints)
    seen = []
    volume.register_hook(lambda grad: seen.append(grad))
    (joints * weights).sum().backward()
    return joints.detach(), seen[0]


def both_ways(volume):
    from ipr_lib.integral import kernel as integral_triton

    blocks = with_gradient(volume)
    integral._by_triton = lambda volume: True
    integral._triton_kernels = lambda: integral_triton
    result = with_gradient(volume)
    integral._by_triton = lambda volume: False
    return result, blocks


def interpreted():
    """The kernels against the blocks: values, gradient, dtype and layout."""
    generator = torch.Generator().manual_seed(0)
    for shape in SHAPES:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for layout in (torch.Tensor.contiguous, channels_last):
                volume = layout((3 * torch.randn(shape, generator=generator)).to(dtype))
                (joints, grad), (expected, expected_grad) = both_ways(volume)
                assert joints.dtype == torch.float32 and grad.dtype == dtype and grad.stride() == volume.stride()
                torch.testing.assert_close(joints, expected, atol=1e-4, rtol=0)
                torch.testing.assert_close(grad, expected_grad, atol=1e-6, rtol=max(1e-4, 2 * torch.finfo(dtype).eps))
                print(shape, dtype, layout.__name__)


def extremes():
    """+-1e4, planes of -inf, all equal, and joints that are broken."""
    for layout in (torch.Tensor.contiguous, channels_last):
        ties = torch.full((2, 3, 4, 5, 6), -1e4)
        ties[:, :, 1, 2, 3] = ties[:, :, 3, 2, 4] = 1e4
        assert (both_ways(layout(ties))[0][0] == torch.tensor([3.5, 2, 2])).all()
        assert (both_ways(layout(torch.full((2, 3, 4, 5, 6), 7.0)))[0][0] - torch.tensor([2.5, 2, 1.5])).abs().max() < 1e-6
        holes = torch.randn(2, 3, 40, 16, 16, generator=torch.Generator().manual_seed(1))
        holes[:, :, :20] = holes[:, :, :, 3] = -torch.inf
        (joints, grad), (expected, expected_grad) = both_ways(layout(holes))
        torch.testing.assert_close(joints, expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(grad, expected_grad, atol=1e-6, rtol=1e-4)
        broken = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(2))
        broken[0, 1, 2, 3, 4], broken[1, 0, 2, 3, 4], broken[1, 2] = torch.nan, torch.inf, -torch.inf
        (joints, grad), (expected, expected_grad) = both_ways(layout(broken))
        torch.testing.assert_close(joints, expected, atol=1e-4, rtol=0, equal_nan=True)
        assert torch.equal(grad.flatten(2).isnan().any(-1), expected.isnan().any(-1))


def compiled():
    """Each kernel through the compiler for a Hopper GPU, both layouts: what the interpreter lets pass may fail there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ipr_lib.integral import kernel as kernels

    numbers = ("J", "D", "cells", "stride_b", "stride_j", "stride_d", "stride_c", "tiles", "per_program")
    cases = [(kernels._gather_kernel, ("programs",), {"PROGRAMS": 16})]
    for kernel in (kernels._forward_kernel, kernels._backward_kernel):
        cases.append((kernel, numbers, {"W": 64, "TILE_D": 1, "TILE_C": 2048, "stride_c": 1}))
        cases.append((kernel, numbers, {"W": 48, "TILE_D": 64, "TILE_C": 32, "stride_d": 1}))
    for kernel, integers, constants in cases:
        names = kernel.arg_names
        half = {name: "*bf16" for name in ("logits", "result")}
        kinds = [
            "constexpr" if name in constants else "i32" if name in integers else half.get(name, "*fp32")
            for name in names
        ]
        source = ASTSource(
            kernel, dict(zip(names, kinds)), {(names.index(name),): value for name, value in constants.items()}
        )
        binary = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
        print(kernel.__name__, len(binary))


def test_interpreted_kernels_equal_the_blocks():
    pytest.importorskip("triton")
    assert len(run_this_file("interpreted", TRITON_INTERPRET="1").splitlines()) == 6 * len(SHAPES)


def test_interpreted_kernels_at_extremes():
    pytest.importorskip("triton")
    run_this_file("extremes", TRITON_INTERPRET="1")


def test_kernels_compile_for_a_gpu(tmp_path):
    pytest.importorskip("triton")
    sizes = [int(line.split()[-1]) for line in run_this_file("compiled", TRITON_CACHE_DIR=str(tmp_path)).splitlines()]
    assert len(sizes) == 5 and min(sizes) > 1000


@pytest.mark.parametrize("missing", [ImportError("No module named 'triton'"), RuntimeError("Failed to find C compiler")])
def test_without_working_kernels_the_blocks_take_over(missing, monkeypatch):
    def fail(volume):
        raise missing

    class Kernels:
        forward = staticmethod(fail)

    import ipr_lib

    monkeypatch.setattr(ipr_lib, "integral_triton", Kernels, raising=False)
    monkeypatch.setattr(integral.torch, "zeros", lambda *shape, device: None)
    if isinstance(missing, ImportError):
        monkeypatch.delattr(ipr_lib, "integral_triton")
        monkeypatch.setitem(sys.modules, "ipr_lib.integral.kernel", None)
    integral._triton_kernels.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert integral._triton_kernels() is None
        assert ["C compiler" in str(warning.message) for warning in caught] == [True] * isinstance(missing, RuntimeError)
    finally:
        integral._triton_kernels.cache_clear()


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"interpreted": interpreted, "extremes": extremes, "compiled": compiled}[sys.argv[1]]()
