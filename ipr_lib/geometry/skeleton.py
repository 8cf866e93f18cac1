"""Joint sets as data: names, tree, mirror pairs, root. Taught in notebooks/01_skeletons_and_cameras.ipynb."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Skeleton:
    """A joint set.

    Attributes:
        names: joint names in array order, e.g. "R_Knee".
        parents: index of each joint's parent in the tree, -1 at the top of the tree.
        flip_pairs: (right, left) index pairs that change places in a mirror.
        root: index of the joint that root-relative coordinates are measured from.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    root: int

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def flip_order(self) -> np.ndarray:
        """(J,) indices p: joints[..., p, :] gives each mirrored joint its partner's place."""
        order = np.arange(len(self))
        for right, left in self.flip_pairs:
            order[right], order[left] = left, right
        return order

    @cached_property
    def limbs(self) -> np.ndarray:
        """(J - 1, 2) index pairs: child, parent."""
        pairs = [(child, parent) for child, parent in enumerate(self.parents) if parent >= 0]
        return np.array(pairs)

    def index(self, name: str) -> int:
        """Index of the joint called `name`; ValueError if there is none."""
        return self.names.index(name)


def bone_lengths(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Measure the length of each limb.

    Args:
        joints: (..., J, 3), any unit.
        skeleton: the joint set of `joints`.
    Returns:
        (..., J - 1), same unit, in the order of `skeleton.limbs`.
    """
    children, parents = skeleton.limbs.T
    return np.linalg.norm(joints[..., children, :] - joints[..., parents, :], axis=-1)


def convert_joints(
    joints: np.ndarray, source: Skeleton, target: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """Bring joints of one joint set to another, by name.

    Args:
        joints: (..., J_source, C).
        source, target: the two joint sets.
    Returns:
        joints: (..., J_target, C), zero where a joint has no partner.
        weights: (J_target,) float32, 1 with a partner, else 0.
    """
    joints = np.asarray(joints)
    converted = np.zeros((*joints.shape[:-2], len(target), joints.shape[-1]), joints.dtype)
    weights = np.zeros(len(target), np.float32)
    for i, name in enumerate(target.names):
        if name in source.names:
            converted[..., i, :] = joints[..., source.index(name), :]
            weights[i] = 1
    return converted, weights


def add_thorax(joints: np.ndarray) -> np.ndarray:
    """Append the virtual joint Thorax, the middle of both shoulders, to Human3.6M's 17 joints.

    Args:
        joints: (..., 17, C).
    Returns:
        (..., 18, C). Thorax is trained (MPII annotates it) but not scored.
    """
    right, left = HUMAN36M.index("R_Shoulder"), HUMAN36M.index("L_Shoulder")
    thorax = (joints[..., right, :] + joints[..., left, :]) / 2
    return np.concatenate([joints, thorax[..., None, :]], axis=-2)


HUMAN36M = Skeleton(
    names=(
        "Pelvis",
        "R_Hip",
        "R_Knee",
        "R_Ankle",
        "L_Hip",
        "L_Knee",
        "L_Ankle",
        "Torso",
        "Neck",
        "Nose",
        "Head",
        "L_Shoulder",
        "L_Elbow",
        "L_Wrist",
        "R_Shoulder",
        "R_Elbow",
        "R_Wrist",
        "Thorax",
    ),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15, 8),
    flip_pairs=((1, 4), (2, 5), (3, 6), (14, 11), (15, 12), (16, 13)),
    root=0,
)
# The first 17 are measured and scored; Thorax (index 17) is their virtual companion.
SCORED_JOINTS = 17

# Names decide which joints meet on the reference skeleton, as in the published code. Where they meet, how well:
# limbs and Pelvis are the same points. MPII's Thorax lies between the shoulders, as our virtual Thorax does by
# definition; Human3.6M's own Neck is close by, at the base of the neck. MPII's Neck is the upper neck, about 8 cm
# higher, and its Head is the top of the head: they are paired with Neck and Head all the same, by convention, and 2D
# training pulls Neck up a little. Nobody but Human3.6M annotates Torso.
MPII = Skeleton(
    names=(
        "R_Ankle",
        "R_Knee",
        "R_Hip",
        "L_Hip",
        "L_Knee",
        "L_Ankle",
        "Pelvis",
        "Thorax",
        "Neck",
        "Head",
        "R_Wrist",
        "R_Elbow",
        "R_Shoulder",
        "L_Shoulder",
        "L_Elbow",
        "L_Wrist",
    ),
    parents=(1, 2, 6, 6, 3, 4, -1, 6, 7, 8, 11, 12, 7, 7, 13, 14),
    flip_pairs=((0, 5), (1, 4), (2, 3), (12, 13), (11, 14), (10, 15)),
    root=6,
)
# COCO marks the face and no joint of the trunk but hips and shoulders: its Nose meets Human3.6M's (a marker-set joint
# at the front of the head), eyes and ears meet nobody. It has no Pelvis; its root serves the tree alone.
COCO = Skeleton(
    names=(
        "Nose",
        "L_Eye",
        "R_Eye",
        "L_Ear",
        "R_Ear",
        "L_Shoulder",
        "R_Shoulder",
        "L_Elbow",
        "R_Elbow",
        "L_Wrist",
        "R_Wrist",
        "L_Hip",
        "R_Hip",
        "L_Knee",
        "R_Knee",
        "L_Ankle",
        "R_Ankle",
    ),
    parents=(-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    flip_pairs=((2, 1), (4, 3), (6, 5), (8, 7), (10, 9), (12, 11), (14, 13), (16, 15)),
    root=0,
)
SKELETONS = {"HUMAN36M": HUMAN36M, "MPII": MPII, "COCO": COCO}
