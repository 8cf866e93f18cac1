"""The GPU kernels without a GPU: run by Triton's interpreter, and compiled for one."""

import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ipr_lib.integral import expectation

SHAPES = [
    (2, 3, 4, 5, 6),
    (1, 2, 3, 33, 31),
    (1, 2, 16, 16, 16),
    (1, 1, 9, 64, 64),
    (2, 1, 1, 1, 7),
    (0, 3, 4, 5, 6),
]


def run_this_file(name, **environment):
    process = subprocess.run(
        [sys.executable, "-m", f"tests.{Path(__file__).stem}", name],
        cwd=Path(__file__).parents[1],
        text=True,
        capture_output=True,
        env={**os.environ, **environment},
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def channels_last(volume):
    maps = volume.flatten(1, 2).contiguous(memory_format=torch.channels_last)
    return maps.unflatten(1, volume.shape[1:3])


def with_gradient(function, volume):
    volume = volume.detach().requires_grad_()
    joints = function(volume)
    weights = torch.linspace(-1, 2, joints.numel()).view_as(joints)
    seen = []  # .grad would have the leaf's layout in any case
    volume.register_hook(seen.append)
    (joints * weights).sum().backward()
    return joints.detach(), seen[0]


def both_ways(volume):
    """(joints, gradient) by the kernel, and by plain PyTorch."""
    from ipr_lib.integral.kernel import KernelSoftArgmax

    return with_gradient(KernelSoftArgmax.apply, volume), with_gradient(
        expectation.plain_soft_argmax, volume
    )


def interpreted():
    """The kernels against plain PyTorch: values, gradient and dtype, for volumes of either layout."""
    generator = torch.Generator().manual_seed(0)
    for shape in SHAPES:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for layout in (torch.Tensor.contiguous, channels_last):
                volume = layout((3 * torch.randn(shape, generator=generator)).to(dtype))
                (joints, grad), (expected, expected_grad) = both_ways(volume)
                assert joints.dtype == torch.float32 and grad.dtype == dtype
                torch.testing.assert_close(joints, expected, atol=1e-4, rtol=0)
                torch.testing.assert_close(
                    grad, expected_grad, atol=1e-6, rtol=max(1e-4, 2 * torch.finfo(dtype).eps)
                )
                print(shape, dtype, layout.__name__)


def extremes():
    """+-1e4, planes of -inf, all equal, and joints that are broken."""
    for layout in (torch.Tensor.contiguous, channels_last):
        ties = torch.full((2, 3, 4, 5, 6), -1e4)
        ties[:, :, 1, 2, 3] = ties[:, :, 3, 2, 4] = 1e4
        (joints, _), _ = both_ways(layout(ties))
        assert (joints == torch.tensor([3.5, 2, 2])).all()
        (joints, _), _ = both_ways(layout(torch.full((2, 3, 4, 5, 6), 7.0)))
        assert (joints - torch.tensor([2.5, 2, 1.5])).abs().max() < 1e-6
        holes = torch.randn(2, 3, 40, 16, 16, generator=torch.Generator().manual_seed(1))
        holes[:, :, :20] = holes[:, :, :, 3] = -torch.inf
        (joints, grad), (expected, expected_grad) = both_ways(layout(holes))
        torch.testing.assert_close(joints, expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(grad, expected_grad, atol=1e-6, rtol=1e-4)
        broken = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(2))
        broken[0, 1, 2, 3, 4], broken[1, 0, 2, 3, 4], broken[1, 2] = (
            torch.nan,
            torch.inf,
            -torch.inf,
        )
        (joints, grad), (expected, expected_grad) = both_ways(layout(broken))
        torch.testing.assert_close(joints, expected, atol=1e-4, rtol=0, equal_nan=True)
        assert torch.equal(grad.flatten(2).isnan().any(-1), expected.isnan().any(-1))


def compiled():
    """Each kernel through the compiler for a Hopper GPU: what the interpreter lets pass may fail there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ipr_lib.integral import kernel as kernels

    for kernel, stages in itertools.product(
        (kernels._forward_kernel, kernels._backward_kernel), (1, 4)
    ):
        constants = {"H": 48, "W": 64, "CHUNK": kernels.CHUNK, "TILE": kernels.TILE}
        constants["STAGES"] = stages
        names = kernel.arg_names
        kinds = {"logits": "*bf16", "result": "*bf16", "cells": "i32"}
        kinds |= dict.fromkeys(constants, "constexpr")
        source = ASTSource(
            kernel,
            {name: kinds.get(name, "*fp32") for name in names},
            {(names.index(name),): value for name, value in constants.items()},
            # A launch finds by itself that pointers and sizes are multiples of 16, as they are for usual volumes.
            {(names.index(name),): [["tt.divisibility", 16]] for name in ("logits", "cells")},
        )
        code = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm
        print(kernel.__name__, stages, len(code["cubin"]), "cp.async" in code["ptx"])


def test_interpreted_kernels_equal_plain_pytorch():
    pytest.importorskip("triton")
    assert len(run_this_file("interpreted", TRITON_INTERPRET="1").splitlines()) == 6 * len(SHAPES)


def test_interpreted_kernels_at_extremes():
    pytest.importorskip("triton")
    run_this_file("extremes", TRITON_INTERPRET="1")


def test_kernels_compile_for_a_gpu(tmp_path):
    pytest.importorskip("triton")
    lines = run_this_file("compiled", TRITON_CACHE_DIR=str(tmp_path)).splitlines()
    found = [line.split() for line in lines]
    assert min(int(size) for _, _, size, _ in found) > 1000
    assert [(name, stages, asynchronous) for name, stages, _, asynchronous in found] == [
        ("_forward_kernel", "1", "False"),
        ("_forward_kernel", "4", "True"),
        ("_backward_kernel", "1", "False"),
        ("_backward_kernel", "4", "True"),
    ]


@pytest.fixture
def no_kernel_yet():
    expectation.gpu_kernel.cache_clear()
    yield
    expectation.gpu_kernel.cache_clear()


def test_without_triton_there_is_no_kernel(no_kernel_yet, monkeypatch):
    import ipr_lib.integral

    monkeypatch.delattr(ipr_lib.integral, "kernel", raising=False)
    monkeypatch.setitem(sys.modules, "ipr_lib.integral.kernel", None)  # importing it fails
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert expectation.gpu_kernel() is None


def test_a_kernel_that_cannot_be_built_is_told_of(no_kernel_yet, monkeypatch):
    def fail(volume):
        raise RuntimeError("Failed to find C compiler")

    import ipr_lib.integral

    broken = SimpleNamespace(KernelSoftArgmax=SimpleNamespace(apply=fail))
    monkeypatch.setattr(ipr_lib.integral, "kernel", broken, raising=False)
    monkeypatch.setitem(sys.modules, "ipr_lib.integral.kernel", broken)
    monkeypatch.setattr(
        expectation.torch, "zeros", lambda *shape, device: None
    )  # there is no GPU here
    with pytest.warns(UserWarning, match="C compiler"):
        assert expectation.gpu_kernel() is None


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"interpreted": interpreted, "extremes": extremes, "compiled": compiled}[sys.argv[1]]()
