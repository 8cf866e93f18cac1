"""Peak memory against sums that were done by hand."""

import torch

from ipr_lib.course.memory import peak_bytes

FLOATS = 1000
VOLUME = 4 * FLOATS  # bytes


def test_what_is_freed_makes_room():
    def three_in_turn(start):
        for _ in range(3):
            start = start + 1  # the one before is freed, but for the first, which we hold

    assert peak_bytes(three_in_turn, torch.zeros(FLOATS)) == 3 * VOLUME


def test_views_share_their_memory():
    assert peak_bytes(lambda x: x.view(10, 100).T[:5], torch.zeros(FLOATS)) == VOLUME


def test_numbers_of_other_sizes_and_other_arguments():
    def halve(x, times):
        return x.to(torch.bfloat16) * times

    # The volume, half of it in bfloat16, and the product, another half.
    assert peak_bytes(halve, torch.zeros(FLOATS), 2) == 2 * VOLUME


def test_gradients_and_what_autograd_keeps_count():
    def step(x):
        x.exp().sum().backward()

    # x; exp(x), which is kept; its gradient is an expanded number; the gradient of x.
    start = torch.zeros(FLOATS, requires_grad=True)
    assert 3 * VOLUME <= peak_bytes(step, start) <= 3 * VOLUME + 64
