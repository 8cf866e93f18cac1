"""How much memory a computation needs at one time, counted exactly.

Used in notebooks/06_soft_argmax.ipynb. On a CPU, PyTorch keeps no such count itself.
"""

import weakref
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(function: Callable, *arguments) -> int:
    """Most bytes of tensors that exist at one time while `function(*arguments)` runs.

    What one operation of PyTorch uses for itself, such as a scratch buffer, is not seen.

    Args:
        function: what is measured; its result is dropped.
        *arguments: given to it; tensors among them count from the start.

    Returns:
        The bytes of all storages together, each counted once.
    """
    with _TensorBytes() as count:
        for argument in arguments:
            count.follow(argument)
        function(*arguments)
    return count.peak


class _TensorBytes(TorchDispatchMode):
    """Follows every tensor that an operation returns, until its storage is freed."""

    def __init__(self):
        super().__init__()
        self.alive = {}  # bytes of each storage
        self.peak = 0

    def follow(self, value):
        if not isinstance(value, torch.Tensor):
            return
        storage = value.untyped_storage()
        if storage._cdata not in self.alive:
            self.alive[storage._cdata] = storage.nbytes()
            weakref.finalize(storage, self.alive.pop, storage._cdata)
        self.peak = max(self.peak, sum(self.alive.values()))

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            self.follow(value)
        return result
