"""From a prepared set on disk to the batches of a training.

To be read in this order: `h36m_layout` (the folders that every set with poses in 3D is brought to,
and the MATLAB files of their labels); `images`; `people` (annotations in 2D); `store` (crops and
labels, cut once); `datasets` (which items a batch holds, of one store or of several mixed, and
batches as tensors). Taught in notebooks 02 to 04. Only `datasets` needs torch, and its names are
loaded when they are first asked for, so that processes which prepare data start without it.
"""

from .h36m_layout import (
    ACTIONS,
    CAMERAS,
    SPLITS,
    SUBJECTS,
    action_name,
    folder_name,
    folders_in_use,
    frames_in_use,
    item_path,
    list_folders,
    load_mat,
    read_camera_view,
    write_meta,
)
from .images import image_size, read_image
from .people import People, read_people, write_people
from .store import (
    CropStore,
    build_store,
    find_store,
    open_store,
    sequence_index,
    shrunken_store,
    split_store,
    withhold_depth,
    write_store,
)

_WITH_TORCH = (
    "BatchKeys",
    "CropDataset",
    "StoreMix",
    "batches",
    "crop_to_camera",
    "keys_in_order",
    "normalise",
    "tint",
    "training_keys",
)

__all__ = [
    "ACTIONS",
    "CAMERAS",
    "SPLITS",
    "SUBJECTS",
    "CropStore",
    "People",
    "action_name",
    "build_store",
    "find_store",
    "folder_name",
    "folders_in_use",
    "frames_in_use",
    "item_path",
    "list_folders",
    "load_mat",
    "open_store",
    "image_size",
    "read_people",
    "read_image",
    "read_camera_view",
    "sequence_index",
    "shrunken_store",
    "split_store",
    "withhold_depth",
    "write_meta",
    "write_people",
    "write_store",
    *_WITH_TORCH,
]


def __getattr__(name):
    """Load what needs torch when it is first asked for."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    from . import datasets

    return getattr(datasets, name)
