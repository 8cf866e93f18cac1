"""The controlled comparison: one trunk, one data order, one budget, many methods; run by run, each done once.

Taught in notebooks/08_heatmap_vs_integral.ipynb; what the runs say about the paper's claims is in `verdicts`.
"""

import contextlib
import dataclasses
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from . import engine, precision, results
from .config import load_config
from .datasets import BatchKeys, CropDataset, batches, crop_to_camera, normalise
from .evaluation import take_index
from .files import InputError, read_json, write_json
from .heatmaps import cells_to_joints, joints_to_cells, nearest_cell
from .methods import METHODS, decode
from .metrics import joint_errors, root_relative, score
from .models import count_parameters
from .pictures import encode_jpeg
from .skeleton import HUMAN36M, SCORED_JOINTS
from .store import open_store, write_store
from .transforms import compose_affine

RESULT = "result.json"
SPLIT_SEED = 8  # of the takes whose depth is withheld; the same for every run, whatever its seed


@dataclass(frozen=True)
class Case:
    """One point of the experiment.

    Attributes:
        name: unique within a plan.
        axis: of AXES: what it varies.
        overrides: fields of Config that differ from the plan's base.
        depth_share: share of the training takes whose depth is known.
        only_depth: leave the other takes out, instead of taking them as 2D-only data.
        budget: how many times the base's samples are seen.
    """

    name: str
    axis: str
    overrides: dict = field(default_factory=dict)
    depth_share: float = 1.0
    only_depth: bool = False
    budget: int = 1


# What all runs of a profile share, on top of the profile. Maps have a quarter of the crop's side, as in the paper, but for
# smoke, whose network is the profile's own.
BASES = {
    "smoke": {"epochs": 1},
    "laptop": {
        "crop_px": 64, "trunk_width": 16, "head_width": 32, "deconvolutions": 2, "epochs": 4, "warmup_steps": 100
    },
    "gpu": {"crop_px": 128, "trunk": "resnet18", "deconvolutions": 3, "depth_bins": 32, "epochs": 6, "learning_rate": 1e-3},
}
# (axis, name, overrides) of the levels besides the base. The map's side doubles with each deconvolution.
LEVELS = {
    "smoke": [("map", "map 16", {"deconvolutions": 2})],
    "laptop": [
        ("map", "map 8", {"deconvolutions": 1}), ("map", "map 32", {"deconvolutions": 3}),
        ("depth", "depth 8", {"depth_bins": 8}), ("depth", "depth 32", {"depth_bins": 32}),
        ("trunk", "twice the width", {"trunk_width": 32}),
        ("crop", "crop 32", {"crop_px": 32, "deconvolutions": 3}), ("crop", "crop 128", {"crop_px": 128, "deconvolutions": 1}),
    ],
    "gpu": [
        ("map", "map 16", {"deconvolutions": 2}), ("map", "map 64", {"deconvolutions": 4}),
        ("depth", "depth 16", {"depth_bins": 16}), ("depth", "depth 64", {"depth_bins": 64}),
        ("trunk", "resnet50", {"trunk": "resnet50"}),
        ("crop", "crop 64", {"crop_px": 64, "deconvolutions": 4}), ("crop", "crop 256", {"crop_px": 256, "deconvolutions": 2}),
    ],
}
MAIN = ("R1", "H2", "I*")  # one of each kind: they carry the axes other than the method
# What `make reproduce` runs, with one seed: every step of the notebook in seconds, or the main comparison in minutes.
IN_REPRODUCE = {
    "smoke": (
        "R1", "H1", "H2", "H3", "I1", "I2", "I3", "I*", "H2, map 16", "I*, map 16", "R1, a quarter with depth, rest 2D",
        "R1, a quarter alone", "I*, a quarter with depth, rest 2D", "I*, a quarter alone",
    ),
    "laptop": MAIN,
}
AXES = ("method", "budget", "map", "depth", "2D", "trunk", "crop")
DEPTH_SHARE = 0.25  # of the takes, where depth is withheld
LARGER_BUDGET = 4


