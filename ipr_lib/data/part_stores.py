"""Crop stores of the parts of a set: found where they are there and still right, built where not.

A store has the name SET-PART-PX.crops. Who asks for other subjects or another step than that file holds gets a second
one, with both in its name, so that recipes take turns without building anything twice.
"""

import contextlib
import hashlib

from ..files import InputError
from ..progress import progress
from .h36m_layout import META_NAME, parse_folder_name
from .store import build_store, open_store, write_store


def part_store(source, folder, part, subjects, step, crop_px, workers=1):
    """The crop store of one part of a prepared set, built if it is missing, damaged or of other data.

    Args:
        source: folder of the prepared set; it need not be there for a store that came straight from a download.
        folder: of the stores.
        part: "train", "validation" or "test".
        subjects: tuple of subject numbers.
        step: every how many frames one is used.
        crop_px: side of the training crops, px.
        workers: processes to build with.
    Returns:
        CropStore.
    Raises:
        InputError: as `store.build_store`.
    """
    plain = folder / f"{source.name}-{part}-{crop_px}.crops"
    own = plain.with_stem(f"{plain.stem}-S{'-'.join(map(str, subjects))}-every-{step}")
    choice = {"source": source.name, "subjects": list(subjects), "step": step, "crop_px": crop_px}
    origin = labels_mark(source, subjects)
    found = {path: _opened(path) for path in (plain, own)}
    for store in found.values():
        if store is not None and _fits(store, choice, origin):
            return store
    holder = found[plain]
    if holder is None or _fits(holder, choice, holder.recipe.get("origin")):
        path = plain  # nobody's, or of an older version of the same
    elif step % holder.recipe.get("step", step + 1) == 0 and _fits(
        holder, choice | {"step": holder.recipe["step"]}, origin
    ):
        return _thinned(holder, own, step)
    else:
        path = own
    return build_store(
        source, path, subjects=subjects, step=step, crop_px=crop_px, workers=workers, origin=origin
    )


def labels_mark(source, subjects):
    """A mark of the very data that a store is built from: of a capture's recipe, or of all labels of the subjects.

    None where neither is there: the store came straight from a download, or has to be built and will name what is missing.
    """
    manifest = source / "capture.json"
    if manifest.exists():
        return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    labels = [
        path
        for path in sorted(source.glob(f"*/{META_NAME}"))
        if (numbers := parse_folder_name(path.parent.name)) and numbers[0] in subjects
    ]
    digest = hashlib.sha256()
    for path in labels:
        digest.update(path.parent.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16] if labels else None


def _opened(path):
    """The store at `path`; None where it is missing, damaged or of an older version."""
    with contextlib.suppress(InputError):
        return open_store(path)
    return None


def _fits(store, choice, origin):
    """Whether a store was built by these choices from these data."""
    if (
        "actions" in store.recipe
    ):  # by `prepare human36m --store`: no prepared folder stands behind it
        origin = None
    wanted = choice | {"origin": origin}
    return all(store.recipe.get(name) == value for name, value in wanted.items())


def _thinned(store, path, step):
    """Every `step`-th frame of a store, as a store of its own: the same pictures, byte for byte, and nothing decoded."""
    items = (store.columns["frame"] % step == 0).nonzero()[0]
    columns = {name: column[items] for name, column in store.labels.items()}
    jpegs = map(store.jpeg, progress(items.tolist(), desc=f"every {step}th frame", unit="crop"))
    write_store(path, columns, jpegs, store.recipe | {"step": step})
    return open_store(path)
