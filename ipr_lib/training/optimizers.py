"""AdamW, and Muon for convolution kernels. Taught in notebooks/09_training.ipynb."""

import torch


class Muon(torch.optim.Optimizer):
    """Momentum, each kernel's step made orthogonal:
    all directions of a layer move alike, the rare ones too.

    Jordan 2024 (kellerjordan.github.io/posts/muon); the step is scaled as Liu et al. 2025 (arXiv
    2502.16982) do, so that AdamW's learning rate fits. torch.optim.Muon takes matrices alone, and
    rounds to bfloat16, which processors without it emulate many times slower; here kernels (out,
    in, h, w) count as matrices (out, in * h * w), in float32.
    """

    def __init__(
        self,
        kernels: list[torch.Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        """
        Args:
            kernels: parameters of two or more axes.
            lr: learning rate.
            momentum: of the gradient, Nesterov's form.
            weight_decay: decoupled, as AdamW's.
        """
        super().__init__(kernels, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            rate, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
            for kernel in group["params"]:
                state = self.state[kernel]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(kernel)
                average = state["momentum_buffer"].lerp_(kernel.grad, 1 - momentum)
                gradient = kernel.grad.lerp(average, momentum)
                update = orthogonal(gradient.flatten(1).float())
                length = rate * 0.2 * max(update.shape) ** 0.5
                kernel.mul_(1 - rate * decay).sub_(length * update.view_as(kernel))


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Nearly the nearest orthogonal matrix:
    singular vectors kept, singular values brought to about 0.7 … 1.2.

    Newton-Schulz iteration with Jordan's coefficients, which trade exactness for few steps. Each
    step is a polynomial of the small square matrix X X'. The polynomials commute, so their product
    is applied to X once, which halves the time.

    Args:
        matrix: (rows, columns).
        steps: of the iteration.
    Returns:
        (rows, columns).
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonal(matrix.T, steps).T
    X = matrix / matrix.norm().clamp(min=1e-7)
    gram = X @ X.T
    identity = torch.eye(len(X), dtype=X.dtype, device=X.device)
    product = identity
    for _ in range(steps):
        step = 3.4445 * identity - 4.7750 * gram + 2.0315 * gram @ gram
        product = step @ product
        gram = step @ gram @ step
    return product @ X


OPTIMIZERS = ("adamw", "muon")


def build_optimizers(
    name: str, network: torch.nn.Module, learning_rate: float, weight_decay: float = 0.0
) -> list[torch.optim.Optimizer]:
    """Make the optimizers of a network, which share its parameters out among them.

    Args:
        name: one of OPTIMIZERS. "adamw": Adam with decoupled weight decay, for all parameters.
            "muon": `Muon` for the kernels of all convolutions but the first and the network's
            `final` one, AdamW for these and all the rest.
        network: module whose parameters begin with those of its first convolution.
        learning_rate, weight_decay: of all of them.
    Returns:
        [AdamW] or [Muon, AdamW].
    """
    first = next(network.parameters())
    kernels, others = [], []
    for key, parameter in network.named_parameters():
        hidden = parameter.ndim == 4 and parameter is not first and not key.startswith("final.")
        if name == "muon" and hidden:
            kernels.append(parameter)
        else:
            others.append(parameter)
    adamw = torch.optim.AdamW(others, learning_rate, weight_decay=weight_decay, fused=True)
    if name == "adamw":
        return [adamw]
    return [Muon(kernels, learning_rate, weight_decay=weight_decay), adamw]
