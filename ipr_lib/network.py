"""The networks: a backbone with a head that gives a volume of logits per joint,
three lines of logits, or coordinates directly.

Sun et al. 2018, section 4.1; taught in notebooks/07_network_and_losses.ipynb.
"""

from collections import OrderedDict

import torch
from torch import nn

from .files import InputError

# Backbone -> stride: so many crop pixels make one cell of its features.
BACKBONES = {
    "small": 16,
    "resnet18": 32,
    "resnet34": 32,
    "resnet50": 32,
    "resnet101": 32,
    "resnet152": 32,
}

BINS_PER_PX = 2  # of a LineNet, as SimCC's


def small_resnet(width: int) -> nn.Sequential:
    """A small residual network for machines without a GPU: eight basic blocks, stride 16.

    The first two convolutions reduce the resolution to an eighth, because that is cheap and most of
    a crop shows the room. The last two stages keep their resolution, because the head could not
    recover the detail of a 4 x 4 map.

    Args:
        width: channels of the first stage; the others have two, three and three times as many.
    """
    # Imported here, because torchvision loads slowly and most commands build no network.
    from torchvision.models.resnet import BasicBlock

    half = max(1, width // 2)
    layers = [
        nn.Conv2d(3, half, kernel_size=4, stride=4, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(inplace=True),
        nn.Conv2d(half, width, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]
    channels = width
    stages = ((width, 1), (2 * width, 2), (3 * width, 1), (3 * width, 1))
    for out, stride in stages:
        shortcut = None
        if stride != 1 or channels != out:
            shortcut = nn.Sequential(
                nn.Conv2d(channels, out, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(out),
            )
        layers.append(BasicBlock(channels, out, stride, shortcut))
        layers.append(BasicBlock(out, out))
        channels = out
    backbone = nn.Sequential(OrderedDict(layers=nn.Sequential(*layers)))
    backbone.channels = channels
    return backbone


def torchvision_resnet(name: str, weights=None) -> nn.Sequential:
    """A ResNet of torchvision without its pooling and its classifier; stride 32.

    Args:
        name: "resnet18" to "resnet152".
        weights: of torchvision, such as ResNet50_Weights.IMAGENET1K_V1; None for a random start.
    """
    from torchvision.models import get_model

    resnet = get_model(name, weights=weights)
    # The layers keep torchvision's names, so that its checkpoints fit: conv1, layer1.0.conv1, ...
    backbone = nn.Sequential(OrderedDict(resnet.named_children()))
    del backbone.avgpool, backbone.fc
    backbone.channels = resnet.fc.in_features
    return backbone


def build_backbone(name: str, width: int = 64, pretrained: bool = False) -> nn.Module:
    """Build a backbone; see notebook 07.

    Args:
        name: one of BACKBONES.
        width: channels of the first stage of "small"; the others have their own.
        pretrained: start from torchvision's ImageNet weights.

    Returns:
        Module (B, 3, S, S) -> (B, channels, S / stride, S / stride), with an attribute `channels`.

    Raises:
        InputError: the name is unknown, or the ImageNet weights are missing and cannot be
            downloaded.
    """
    if name not in BACKBONES:
        raise InputError(f"unknown backbone {name!r}; choose one of {', '.join(BACKBONES)}")
    if name == "small":
        if pretrained:
            raise InputError(
                "backbone 'small' has no ImageNet weights; set pretrained=False or choose resnet18"
            )
        return small_resnet(width)
    if not pretrained:
        return torchvision_resnet(name)
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).IMAGENET1K_V1
    try:
        return torchvision_resnet(name, weights)
    except OSError as error:  # URLError is one
        file = weights.url.rpartition("/")[2]
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise InputError(
            f"the ImageNet weights {file} could not be downloaded ({error}); get {weights.url} on a machine with a "
            f"network connection, put it at {folder}/{file} (TORCH_HOME names another folder), or set pretrained=False"
        ) from error


class PoseNet(nn.Module):
    """Backbone, deconvolutions and a 1 x 1 convolution: a volume of logits for each joint;
    see notebook 07.

    Args:
        backbone: module with an attribute `channels`, from `build_backbone`.
        joints: number of joints J.
        depth_bins: number of depth cells D.
        head_width: channels of the deconvolutions.
        deconvolutions: number of deconvolutions, each of which doubles height and width; the paper
            has three.
    """

    def __init__(
        self,
        backbone: nn.Module,
        joints: int,
        depth_bins: int,
        head_width: int = 256,
        deconvolutions: int = 3,
    ):
        super().__init__()
        self.joints = joints
        self.depth_bins = depth_bins
        self.backbone = backbone
        layers = []
        channels = backbone.channels
        for _ in range(deconvolutions):
            layers.append(
                nn.ConvTranspose2d(
                    channels, head_width, kernel_size=4, stride=2, padding=1, bias=False
                )
            )
            layers.append(nn.BatchNorm2d(head_width))
            layers.append(nn.ReLU(inplace=True))
            channels = head_width
        self.deconvolutions = nn.Sequential(*layers)
        self.final = nn.Conv2d(channels, joints * depth_bins, kernel_size=1)
        for layer in self.deconvolutions:
            if isinstance(layer, nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.001)
        # With logits near zero, training starts from a uniform volume; its expectation is the
        # middle of the crop.
        nn.init.normal_(self.final.weight, std=0.001)
        nn.init.zeros_(self.final.bias)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops -> volumes of logits.

        Args:
            crops: (B, 3, S, S) normalised; S is a multiple of the backbone's stride.

        Returns:
            (B, J, D, H, W) logits, H = W = S / stride * 2**deconvolutions; S / 4 in the paper.
        """
        features = self.backbone(crops)  # (B, channels, S / stride, S / stride)
        maps = self.final(self.deconvolutions(features))  # (B, J * D, H, W)
        return maps.unflatten(1, (self.joints, self.depth_bins))


class LineNet(PoseNet):
    """A map for each joint, and three classifiers that read it: a line of logits along each axis.

    SimCC (Li et al. 2022, arXiv 2107.03332) classifies x and y in bins finer than a pixel; RTMW3D
    (Jiang et al. 2024, arXiv 2407.08634) adds depth. All joints share the classifiers, which belong
    to one size of crops. See notebook 07.

    Args:
        backbone, joints, head_width, deconvolutions: as for PoseNet.
        side: height and width of the maps, S / stride * 2**deconvolutions for crops of S px.
        bins: number of bins N along each axis; SimCC has two a pixel.
    """

    def __init__(
        self,
        backbone: nn.Module,
        joints: int,
        side: int,
        bins: int,
        head_width: int = 256,
        deconvolutions: int = 3,
    ):
        super().__init__(backbone, joints, 1, head_width, deconvolutions)
        self.lines = nn.Linear(side * side, 3 * bins)
        # With maps near zero, training starts from the middle here, too.
        nn.init.zeros_(self.lines.bias)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops -> lines of logits.

        Args:
            crops: (B, 3, S, S) normalised.

        Returns:
            (B, J, 3, N) logits along x, y and z.
        """
        maps = super().forward(crops)  # (B, J, 1, side, side)
        return self.lines(maps.flatten(2)).unflatten(2, (3, -1))


class DirectNet(nn.Module):
    """Backbone, global average and one linear layer: coordinates without any map; see notebook 07.

    Args:
        backbone: module with an attribute `channels`, from `build_backbone`.
        joints: number of joints J.
    """

    def __init__(self, backbone: nn.Module, joints: int):
        super().__init__()
        self.joints = joints
        self.backbone = backbone
        self.final = nn.Linear(backbone.channels, 3 * joints)
        # Training starts from the middle of the crop, as with PoseNet.
        nn.init.normal_(self.final.weight, std=0.001)
        nn.init.zeros_(self.final.bias)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops -> coordinates.

        Args:
            crops: (B, 3, S, S) normalised; S is a multiple of the backbone's stride.

        Returns:
            (B, J, 3), order x, y, z, as fractions of the volume's sides; 0 is the middle.
        """
        features = self.backbone(crops).mean(dim=(2, 3))  # (B, channels)
        return self.final(features).unflatten(1, (self.joints, 3))


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