def plan(profile):
    """The cases of a profile: main effects of every axis, and method x map size, method x 2D data.

    Args:
        profile: one of BASES.
    Returns:
        list of Case, the methods first, then the main ones with a larger budget.
    Raises:
        InputError: a profile without a comparison.
    """
    if profile not in BASES:
        raise InputError(f"profile {profile!r} has no comparison; choose one of {', '.join(BASES)}")
    cases = [Case(name, "method", {"method": name}) for name in METHODS]
    cases += [
        Case(f"{name}, {LARGER_BUDGET} x the samples", "budget", {"method": name}, budget=LARGER_BUDGET) for name in MAIN
    ]
    for axis, level, overrides in LEVELS[profile]:
        for method in MAIN:
            if METHODS[method].head == "volume" or axis in ("trunk", "crop"):  # R1 has no volume to vary
                kept = overrides if METHODS[method].head == "volume" else {
                    name: value for name, value in overrides.items() if name != "deconvolutions"
                }
                cases.append(Case(f"{method}, {level}", axis, {"method": method} | kept))
    for method in MAIN:
        cases.append(Case(f"{method}, a quarter with depth, rest 2D", "2D", {"method": method}, DEPTH_SHARE))
        cases.append(Case(f"{method}, a quarter alone", "2D", {"method": method}, DEPTH_SHARE, only_depth=True))
    return cases


def case_config(profile, case, seed, overrides=None):
    """Config of one run.

    Args:
        profile: one of BASES.
        case: Case.
        seed: of the network's start, the order of batches and the augmentation; the same seed, the same of all three.
        overrides: further fields, by name; stronger than the base, weaker than the case.
    Returns:
        Config.
    """
    cfg = load_config(profile, seed=seed, **(BASES[profile] | dict(overrides or {}) | case.overrides))
    # A quarter of the pictures is seen four times as often: the same samples.
    times = case.budget / (case.depth_share if case.only_depth else 1)
    return dataclasses.replace(
        cfg, epochs=round(cfg.epochs * times), lr_drops=tuple(round(epoch * times) for epoch in cfg.lr_drops)
    )


class PartOfStore:
    """Some items of a crop store, with depth known for some of them: what a 2D-only set is to training.

    Attributes: as CropStore's, as far as training asks for them.
    """

    def __init__(self, store, items, with_depth):
        """
        Args:
            store: CropStore.
            items: (m,) indices to keep.
            with_depth: (m,) bool.
        """
        self.store, self.items = store, np.asarray(items)
        kept = (name for name in store.columns if name not in ("start", "crc"))
        self.columns = {name: store.columns[name][self.items] for name in kept}
        self.columns["has_depth"] = self.columns["has_depth"] & with_depth

    @property
    def path(self):
        """Path of the whole store."""
        return self.store.path

    @property
    def skeleton(self):
        """The joint set of its columns."""
        return self.store.skeleton

    @property
    def recipe(self):
        """What the whole store was built from."""
        return self.store.recipe

    def __len__(self):
        return len(self.items)

    def picture(self, item):
        """As `CropStore.picture`."""
        return self.store.picture(int(self.items[item]))


def training_part(store, case):
    """The store as the case trains on it; which takes keep their depth is the same for all methods and seeds."""
    if case.depth_share == 1:
        return store
    take = take_index(store.columns)
    order = np.random.default_rng(SPLIT_SEED).permutation(take.max() + 1)
    with_depth = np.isin(take, order[: max(1, round(case.depth_share * len(order)))])
    if case.only_depth:
        items = np.flatnonzero(with_depth)
        return PartOfStore(store, items, np.ones(len(items), bool))
    return PartOfStore(store, np.arange(len(store)), with_depth)


