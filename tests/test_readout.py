import numpy as np
import pytest
import torch

from ipr_lib import run
from ipr_lib.config import load_config
from ipr_lib.data.datasets import CropDataset
from ipr_lib.evaluation.readout import read_out
from ipr_lib.integral import joints_to_cells


class Oracle(torch.nn.Module):
    """A "network" that puts a sharp peak into the true cells of the store's items, in order."""

    def __init__(self, store, cfg):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        joints = CropDataset(store, cfg.crop_px, cfg.depth_mm)[0, 0, np.arange(len(store))]["joints"]
        shape = cfg.volume_shape
        cells = (joints_to_cells(joints, shape, cfg.crop_px, cfg.depth_mm) + 0.5).floor().long()
        cells = cells.clamp(min=0).minimum(torch.tensor([shape[2] - 1, shape[1] - 1, shape[0] - 1]))
        self.volume = torch.zeros(*cells.shape[:2], *shape)
        n, j = np.indices(cells.shape[:2])
        self.volume[n, j, cells[..., 2], cells[..., 1], cells[..., 0]] = 200.0

    def forward(self, pixels):
        return self.volume[: len(pixels)]


def read(network, store, cfg):
    return read_out(network, store, cfg.method, cfg.volume_shape, cfg.crop_px, cfg.depth_mm)


def test_perfect_cells_score_as_the_rounding_does(test_store):
    cfg = load_config("smoke", method="H2")
    decoders, cells = read(Oracle(test_store, cfg), test_store, cfg)
    for name in ("argmax", "expectation"):
        for key in ("mpjpe", "xy_px", "z_mm"):
            assert decoders[name][key] == pytest.approx(cells[key], rel=1e-4), name
    # Half a cell of 8 px at most along each axis, a quarter on average: 2 px each way. (Joints out of the volume err more.)
    assert 1 < cells["xy_px"] < 8 and cells["mpjpe"] > 0
    finer = load_config("smoke", method="H2", deconvolutions=3)
    assert read(Oracle(test_store, finer), test_store, finer)[1]["xy_px"] < cells["xy_px"]


def test_direct_regression_has_no_cells(test_store):
    cfg = load_config("smoke", method="R1")
    decoders, cells = read(run.build_network(cfg).eval(), test_store, cfg)
    assert cells is None and list(decoders) == ["direct"]
