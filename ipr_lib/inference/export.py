"""A network as an ONNX file, for programs that have no PyTorch.

What stands before and behind the network is inside: crops as 8-bit pixels go in, joints come out.
Shown in notebooks/12_your_own_pictures.ipynb.
"""

import json
from pathlib import Path

import numpy as np
import torch

from ..files import InputError, atomic_path, commit
from ..geometry.skeleton import HUMAN36M
from .networks import Network, PublishedNetwork, is_drawn

INPUT = "crops: (B, S, S, 3) uint8 RGB; the square box of 2 m about the pelvis, cut to S px a side"
OUTPUT = (
    "joints: (B, J, 3) float32; x right and y down in px of the crop, z in mm behind the pelvis"
)
PIXELS = {  # where the box lies in the crop
    False: "the box's middle at (S - 1) / 2, its edges at -0.5 and S - 0.5; pixel p has its centre at p",
    True: "the box's middle at S / 2, its edges at 0 and S; pixel p has its centre at p",
}
HUMAN36M_LICENCE = (
    "trained on Human3.6M, or on a set in its form: weights trained on Human3.6M fall under its "
    "licence, which allows academic use alone"
)
OWN_LICENCE = "trained on pictures that this library draws: under its licence, MIT"
MOST_PX, MOST_MM = 1e-3, 2e-2  # by which ONNX may differ from PyTorch


def export_onnx(network: Network, path: str | Path) -> str:
    """Write a network as ONNX and compare it with PyTorch's.

    Args:
        network: see `networks.load_network`, on the CPU. Its weights are written as float32.
        path: the .onnx file.

    Returns:
        A line that says how far the two are apart.

    Raises:
        InputError: ONNX is not installed, or the file cannot be written.
        RuntimeError: the two differ by more than MOST_PX or MOST_MM.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx needs it
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed: pip install onnx onnxruntime onnxscript (the extra "
            "`export`)"
        ) from error
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (2, network.crop_px, network.crop_px, 3), np.uint8)
    with torch.no_grad():
        program = torch.onnx.export(
            network.eval(),
            (torch.from_numpy(crops),),
            input_names=["crops"],
            output_names=["joints"],
            dynamic_shapes={"crops": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    model = program.model_proto
    onnx.helper.set_model_props(model, network_card(network))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    off = np.zeros(3)
    for batch in (crops, crops[:1], np.concatenate([crops[1:], crops])):
        with torch.no_grad():
            expected = network(torch.from_numpy(batch)).numpy()
        (found,) = session.run(None, {"crops": batch})
        off = np.maximum(off, np.abs(found - expected).max(axis=(0, 1)))
    px, mm = off[:2].max(), off[2]
    if not (px <= MOST_PX and mm <= MOST_MM):
        raise RuntimeError(f"{path}: ONNX differs from PyTorch by {px:.2g} px, {mm:.2g} mm")
    with atomic_path(path) as temporary:
        onnx.save(model, str(temporary))
    return f"{path}: onnxruntime gives PyTorch's joints to {px:.1g} px and {mm:.1g} mm"


def network_card(network: Network) -> dict[str, str]:
    """What the file says of its network: all that is needed to use it, and whose its weights are."""
    published = isinstance(network, PublishedNetwork)
    licence = HUMAN36M_LICENCE
    if not published:
        if is_drawn(network.cfg.dataset):
            licence = OWN_LICENCE
        if network.cfg.mix:
            names = " and ".join(network.cfg.mix)
            licence += f"; also trained on {names}, which have licences of their own"
    return {
        "network": network.about,
        "input": INPUT,
        "output": OUTPUT,
        "crop_px": str(network.crop_px),
        "pixels": PIXELS[published],
        "joint_names": json.dumps(HUMAN36M.names),
        "licence": licence,
        "commit": commit(),
    }
