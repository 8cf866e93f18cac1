"""One example that the whole course follows: raw frame, crop, volume, joints in mm, its error in the final table.

Shown in notebooks 01, 02, 04, 05, 06, 10, 11 and 12.
"""

from pathlib import Path

import numpy as np

from ..data.h36m_layout import parse_folder_name

# A greeting of S11, whom no network is trained on: subject, action, subaction, camera.
EXAMPLE = (11, 5, 1, 3)
EXAMPLE_FRAME = 1  # the second of its frames in use


def example_folder(folders: list[Path]) -> Path:
    """The folder of the example, or of what comes nearest to it.

    Args:
        folders: of camera views, as `h36m_layout.list_folders` gives them.

    Returns:
        one of them: nearest first in subject, then in action, subaction and camera.
    """
    return min(folders, key=lambda folder: _distance(parse_folder_name(folder.name)))


def example_item(store) -> int:
    """The item of the example, or of what comes nearest to it.

    Args:
        store: CropStore of a test split.

    Returns:
        its index in the store.
    """
    names = ("subject", "action", "subaction", "camera_id")
    views = np.stack([store.columns[name] for name in names], axis=1).astype(int)  # (N, 4)
    nearest = min(np.unique(views, axis=0).tolist(), key=_distance)
    items = np.flatnonzero((views == nearest).all(axis=1))
    in_time = items[np.argsort(store.columns["frame"][items])]
    frame = min(EXAMPLE_FRAME, len(in_time) - 1)
    return int(in_time[frame])


def _distance(numbers):
    """How far a camera view is from the example; lists compare number by number."""
    return np.abs(np.subtract(numbers, EXAMPLE)).tolist()
