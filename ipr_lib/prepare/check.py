"""Is a prepared set whole and plausible? One table, and a list of what is wrong.

Taught in notebooks/02_prepare_human36m.ipynb.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from ..data.h36m_layout import (
    ACTIONS,
    CAMERAS,
    DAMAGED_SEQUENCES,
    FIRST_ACTION,
    SKIPPED_FOLDERS,
    action_name,
    folder_name,
    list_folders,
    parse_folder_name,
    picture_name,
    read_sequence,
)
from ..data.images import picture_size
from ..files import InputError, read_json
from ..geometry.skeleton import HUMAN36M, SCORED_JOINTS, bone_lengths
from ..parallel import parallel_map
from ..progress import progress

BONE_MM = (
    1.0  # bones of one subject may differ by this much between poses, and between left and right
)
OUTSIDE = 0.1  # share of a sequence's joints that may lie outside of its pictures; a wrong camera throws out all


def check(root, metadata=None, workers=1):
    """Inspect a prepared set.

    Args:
        root: its folder.
        metadata: Metadata, to compare the numbers of poses and the sequences with; None compares the set with itself.
        workers: number of processes.
    Returns:
        report: text, a table; problems: list of lines, empty where the set is usable.
    Raises:
        InputError: there is no such set.
    """
    root = Path(root)
    folders = list_folders(root)
    results = parallel_map(inspect, folders, workers)
    sequences = list(progress(results, total=len(folders), desc="check", unit="folder"))
    problems = [f"{row['name']}: {row['error']}" for row in sequences if row["error"]]
    sequences = [row for row in sequences if row["error"] is None]
    subjects = sorted({row["key"][0] for row in sequences})
    steps = {}
    for subject in subjects:
        own = [row for row in sequences if row["key"][0] == subject]
        # A short sequence with a picture or two is in line with several steps: the commonest one has to fit all.
        steps[subject] = Counter(_step(row) for row in own).most_common(1)[0][0]
        for row in own:
            lost = sorted(set(range(0, row["n"], steps[subject])) - set(row["frames"].tolist()))
            if lost:
                problems.append(
                    f"{row['name']}: {len(lost)} pictures of step {steps[subject]} are missing, the first is "
                    f"{picture_name(row['name'], lost[0])}"
                )
    there = {parse_folder_name(folder.name) for folder in folders}
    problems += _missing(sequences, subjects, metadata, there, _own_takes(root))
    problems += _bones(sequences, subjects)
    table = _table(sequences, subjects, steps)
    if not (root / "capture.json").exists():
        known = [
            key for key in DAMAGED_SEQUENCES if any(row["key"][:3] == key for row in sequences)
        ]
        table += [
            f"S{subject} {action_name(action)} {subaction}: its labels are known to drift; score with and without it"
            for subject, action, subaction in known
        ]
        table += [
            f"{name} is left out by convention"
            for name in SKIPPED_FOLDERS
            if parse_folder_name(name)[0] in subjects
        ]
    return "\n".join(table), problems


def inspect(folder):
    """What `check` needs to know of one sequence folder; its own faults come back in `error`."""
    folder = Path(folder)
    row = {"name": folder.name, "key": parse_folder_name(folder.name), "error": None}
    try:
        sequence = read_sequence(folder)
        camera, n = sequence.camera, len(sequence.joints_world)
        names = sorted(path.name for path in folder.glob("*.jpg"))
        frames = [int(name[-10:-4]) - 1 for name in names if name[-10:-4].isdecimal()]
        if (
            names != [picture_name(folder.name, frame) for frame in frames]
            or not frames
            or frames[-1] >= n
        ):
            raise InputError(
                f"expected pictures 1 … {n} with names like {picture_name(folder.name, 0)}"
            )
        for name in names:
            path = folder / name
            size = picture_size(path)
            if size != (camera.width, camera.height):
                raise InputError(
                    f"{name} is of {size[0]} x {size[1]} px, its label says {camera.width} x {camera.height}"
                )
            with open(path, "rb") as file:
                file.seek(-2, 2)
                if file.read() != b"\xff\xd9":
                    raise InputError(f"{name} is truncated")
    except (InputError, OSError) as error:
        return row | {"error": str(error).removeprefix(f"{folder}/")}
    lengths = bone_lengths(sequence.joints_world, _MEASURED)
    joints_img = camera.camera_to_image(camera.world_to_camera(sequence.joints_world[frames]))
    outside = (
        (joints_img < -0.5) | (joints_img > np.array([camera.width, camera.height]) - 0.5)
    ).any(-1)
    if outside.mean() > OUTSIDE:
        row["error"] = (
            f"{outside.mean():.0%} of the joints lie outside of the pictures; is it the right camera?"
        )
    return row | {
        "n": n,
        "frames": np.array(frames),
        "size": (camera.width, camera.height),
        "lens": camera.k is not None,
        "shortest": lengths.min(0),
        "longest": lengths.max(0),
        "outside": outside.mean(),
    }


_MEASURED = type(HUMAN36M)(
    HUMAN36M.names[:SCORED_JOINTS],
    HUMAN36M.parents[:SCORED_JOINTS],
    HUMAN36M.flip_pairs,
    HUMAN36M.root,
)


def _step(row):
    """The smallest step whose pictures are all there."""
    there = set(row["frames"].tolist())
    fits = (
        step for step in row["frames"].tolist()[1:] if there.issuperset(range(0, row["n"], step))
    )
    return next(fits, row["n"])


def _own_takes(root):
    """(subject, action, take, camera) of each folder of a capture of own motion, where `root` is one; else nothing."""
    path = root / "capture.json"
    manifest = read_json(path) if path.exists() else {}
    try:
        takes = [
            (take["subject"], take["action"], take["take"]) for take in manifest.get("motion", ())
        ]
        return {(*take, camera) for take in takes for camera in manifest["cameras"]}
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a capture's recipe ({error!r}); write the capture again"
        ) from error


def _missing(sequences, subjects, metadata, there, own):
    """Lines on sequences that should be there, and on numbers of poses that should be others."""
    keys = [row["key"] for row in sequences]
    if metadata is None:  # every subject should have what any of them has
        actions, takes, cameras = ({key[i] for key in keys} for i in (1, 2, 3))
    else:
        actions, takes, cameras = range(FIRST_ACTION, FIRST_ACTION + len(ACTIONS)), (1, 2), CAMERAS
    wanted = own or {
        (s, a, t, c) for s in subjects for a in actions for t in takes for c in cameras
    }
    lines = [
        f"{name} is missing"
        for key in sorted(wanted - there)
        if (name := folder_name(*key)) not in SKIPPED_FOLDERS
    ]
    counts = metadata.counts if metadata else {}
    return lines + [
        f"{row['name']}: {row['n']} poses, {metadata.path} implies {counts[row['key'][:3]]}"
        for row in sequences
        if counts.get(row["key"][:3], row["n"]) != row["n"]
    ]


def _bones(sequences, subjects):
    """Lines on bones that stretch, or differ from left to right."""
    lines = []
    for subject in subjects:
        shortest, longest = _extremes(sequences, subject)
        names = [_MEASURED.names[child] for child, _ in _MEASURED.limbs]
        worst = int(np.argmax(longest - shortest))
        if longest[worst] - shortest[worst] > BONE_MM:
            own = [row for row in sequences if row["key"][0] == subject]
            usual = np.median([(row["longest"] + row["shortest"])[worst] / 2 for row in own])
            odd = max(
                own,
                key=lambda row: max(row["longest"][worst] - usual, usual - row["shortest"][worst]),
            )
            lines.append(
                f"S{subject}: the bone above {names[worst]} is {shortest[worst]:.1f} to {longest[worst]:.1f} mm long, "
                f"expected one length; see {odd['name']}"
            )
        for right, left in _sides():
            if abs(longest[right] - longest[left]) > BONE_MM:
                lines.append(
                    f"S{subject}: the bone above {names[right]} is {longest[right]:.1f} mm long, above {names[left]} "
                    f"{longest[left]:.1f} mm; left and right should be alike"
                )
    return lines


def _extremes(sequences, subject):
    own = [row for row in sequences if row["key"][0] == subject]
    return np.min([row["shortest"] for row in own], 0), np.max([row["longest"] for row in own], 0)


def _sides():
    """(right, left) index pairs of limbs."""
    place = {child: i for i, (child, _) in enumerate(_MEASURED.limbs)}
    return [(place[right], place[left]) for right, left in _MEASURED.flip_pairs]


def _table(sequences, subjects, steps):
    """Lines: one row a subject, then pictures by action and by camera."""
    cameras = sorted({row["key"][3] for row in sequences})
    rows = [
        [
            "",
            "folders",
            "poses",
            "step",
            "pictures",
            "size",
            "lens",
            "bones vary",
            "left-right",
            "outside",
        ]
    ]
    pictures, by_camera = Counter(), Counter()
    for subject in subjects:
        own = [row for row in sequences if row["key"][0] == subject]
        shortest, longest = _extremes(sequences, subject)
        for row in own:
            count = len(range(0, row["n"], steps[subject]))
            by_camera[row["key"][3], subject] += count
            pictures[row["key"][1], subject] += count
        sides = max(abs(longest[right] - longest[left]) for right, left in _sides())
        rows.append(
            [
                f"S{subject}",
                len(own),
                sum(row["n"] for row in own),
                steps[subject],
                sum(pictures[key] for key in pictures if key[1] == subject),
                " ".join(sorted({"x".join(map(str, row["size"])) for row in own})),
                "/".join(sorted({"full" if row["lens"] else "pinhole" for row in own})),
                f"{(longest - shortest).max():.2f} mm",
                f"{sides:.2f} mm",
                f"{np.mean([row['outside'] for row in own]):.2%}",
            ]
        )
    actions = sorted({action for action, _ in pictures})
    parts = [["pictures", *(f"S{subject}" for subject in subjects), "all"]]
    for name, counts in (
        *(
            (action_name(action), [pictures[action, subject] for subject in subjects])
            for action in actions
        ),
        *(
            (f"camera {camera}", [by_camera[camera, subject] for subject in subjects])
            for camera in cameras
        ),
        ("all", [sum(pictures[action, subject] for action in actions) for subject in subjects]),
    ):
        parts.append([name, *counts, sum(counts)])
    return [*_aligned(rows), "", *_aligned(parts), ""]


def _aligned(rows):
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))])
        for row in cells
    ]
