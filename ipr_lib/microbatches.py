"""Gradients of one batch, worked through in parts. Taught in notebooks/09_training.ipynb."""

import copy
from concurrent.futures import ThreadPoolExecutor

import torch


class MicroBatches:
    """Fills `.grad` with the gradients of a batch that is worked through in equal parts.

    Batch normalisation sees one part at a time; the loss is that of the whole batch, every known coordinate counting the
    same. On a CPU the parts run side by side in threads, each with its share of the cores: the layers of a small network
    are too small to be shared out between cores, whole passes are not. On a GPU they run one after the other, which saves
    memory. Either way the numbers follow from the batch and the count of parts alone. Use it as a context manager:

        with MicroBatches(model, parts=2, loss_of=loss_of) as micro_batches:
            loss = micro_batches.backward(batch)
    """

    def __init__(self, model, parts, loss_of):
        """
        Args:
            model: network; its running statistics are those of the first part.
            parts: how many; the batch size must be a multiple of it.
            loss_of: (model, batch) -> scalar, a mean over the batch weighted by batch["weights"].
        """
        self.model, self.parts, self.loss_of = model, parts, loss_of
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.threads = torch.get_num_threads()
        self.pool = None
        if parts > 1 and self.parameters[0].device.type == "cpu":
            # Copies share the parameters and keep running statistics of their own, so that no thread waits for another.
            shared = {id(parameter): parameter for parameter in model.parameters()}
            self.models = [model] + [copy.deepcopy(model, dict(shared)) for _ in range(parts - 1)]
            share = max(1, self.threads // parts)
            self.pool = ThreadPoolExecutor(parts, initializer=torch.set_num_threads, initargs=(share,))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pool is not None:
            self.pool.shutdown()
            torch.set_num_threads(self.threads)

    def backward(self, batch):
        """Set the gradients of the model's parameters.

        Args:
            batch: dict of tensors with B rows each, "weights" among them.
        Returns:
            scalar: the loss of the whole batch, detached.
        """
        for parameter in self.parameters:
            parameter.grad = None
        parts = _split(batch, self.parts)
        if self.pool is None:
            losses = []
            for part, share in parts:
                loss = self.loss_of(self.model, part) * share
                loss.backward()
                losses.append(loss.detach())
            return sum(losses)
        results = list(self.pool.map(self._gradients, self.models, *zip(*parts)))
        for parameter, *gradients in zip(self.parameters, *(gradients for _, gradients in results)):
            parameter.grad = sum(gradients[1:], gradients[0])
        return sum(loss for loss, _ in results)

    def _gradients(self, model, part, share):
        loss = self.loss_of(model, part) * share
        return loss.detach(), torch.autograd.grad(loss, list(self.parameters))


def _split(batch, parts):
    """[(part, its share of the batch's weights)]: shares make the mean of means a mean."""
    if parts == 1:
        return [(batch, 1.0)]
    weights = batch["weights"]
    total = weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
    pieces = {name: tensor.chunk(parts) for name, tensor in batch.items()}
    return [
        ({name: chunks[i] for name, chunks in pieces.items()}, pieces["weights"][i].sum() / total) for i in range(parts)
    ]
