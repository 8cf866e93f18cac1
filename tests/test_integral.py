import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipr_lib.files import InputError
from ipr_lib.integral import blocks
from ipr_lib.integral import expectation as integral
from ipr_lib.integral.expectation import soft_argmax

SHAPE = (2, 3, 4, 5, 6)  # B, J, D, H, W


def logits_of(shape, seed=0, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def expectation(logits):
    """The definition in float64, by autograd: every cell's position weighted by its probability."""
    prob = logits.double().flatten(2).softmax(-1).view(logits.shape)
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in logits.shape[2:]), indexing="ij")
    return torch.stack([(prob * axis).flatten(2).sum(-1) for axis in reversed(axes)], dim=-1)


def with_gradient(function, logits, weights):
    leaf = logits.detach().requires_grad_()
    seen = []
    volume = leaf * 1
    volume.register_hook(lambda grad: seen.append(grad))
    joints = function(volume)
    (joints * weights.to(joints)).sum().backward()
    return joints.detach(), leaf.grad, seen[0]


def channels_last(volume):
    return volume.flatten(1, 2).contiguous(memory_format=torch.channels_last).unflatten(1, volume.shape[1:3])


def swapped(volume):
    return volume.transpose(2, 4).contiguous().transpose(2, 4)


def part_of_a_larger(volume):
    return torch.nn.functional.pad(volume, (1, 2, 0, 1))[..., : volume.shape[-2], 1 : volume.shape[-1] + 1]


LAYOUTS = [torch.Tensor.contiguous, channels_last, swapped, part_of_a_larger]


def test_three_by_four_by_five_by_hand():
    # p = 1/8, 3/8, 4/8 at (x, y, z) = (0, 1, 2), (4, 3, 0), (2, 0, 1): E = (2.5, 1.25, 0.75).
    logits = torch.full((1, 1, 3, 4, 5), -torch.inf, dtype=torch.float64)
    logits[0, 0, 2, 1, 0], logits[0, 0, 0, 3, 4], logits[0, 0, 1, 0, 2] = 0.0, np.log(3), np.log(4)
    joints, grad, _ = with_gradient(soft_argmax, logits, torch.tensor([[[1.0, 10.0, 100.0]]]))
    np.testing.assert_allclose(joints, [[[2.5, 1.25, 0.75]]])
    # g . (pos - E) = -2.5 - 2.5 + 125, 1.5 + 17.5 - 75, -0.5 - 12.5 + 25 = 120, -56, 12; times p: 15, -21, 6.
    expected = torch.zeros_like(logits)
    expected[0, 0, 2, 1, 0], expected[0, 0, 0, 3, 4], expected[0, 0, 1, 0, 2] = 15, -21, 6
    torch.testing.assert_close(grad, expected)


def test_five_by_five_by_hand():
    logits = torch.zeros(1, 1, 5, 5)
    logits[0, 0, 1, 4] = np.log(24)  # half of all the weight; the other 24 cells share the rest
    joints, grad, _ = with_gradient(soft_argmax, logits, torch.tensor([[[1.0, 10.0]]]))
    x, y = joints[0, 0].tolist()
    # Sums over the others: all x 50 - 4, all y 50 - 1, each of weight 1 / 48.
    assert x == pytest.approx(4 / 2 + 46 / 48, abs=1e-6) and y == pytest.approx(1 / 2 + 49 / 48, abs=1e-6)
    # g . (pos - E), E = (142, 73) / 48: (50 - 10 * 25) / 48 at the peak, -(142 + 730) / 48 at the first cell; times p.
    assert grad[0, 0, 1, 4].item() == pytest.approx(-200 / 48 / 2, abs=1e-5)
    assert grad[0, 0, 0, 0].item() == pytest.approx(-872 / 48 / 48, abs=1e-5)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_each_number_of_axes_equals_the_definition(axes):
    logits, weights = logits_of((2, 3, 4, 5, 6)[: 2 + axes]), logits_of((2, 3, axes), seed=1)
    joints, grad, _ = with_gradient(soft_argmax, logits, weights)
    assert joints.shape == (2, 3, axes)
    reference, reference_grad, _ = with_gradient(expectation, logits, weights)
    torch.testing.assert_close(joints, reference)
    torch.testing.assert_close(grad, reference_grad)
    assert torch.autograd.gradcheck(soft_argmax, logits.requires_grad_())


