import copy

import pytest
import torch

from ipr_lib.files import InputError
from ipr_lib.network import DirectNet, PoseNet, build_backbone
from ipr_lib.training.loop import Muon, build_optimizers, orthogonal
from ipr_lib.training.records import (
    load_checkpoint,
    restore_optimizers,
    save_checkpoint,
)


@pytest.mark.parametrize("rows, columns", [(3, 5), (6, 4)])
def test_orthogonal_keeps_vectors_and_evens_out_values(rows, columns, training_seed):
    generator = torch.Generator().manual_seed(training_seed)
    matrices = (
        torch.randn(2, rows, columns, generator=generator)
        * torch.tensor([1e-4, 1e3])[:, None, None]
    )
    for matrix in matrices:
        found = orthogonal(matrix).double()
        assert found.shape == matrix.shape
        U, S, V = torch.linalg.svd(matrix.double(), full_matrices=False)
        inner = U.mT @ found @ V.mT
        values = inner.diagonal()
        torch.testing.assert_close(inner, torch.diag(values), atol=1e-3, rtol=0)
        assert (values > 0.6).all() and (values < 1.3).all()
        assert S.max() / S.min() > 1.4  # it had something to do


def test_a_step_by_hand():
    """One kernel that is a row vector: its orthogonal form is the unit vector, times the iteration's last factor."""
    kernel = torch.nn.Parameter(torch.tensor([[[[1.0, 2.0]], [[0.0, 1.0]]]]))  # (1, 2, 1, 2)
    optimizer = Muon([kernel], lr=0.5, momentum=0.9, weight_decay=0.1)
    kernel.grad = torch.tensor([[[[0.0, 3.0]], [[4.0, 0.0]]]])
    value = 1.0
    for _ in range(5):
        value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
    expected = torch.tensor([[[[1.0, 2.0]], [[0.0, 1.0]]]]) * (1 - 0.5 * 0.1) - (
        0.5 * 0.2 * 4**0.5 * value * torch.tensor([[[[0.0, 0.6]], [[0.8, 0.0]]]])
    )
    optimizer.step()
    torch.testing.assert_close(kernel.detach(), expected, atol=1e-5, rtol=0)
    # Nesterov's momentum after the first step: 0.1 of the gradient in the buffer, 0.1 + 0.9 * 0.1 of it in the step.
    torch.testing.assert_close(optimizer.state[kernel]["momentum_buffer"], kernel.grad * 0.1)


def test_muon_leaves_first_last_and_vectors_to_adamw():
    model = PoseNet(build_backbone("small", 4), 3, 5, 8, 1)
    optimizers = build_optimizers("muon", model, 1e-3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    muon, adamw = ({names[id(p)] for p in part.param_groups[0]["params"]} for part in optimizers)
    assert muon | adamw == set(names.values()) and not muon & adamw
    assert {"backbone.layers.0.weight", "final.weight", "final.bias"} <= adamw
    assert {"backbone.layers.3.weight", "deconvolutions.0.weight"} <= muon
    assert all(dict(model.named_parameters())[name].ndim == 4 for name in muon)
    (alone,) = build_optimizers("adamw", model, 1e-3)
    assert isinstance(alone, torch.optim.AdamW)


def test_muon_gets_the_same_backbone_under_either_head():
    """R1 and I* are compared: the backbone's last convolution must not change its optimizer with the head."""
    volume, direct = (
        PoseNet(build_backbone("small", 4), 3, 5, 8, 1),
        DirectNet(build_backbone("small", 4), 3),
    )

    def backbone_kernels(model):
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        muon, _ = build_optimizers("muon", model, 1e-3)
        keys = {names[id(kernel)] for kernel in muon.param_groups[0]["params"]}
        return {key for key in keys if key.startswith("backbone.")}

    assert backbone_kernels(volume) == backbone_kernels(direct)
    assert len(backbone_kernels(direct)) > 10


def test_rate_and_weight_decay_reach_every_parameter():
    model = PoseNet(build_backbone("small", 4), 2, 4, 8, 1)
    for name in ("adamw", "muon"):
        optimizers = build_optimizers(name, model, 0.25, weight_decay=0.125)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        assert {(group["lr"], group["weight_decay"]) for group in groups} == {(0.25, 0.125)}, name
        count = sum(parameter.numel() for group in groups for parameter in group["params"])
        assert count == sum(parameter.numel() for parameter in model.parameters()), name


def test_state_goes_on_where_it_was(training_seed, tmp_path):
    torch.manual_seed(training_seed)
    first = PoseNet(build_backbone("small", 4), 2, 4, 8, 1)
    pictures = torch.randn(3, 3, 32, 32)
    one = build_optimizers("muon", first, 1e-2)

    def step(model, optimizers):
        model.zero_grad()
        model(pictures).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()

    step(first, one)
    state = {"step": 1, "seconds": 0.0, "log": []}
    save_checkpoint(tmp_path / "a.pt", first, one, state)
    second = copy.deepcopy(first)
    two = build_optimizers("muon", second, 1e-2)
    content = load_checkpoint(tmp_path / "a.pt", second)
    restore_optimizers(tmp_path / "a.pt", content, two)
    step(first, one)
    step(second, two)
    for left, right in zip(first.parameters(), second.parameters()):
        assert torch.equal(left, right)
    adamw = build_optimizers("adamw", second, 1e-2)
    with pytest.raises(InputError, match="a.pt holds the optimizer's state in the layout"):
        restore_optimizers(tmp_path / "a.pt", content, adamw)
