"""Gradients of one batch, worked through in parts. Taught in notebooks/09_training.ipynb."""

import contextlib
import copy
from concurrent.futures import ThreadPoolExecutor

import torch

from . import distributed


class MicroBatches:
    """Fills `.grad` with the gradients of a batch that is worked through in equal parts.

    Part i takes rows i, i + parts, …: a mixed batch holds its sources one after the other, and each part should see all of
    them. Batch normalisation sees one part at a time; the loss is that of the whole batch, every known coordinate, or joint,
    counting the same. On a CPU the parts run side by side in threads, each with its share of the cores: the layers of a small
    network are too small to be shared out between cores, whole passes are not. KEEP: a step of the laptop profile takes 63 ms
    instead of 141 (bfloat16) and 106 ms instead of 167 (float32, AVX2) on two idle cores, so they save far more than 15 %. On a GPU they run one after the other, which
    saves memory. Either way the gradients follow from the batch and the count of parts alone, and where the processes of a
    group hold rows i, i + processes, … of a batch, they and their parts give the gradients of that many parts of the whole.
    Use it as a context manager:

        with MicroBatches(model, parts=2, loss_of=loss_of) as micro_batches:
            loss = micro_batches.backward(batch)
    """

    def __init__(self, model, parts, loss_of, threads=True, counts=None):
        """
        Args:
            model: network, or a DistributedDataParallel of it. Its running statistics are those of the first part in
                threads, of all parts in turn otherwise.
            parts: how many; the batch size must be a multiple of it.
            loss_of: (model, batch) -> scalar, a mean over the batch weighted by counts(batch["weights"]).
            threads: False works one part after the other on a CPU, too.
            counts: weights -> the weights that the mean divides by; by default they are these themselves.
        """
        self.model, self.parts, self.loss_of = model, parts, loss_of
        self.counts = counts or (lambda weights: weights)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.threads = torch.get_num_threads()
        self.pool = None
        if threads and parts > 1 and self.parameters[0].device.type == "cpu":
            # Copies share the parameters and keep running statistics of their own, so that no thread waits for another.
            shared = {id(parameter): parameter for parameter in model.parameters()}
            self.models = [model] + [copy.deepcopy(model, dict(shared)) for _ in range(parts - 1)]
            share = max(1, self.threads // parts)
            self.pool = ThreadPoolExecutor(
                parts, initializer=torch.set_num_threads, initargs=(share,)
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pool is not None:
            self.pool.shutdown()
            torch.set_num_threads(self.threads)

    def backward(self, batch):
        """Set the gradients of the model's parameters.

        Args:
            batch: dict of tensors with B rows each, "weights" among them; in a process group, this process' rows.
        Returns:
            scalar: the loss of the whole batch, detached; in a process group, what these rows add to it.
        """
        for parameter in self.parameters:
            parameter.grad = None
        parts = _split(batch, self.parts, self.counts)
        if self.pool is None:
            losses = []
            for i, (part, share) in enumerate(parts):
                # Gradients travel once, with the last part; DistributedDataParallel divides their sum by the processes.
                wait = (
                    self.model.no_sync()
                    if distributed.size() > 1 and i < len(parts) - 1
                    else contextlib.nullcontext()
                )
                with wait:
                    loss = self.loss_of(self.model, part) * share
                    (loss * distributed.size()).backward()
                losses.append(loss.detach())
            return sum(losses)
        results = list(self.pool.map(self._gradients, self.models, *zip(*parts)))
        self.pool.submit(self._add, [gradients for _, gradients in results]).result()
        return sum(loss for loss, _ in results)

    def step(self, optimizer):
        """optimizer.step(); where parts run in threads, these share its optimizers out, each with its share of the cores.

        A small network's kernels are small matrices: to wake a second core for each takes longer than to work them out.
        """
        if self.pool is None:
            optimizer.step()
        else:
            list(
                self.pool.map(lambda one: one.step(), getattr(optimizer, "optimizers", [optimizer]))
            )

    def _add(self, gradients):
        for parameter, *parts in zip(self.parameters, *gradients):
            parameter.grad = sum(parts[1:], parts[0])

    def _gradients(self, model, part, share):
        loss = self.loss_of(model, part) * share
        return loss.detach(), torch.autograd.grad(loss, list(self.parameters))


def _split(batch, parts, counts):
    """[(part, its share of the whole batch's weights)]: shares make the mean of means a mean."""
    if parts == 1 and distributed.size() == 1:
        return [(batch, 1.0)]
    total = distributed.all_reduce_sum(counts(batch["weights"]).sum()).clamp(
        min=torch.finfo(batch["weights"].dtype).tiny
    )
    pieces = [
        {name: tensor[i::parts].contiguous() for name, tensor in batch.items()}
        for i in range(parts)
    ]
    return [(piece, counts(piece["weights"]).sum() / total) for piece in pieces]