@pytest.mark.parametrize("block", [1, 7, 40, 150, 1 << 17])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_and_layouts_change_nothing(layout, block, monkeypatch):
    monkeypatch.setattr(integral, "BLOCK_CELLS", block)
    logits, weights = logits_of(SHAPE), logits_of((2, 3, 3), seed=1)
    reference, reference_grad, _ = with_gradient(expectation, logits, weights)
    joints, _, grad = with_gradient(lambda volume: soft_argmax(layout(volume)), logits, weights)
    torch.testing.assert_close(joints, reference)
    torch.testing.assert_close(grad, reference_grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_keeps_dtype_and_layout(layout, dtype):
    volume = layout(logits_of(SHAPE, dtype=dtype)).detach().requires_grad_()
    seen = []
    joints = soft_argmax(volume)
    handle = volume.register_hook(lambda grad: seen.append((grad.dtype, grad.stride())))
    joints.sum().backward()
    handle.remove()
    dense = volume.stride() if layout in (torch.Tensor.contiguous, channels_last) else torch.empty(SHAPE).stride()
    assert joints.dtype == torch.float32 and seen == [(dtype, dense)]
    _, grad, _ = with_gradient(expectation, volume.detach().double(), torch.ones(2, 3, 3))
    torch.testing.assert_close(volume.grad.double(), grad, atol=2e-6, rtol=torch.finfo(dtype).eps)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(*(st.integers(1, n) for n in (3, 4, 7, 9, 8))), axes=st.integers(1, 3),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]), block=st.integers(1, 600), seed=st.integers(0, 99),
    layout=st.sampled_from(LAYOUTS[:2]),
)
def test_equals_float64_over_random_sizes(shape, axes, scale, block, seed, layout):
    logits = logits_of(shape[: 2 + axes], seed, scale, torch.float32)
    weights = logits_of((*shape[:2], axes), seed + 1)
    reference, reference_grad, _ = with_gradient(expectation, logits.double(), weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integral, "BLOCK_CELLS", block)
        arranged = layout(logits) if axes == 3 else logits
        joints, grad, _ = with_gradient(soft_argmax, arranged, weights)
    torch.testing.assert_close(joints.double(), reference, atol=1e-5, rtol=0)
    torch.testing.assert_close(grad.double(), reference_grad, atol=3e-5, rtol=1e-4)


def test_large_logits_are_exact():
    # A lead of 1e4 leaves one cell; a tie at 1e4 is halved exactly, which max + log 2 in float32 would not be.
    logits = torch.full(SHAPE, -1e4)
    logits[:, :, 1, 2, 3] = logits[:, :, 3, 2, 4] = 1e4
    joints, grad, _ = with_gradient(soft_argmax, logits, torch.tensor([0.0, 0.0, 1.0]).expand(2, 3, 3))
    assert (joints == torch.tensor([3.5, 2, 2])).all()
    assert (grad[:, :, 1, 2, 3] == -0.5).all() and (grad[:, :, 3, 2, 4] == 0.5).all() and grad.count_nonzero() == 12


@pytest.mark.parametrize("extreme", [torch.finfo(torch.float32).max, torch.finfo(torch.float32).min])
def test_the_largest_numbers_do_not_overflow(extreme):
    logits = torch.zeros(SHAPE)
    logits[..., 0] = extreme
    assert soft_argmax(logits)[0, 0].tolist() == [0 if extreme > 0 else 3, 2, 1.5]


