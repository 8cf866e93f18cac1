"""Draw notebooks/images/turning.webp, the moving picture of the front page, from a finished run.

    python book/turning.py --profile laptop     # after `make reproduce`

It shows pictures of the test actors, with the joints that the network finds and the same joints in space, turning.
Of each action shown, it is the picture whose error is the median, neither the best one nor the worst.
"""

import argparse
import io

import cv2
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

from ipr_lib.config import load_config
from ipr_lib.course import pipeline
from ipr_lib.data import h36m_layout as layout
from ipr_lib.evaluation.metrics import joint_errors, root_relative
from ipr_lib.files import REPOSITORY, atomic_path
from ipr_lib.geometry.skeleton import SCORED_JOINTS
from ipr_lib.geometry.transforms import crop_affine, warp
from ipr_lib.views import plots

TARGET = REPOSITORY / "notebooks" / "images" / "turning.webp"
ACTIONS = (14, 9, 5)  # walking, sitting, greeting
CROP_PX = 360
TURNS = 36  # pictures of one turn
MILLISECONDS = 90  # each is shown


def median_items(columns, errors):
    """The item of each action whose error is the median of the action's."""
    items = []
    for action in ACTIONS:
        of_action = np.flatnonzero(columns["action"] == action)
        in_order = of_action[np.argsort(errors[of_action])]
        items.append(in_order[len(in_order) // 2])
    return items


def frame(crop, joints_crop, pose, angle, label):
    """One picture of the film: the crop on the left, the pose in space on the right."""
    figure = plt.figure(figsize=(7.2, 3.6), dpi=100)
    left = figure.add_axes((0, 0, 0.5, 1))
    plots.draw_image(left, crop, joints_crop, linewidth=2.5, markersize=3)
    right = figure.add_axes((0.5, 0, 0.5, 1), projection="3d")
    # Matplotlib's z points up; the camera's y points down, and its z away from the camera.
    upright = pose[:, [0, 2, 1]] * [1, 1, -1]
    plots.draw_limbs(right, upright, linewidth=2.5, markersize=3)
    floor = upright[:, 2].min()
    lines = np.linspace(-700, 700, 8)
    for line in lines:
        right.plot([line, line], [-700, 700], floor, color="#DDDDDD", linewidth=0.8)
        right.plot([-700, 700], [line, line], floor, color="#DDDDDD", linewidth=0.8)
    right.set(xlim=(-650, 650), ylim=(-650, 650), zlim=(floor, floor + 1750))
    right.set_box_aspect((1300, 1300, 1750), zoom=1.3)
    right.view_init(elev=12, azim=-90 + angle)
    right.set_axis_off()
    figure.text(0.53, 0.93, label, fontsize=11, color="#595959")
    packed = io.BytesIO()
    figure.savefig(packed, format="png")
    plt.close(figure)
    return Image.open(packed).convert("RGB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="laptop", help="whose run is shown")
    cfg = load_config(parser.parse_args().profile)
    store = pipeline.crop_store(cfg, "test")
    run = pipeline.run_dir(cfg)
    if not (run / "predictions.npz").exists():
        raise SystemExit(f"{run} holds no predictions; make them first: make reproduce")
    predictions = np.load(run / "predictions.npz")
    pose = root_relative(predictions["pred_cam"])[:, :SCORED_JOINTS]
    truth = root_relative(predictions["target_cam"])[:, :SCORED_JOINTS]
    errors = joint_errors(pose, truth).mean(axis=1)  # mm

    frames = []
    for item in median_items(store.columns, errors):
        path = layout.item_path(pipeline.dataset_dir(cfg), store.columns, item)
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        affine = crop_affine(store.columns["box"][item : item + 1], CROP_PX)[0]
        crop = warp(picture, affine, CROP_PX, cv2.BORDER_REPLICATE)
        scale = CROP_PX / cfg.crop_px
        joints_crop = (predictions["joints_crop"][item, :SCORED_JOINTS] + 0.5) * scale - 0.5
        label = f"{layout.action_name(int(store.columns['action'][item]))}: off by {errors[item]:.0f} mm"
        for turn in range(TURNS):
            frames.append(frame(crop, joints_crop, pose[item], 360 * turn / TURNS, label))
    with atomic_path(TARGET) as temporary:
        frames[0].save(
            temporary,
            format="webp",
            save_all=True,
            append_images=frames[1:],
            duration=MILLISECONDS,
            loop=0,
            quality=60,
            method=6,
        )
    print(f"{TARGET}: {len(frames)} pictures, {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
