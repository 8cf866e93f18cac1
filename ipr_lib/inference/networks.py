"""Networks to predict with: the course's own, that of a run, of a file, or a published one.

Taught in notebooks/12_your_own_pictures.ipynb.

All of them are used alike: a box becomes a crop of `crop_px`, and crops become joints in px of the
crop and mm behind the root. How the crop is cut, how its pixels are scaled and which grid the
network's cells lie on is each network's own affair.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..config import Config
from ..evaluation.prediction import flip_mean, forward_crops
from ..evaluation.published import (
    CROP_PX,
    DEPTH_MM,
    RELEASED_PASS,
    STRIDE,
    Published,
    depth_of_cells,
    read_cells,
    read_maps,
    read_published,
)
from ..evaluation.report import SCORES_FILE
from ..files import InputError, read_json, results_folder
from ..geometry.skeleton import HUMAN36M
from ..geometry.transforms import BOX_MM, crop_affine, flip_joints, shrinkage, warp, warp_shrinking
from ..integral import METHODS, decode, map_spread
from ..integral.methods import grid_shape
from ..run import default_device, find_run, fingerprint, load_trained, predict_crops, run_dir
from ..training.records import CHECKPOINT, read_checkpoint

# The network that comes with the library: its weights, and a card of how it was made and scored.
REFERENCE = Path(__file__).parents[1] / "course" / "reference_model"
MODEL, CARD = "model.pt", "model.json"
NOT_FOR_PHOTOGRAPHS = "it has seen drawn people alone, so it is not meant for photographs"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that this library has trained.

    Attributes:
        model: in eval mode.
        cfg: Config of its training.
        about: what it is, what it was trained on, how it was scored.
    """

    model: torch.nn.Module
    cfg: Config
    about: str

    @property
    def crop_px(self) -> int:
        """Side of its crops, px."""
        return self.cfg.crop_px

    def crop_affine(self, box: np.ndarray) -> np.ndarray:
        """Affine maps from px of the picture to px of the crop, (P, 3) boxes -> (P, 2, 3)."""
        return crop_affine(box, self.crop_px)

    def cut(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """One crop (S, S, 3) uint8 out of a picture (H, W, 3) uint8."""
        return warp_shrinking(image, affine, self.crop_px)

    def joints(self, crops: torch.Tensor, flip_test: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Joints in crops, and how far their maps spread.

        Args:
            crops: (B, S, S, 3) uint8 RGB, on the network's device.
            flip_test: average with what the network sees in the mirrored crops.
        Returns:
            (B, J, 3): x, y in crop px, z in mm behind the root; (B, J) mm, see `spread_mm`.
        """
        cfg = self.cfg
        output = forward_crops(self.model, crops, cfg.precision)
        decoder = METHODS[cfg.method].decoder
        joints = decode(output, cfg.crop_px, cfg.depth_mm, decoder).float().cpu().numpy()
        if flip_test:
            mirrored = predict_crops(self.model, crops.flip(2), cfg)
            joints = flip_mean(joints, mirrored, cfg.crop_px)
        return joints, spread_mm(output, cfg.depth_mm)


@dataclass(frozen=True)
class PublishedNetwork:
    """A published network, with its release's conventions; see `evaluation.published`.

    Attributes:
        published: Published, its network in eval mode.
        about: as for `TrainedNetwork`.
    """

    published: Published
    about: str
    crop_px = CROP_PX

    @property
    def model(self) -> torch.nn.Module:
        """The network, in eval mode."""
        return self.published.model

    def crop_affine(self, box: np.ndarray) -> np.ndarray:
        """As `TrainedNetwork.crop_affine`: the release puts the middle of a box to px 128 of 256."""
        extra = self.published.release.box_extra_px
        affine = crop_affine(box + np.array([extra / 2, extra / 2, extra]), CROP_PX)
        affine[..., 2] += 0.5  # from the middle of the grid, at px 127.5
        return affine

    def cut(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """As `TrainedNetwork.cut`: bilinear as in the release, where that leaves no pixel out."""
        if shrinkage(affine) <= 2:
            return warp(image, affine, CROP_PX)
        return warp_shrinking(image, affine, CROP_PX)

    def joints(self, crops: torch.Tensor, flip_test: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """As `TrainedNetwork.joints`; mirrored joints are put back as the release does it."""
        maps = read_maps(self.published, crops)
        cells = read_cells(maps)
        if flip_test:
            total = self.published.release.mirror_total
            mirrored = read_cells(read_maps(self.published, crops.flip(2)))
            cells = (cells + flip_joints(mirrored, HUMAN36M.flip_order, total + 1)) / 2
        depth = depth_of_cells(cells[..., 2:], self.model.depth_bins)
        joints = np.concatenate([cells[..., :2] * STRIDE, depth], axis=-1)
        return joints, spread_mm(maps, DEPTH_MM)


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


Network = TrainedNetwork | PublishedNetwork


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
        TrainedNetwork or PublishedNetwork.
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
    """The TrainedNetwork of a checkpoint or a `model.pt`."""
    model, cfg = load_trained(path, device)
    words = [f"{name}: {cfg.network}", f"trained on {_trained_on(cfg)}{_state(path, cfg)}"]
    words.append(_score(path))
    if is_drawn(cfg.dataset) and not cfg.mix:
        words.append(NOT_FOR_PHOTOGRAPHS)
    return TrainedNetwork(model, cfg, "; ".join(words))


def _trained_on(cfg):
    """The data of a training in words."""
    dataset, subjects = cfg.dataset, cfg.train_subjects
    if dataset == "capture":
        dataset = "the built-in capture"
        subjects = [subject for subject in subjects if subject in cfg.capture_subjects]
    names = ",".join(str(subject) for subject in subjects)
    return " + ".join([f"{dataset} (S{names})", *cfg.mix])


def is_drawn(dataset: str) -> bool:
    """Whether the pictures of a Config's `dataset` were drawn by the studio, as its name says."""
    return dataset == "capture" or Path(dataset).name.startswith("motion-")


def _state(path, cfg):
    """How far a training has come, in words; "" for a finished one, or for weights alone."""
    content = read_checkpoint(path)
    if "log" not in content:
        return ""
    epoch = content["log"][-1]["epoch"] if content["log"] else 0
    return "" if epoch >= cfg.epochs else f", up to epoch {epoch:g} of {cfg.epochs}"


def finished_run(cfg: Config, results_dir: str | Path | None = None) -> Path:
    """Folder of the run of `cfg`; InputError where its training is not finished."""
    folder = run_dir(cfg, results_dir)
    path = folder / CHECKPOINT
    if path.exists() and _state(path, cfg) == "":
        return folder
    raise InputError(
        f"{folder} holds no finished training of profile {cfg.profile}; train it (python -m ipr_lib "
        f"train --profile {cfg.profile}), name another run by --run, or leave --profile out for the "
        "network that comes with the course"
    )


def _score(path):
    """How the network of a file was scored, in words, from the card or the scores beside it."""
    card = path.with_name(CARD)
    if path.name == MODEL and card.exists():
        content = read_json(card)
        return _score_words(content, content["mpjpe"], content["test_items"])
    # `reproduce` leaves the scores beside the checkpoint, `test` in a folder of their own.
    for folder in (path.parent, path.parent / "test" / path.stem):
        if (folder / SCORES_FILE).exists():
            content = read_json(folder / SCORES_FILE)
            if content["checkpoint"] == fingerprint(path):
                scores = content["scores"]
                return _score_words(content, scores["mpjpe"]["frame_mean"], scores["n"])
    return "not scored yet (python -m ipr_lib test scores a run)"


def _score_words(content, error, n):
    """A score in words: on what, how far off, and what the network was given."""
    subjects = content["split"].rpartition(" / ")[2]
    given = ", ".join(content["oracle"])
    return f"scored on {n} test images of {subjects}: {error:.1f} mm MPJPE, given {given}"


def _load_published(path, results_dir, device):
    """The PublishedNetwork of a release's checkpoint."""
    published = read_published(path)
    published.model.to(device)
    epoch = "" if published.epoch is None else f", epoch {published.epoch}"
    network = f"{published.backbone}, {CROP_PX} px, {published.model.depth_bins} depth cells"
    words = [f"{path} (release {published.release.name}{epoch}): {network}"]
    # The release's own pages say so; the file itself does not.
    words.append("trained by its authors, on Human3.6M and MPII")
    words.append(_published_score(path, results_dir))
    return PublishedNetwork(published, "; ".join(words))


def _published_score(path, results_dir):
    """How a release's checkpoint was scored here, in words, from the results of `test --published`."""
    results_dir = Path(results_dir or results_folder())
    for scores in sorted(results_dir.glob(f"published-*/{SCORES_FILE}")):
        content = read_json(scores)
        if content["fingerprint"] == fingerprint(path):
            error = content["ours"][RELEASED_PASS]["mpjpe"]["frame_mean"]
            subjects = ",".join(str(subject) for subject in content["subjects"])
            where = f"S{subjects} of {content['data']}"
            return f"scored on {where}: {error:.1f} mm MPJPE, given {', '.join(content['oracle'])}"
    return "not scored here yet (python -m ipr_lib test --published scores it)"
