from contextlib import closing

import pytest
import torch
from torch import nn

from ipr_lib.data.datasets import prefetched
from ipr_lib.integral import masked_mean
from ipr_lib.training.loop import MicroBatches


def loss_of(model, batch):
    return masked_mean((model(batch["x"]) - batch["y"]).abs(), batch["weights"])


def make(seed, batch_norm=False):
    torch.manual_seed(seed)
    layers = [nn.Linear(5, 7), nn.BatchNorm1d(7)] if batch_norm else [nn.Linear(5, 7), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(7, 2))
    generator = torch.Generator().manual_seed(seed + 1)
    batch = {
        "x": torch.randn(6, 5, generator=generator),
        "y": torch.randn(6, 2, generator=generator),
        "weights": torch.tensor([[1.0, 1], [1, 0], [0, 0], [1, 1], [1, 1], [1, 1]]),
    }
    return model, batch


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_have_the_gradient_of_the_whole(parts, training_seed):
    """The parts know 4 and 5, or 4, 3 and 2 coordinates: only the right shares give the mean over all nine."""
    model, batch = make(training_seed)
    expected = loss_of(model, batch)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    with closing(MicroBatches(model, parts)) as micro_batches:
        for _ in range(2):  # gradients are set, not added up
            loss = micro_batches.backward(batch, loss_of)
    torch.testing.assert_close(loss, expected.detach())
    assert not loss.requires_grad
    for parameter, gradient in zip(model.parameters(), gradients):
        torch.testing.assert_close(parameter.grad, gradient)


def test_threads_and_turns_agree_with_batch_normalisation(training_seed):
    model, batch = make(training_seed, batch_norm=True)
    with closing(MicroBatches(model, 2)) as micro_batches:
        side_by_side = micro_batches.backward(batch, loss_of)
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        micro_batches.pool.shutdown()
        micro_batches.pool = None  # one after the other, as on a GPU
        in_turn = micro_batches.backward(batch, loss_of)
    torch.testing.assert_close(side_by_side, in_turn)
    for parameter, gradient in zip(model.parameters(), gradients):
        torch.testing.assert_close(parameter.grad, gradient)


def test_running_statistics_are_those_of_the_first_part(training_seed):
    model, batch = make(training_seed, batch_norm=True)
    first, _ = make(training_seed, batch_norm=True)
    first(batch["x"][::2])
    with closing(MicroBatches(model, 2)) as micro_batches:
        micro_batches.backward(batch, loss_of)
    torch.testing.assert_close(model[1].running_mean, first[1].running_mean)
    assert model[1].num_batches_tracked == 1


def test_copies_follow_the_optimizer(training_seed):
    """After a step the second thread works on the new parameters: its gradient is that of the whole again."""
    model, batch = make(training_seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with closing(MicroBatches(model, 2)) as micro_batches:
        micro_batches.backward(batch, loss_of)
        optimizer.step()
        micro_batches.backward(batch, loss_of)
        found = [parameter.grad.clone() for parameter in model.parameters()]
    expected = torch.autograd.grad(loss_of(model, batch), list(model.parameters()))
    for gradient, value in zip(found, expected):
        torch.testing.assert_close(gradient, value)


def test_threads_are_given_back(training_seed):
    model, batch = make(training_seed)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with closing(MicroBatches(model, 2)) as micro_batches:
            micro_batches.backward(batch, loss_of)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_in_a_part_reaches_the_caller(training_seed):
    model, batch = make(training_seed)
    with pytest.raises(KeyError, match="y"), closing(MicroBatches(model, 2)) as micro_batches:
        micro_batches.backward(
            {name: tensor for name, tensor in batch.items() if name != "y"}, loss_of
        )


def test_prefetched_keeps_order_and_errors():
    assert list(prefetched(range(5))) == [0, 1, 2, 3, 4]
    assert list(prefetched([])) == []

    def failing():
        yield 1
        raise OSError("gone")

    items = prefetched(failing())
    assert next(items) == 1
    with pytest.raises(OSError, match="gone"):
        next(items)
