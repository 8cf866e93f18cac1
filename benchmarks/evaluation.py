"""What scoring costs: all poses at once against a loop over poses, in one process on one core.

    python benchmarks/evaluation.py [--poses 8695] [--toy]

8,695 is the number of test pictures of Human3.6M's usual split. All ways go from poses in front of the camera to every
number of the tables: roots together, rigid alignment and alignment with scale over the 17 scored joints, errors of each
joint, across and along the view, frame mean, action mean, per action, per joint, with and without pelvis. The loop does
for each pose what the formulas say, with NumPy within the pose; a second one takes lengths joint by joint, as some public
code does. All must agree. Times are processor time of this one process, best of the repeats, the ways taking turns; none
reads or writes files.
"""

import argparse
import os
import sys
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(
        name, "1"
    )  # before NumPy starts its threads: the loop uses one, so both do

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ipr_lib.evaluation.metrics import score  # noqa: E402
from ipr_lib.evaluation.procrustes import best_rotations  # noqa: E402
from ipr_lib.geometry.skeleton import SCORED_JOINTS  # noqa: E402

TAKES = 120


def make_set(n):
    """Made-up poses: dict of pred, target (n, 18, 3) camera, mm; action, take (n,)."""
    rng = np.random.default_rng(0)
    target = rng.normal(0, 300, (n, 18, 3)) + rng.uniform(
        [-500, -200, 3500], [500, 200, 5500], (n, 1, 3)
    )
    return {
        "pred": target + rng.normal(0, [30, 30, 60], target.shape),
        "target": target,
        "action": rng.integers(2, 17, n),
        "take": rng.integers(0, TAKES, n),
    }


def at_once(data, takes=None):
    """Every number for all poses."""
    return score(data["pred"], data["target"], data["action"], SCORED_JOINTS, takes)


def rigid(pred, target, scale):
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


def lengths_by_joint(difference):
    """The same, joint by joint."""
    return np.array([np.linalg.norm(joint) for joint in difference])


def one_by_one(data, lengths=lengths):
    """Every number in a loop over poses."""
    errors = {"mpjpe": [], "pa_mpjpe": [], "pa_mpjpe_scale": []}
    across, along, by_action = [], [], {name: {} for name in errors}
    for n in range(len(data["pred"])):
        pred, target = data["pred"][n, :SCORED_JOINTS], data["target"][n, :SCORED_JOINTS]
        pred, target = pred - pred[0], target - target[0]
        aligned = {
            "mpjpe": pred,
            "pa_mpjpe": rigid(pred, target, False),
            "pa_mpjpe_scale": rigid(pred, target, True),
        }
        for name, pose in aligned.items():
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


def rotations_by_singular_values(moments):
    """Best rotations of all poses, (n, 3, 3) -> (n, 3, 3), by Kabsch's way."""
    U, _, Vt = np.linalg.svd(moments)
    U[..., 2] *= np.sign(np.linalg.det(U @ Vt))[:, None]
    return U @ Vt


def compare(ours, theirs):
    """AssertionError where both ways disagree."""
    for name in ("mpjpe", "pa_mpjpe", "pa_mpjpe_scale"):
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
    times = {
        "loop": [],
        "joints": [],
        "at once": [],
        "with intervals": [],
        "closed form": [],
        "singular values": [],
    }
    p, t = (data[name] - data[name].mean(1, keepdims=True) for name in ("pred", "target"))
    moments = p.transpose(0, 2, 1) @ t
    for _ in range(repeats):
        spent, theirs = seconds(one_by_one, data)
        times["loop"].append(spent)
        spent, by_joint = seconds(one_by_one, data, lengths_by_joint)
        times["joints"].append(spent)
        spent, ours = seconds(at_once, data)
        times["at once"].append(spent)
        times["with intervals"].append(seconds(at_once, data, data["take"])[0])
        spent, (rotations, _) = seconds(best_rotations, moments)
        times["closed form"].append(spent)
        spent, kabsch = seconds(rotations_by_singular_values, moments)
        times["singular values"].append(spent)
    compare(ours, theirs)
    compare(ours, by_joint)
    np.testing.assert_allclose(rotations, kabsch, atol=1e-8)
    best = {name: min(values) for name, values in times.items()}
    print(f"{n} poses, {SCORED_JOINTS} joints, every number of the tables; all ways agree to 1e-9")
    print(
        "| way | ms | µs a pose | times as fast as the loop over poses |\n| :-- | --: | --: | --: |"
    )
    for name, label in (
        ("loop", "loop over poses"),
        ("joints", "loop over poses and their joints"),
        ("at once", "all at once"),
        ("with intervals", f"all at once, with 95 % intervals over {TAKES} takes"),
    ):
        print(
            f"| {label} | {1e3 * best[name]:.1f} | {1e6 * best[name] / n:.2f} | {best['loop'] / best[name]:.1f} |"
        )
    print(
        f"\nrotations of all poses: {1e3 * best['closed form']:.1f} ms in closed form, "
        f"{1e3 * best['singular values']:.1f} ms by singular values"
    )


if __name__ == "__main__":
    main()
