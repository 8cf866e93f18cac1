"""The plan of the controlled comparison: which cases a profile has, and the Config of each.

Taught in notebooks/08_heatmap_vs_integral.ipynb.
"""

import dataclasses
from dataclasses import dataclass, field

from ..config import Config, load_config
from ..files import InputError
from ..integral import METHODS


@dataclass(frozen=True)
class Case:
    """One point of the experiment.

    Attributes:
        name: unique within a plan.
        axis: of AXES: what it varies.
        overrides: fields of Config that differ from the plan's base.
        depth_share: share of the training sequences whose depth is known.
        only_depth: leave the other sequences out, instead of taking them as 2D data.
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
        "crop_px": 64,
        "backbone_width": 16,
        "head_width": 32,
        "deconvolutions": 2,
        "epochs": 4,
        "warmup_steps": 100,
    },
    "gpu": {
        "crop_px": 128,
        "backbone": "resnet18",
        "deconvolutions": 3,
        "depth_bins": 32,
        "epochs": 6,
        "learning_rate": 1e-3,
    },
}
# (axis, name, overrides) of the levels besides the base. The map's side doubles with each deconvolution.
LEVELS = {
    "smoke": [
        ("map", "map 16", {"deconvolutions": 2}),
        ("depth", "depth 4", {"depth_bins": 4}),
        ("trunk", "twice the width", {"backbone_width": 16}),
        ("crop", "crop 32", {"crop_px": 32, "deconvolutions": 2}),
    ],
    "laptop": [
        ("map", "map 8", {"deconvolutions": 1}),
        ("map", "map 32", {"deconvolutions": 3}),
        ("depth", "depth 8", {"depth_bins": 8}),
        ("depth", "depth 32", {"depth_bins": 32}),
        ("trunk", "twice the width", {"backbone_width": 32}),
        ("crop", "crop 32", {"crop_px": 32, "deconvolutions": 3}),
        ("crop", "crop 128", {"crop_px": 128, "deconvolutions": 1}),
    ],
    "gpu": [
        ("map", "map 16", {"deconvolutions": 2}),
        ("map", "map 64", {"deconvolutions": 4}),
        ("depth", "depth 16", {"depth_bins": 16}),
        ("depth", "depth 64", {"depth_bins": 64}),
        ("trunk", "resnet50", {"backbone": "resnet50"}),
        ("crop", "crop 64", {"crop_px": 64, "deconvolutions": 4}),
        ("crop", "crop 256", {"crop_px": 256, "deconvolutions": 2}),
    ],
}
MAIN = ("R1", "H2", "I*")  # one of each kind: they carry the axes other than the method
AXES = ("method", "budget", "map", "depth", "2D", "trunk", "crop")
BUDGETS = (4, 16)  # times the samples of the base
DEPTH_SHARE = 0.25  # of the sequences, where depth is withheld
# What the names of such cases say after the method's.
MORE, MOST = f"{BUDGETS[0]} x the samples", f"{BUDGETS[1]} x the samples"
WITH_2D, ALONE = "a quarter with depth, rest 2D", "a quarter alone"


def planned_cases(profile: str) -> list[Case]:
    """The cases of a profile: main effects of every axis, and method x map size, method x 2D data.

    Args:
        profile: one of BASES.
    Returns:
        the methods first, then the main ones with larger budgets, then the other axes.
    Raises:
        InputError: a profile without a comparison.
    """
    if profile not in BASES:
        raise InputError(f"profile {profile!r} has no comparison; choose one of {', '.join(BASES)}")
    cases = [Case(method, "method", {"method": method}) for method in METHODS]
    for name, budget in ((MORE, BUDGETS[0]), (MOST, BUDGETS[1])):
        for method in MAIN:
            cases.append(Case(f"{method}, {name}", "budget", {"method": method}, budget=budget))
    for axis, level, overrides in LEVELS[profile]:
        for method in MAIN:
            fields = {"method": method} | overrides
            if METHODS[method].head == "direct":
                if axis in ("map", "depth"):  # there is no volume to vary
                    continue
                fields.pop("deconvolutions", None)
            cases.append(Case(f"{method}, {level}", axis, fields))
    for method in MAIN:
        fields = {"method": method}
        cases.append(Case(f"{method}, {WITH_2D}", "2D", fields, DEPTH_SHARE))
        cases.append(Case(f"{method}, {ALONE}", "2D", fields, DEPTH_SHARE, only_depth=True))
    return cases


def case_config(profile: str, case: Case, seed: int, overrides: dict | None = None) -> Config:
    """Config of one run.

    Args:
        profile: one of BASES.
        case: Case.
        seed: of the network's start, the order of batches and the augmentation.
        overrides: further fields, by name; stronger than the base, weaker than the case.
    """
    fields = BASES[profile] | dict(overrides or {}) | case.overrides
    cfg = load_config(profile, seed=seed, **fields)
    times = case.budget
    if case.only_depth:  # a quarter of the images is seen four times as often: the same samples
        times = times / case.depth_share
    return dataclasses.replace(
        cfg,
        epochs=round(cfg.epochs * times),
        lr_drops=tuple(round(epoch * times) for epoch in cfg.lr_drops),
    )
