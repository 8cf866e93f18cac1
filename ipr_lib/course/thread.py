"""One picture that the whole course follows: raw frame, crop, volume, joints in mm, its error in the final table.

Shown in notebooks 01, 02, 04, 05, 06, 10, 11 and 12.
"""

import numpy as np

from ..data.h36m_layout import parse_folder_name

# A greeting of S11, whom no network is trained on: subject, action, take, camera; and of its frames in use the second.
THREAD, THREAD_FRAME = (11, 5, 1, 3), 1


def thread_folder(folders):
    """The folder of the picture that the course follows, or what comes nearest to it.

    Args:
        folders: paths of sequence folders, as `layout.list_folders` gives them.
    Returns:
        one of them: nearest first in subject, then in action, take and camera.
    """
    return min(folders, key=lambda folder: _distance(parse_folder_name(folder.name)))


def thread_item(store):
    """The item of the picture that the course follows, or of what comes nearest to it.

    Args:
        store: CropStore of a test part.
    Returns:
        its index in the store, int.
    """
    names = ("subject", "action", "subaction", "camera_id")
    items = np.stack([store.columns[name] for name in names], axis=1).astype(int)
    takes = np.unique(items, axis=0)
    chosen = min(takes.tolist(), key=_distance)
    of_take = np.flatnonzero((items == chosen).all(1))
    in_time = of_take[np.argsort(store.columns["frame"][of_take])]
    return int(in_time[min(THREAD_FRAME, len(in_time) - 1)])


def _distance(numbers):
    return np.abs(np.subtract(numbers, THREAD)).tolist()