@pytest.mark.parametrize("block", [30, 1 << 17])
def test_minus_infinity_is_no_weight(block, monkeypatch):
    monkeypatch.setattr(integral, "BLOCK_CELLS", block)
    logits = logits_of(SHAPE, dtype=torch.float32)
    logits[:, :, 1:3] = logits[:, :, :, 0] = -torch.inf  # whole planes, so whole pieces of a joint
    weights = logits_of((2, 3, 3), seed=1)
    reference, reference_grad, _ = with_gradient(expectation, logits.double(), weights)
    joints, grad, _ = with_gradient(soft_argmax, logits, weights)
    torch.testing.assert_close(joints.double(), reference, atol=1e-5, rtol=0)
    torch.testing.assert_close(grad.double(), reference_grad, atol=1e-5, rtol=0)
    assert not grad[:, :, 1:3].any()


@pytest.mark.parametrize("value", [0.0, -1e4, 1e4, 3.25])
def test_all_equal_is_the_middle(value):
    joints, grad, _ = with_gradient(soft_argmax, torch.full(SHAPE, value), torch.tensor([1.0, 0, 0]).expand(2, 3, 3))
    assert (joints == torch.tensor([2.5, 2, 1.5])).all()
    torch.testing.assert_close(grad, ((torch.arange(6.0) - 2.5) / 120).expand(SHAPE))


@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_a_broken_joint_is_nan_and_breaks_no_other(layout):
    logits = logits_of(SHAPE, dtype=torch.float32)
    logits[0, 1, 2, 3, 4], logits[1, 0, 2, 3, 4], logits[1, 2] = torch.nan, torch.inf, -torch.inf
    joints, grad, _ = with_gradient(soft_argmax, layout(logits), torch.ones(2, 3, 3))
    bad = torch.tensor([[False, True, False], [True, False, True]])
    assert (joints.isnan().all(-1) == bad).all() and (joints.isnan().any(-1) == bad).all()
    assert (grad.flatten(2).isnan().any(-1) == bad).all()
    clean = soft_argmax(torch.where(bad[:, :, None, None, None], 0, logits))
    torch.testing.assert_close(joints[~bad], clean[~bad])


def test_check_finite_names_the_joint():
    logits = logits_of(SHAPE)
    torch.testing.assert_close(soft_argmax(logits, check_finite=True), soft_argmax(logits))
    logits[1, 2, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="joint 2 of sample 1"):
        soft_argmax(logits, check_finite=True)
    assert soft_argmax(logits).isnan().any()


@pytest.mark.parametrize("volume", [
    torch.zeros(2, 3), torch.zeros(1, 2, 3, 4, 5, 6), torch.zeros(SHAPE, dtype=torch.int64), torch.zeros(2, 3, 0, 5, 6),
])
def test_what_is_no_volume(volume):
    with pytest.raises(InputError, match=r"soft_argmax: volume is .*expected float logits"):
        soft_argmax(volume)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_a_large_gradient(layout, dtype):
    logits = layout(logits_of((2, 3, 44, 84, 96), dtype=dtype))
    assert logits.nbytes > blocks.LARGE_BYTES
    weights = logits_of((2, 3, 3), seed=1)
    reference, reference_grad, _ = with_gradient(expectation, logits.double(), weights)
    joints, _, grad = with_gradient(soft_argmax, logits, weights)
    assert grad.stride() == logits.stride() and grad.dtype == dtype
    torch.testing.assert_close(joints.double(), reference, atol=1e-4, rtol=0)
    torch.testing.assert_close(grad.double(), reference_grad, atol=1e-7, rtol=torch.finfo(dtype).eps * 10)


