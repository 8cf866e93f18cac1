"""Gradients of one batch, worked through in parts. Taught in notebooks/09_training.ipynb."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from . import distributed


class MicroBatches:
    """Fills `.grad` with the gradients of a batch that is worked through in equal parts.

    Part i takes rows i, i + parts, …: a mixed batch holds its sources one after the other, and each part should see all of
    them. Batch normalisation sees one part at a time; the loss is that of the whole batch, every known coordinate, or joint,
    counting the same. On a CPU the parts run side by side in threads, each with its share of the cores. That stays because
    it pays: a step of profile laptop takes 63 ms instead of 141 (bfloat16), and 106 ms instead of 167 (float32, AVX2), on two
    idle cores. On a GPU the parts run one after the other, which saves memory. Either way the gradients follow from the batch
    and the count of parts alone, and where the processes of a group hold rows i, i + processes, … of a batch, they and their
    parts give the gradients of that many parts of the whole. `close` ends the threads:

        with contextlib.closing(MicroBatches(network, parts=2)) as micro_batches:
            loss = micro_batches.backward(batch, loss_of)
    """

    def __init__(self, network: nn.Module, parts: int, threads: bool = True):
        """
        Args:
            network: module, or a DistributedDataParallel of it. Its running statistics are those of the first part in
                threads, of all parts in turn otherwise.
            parts: how many; the batch size must be a multiple of it.
            threads: False works one part after the other on a CPU, too.
        """
        self.network, self.parts = network, parts
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.cores = torch.get_num_threads()
        self.pool = None
        if threads and parts > 1 and self.parameters[0].device.type == "cpu":
            # Copies share the parameters and keep running statistics of their own, so that no thread waits for another.
            shared = {id(parameter): parameter for parameter in network.parameters()}
            copies = [copy.deepcopy(network, dict(shared)) for _ in range(parts - 1)]
            self.networks = [network, *copies]
            cores_each = max(1, self.cores // parts)
            self.pool = ThreadPoolExecutor(parts, None, torch.set_num_threads, (cores_each,))

    def close(self):
        """End the threads and give the cores back."""
        if self.pool is not None:
            self.pool.shutdown()
            torch.set_num_threads(self.cores)

    def backward(
        self, batch: dict[str, torch.Tensor], loss_of: Callable, counts: Callable | None = None
    ) -> torch.Tensor:
        """Set the gradients of the network's parameters.

        Args:
            batch: dict of tensors with B rows each, "weights" among them; in a process group, this process' rows.
            loss_of: (network, part of the batch) -> scalar, a mean over the part weighted by counts(part["weights"]).
            counts: weights -> the weights that the mean divides by; by default they are these themselves.
        Returns:
            scalar: the loss of the whole batch, detached; in a process group, what these rows add to it.
        """
        parts, shares = self._split(batch, counts)

        def gradients(network, part, share):
            loss = loss_of(network, part) * share
            return loss.detach(), torch.autograd.grad(loss, self.parameters)

        if self.pool is not None:
            results = list(self.pool.map(gradients, self.networks, parts, shares))
            for i, parameter in enumerate(self.parameters):
                parameter.grad = sum(of_part[i] for _, of_part in results)
            return sum(loss for loss, _ in results)

        self.network.zero_grad()
        total = 0.0
        for part, share in zip(parts, shares):
            loss = loss_of(self.network, part) * share
            # DistributedDataParallel divides the sum of gradients by the number of processes.
            (loss * distributed.size()).backward()
            total = total + loss.detach()
        return total

    def _split(self, batch, counts):
        """Parts of a batch, and the share of the whole batch's weights that each holds: a mean is their weighted mean."""
        parts, sums = [], []
        for first in range(self.parts):
            part = {name: tensor[first :: self.parts] for name, tensor in batch.items()}
            weights = part["weights"] if counts is None else counts(part["weights"])
            parts.append(part)
            sums.append(weights.sum())
        total = distributed.all_reduce_sum(sum(sums))
        total = total.clamp(min=torch.finfo(total.dtype).tiny)
        return parts, [part_sum / total for part_sum in sums]
