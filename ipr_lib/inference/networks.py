"""Networks to predict with: the course's own, that of a run, of a file, or a published one.

Taught in notebooks/12_your_own_pictures.ipynb.

All of them are used alike: a box becomes a crop of `crop_px`, and crops become joints in px of the
crop and mm behind the root. How the crop is cut, how its pixels are scaled and which grid the
network's cells lie on is each network's own affair.
"""

from pathlib import Path

import numpy as np
import torch

from ..config import Config
from ..data.datasets import normalise
from ..evaluation.prediction import flip_mean
from ..evaluation.published import (
    CROP_PX,
    DEPTH_MM,
    RELEASED_PASS,
    STRIDE,
    Published,
    depth_of_cells,
    read_published,
    scaled_pixels,
)
from ..evaluation.report import SCORES_FILE
from ..files import InputError, read_json, results_folder
from ..geometry.transforms import BOX_MM, crop_affine, shrinkage, warp, warp_shrinking
from ..integral import METHODS, decode, map_spread, soft_argmax
from ..integral.methods import grid_shape
from ..run import default_device, find_run, fingerprint, load_trained, run_dir, training_state
from ..training.precision import autocast
from ..training.records import CHECKPOINT, read_checkpoint

# The network that comes with the library: its weights, and a card of how it was made and scored.
REFERENCE = Path(__file__).parents[1] / "course" / "reference_model"
MODEL, CARD = "model.pt", "model.json"
NOT_FOR_PHOTOGRAPHS = "it has seen drawn people alone, so it is not meant for photographs"


