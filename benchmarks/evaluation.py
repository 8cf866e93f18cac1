"""What scoring costs: all poses at once against a loop over poses, on one core.

    python benchmarks/evaluation.py [--poses 8695] [--toy]

8,695 is the number of test images of Human3.6M's usual split. Both ways go from poses in camera
coordinates to every number of the tables: roots together, rigid alignment and alignment with scale
over the 17 scored joints, errors of each joint, across and along the view, frame mean, action mean,
per action, per joint, with and without pelvis. The loop does for each pose what the formulas say.
Both must agree. Times are processor time, best of the repeats, the ways taking turns.
"""

import argparse
import os
import sys
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before NumPy starts its threads

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ipr_lib.evaluation.metrics import METRICS, score_items  # noqa: E402
from ipr_lib.geometry.skeleton import SCORED_JOINTS  # noqa: E402


def make_set(n):
    """Made-up poses: dict of pred, joints_cam (n, 18, 3) camera, mm; subject, action, subaction (n,)."""
    rng = np.random.default_rng(0)
    place = rng.uniform([-500, -200, 3500], [500, 200, 5500], (n, 1, 3))
    target = rng.normal(0, 300, (n, 18, 3)) + place
    return {
        "pred": target + rng.normal(0, [30, 30, 60], target.shape),
        "joints_cam": target,
        "subject": rng.choice([9, 11], n),
        "action": rng.integers(2, 17, n),
        "subaction": rng.integers(1, 3, n),
    }


def at_once(data):
    """Every number for all poses, and the intervals, which the loop leaves out."""
    return score_items(data["pred"], data)


def aligned_pose(pred, target, scale):
    """One pose (J, 3) laid onto another."""
    p, t = pred - pred.mean(0), target - target.mean(0)
    U, singular, Vt = np.linalg.svd(p.T @ t)
    if np.linalg.det(U @ Vt) < 0:
        U[:, 2], singular[2] = -U[:, 2], -singular[2]
    factor = singular.sum() / (p**2).sum() if scale else 1.0
    return factor * p @ (U @ Vt) + target.mean(0)


def lengths(difference):
    """Lengths of the joints' differences (J, C) -> (J,)."""
    return np.sqrt((difference**2).sum(1))


def one_by_one(data):
    """Every number in a loop over poses."""
    errors = {name: [] for name in METRICS}
    by_action = {name: {} for name in METRICS}
    across, along = [], []
    for n in range(len(data["pred"])):
        pred, target = data["pred"][n, :SCORED_JOINTS], data["joints_cam"][n, :SCORED_JOINTS]
        pred, target = pred - pred[0], target - target[0]
        poses = {
            "mpjpe": pred,
            "pa_mpjpe": aligned_pose(pred, target, scale=False),
            "pa_mpjpe_scale": aligned_pose(pred, target, scale=True),
        }
        for name, pose in poses.items():
            error = lengths(pose - target)
            errors[name].append(error)
            by_action[name].setdefault(int(data["action"][n]), []).append(error)
        across.append(lengths((pred - target)[:, :2]))
        along.append(np.abs((pred - target)[:, 2]))
    result = {"n": len(data["pred"]), "mpjpe_xy": np.mean(across), "mpjpe_z": np.mean(along)}
    for name, values in errors.items():
        actions = {action: np.mean(part) for action, part in by_action[name].items()}
        result[name] = {
            "frame_mean": np.mean(values),
            "per_joint": np.mean(values, axis=0),
            "per_action": actions,
            "action_mean": np.mean(list(actions.values())),
            "without_pelvis": {"frame_mean": np.mean(np.array(values)[:, 1:])},
        }
    return result


def compare(ours, theirs):
    """AssertionError where both ways disagree."""
    for name in METRICS:
        for mean in ("frame_mean", "action_mean", "per_joint"):
            np.testing.assert_allclose(ours[name][mean], theirs[name][mean], rtol=1e-9, atol=1e-9)
        assert ours[name]["per_action"].keys() == theirs[name]["per_action"].keys()
        for action, mean in theirs[name]["per_action"].items():
            np.testing.assert_allclose(ours[name]["per_action"][action], mean, rtol=1e-9)
        np.testing.assert_allclose(
            ours[name]["without_pelvis"]["frame_mean"],
            theirs[name]["without_pelvis"]["frame_mean"],
            rtol=1e-9,
        )
    for part in ("mpjpe_xy", "mpjpe_z"):
        np.testing.assert_allclose(ours[part], theirs[part], rtol=1e-9)


def seconds(function, *arguments):
    """Processor time of one call, and what it returned."""
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--poses", type=int, default=8695, help="poses to score")
    parser.add_argument(
        "--toy", action="store_true", help="a few of everything, to see that it runs"
    )
    options = parser.parse_args()
    n, repeats = (300, 2) if options.toy else (options.poses, 7)
    data = make_set(n)
    times = {"loop over poses": [], "all at once, with intervals": []}
    for _ in range(repeats):
        spent, theirs = seconds(one_by_one, data)
        times["loop over poses"].append(spent)
        spent, ours = seconds(at_once, data)
        times["all at once, with intervals"].append(spent)
    compare(ours, theirs)
    print(f"{n} poses, {SCORED_JOINTS} joints; both ways agree to 1e-9")
    print("| way | ms | times as fast as the loop |\n| :-- | --: | --: |")
    loop = min(times["loop over poses"])
    for name, values in times.items():
        print(f"| {name} | {1e3 * min(values):.1f} | {loop / min(values):.1f} |")


if __name__ == "__main__":
    main()
