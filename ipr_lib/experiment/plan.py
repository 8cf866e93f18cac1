"""The plan of the controlled comparison: which cases a profile has, and the Config of each.

A fair contest gives each method the settings that suit it. So a sweep comes first: each method's
learning rate, then the height of H1's and I1's target and the radius of H3's and I3's ball, three
values each. A run of the sweep trains on the training actors but the last one (S8), for a quarter of
the epochs, with seed 0, and is scored on that actor; the value of the smallest MPJPE is picked.
The test actors have no say. All else is equal: backbone, pictures and their order, augmentation,
optimizer, number of samples, float32. The base's budget is one at which every method should beat
the mean pose by a quarter; where one does not, no verdict rests on it.

Main effects first: the methods have five seeds, the other axes three. Taught in
notebooks/08_heatmap_vs_integral.ipynb.
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
        axis: of AXES: what it varies; or SWEEP.
        overrides: fields of Config that differ from the plan's base.
        depth_share: share of the training sequences whose depth is known.
        only_depth: leave the other sequences out, instead of taking them as 2D data.
        budget: how many times the base's epochs are trained.
        held_out: a training actor to score on, in place of the test actors; None in the contest.
    """

    name: str
    axis: str
    overrides: dict = field(default_factory=dict)
    depth_share: float = 1.0
    only_depth: bool = False
    budget: float = 1
    held_out: int | None = None


# What all runs of a profile share, on top of the profile. With 24 cells a side, the centre of the
# true cell alone is 76 mm off in the mean; with 16 it would be 114, and no argmax could compete.
BASES = {
    "smoke": {"epochs": 1, "deconvolutions": 2},
    "laptop": {
        "crop_px": 96,
        "backbone_width": 32,
        "head_width": 32,
        "deconvolutions": 2,
        "depth_bins": 24,
        "batch_size": 32,
        "micro_batches": 1,
        "epochs": 4,
        "learning_rate": 6e-3,
        "warmup_steps": 100,
        "precision": "float32",
    },
    "gpu": {
        "crop_px": 128,
        "backbone": "resnet18",
        "deconvolutions": 3,
        "depth_bins": 32,
        "epochs": 4,
        "learning_rate": 1e-3,
        "precision": "float32",
    },
}
COARSE = "coarse map"
# (axis, name, overrides) of the levels besides the base. The map's side doubles with each
# deconvolution.
LEVELS = {
    "smoke": [
        ("map", COARSE, {"deconvolutions": 1}),
        ("depth", "depth 4", {"depth_bins": 4}),
        ("trunk", "twice the width", {"backbone_width": 16}),
        ("crop", "crop 32", {"crop_px": 32, "deconvolutions": 3}),
    ],
    "laptop": [
        ("map", COARSE, {"deconvolutions": 1}),
        ("depth", "depth 12", {"depth_bins": 12}),
        ("trunk", "half the width", {"backbone_width": 16}),
        ("crop", "crop 48", {"crop_px": 48, "deconvolutions": 3}),
    ],
    "gpu": [
        ("map", COARSE, {"deconvolutions": 2}),
        ("map", "fine map", {"deconvolutions": 4}),
        ("depth", "depth 16", {"depth_bins": 16}),
        ("depth", "depth 64", {"depth_bins": 64}),
        ("trunk", "resnet50", {"backbone": "resnet50"}),
        ("crop", "crop 64", {"crop_px": 64, "deconvolutions": 4}),
        ("crop", "crop 256", {"crop_px": 256, "deconvolutions": 2}),
    ],
}
MAIN = ("R1", "H2", "I*", "SimCC")  # one of each kind: they carry the axes other than the method
VARIANTS = ("I* + prior", "I* de-biased", "E")
SWEEP = "sweep"
AXES = ("method", "map", "2D", "budget", "variant", "depth", "trunk", "crop")
CONTEST = AXES[:5]
SEEDS = {"method": 5, SWEEP: 1}  # of an axis; three for the others
DEPTH_SHARE = 0.25  # of the sequences, where depth is withheld
# What the names of such cases say after the method's.
LESS, MORE = "a quarter of the samples", "three times the samples"
WITH_2D, ALONE = "a quarter with depth, rest 2D", "a quarter alone"

SWEEP_BUDGET = 1 / 4
RATES = (1 / 3, 1, 3)  # times the base's learning rate
HEIGHTS = ("target_height", (1.0, 4.0, 16.0))
RADII = ("ball_radius", (1.0, 1.5, 2.5))
TARGETS = {"H1": HEIGHTS, "I1": HEIGHTS, "H3": RADII, "I3": RADII}


def planned_cases(profile: str) -> list[Case]:
    """The cases of a profile: main effects of every axis, and method x map size, budget, 2D data.

    Args:
        profile: one of BASES.
    Returns:
        axis by axis, in the order of AXES.
    Raises:
        InputError: a profile without a comparison.
    """
    if profile not in BASES:
        raise InputError(f"profile {profile!r} has no comparison; choose one of {', '.join(BASES)}")
    cases = []
    for method in METHODS:
        axis = "variant" if method in VARIANTS else "method"
        cases.append(Case(method, axis, {"method": method}))
    for method in MAIN:
        fields = {"method": method}
        cases.append(Case(f"{method}, {WITH_2D}", "2D", fields, DEPTH_SHARE))
        cases.append(Case(f"{method}, {ALONE}", "2D", fields, DEPTH_SHARE, only_depth=True))
        cases.append(Case(f"{method}, {LESS}", "budget", fields, budget=1 / 4))
        cases.append(Case(f"{method}, {MORE}", "budget", fields, budget=3))
        for axis, level, overrides in LEVELS[profile]:
            cases += _level_case(method, axis, level, overrides)
    return sorted(cases, key=lambda case: AXES.index(case.axis))


def _level_case(method, axis, level, overrides):
    """A case of one level of an axis, in a list; none where the method's head has no such axis."""
    fields = {"method": method} | overrides
    head = METHODS[method].head
    if head == "direct":
        if axis in ("map", "depth"):  # there is no volume to vary
            return []
        fields.pop("deconvolutions", None)
    if head == "lines" and axis == "depth":  # as many bins in depth as across
        return []
    return [Case(f"{method}, {level}", axis, fields)]


def sweep_steps(profile: str, method: str) -> list[tuple[str, tuple]]:
    """(field of Config, values to try) of what the sweep picks for a method, in order."""
    rate = BASES[profile].get("learning_rate", load_config(profile).learning_rate)
    steps = [("learning_rate", tuple(round(rate * factor, 6) for factor in RATES))]
    if method in TARGETS:
        steps.append(TARGETS[method])
    return steps


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
    if case.held_out is not None:
        others = tuple(subject for subject in cfg.train_subjects if subject != case.held_out)
        cfg = dataclasses.replace(cfg, train_subjects=others, test_subjects=(case.held_out,))
    times = case.budget
    if case.only_depth:  # a quarter of the images is seen four times as often: the same samples
        times = times / case.depth_share
    return dataclasses.replace(
        cfg,
        epochs=max(1, round(cfg.epochs * times)),
        lr_drops=tuple(round(epoch * times) for epoch in cfg.lr_drops),
    )