class Network(torch.nn.Module):
    """A network that this library has trained, from the pixels of crops to joints.

    Attributes:
        model: torch module in eval mode.
        cfg: Config of its training.
        about: what it is, what it was trained on, how it was scored.
        crop_px: side of its crops, px.
        depth_mm: depth range of its volume, mm.
        precision: number format of its forward passes.
        mirror_px: a joint at x of a mirrored crop is put back to mirror_px - 1 - x, px.
    """

    def __init__(self, model: torch.nn.Module, cfg: Config, about: str):
        super().__init__()
        self.model, self.cfg, self.about = model, cfg, about
        self.crop_px = self.mirror_px = cfg.crop_px
        self.depth_mm, self.precision = cfg.depth_mm, cfg.precision

    def crop_affine(self, box: np.ndarray) -> np.ndarray:
        """Affine maps from px of the picture to px of the crop, (P, 3) boxes -> (P, 2, 3)."""
        return crop_affine(box, self.crop_px)

    def cut(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """One crop (S, S, 3) uint8 out of a picture (H, W, 3) uint8."""
        return warp_shrinking(image, affine, self.crop_px)

    def pixels(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (B, S, S, 3) uint8 RGB -> (B, 3, S, S), as the network takes them."""
        return normalise(crops)

    def decode(self, output: torch.Tensor) -> torch.Tensor:
        """What the network gives -> joints (B, J, 3): x, y in crop px, z in mm behind the root."""
        return decode(output, self.crop_px, self.depth_mm, METHODS[self.cfg.method].decoder)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (B, S, S, 3) uint8 RGB -> joints (B, J, 3) in float32, see `decode`."""
        return self.decode(self.model(self.pixels(crops)))

    @torch.no_grad()
    def joints(self, crops: torch.Tensor, flip_test: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Joints in crops, and how far their maps spread.

        Args:
            crops: (B, S, S, 3) uint8 RGB, on the network's device.
            flip_test: average with what the network sees in the mirrored crops.
        Returns:
            (B, J, 3): x, y in crop px, z in mm behind the root; (B, J) mm, see `spread_mm`.
        """
        with autocast(self.precision, crops.device):
            output = self.model(self.pixels(crops))
        joints = self.decode(output).float().cpu().numpy()
        if flip_test:
            mirrored, _ = self.joints(crops.flip(2))
            joints = flip_mean(joints, mirrored, self.mirror_px)
        return joints, spread_mm(output, self.depth_mm)


class PublishedNetwork(Network):
    """A published network, with its release's conventions; see `evaluation.published`.

    Attributes:
        published: Published, its network in eval mode.
    """

    crop_px, depth_mm, precision = CROP_PX, DEPTH_MM, "float32"

    def __init__(self, published: Published, about: str):
        torch.nn.Module.__init__(self)
        self.published, self.model, self.about = published, published.model, about
        self.mirror_px = published.release.mirror_total * STRIDE + 1

    def crop_affine(self, box: np.ndarray) -> np.ndarray:
        """As `Network.crop_affine`: the release puts the middle of a box to px 128 of 256."""
        extra = self.published.release.box_extra_px
        affine = crop_affine(box + np.array([extra / 2, extra / 2, extra]), CROP_PX)
        affine[..., 2] += 0.5  # from the middle of the grid, at px 127.5
        return affine

    def cut(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """As `Network.cut`: bilinear as in the release, where that leaves no pixel out."""
        if shrinkage(affine) <= 2:
            return warp(image, affine, CROP_PX)
        return super().cut(image, affine)

    def pixels(self, crops: torch.Tensor) -> torch.Tensor:
        """As `Network.pixels`."""
        return scaled_pixels(self.published.release, crops)

    def decode(self, output: torch.Tensor) -> torch.Tensor:
        """As `Network.decode`."""
        cells = soft_argmax(output)
        depth = depth_of_cells(cells[..., 2:], self.model.depth_bins)
        return torch.cat([cells[..., :2] * STRIDE, depth], dim=-1)


def spread_mm(output: torch.Tensor, depth_mm: float) -> np.ndarray:
    """How far each joint's map spreads about the joint, all axes together.

    This is no confidence: notebook 06 measures that it does not tell good joints from bad ones.

    Args:
        output: of a network; (B, J, D, H, W) or (B, J, 3, N) logits, or (B, J, 3) coordinates.
        depth_mm: depth range of the volume, mm.
    Returns:
        (B, J): root of the sum of the variances along x, y and z, mm, where the crop's side stands
        for 2 m; NaN without a map.
    """
    if output.ndim == 3:
        return np.full(output.shape[:2], np.nan)
    if output.ndim == 4:  # each line is a map with one axis
        cells = map_spread(output.flatten(1, 2)).view(output.shape[:3])
    else:
        cells = map_spread(output)
    depth, height, width = grid_shape(output)
    cell_mm = torch.tensor([BOX_MM / width, BOX_MM / height, depth_mm / depth])
    return (cells.float().cpu() * cell_mm).norm(dim=-1).numpy()


def load_network(
    run: str | Path | None = None,
    weights: str | Path | None = None,
    published: str | Path | None = None,
    results_dir: str | Path | None = None,
    device: torch.device | None = None,
) -> Network:
    """A network to predict with; without a choice, the one that comes with the library.

    Args:
        run: a run's folder in `results_dir`, or its path.
        weights: a checkpoint or a `model.pt` of this library.
        published: a checkpoint of one of the two public releases, see `evaluation.published`.
        results_dir: where runs and scores lie; by default `files.results_folder`.
        device: by default the GPU where there is one.
    Returns:
        Network.
    Raises:
        InputError: more than one choice; no such run or file; it is damaged or of another kind.
    """
    if sum(choice is not None for choice in (run, weights, published)) > 1:
        raise InputError("run, weights and published each name a network; give one of them")
    device = device or default_device()
    if published is not None:
        return _load_published(Path(published), results_dir, device)
    if run is not None:
        folder = find_run(run, results_dir)
        return _load_trained(folder / CHECKPOINT, f"run {folder.name}", device)
    if weights is not None:
        return _load_trained(Path(weights), str(weights), device)
    return _load_trained(REFERENCE / MODEL, "the course's own", device)


def _load_trained(path, name, device):
    """The Network of a checkpoint or a `model.pt`."""
    model, cfg = load_trained(path, device)
    dataset, subjects = cfg.dataset, cfg.train_subjects
    if dataset == "capture":
        dataset = "the built-in capture"
        subjects = [subject for subject in subjects if subject in cfg.capture_subjects]
    names = ",".join(str(subject) for subject in subjects)
    data = " + ".join([f"{dataset} (S{names})", *cfg.mix])
    state, finished = training_state(read_checkpoint(path))
    if not finished:
        data += f", up to {state}"
    words = [f"{name}: {cfg.network}", f"trained on {data}", _score(path)]
    if is_drawn(cfg.dataset) and not cfg.mix:
        words.append(NOT_FOR_PHOTOGRAPHS)
    return Network(model, cfg, "; ".join(words))


def is_drawn(dataset: str) -> bool:
    """Whether the pictures of a Config's `dataset` were drawn by the studio, as its name says."""
    return dataset == "capture" or Path(dataset).name.startswith("motion-")


def finished_run(cfg: Config, results_dir: str | Path | None = None) -> Path:
    """Folder of the run of `cfg`; InputError where its training is not finished."""
    folder = run_dir(cfg, results_dir)
    path = folder / CHECKPOINT
    if path.exists() and training_state(read_checkpoint(path))[1]:
        return folder
    raise InputError(
        f"{folder} holds no finished training of profile {cfg.profile}; train it (python -m ipr_lib "
        f"train --profile {cfg.profile}), name another run by --run, or leave --profile out for the "
        "network that comes with the course"
    )


def _score(path):
    """How the network of a file was scored, in words, from the card or the scores beside it."""
    if path.name == MODEL and path.with_name(CARD).exists():
        content = read_json(path.with_name(CARD))
        error, n = content["mpjpe"], content["test_items"]
    else:
        # `reproduce` leaves the scores beside the checkpoint, `test` in a folder of their own.
        folders = (path.parent, path.parent / "test" / path.stem)
        content = _find_scores(folders, "checkpoint", path)
        if content is None:
            return "not scored yet (python -m ipr_lib test scores a run)"
        error, n = content["scores"]["mpjpe"]["frame_mean"], content["scores"]["n"]
    subjects = content["split"].rpartition(" / ")[2]
    return _score_words(f"{n} test images of {subjects}", error, content)


def _find_scores(folders, name, path):
    """Content of the first scores in some folders that have a file's fingerprint under a name."""
    for folder in folders:
        if (folder / SCORES_FILE).exists():
            content = read_json(folder / SCORES_FILE)
            if content[name] == fingerprint(path):
                return content
    return None


def _score_words(images, error, content):
    """A score in words: on which images, how far off, and what the network was given."""
    given = ", ".join(content["oracle"])
    return f"scored on {images}: {error:.1f} mm MPJPE, given {given}"


def _load_published(path, results_dir, device):
    """The PublishedNetwork of a release's checkpoint."""
    published = read_published(path)
    published.model.to(device)
    epoch = "" if published.epoch is None else f", epoch {published.epoch}"
    folders = sorted(Path(results_dir or results_folder()).glob("published-*"))
    content = _find_scores(folders, "fingerprint", path)
    score = "not scored here yet (python -m ipr_lib test --published scores it)"
    if content is not None:
        error = content["ours"][RELEASED_PASS]["mpjpe"]["frame_mean"]
        subjects = ",".join(str(subject) for subject in content["subjects"])
        score = _score_words(f"S{subjects} of {content['data']}", error, content)
    # The release's own pages say whose it is; the file itself does not.
    words = [
        f"{path} (release {published.release.name}{epoch}): {published.network}",
        "trained by its authors, on Human3.6M and MPII",
        score,
    ]
    return PublishedNetwork(published, "; ".join(words))
