"""AdamW, and Muon for convolution kernels. Taught in notebooks/09_training.ipynb."""

import torch


class Muon(torch.optim.Optimizer):
    """Momentum, each kernel's step made orthogonal: all directions of a layer move alike, the rare ones too.

    Jordan 2024 (kellerjordan.github.io/posts/muon); the step is scaled as Liu et al. 2025 (arXiv 2502.16982) do, so that
    AdamW's learning rate fits. torch.optim.Muon takes matrices alone, and rounds to bfloat16, which processors without it
    emulate many times slower; here kernels (out, in, h, w) count as matrices (out, in * h * w), in float32.
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
            moved = [kernel for kernel in group["params"] if kernel.grad is not None]
            for shape, kernels in by_shape(moved).items():
                # Kernels of one shape share one matrix product.
                gradients = [self._momentum(kernel, group["momentum"]) for kernel in kernels]
                updates = orthogonal(torch.stack(gradients))
                size = group["lr"] * 0.2 * max(shape) ** 0.5
                for kernel, update in zip(kernels, updates):
                    kernel.mul_(1 - group["lr"] * group["weight_decay"]).add_(
                        update.view_as(kernel), alpha=-size
                    )

    def _momentum(self, kernel, momentum):
        """The kernel's gradient with momentum, as a float32 matrix."""
        state = self.state[kernel]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(kernel)
        average = state["momentum_buffer"].lerp_(kernel.grad, 1 - momentum)
        return kernel.grad.lerp(average, momentum).flatten(1).float()


def by_shape(kernels: list[torch.Tensor]) -> dict[tuple, list[torch.Tensor]]:
    """Kernels (out, in, h, w) grouped by the shape (out, in * h * w) of their matrices."""
    groups = {}
    for kernel in kernels:
        groups.setdefault(kernel.flatten(1).shape, []).append(kernel)
    return groups


def orthogonal(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Nearly the nearest orthogonal matrices: singular vectors kept, singular values brought to about 0.7 … 1.2.

    Newton-Schulz iteration with Jordan's coefficients, which trade exactness for few steps. It runs on the small square
    matrix X X', which is what makes it cheap: the steps' polynomials commute, so their product is applied to X once.

    Args:
        matrices: (n, rows, columns).
        steps: of the iteration.
    Returns:
        (n, rows, columns).
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT, steps).mT
    X = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    gram = X @ X.mT
    identity = torch.eye(len(gram[0]), dtype=X.dtype, device=X.device)
    product = identity.expand_as(gram)
    for _ in range(steps):
        step = torch.baddbmm(3.4445 * identity - 4.7750 * gram, gram, gram, alpha=2.0315)
        product = step @ product
        gram = step @ gram @ step
    return product @ X


class Together:
    """Several optimizers, each of parameters of its own, used as one."""

    def __init__(self, *optimizers):
        self.optimizers = optimizers

    @property
    def param_groups(self):
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self):
        return {str(i): optimizer.state_dict() for i, optimizer in enumerate(self.optimizers)}

    def load_state_dict(self, state):
        if len(state) != len(self.optimizers):
            raise ValueError(f"state of {len(state)} optimizers, expected {len(self.optimizers)}")
        for i, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(state[str(i)])


OPTIMIZERS = ("adamw", "muon")


def build_optimizer(
    name: str, network: torch.nn.Module, learning_rate: float, weight_decay: float = 0.0
):
    """Make the optimizer of a network.

    Args:
        name: one of OPTIMIZERS. "adamw": Adam with decoupled weight decay, for all parameters. "muon": `Muon` for the
            kernels of all convolutions but the first and the network's `final` one, AdamW for these and all the rest.
        network: module whose parameters begin with those of its first convolution.
        learning_rate: of either.
        weight_decay: of either.
    Returns:
        an object with param_groups, step, state_dict and load_state_dict.
    """
    trained = [(key, p) for key, p in network.named_parameters() if p.requires_grad]
    if name == "adamw":
        parameters = [parameter for _, parameter in trained]
        return _adamw(parameters, learning_rate, weight_decay)
    kernels = [key for key, parameter in trained if parameter.ndim == 4]
    hidden = [key for key in kernels[1:] if not key.startswith("final.")]
    muon = Muon(
        [p for key, p in trained if key in hidden], learning_rate, weight_decay=weight_decay
    )
    rest = [p for key, p in trained if key not in hidden]
    return Together(muon, _adamw(rest, learning_rate, weight_decay))


def _adamw(parameters, learning_rate, weight_decay):
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)
