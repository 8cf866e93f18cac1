"""How many annotated joints a crop loses, by the side of the crop over the side of the person's box.

    python benchmarks/box_scale.py [--poses 8]

This is what the default of `prepare mpii --box-scale` and `prepare coco --box-scale` rests on. People are
poses of the built-in capture, seen by its cameras: every actor and action, `--poses` frames of each. As
MPII's, a person has the joints that both joint sets share, and a box that is 1.2 times their extent; as
COCO's, a box that fits the joints tightly. Crops are squares about the box; joints outside of them get no
place in the volume. Each person is cropped as it is, and as training does, zoomed and turned at random.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ipr_lib.data.h36m_layout import ACTION_NUMBERS, SUBJECTS
from ipr_lib.geometry import (
    BOX_SCALE,
    HUMAN36M,
    MPII,
    Augmentation,
    add_thorax,
    apply_affine,
    convert_joints,
    crop_affine,
    draw_augmentation,
    square_boxes,
)
from ipr_lib.prepare.mpii import joints_box
from ipr_lib.studio import perform, studio_cameras

SCALES = (1.0, 1.1, 1.25, 1.4, 1.5, 1.75, 2.0)
CROP_PX = 256
SECONDS = 4  # of each action; the frames are spread over them


def annotate(n_poses):
    """Joints of MPII that Human3.6M has, px, of people in images: (n, 16, 2)."""
    people = []
    for subject in SUBJECTS:
        for action in ACTION_NUMBERS:
            joints_world = perform(subject, action, 1, 50 * SECONDS).joints_world
            frames = np.linspace(0, len(joints_world) - 1, n_poses).astype(int)
            joints_world = add_thorax(joints_world[frames])
            for camera in studio_cameras().values():
                joints_img = camera.camera_to_image(camera.world_to_camera(joints_world))
                people.append(convert_joints(joints_img, HUMAN36M, MPII)[0])
    return np.concatenate(people)


def share_outside(joints_img, box, draw):
    """Share of joints that lie outside of their crops.

    Args:
        joints_img: (n, J, 2) px.
        box: (n, 3) centre x, y, side; px.
        draw: dict of scale, rotation and shift, see `draw_augmentation`; {} for none.
    """
    affine = crop_affine(box, CROP_PX, **draw)
    joints = apply_affine(affine, joints_img)
    outside = (joints < -0.5) | (joints > CROP_PX - 0.5)
    return outside.any(axis=-1).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--poses", type=int, default=8, help="of each actor and action; default: 8")
    joints_img = annotate(parser.parse_args().poses)
    low, high = joints_img.min(axis=1), joints_img.max(axis=1)
    boxes = {
        "MPII": np.array([joints_box(joints) for joints in joints_img]),
        "COCO": np.concatenate([low, high - low], axis=1),
    }
    augmentation = draw_augmentation(Augmentation(), np.random.default_rng(0), len(joints_img))
    drawn = {name: augmentation[name] for name in ("scale", "rotation", "shift")}
    print(f"{len(joints_img)} people, {joints_img.shape[1]} joints each\n")
    print("| box | box scale | outside | outside, zoomed and turned | person, px of 256 |")
    print("| :-- | --: | --: | --: | --: |")
    for name, bbox in boxes.items():
        for scale in SCALES:
            box = square_boxes(bbox, scale)
            plain = share_outside(joints_img, box, {})
            augmented = share_outside(joints_img, box, drawn)
            person_px = CROP_PX * np.mean((high - low).max(axis=1) / box[:, 2])
            marked = f"**{scale}**" if scale == BOX_SCALE else scale
            print(f"| {name} | {marked} | {plain:.2%} | {augmented:.2%} | {person_px:.0f} |")


if __name__ == "__main__":
    main()
