"""Scores by hand, as a run's metrics.json holds them, and a reader of Markdown tables."""


def made_up(seed=0, shift=0.0):
    """A metrics.json by hand: Directions (2) and WalkTogether (16) alone, 3 and 1 pictures, given out of order."""

    def scores(first, last):
        return {
            "frame_mean": (3 * first + last) / 4,
            "action_mean": (first + last) / 2,
            "without_pelvis": {"frame_mean": first + 1, "action_mean": last + 1},
            "per_action": {"16": last, "2": first},
            "per_joint": [first] * 16 + [last],
        }

    def every(mpjpe, pa_mpjpe, pa_mpjpe_scale):
        metrics = {
            "mpjpe": scores(*mpjpe) | {"interval": [30.0, 70.06]},
            "pa_mpjpe": scores(*pa_mpjpe) | {"interval": None},
            "pa_mpjpe_scale": scores(*pa_mpjpe_scale),
        }
        sound = {
            name: {"frame_mean": 0.5 * values["frame_mean"], "action_mean": 0.0}
            for name, values in metrics.items()
        }
        parts = {"mpjpe_xy_per_joint": [1.0] * 17, "mpjpe_z_per_joint": [2.0] * 16 + [7.06]}
        return {
            "n": 4,
            **metrics,
            "without_damaged": {"n": 2, **sound},
            "mpjpe_xy": 33.3,
            "mpjpe_z": 22.2,
            **parts,
        }

    return {
        "run": f"made-up-{seed}",
        "profile": "laptop",
        "data": "built-in capture",
        "split": "S1 / S9",
        "test_step": 64,
        "train_items": 10,
        "samples_seen": 20,
        "oracle": ["box", "root depth"],
        "network": "small, 64 px, 16 x 16 x 8",
        "parameters": 1_234_567,
        "seed": seed,
        "commit": "abc",
        "device": "a processor",
        "checkpoint": f"{seed}",
        "minutes": {"data": 1.0, "training": 10.0 + seed, "evaluation": 1.0},
        "scores": every((40.04 + shift, 80.06 + shift), (30.0 + 2 * shift, 50.0), (20.0, 44.0)),
        "scores_flip": every((38.04 + 2 * shift, 78.0), (29.0, 49.0), (19.0, 43.0)),
        "mean_pose": every((100.0, 300.0), (90.0, 190.0), (1.0, 2.0)),
        "config": {
            "profile": "laptop",
            "seed": seed,
            "workers": 2,
            "epochs": 3,
            "lr_drops": [15, 17],
        },
    }


def table_after(text, heading):
    """Cells of the first Markdown table after `heading`, rule line left out."""
    lines = text[text.index(heading) + len(heading) :].strip().splitlines()
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[:1] + rows[2:]
