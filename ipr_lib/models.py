"""ResNet trunk + deconvolution head -> one volume of logits a joint.

Sun et al. 2018, section 4.1; taught in notebooks/07_network_and_losses.ipynb.
"""

import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

from .files import InputError

DECONVOLUTIONS = 3


class SmallResNet(nn.Module):
    """ResNet-18's plan at a smaller width, for machines without a GPU.

    The stem is a 4 x 4 convolution with stride 4 in place of 7 x 7, pool: it sees each pixel once, at a tenth of the
    cost. Four stages of basic blocks follow, widths w, 2w, 4w, 8w; stride 32 in all.
    """

    def __init__(self, width, blocks=(2, 2, 2, 2)):
        """
        Args:
            width: channels of the first stage.
            blocks: basic blocks a stage.
        """
        super().__init__()
        stem = [nn.Conv2d(3, width, 4, 4, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers, channels = stem, width
        for stage, count in enumerate(blocks):
            for block in range(count):
                out, stride = width * 2**stage, 2 if stage and not block else 1
                shortcut = None
                if stride != 1 or channels != out:
                    shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
                layers.append(BasicBlock(channels, out, stride, shortcut))
                channels = out
        self.layers = nn.Sequential(*layers)
        self.channels = channels

    def forward(self, crops):
        return self.layers(crops)


class TorchvisionTrunk(nn.Module):
    """A torchvision ResNet up to its last stage: no pool, no classifier; stride 32."""

    def __init__(self, name, weights=None):
        super().__init__()
        resnet = torchvision.models.get_model(name, weights=weights)
        self.channels = resnet.fc.in_features
        del resnet.avgpool, resnet.fc
        for child, module in resnet.named_children():  # keeps torchvision's key names: conv1, layer1.0.conv1, …
            self.add_module(child, module)

    def forward(self, crops):
        for module in self.children():
            crops = module(crops)
        return crops


TRUNKS = ("small", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def build_trunk(name, width=64, pretrained=False):
    """Make a trunk.

    Args:
        name: one of TRUNKS.
        width: channels of the first stage of "small"; the others have their own.
        pretrained: start from torchvision's ImageNet weights.
    Returns:
        module (B, 3, S, S) -> (B, trunk.channels, S / 32, S / 32).
    Raises:
        InputError: unknown name, or the ImageNet weights are neither here nor to be had.
    """
    if name not in TRUNKS:
        raise InputError(f"unknown trunk {name!r}; choose one of {', '.join(TRUNKS)}")
    if name == "small":
        if pretrained:
            raise InputError("trunk 'small' has no ImageNet weights; set pretrained=False or take resnet18")
        return SmallResNet(width)
    if not pretrained:
        return TorchvisionTrunk(name)
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
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
    """Trunk, three deconvolutions, 1 x 1 convolution: a volume of logits for each joint.

    Args:
        trunk: a module with `channels`, as `build_trunk` makes.
        joints: number of joints J.
        depth_bins: number of depth cells D.
        head_width: channels of the deconvolutions.
    """

    def __init__(self, trunk, joints, depth_bins, head_width=256):
        super().__init__()
        self.joints, self.depth_bins = joints, depth_bins
        self.backbone = trunk
        layers, channels = [], trunk.channels
        for _ in range(DECONVOLUTIONS):
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
            crops: (B, 3, S, S) normalised, S a multiple of 32.
        Returns:
            volume of logits (B, J, D, S / 4, S / 4).
        """
        maps = self.final(self.deconvolutions(self.backbone(crops)))
        return maps.unflatten(1, (self.joints, self.depth_bins))


def count_parameters(model):
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
