import torch

from ipr_lib.heatmaps import cells_to_joints, soft_argmax
from ipr_lib.losses import integral_loss, masked_mean


def test_integral_loss_by_hand():
    joints = torch.tensor([[[10.0, 20, 100], [0, 0, 0]]])
    target = torch.tensor([[[14.0, 20, 300], [8, 0, torch.inf]]])
    weights = torch.tensor([[[1.0, 1, 1], [1, 1, 0]]])
    # (4/64 + 0 + 200/2000 + 8/64 + 0) / 5
    loss = integral_loss(joints, target, weights, (64, 64, 2000))
    torch.testing.assert_close(loss, torch.tensor((4 / 64 + 0.1 + 8 / 64) / 5))


def test_weights_of_zero_give_zero_loss_and_finite_gradient():
    values = torch.full((2, 3), torch.inf, requires_grad=True)
    loss = masked_mean(values, torch.zeros(2, 3))
    loss.backward()
    assert loss.item() == 0 and (values.grad == 0).all()


def test_samples_without_depth_teach_x_and_y_alone():
    """The sum over z of the volume's gradient vanishes nowhere in x and y, and along z it is flat."""
    logits = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    joints = cells_to_joints(soft_argmax(logits), (4, 5, 6), 24, 2000.0)
    weights = torch.ones(2, 3, 3)
    weights[0, :, 2] = 0
    joints.retain_grad()
    integral_loss(joints, torch.zeros(2, 3, 3), weights, (24, 24, 2000)).backward()
    assert (joints.grad[0, :, 2] == 0).all() and (joints.grad[1, :, 2] != 0).all()
    assert (joints.grad[..., :2] != 0).all()