def shrunken_store(store, crop_px):
    """The same crops, for a smaller crop: each block of pixels averaged to one. Written beside the store, once.

    Args:
        store: CropStore for crops of a whole multiple of `crop_px`.
        crop_px: side of the crops wanted, px.
    Returns:
        CropStore; the store itself where it fits already.
    Raises:
        InputError: the sizes do not divide.
    """
    block, rest = divmod(store.recipe["crop_px"], crop_px)
    if rest or block == 0:
        raise InputError(f"{store.path} holds crops for {store.recipe['crop_px']} px; {crop_px} px does not divide them")
    if block == 1:
        return store
    path = store.path.with_name(f"{store.path.stem}-at-{crop_px}.crops")
    stored_px = store.recipe["stored_px"] // block
    crc = store.header["columns"]["crc"]["crc"]  # of all checksums: another store, another number
    recipe = store.recipe | {"crop_px": crop_px, "stored_px": stored_px, "shrunk_from": crc}
    with contextlib.suppress(InputError):  # missing or damaged: write it
        done = open_store(path)
        if done.recipe == recipe:
            return done

    def jpegs():
        for item in tqdm(range(len(store)), desc=f"crops at {crop_px} px", unit="crop", disable=None):
            yield encode_jpeg(cv2.resize(store.picture(item), (stored_px, stored_px), interpolation=cv2.INTER_AREA))

    columns = {name: np.array(store.columns[name]) for name in store.columns if name not in ("start", "crc")}
    ratio = stored_px / store.recipe["stored_px"]
    shift = (ratio - 1) / 2  # pixel i of the small crop lies over (i + 0.5) / ratio - 0.5
    columns["affine"] = compose_affine(np.array([[ratio, 0, shift], [0, ratio, shift]]), columns["affine"])
    write_store(path, columns, jpegs(), recipe)
    return open_store(path)


@torch.no_grad()
def read_out(model, store, cfg):
    """Score a network by every decoder that can read it, from one pass over the test pictures.

    Args:
        model: network in eval mode.
        store: CropStore of the test subjects, for crops of cfg.crop_px.
        cfg: Config.
    Returns:
        {decoder: scores}, the method's own first, and the scores of the best that whole cells could say; None for a method
        without cells. Scores: mpjpe, pa_mpjpe, z_mm (root-relative) in mm; xy_px, mean distance in px of the crop;
        takes, the mean error of each take, mm, in the order of `evaluation.take_index`.
    """
    device = next(model.parameters()).device
    method = METHODS[cfg.method]
    dataset, keys = CropDataset(store, cfg.crop_px, cfg.depth_mm), BatchKeys(len(store), 64, shuffle=False)
    joints = {name: [] for name in (*method.decoders, *(["cells"] if method.head == "volume" else []), "target")}
    affines = []
    for batch in batches(dataset, keys):
        with precision.autocast(cfg.precision, device):
            output = model(normalise(batch["crops"].to(device)))
        for name in method.decoders:
            joints[name].append(decode(cfg.method, output, cfg.crop_px, cfg.depth_mm, name).cpu().numpy())
        if "cells" in joints:
            grid = (output.shape[2:], cfg.crop_px, cfg.depth_mm)
            cells = nearest_cell(joints_to_cells(batch["joints"], *grid), grid[0]).float()
            joints["cells"].append(cells_to_joints(cells, *grid).numpy())
        joints["target"].append(batch["joints"].numpy())
        affines.append(batch["affine"].numpy())
    joints = {name: np.concatenate(parts) for name, parts in joints.items()}
    target = joints.pop("target")
    scores = {name: _scores(found, target, np.concatenate(affines), store) for name, found in joints.items()}
    cells = scores.pop("cells", None)
    return scores, cells


def _scores(joints, target_crop, affine, store):
    """Scores of one set of joints (N, J, 3) in px and mm; see `read_out`."""
    columns = store.columns
    target = np.asarray(columns["joints_cam"], float)
    pred = crop_to_camera(joints, affine, store.cameras(np.arange(len(store))), target[:, HUMAN36M.root, 2])
    found = score(pred, target, columns["action"], SCORED_JOINTS)
    errors = joint_errors(*(root_relative(poses[:, :SCORED_JOINTS]) for poses in (pred, target))).mean(1)
    take = take_index(columns)
    distance = np.linalg.norm((joints - target_crop)[:, :SCORED_JOINTS, :2], axis=-1)
    return {
        "mpjpe": found["mpjpe"]["frame_mean"],
        "pa_mpjpe": found["pa_mpjpe"]["frame_mean"],
        "z_mm": found["mpjpe_z"],
        "xy_px": float(distance.mean()),
        "takes": np.round(np.bincount(take, errors) / np.bincount(take), 3).tolist(),
    }