def test_memory_of_a_large_gradient_is_lent_again_only_when_nobody_holds_it():
    logits = logits_of((2, 2, 44, 84, 96), dtype=torch.float32).requires_grad_()
    assert logits.nbytes > blocks.LARGE_BYTES

    def gradient(weights):
        return torch.autograd.grad((soft_argmax(logits) * weights).sum(), logits)[0]

    first = gradient(torch.ones(3))
    kept, part = first.clone(), first[:, 1]
    del first
    second = gradient(torch.tensor([3.0, -1, 2]))  # the first lives on in its part
    assert second.untyped_storage().data_ptr() != part.untyped_storage().data_ptr()
    assert torch.equal(part, kept[:, 1]) and not torch.equal(second, kept)
    place = second.data_ptr()
    del second
    assert gradient(torch.ones(3)).data_ptr() == place
    del part
    torch.testing.assert_close(gradient(torch.ones(3)), kept)
    blocks.release_memory()
    assert not blocks._idle


def test_no_samples_no_joints():
    empty = torch.zeros(0, 3, 4, 5, 6, requires_grad=True)
    joints = soft_argmax(empty)
    joints.sum().backward()
    assert joints.shape == (0, 3, 3) and empty.grad.shape == empty.shape


def test_keeps_the_logits_and_a_few_numbers_a_joint():
    volume = logits_of((2, 3, 8, 8, 8), dtype=torch.float32).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        soft_argmax(volume)
    assert volume.data_ptr() in {tensor.data_ptr() for tensor in kept}
    assert sorted(tensor.numel() for tensor in kept) == [2 * 3, 2 * 3, 2 * 3 * 3, volume.numel()]


def test_second_derivative_is_refused():
    volume = logits_of(SHAPE).requires_grad_()
    (grad,) = torch.autograd.grad(soft_argmax(volume).square().sum(), volume, create_graph=True)
    with pytest.raises(RuntimeError, match="soft_argmax"):
        grad.sum().backward()


def test_autocast_leaves_it_in_float32():
    volume = logits_of(SHAPE, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        joints, grad, _ = with_gradient(soft_argmax, volume, torch.ones(2, 3, 3))
    reference, reference_grad, _ = with_gradient(soft_argmax, volume, torch.ones(2, 3, 3))
    assert joints.dtype == torch.float32
    assert torch.equal(joints, reference) and torch.equal(grad, reference_grad)


def test_operators_keep_torchs_contract():
    """Schema, shapes without data, autograd registration, and tracing with dynamic shapes."""
    forward, quick = torch.ops.ipr_lib.integral_forward.default, ("test_schema", "test_faketensor")
    for layout in LAYOUTS:
        volume = layout(logits_of(SHAPE, dtype=torch.bfloat16))
        torch.library.opcheck(forward, (volume,), test_utils=quick)
        arguments = (torch.ones(2, 3, 3), volume, *forward(volume))
        torch.library.opcheck(torch.ops.ipr_lib.integral_backward.default, arguments, test_utils=quick)
    tracing = ("test_autograd_registration", "test_aot_dispatch_dynamic")
    torch.library.opcheck(forward, (channels_last(logits_of(SHAPE)).detach().requires_grad_(),), test_utils=tracing)


def test_compiles_into_one_graph():
    def loss(volume):
        return (soft_argmax(volume * 2) - 1).abs().sum()

    volume = logits_of(SHAPE, dtype=torch.float32)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    grads = []
    for function in (loss, compiled):
        leaf = volume.clone().requires_grad_()
        function(leaf).backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads)


def test_threads_do_not_share_anything():
    from concurrent.futures import ThreadPoolExecutor

    volumes = [logits_of((2, 3, 16, 16, 16), seed, dtype=torch.float32) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda volume: with_gradient(soft_argmax, volume, torch.ones(2, 3, 3)), volumes))
    for volume, (joints, grad, _) in zip(volumes, results):
        reference, reference_grad, _ = with_gradient(expectation, volume.double(), torch.ones(2, 3, 3))
        torch.testing.assert_close(joints.double(), reference, atol=1e-5, rtol=0)
        torch.testing.assert_close(grad.double(), reference_grad, atol=1e-6, rtol=1e-4)
