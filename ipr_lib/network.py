"""ResNet trunk + deconvolution head -> one volume of logits a joint; or, to compare with, coordinates directly.

Sun et al. 2018, section 4.1; taught in notebooks/07_network_and_losses.ipynb.
"""

import torch
from torch import nn

from .files import InputError


class SmallResNet(nn.Module):
    """A small residual trunk for machines without a GPU: eight basic blocks, stride 16.

    The stem takes an eighth of the crop's resolution in two cheap steps, for most of the pixels are room; the last two
    stages keep theirs, for a map of 4 x 4 cells or fewer would leave the head to redraw what the trunk had seen.
    """

    stride = 16

    def __init__(self, width):
        """
        Args:
            width: channels of the first stage; the others have two, three and three times as many.
        """
        # Here, for it takes longer to load than torch, and most commands build no network.
        from torchvision.models.resnet import BasicBlock

        super().__init__()
        half = max(1, width // 2)
        layers = [
            nn.Conv2d(3, half, 4, 4, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        channels = width
        for out, stride in ((width, 1), (2 * width, 2), (3 * width, 1), (3 * width, 1)):
            for block_stride in (stride, 1):
                shortcut = None
                if block_stride != 1 or channels != out:
                    shortcut = nn.Sequential(
                        nn.Conv2d(channels, out, 1, block_stride, bias=False), nn.BatchNorm2d(out)
                    )
                layers.append(BasicBlock(channels, out, block_stride, shortcut))
                channels = out
        self.layers = nn.Sequential(*layers)
        self.channels = channels

    def forward(self, crops):
        return self.layers(crops)


class TorchvisionTrunk(nn.Module):
    """A torchvision ResNet up to its last stage: no pool, no classifier."""

    stride = 32

    def __init__(self, name, weights=None):
        from torchvision.models import get_model

        super().__init__()
        resnet = get_model(name, weights=weights)
        self.channels = resnet.fc.in_features
        del resnet.avgpool, resnet.fc
        for (
            child,
            module,
        ) in resnet.named_children():  # keeps torchvision's key names: conv1, layer1.0.conv1, …
            self.add_module(child, module)

    def forward(self, crops):
        for module in self.children():
            crops = module(crops)
        return crops


# Each trunk with its stride: crop px a feature cell.
TRUNKS = {
    "small": SmallResNet.stride,
    **dict.fromkeys(
        ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), TorchvisionTrunk.stride
    ),
}


def build_trunk(name, width=64, pretrained=False):
    """Make a trunk.

    Args:
        name: one of TRUNKS.
        width: channels of the first stage of "small"; the others have their own.
        pretrained: start from torchvision's ImageNet weights.
    Returns:
        module (B, 3, S, S) -> (B, trunk.channels, S / stride, S / stride), with attributes channels and stride.
    Raises:
        InputError: unknown name, or the ImageNet weights are neither here nor to be had.
    """
    if name not in TRUNKS:
        raise InputError(f"unknown trunk {name!r}; choose one of {', '.join(TRUNKS)}")
    if name == "small":
        if pretrained:
            raise InputError(
                "trunk 'small' has no ImageNet weights; set pretrained=False or take resnet18"
            )
        return SmallResNet(width)
    if not pretrained:
        return TorchvisionTrunk(name)
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).IMAGENET1K_V1
    try:
        return TorchvisionTrunk(name, weights)
    except OSError as error:  # URLError is one
        file = weights.url.rpartition("/")[2]
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise InputError(
            f"the ImageNet weights {file} could not be downloaded ({error}); fetch that file on a machine with a "
            f"network, put it at {folder}/{file}, or set pretrained=False"
        ) from error


class PoseNet(nn.Module):
    """Trunk, deconvolutions, 1 x 1 convolution: a volume of logits for each joint.

    Args:
        trunk: a module with `channels`, as `build_trunk` makes.
        joints: number of joints J.
        depth_bins: number of depth cells D.
        head_width: channels of the deconvolutions.
        deconvolutions: how many, each doubling the map's sides; three after a ResNet, as in the paper.
    """

    def __init__(self, trunk, joints, depth_bins, head_width=256, deconvolutions=3):
        super().__init__()
        self.joints, self.depth_bins = joints, depth_bins
        self.backbone = trunk
        layers, channels = [], trunk.channels
        for _ in range(deconvolutions):
            layers += [
                nn.ConvTranspose2d(channels, head_width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(head_width),
                nn.ReLU(inplace=True),
            ]
            channels = head_width
        self.deconvolutions = nn.Sequential(*layers)
        self.final = nn.Conv2d(channels, joints * depth_bins, 1)
        for layer in self.deconvolutions:
            if isinstance(layer, nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.001)
        # Almost-zero logits: training starts from a uniform volume, whose expectation is the middle of the crop.
        nn.init.normal_(self.final.weight, std=0.001)
        nn.init.zeros_(self.final.bias)

    def forward(self, crops):
        """
        Args:
            crops: (B, 3, S, S) normalised, S a multiple of the trunk's stride.
        Returns:
            volume of logits (B, J, D, H, W), H = W = S / stride * 2**deconvolutions; S / 4 in the paper.
        """
        maps = self.final(self.deconvolutions(self.backbone(crops)))
        return maps.unflatten(1, (self.joints, self.depth_bins))


class DirectNet(nn.Module):
    """Trunk, global average, one fully connected layer: three coordinates for each joint, without any map.

    Args:
        trunk: a module with `channels`, as `build_trunk` makes.
        joints: number of joints J.
    """

    def __init__(self, trunk, joints):
        super().__init__()
        self.joints = joints
        self.backbone = trunk
        self.final = nn.Linear(trunk.channels, 3 * joints)
        nn.init.normal_(
            self.final.weight, std=0.001
        )  # starts from the middle of the crop, as PoseNet does
        nn.init.zeros_(self.final.bias)

    def forward(self, crops):
        """
        Args:
            crops: (B, 3, S, S) normalised, S a multiple of the trunk's stride.
        Returns:
            (B, J, 3), order x, y, z, in shares of the volume's sides; 0 is its middle.
        """
        return self.final(self.backbone(crops).mean(dim=(2, 3))).unflatten(1, (self.joints, 3))


def count_parameters(model):
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