def run_case(case, cfg, train_store, test_store, folder, device=None):
    """Train and score one case, or go on with it, or read what it gave.

    Args:
        case: Case.
        cfg: Config, as `case_config` makes it.
        train_store, test_store: CropStores of the profile; read at the case's crop size.
        folder: of the profile's comparison; the run gets a folder of its own in it.
        device: torch device; by default the GPU where there is one.
    Returns:
        content of the run's result: case, axis, method, seed, decoders, cells (see `read_out`), samples_seen, ….
    """
    device = device or engine.default_device()
    part = "" if case.depth_share == 1 else f"-{'only' if case.only_depth else 'with'}-{case.depth_share:g}"
    run = Path(folder) / f"{cfg.hash()}{part}"
    data = {name: store.header["columns"]["crc"]["crc"] for name, store in (("train", train_store), ("test", test_store))}
    if (run / RESULT).exists():
        done = read_json(run / RESULT)
        if done["data"] == data:
            return done
        shutil.rmtree(run)
    if (run / "data.json").exists() and read_json(run / "data.json") != data:
        shutil.rmtree(run)  # a run that was interrupted, of another capture
    write_json(run / "data.json", data)
    store = training_part(shrunken_store(train_store, cfg.crop_px), case)
    model = engine.train(cfg, store, run, device)
    seconds = torch.load(run / engine.CHECKPOINT, map_location="cpu", weights_only=True)["seconds"]
    decoders, cells = read_out(model, shrunken_store(test_store, cfg.crop_px), cfg)
    write_json(run / RESULT, {
        "case": case.name, "axis": case.axis, "method": cfg.method, "seed": cfg.seed, "data": data,
        "train_items": len(store), "with_depth": int(np.count_nonzero(store.columns["has_depth"])),
        "samples_seen": len(store) // cfg.batch_size * cfg.batch_size * cfg.epochs,
        "network": f"{cfg.trunk}{f' (width {cfg.trunk_width})' if cfg.trunk == 'small' else ''}, {cfg.crop_px} px"
                   + (f", volume {' x '.join(map(str, cfg.volume_shape))}" if cells else ""),
        "parameters": count_parameters(model), "minutes": round(seconds / 60, 3),
        "commit": results.commit(), "device": results.device_name(device),
        "decoders": decoders, "cells": cells, "config": dataclasses.asdict(cfg),
    })
    (run / engine.CHECKPOINT).unlink()  # the result is what was asked for; networks of a large plan would fill a disk
    return read_json(run / RESULT)


def compare(profile, stores, folder, seeds=(0,), names=None, axes=AXES, overrides=None):
    """Run the cases of a profile, seed by seed; a run that is done costs nothing.

    Args:
        profile: one of BASES.
        stores: (train, test) CropStores.
        folder: for the runs.
        seeds: whole numbers.
        names: of the cases to run; by default all of `axes`.
        axes: of AXES.
        overrides: see `case_config`.
    Returns:
        list of results, see `run_case`: seed by seed, in the plan's order.
    Raises:
        InputError: a name or an axis that the plan does not have.
    """
    cases = plan(profile)
    known = {"axis": list(AXES), "case": [case.name for case in cases]}
    for kind, asked in (("axis", axes), ("case", names or ())):
        for name in asked:
            if name not in known[kind]:
                raise InputError(f"unknown {kind} {name!r}; choose from {', '.join(known[kind])}")
    chosen = [case for case in cases if (case.name in names if names else case.axis in axes)]
    runs = [(case, seed) for seed in seeds for case in chosen]
    done = []
    for case, seed in (progress := tqdm(runs, desc="comparison", unit="run", disable=None)):
        progress.set_postfix_str(f"{case.name}, seed {seed}")
        done.append(run_case(case, case_config(profile, case, seed, overrides), *stores, folder))
    return done
