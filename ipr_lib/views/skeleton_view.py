"""Skeletons in space, to turn, play and compare. Used in notebooks/00_start_here.ipynb, 02, 10 and 12."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import traitlets
from matplotlib.colors import to_hex
from scipy.spatial.transform import Rotation

from ..files import InputError
from ..geometry.skeleton import HUMAN36M, SCORED_JOINTS
from . import plots
from .skeleton_figure import skeleton_figure
from .view import View

ALIGNMENTS = ("none", "root", "rigid", "scale")
PICTURE_QUALITY = 40  # of WebP: of 128 px crops, drawn twice as large, 30 shows blocks and 55 takes a fifth more bytes
# From little to much; both ends stand out from a white and from a black page.
ERROR_COLOURS = [
    to_hex(colour) for colour in matplotlib.colormaps["plasma"](np.linspace(0.12, 0.92, 12))
]


class SkeletonView(View):
    """One or several skeletons over frames: orbit, play, hover and select joints, compare after alignment.

    Only `frame`, `selected` and `alignment` travel between Python and the page after the view has been sent; setting one
    here moves the view, and a click there arrives here (`view.observe(function, "selected")`).

    Attributes:
        frame: frame shown, 0 … F - 1.
        selected: index of the selected joint, -1 for none.
        alignment: how others are laid onto the reference: "none", "root", "rigid" or "scale" (see `metrics.align`).
    """

    _esm = Path(__file__).with_name("skeleton_view.js")

    meta = traitlets.Dict().tag(sync=True)
    poses = traitlets.Bytes().tag(sync=True)
    overlay = traitlets.Bytes().tag(sync=True)
    pictures = traitlets.Bytes().tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    alignment = traitlets.Enum(ALIGNMENTS, "root").tag(sync=True)

    def __init__(
        self,
        poses,
        skeleton=HUMAN36M,
        *,
        reference="truth",
        pictures=None,
        joints_img=None,
        cameras=None,
        labels=None,
        title="",
        fps=None,
        up="-y",
        scored_joints=None,
        picture_px=256,
        alignment="root",
        frame=0,
        selected=-1,
    ):
        """Check the arrays and pack them, once.

        Args:
            poses: (F, J, 3) or (people, F, J, 3), mm; or {name: (F, J, 3)}. NaN marks unknown joints. J may stop short of
                the skeleton's last joints, e.g. 17 scored joints of HUMAN36M.
            skeleton: joint set.
            reference: name of the pose that the others are measured against; where there is none of that name among
                several, or with None, the skeletons are different people and no errors are shown.
            pictures: F pictures (H, W, 3) uint8 RGB, None where there is none; or {camera name: such a sequence}.
            joints_img: (F, J, 2 or more) or (people, F, J, 2 or more), px of `pictures`; or {camera name: such an array}.
                By default, with `cameras`, the poses as these see them.
            cameras: {name: Camera}, for poses in world axes: the view can be turned to each.
            labels: F texts, shown above the frame; or None.
            title: shown where there is no label.
            fps: frames a second where the frames are a film; None where each stands for itself.
            up: which axis of `poses` points up: "-y" (camera axes) or "z" (world axes).
            scored_joints: the first so many joints count for errors and alignment; by default 17 of HUMAN36M, else all.
            picture_px: larger pictures are sent with their longer side reduced to this.
            alignment, frame, selected: see the class.
        Raises:
            InputError: an array has a wrong shape, unit or type.
        """
        named = _named_poses(poses)
        frames, joints = _check_poses(named, skeleton, up)
        people = list(named)
        if reference is not None and reference not in named:
            if reference != "truth":
                raise InputError(
                    f"reference={reference!r}: expected one of the poses, {', '.join(people)}, or None"
                )
            reference = None
        if len(people) == 1:
            reference = None
        scored = scored_joints or (min(SCORED_JOINTS, joints) if skeleton is HUMAN36M else joints)
        if not 0 < scored <= joints:
            raise InputError(
                f"scored_joints={scored}: expected 1 … {joints}, the number of joints in poses"
            )
        if labels is not None and len(labels) != frames:
            raise InputError(f"labels: expected {frames} texts, one a frame, got {len(labels)}")
        if fps is not None and not fps > 0:
            raise InputError(f"fps={fps}: expected a number above 0, or None")
        if cameras and up != "z":
            raise InputError(
                'cameras: they turn the view of poses in world axes only; give such poses, and up="z"'
            )
        stacked = np.stack([np.asarray(pose, np.float32) for pose in named.values()])
        pictures, joints_img = (
            _by_camera(pictures, "pictures"),
            _by_camera(joints_img, "joints_img"),
        )
        names = list(pictures or cameras or {})
        if pictures and joints_img is None and cameras:
            joints_img = {name: _seen(cameras[name], stacked) for name in names if name in cameras}
        overlay = _check_overlay(joints_img, names, stacked.shape)
        packed, offsets, sizes = _pack_pictures(pictures or {}, frames, picture_px)
        super().__init__(
            meta={
                "names": list(skeleton.names[:joints]),
                "parents": list(skeleton.parents[:joints]),
                "sides": [
                    1 if name.startswith("R_") else 2 if name.startswith("L_") else 0
                    for name in skeleton.names[:joints]
                ],
                "colours": {"right": plots.RIGHT, "left": plots.LEFT, "middle": plots.MIDDLE},
                "palette": ERROR_COLOURS,
                "people": people,
                "frames": frames,
                "joints": joints,
                "root": skeleton.root,
                "scored": scored,
                "reference": people.index(reference) if reference is not None else -1,
                "labels": [str(label) for label in labels] if labels is not None else [],
                "title": str(title),
                "fps": float(fps) if fps else 0,
                "up": up,
                "offsets": offsets,
                "picture_sizes": sizes,
                "cameras": [
                    {
                        "name": str(name),
                        "R": np.ravel((cameras or {})[name].R).tolist()
                        if name in (cameras or {})
                        else None,
                    }
                    for name in names
                ],
            },
            poses=stacked.tobytes(),
            overlay=overlay.tobytes(),
            pictures=packed,
            frame=frame,
            selected=selected,
            alignment=alignment,
        )

    @traitlets.validate("frame")
    def _valid_frame(self, proposal):
        if self.meta and not 0 <= proposal["value"] < self.meta["frames"]:
            raise InputError(f"frame={proposal['value']}: expected 0 … {self.meta['frames'] - 1}")
        return proposal["value"]

    @traitlets.validate("selected")
    def _valid_selected(self, proposal):
        if self.meta and not -1 <= proposal["value"] < self.meta["joints"]:
            raise InputError(
                f"selected={proposal['value']}: expected -1 (none) … {self.meta['joints'] - 1}"
            )
        return proposal["value"]

    def aligned(self, frame):
        """All skeletons of a frame as they are drawn.

        Args:
            frame: 0 … F - 1.
        Returns:
            (people, J, 3) float64, mm, in the axes of the poses; the reference's root at the origin, unless alignment is
            "none".
        """
        m = self.meta
        poses = np.frombuffer(self.poses, np.float32).reshape(
            len(m["people"]), m["frames"], m["joints"], 3
        )
        shown = poses[:, frame].astype(float)
        if m["reference"] < 0 or self.alignment == "none":
            return shown
        shown = shown - shown[:, m["root"], None]
        target = shown[m["reference"]]
        if self.alignment != "root":
            for p, pose in enumerate(shown):
                known = np.isfinite(pose + target).all(-1)
                known[m["scored"] :] = False
                if p != m["reference"] and known.sum() >= 3:
                    shown[p] = _laid_onto(pose, target, known, self.alignment == "scale")
        return shown

    def figure(self):
        """The view as a static matplotlib Figure: picture, skeletons from the first viewpoint, error bars."""
        return skeleton_figure(self)


def _named_poses(poses):
    """{name: (F, J, 3)} from whatever was given."""
    if isinstance(poses, Mapping):
        return {str(name): np.asarray(pose) for name, pose in poses.items()}
    poses = np.asarray(poses)
    if poses.ndim == 4:
        return (
            {f"person {p + 1}": pose for p, pose in enumerate(poses)}
            if len(poses) > 1
            else {"person": poses[0]}
        )
    return {"person": poses}


def _check_poses(named, skeleton, up):
    """(F, J) of all poses; InputError says which is wrong, and how."""
    if up not in ("-y", "z"):
        raise InputError(
            f'up={up!r}: expected "-y" (camera axes, y down) or "z" (world axes, z up)'
        )
    if not named:
        raise InputError("poses: expected at least one skeleton, got none")
    most = len(skeleton)
    shapes = {pose.shape for pose in named.values()}
    for name, pose in named.items():
        if pose.ndim != 3 or pose.shape[-1] != 3 or not len(pose) or pose.dtype.kind not in "fiu":
            raise InputError(
                f"poses, {name}: expected numbers of shape (F, J, 3), got {pose.dtype} {pose.shape}"
            )
        joints = pose.shape[1]
        if (
            joints < 2
            or joints > most
            or max(skeleton.parents[:joints]) >= joints
            or skeleton.root >= joints
        ):
            raise InputError(
                f"poses, {name}: expected the {most} joints of the skeleton (or its first ones), got {joints}"
            )
        if np.isinf(pose).any():
            raise InputError(
                f"poses, {name}: holds infinite values; expected mm, or NaN for an unknown joint"
            )
        if not np.isfinite(pose).all(-1).any():
            raise InputError(f"poses, {name}: not one joint is known")
        low, high = (
            np.nanmin(pose.astype(float), axis=(0, 1)),
            np.nanmax(pose.astype(float), axis=(0, 1)),
        )
        size = (high - low).max()
        if 0 < size < 30:
            raise InputError(
                f"poses, {name}: {size:.3g} mm from end to end; expected mm, these look like m: multiply by 1000"
            )
        if size > 100_000:
            raise InputError(
                f"poses, {name}: {size:.3g} mm from end to end; expected mm and people within 100 m"
            )
    if len(shapes) > 1:
        raise InputError(
            "poses: expected one shape for all, got "
            + ", ".join(f"{n} {p.shape}" for n, p in named.items())
        )
    (shape,) = shapes
    return shape[:2]


def _by_camera(value, name):
    """{camera name: what belongs to it}; one entry called "picture" where there is one camera."""
    if value is None or isinstance(value, Mapping):
        if isinstance(value, Mapping) and not value:
            raise InputError(f"{name}: expected at least one camera, got none")
        return value
    return {"picture": value}


def _seen(camera, poses):
    """(people, F, J, 3) world mm -> (people, F, J, 2) px of a camera."""
    return camera.camera_to_image(camera.world_to_camera(poses.astype(float)))


def _check_overlay(joints_img, names, shape):
    """(cameras, people, F, J, 2) float32 px, NaN where unknown; empty without joints."""
    if joints_img is None:
        return np.empty(0, np.float32)
    if not names or set(joints_img) - set(names):
        raise InputError(
            f"joints_img: expected pictures of the same cameras, {', '.join(map(str, joints_img))}"
        )
    overlay = np.full((len(names), *shape[:3], 2), np.nan, np.float32)
    for name, joints in joints_img.items():
        joints = np.asarray(joints, np.float32)
        joints = joints[None] if joints.ndim == 3 else joints
        if joints.shape[:-1] != shape[:3] or joints.shape[-1] < 2:
            raise InputError(
                f"joints_img, {name}: expected {(*shape[:3], 2)} px, as poses, got {joints.shape}"
            )
        overlay[names.index(name)] = joints[..., :2]
    return overlay


def _pack_pictures(pictures, frames, longest):
    """WebP files end to end; where each begins, and the last ends; (width, height) of each before reduction."""
    packed, offsets, sizes = [], [0], []
    for name, sequence in pictures.items():
        if len(sequence) != frames:
            raise InputError(
                f"pictures, {name}: expected {frames}, one a frame, got {len(sequence)}"
            )
        for number, picture in enumerate(sequence):
            data, size = b"", [1, 1]
            if picture is not None:
                picture = np.asarray(picture)
                if (
                    picture.ndim != 3
                    or picture.shape[2] != 3
                    or picture.dtype != np.uint8
                    or not picture.size
                ):
                    raise InputError(
                        f"pictures, {name}, frame {number}: expected (H, W, 3) uint8 RGB, got {picture.dtype} {picture.shape}"
                    )
                size = [picture.shape[1], picture.shape[0]]
                scale = longest / max(size)
                if scale < 1:
                    smaller = [max(round(side * scale), 1) for side in size]
                    picture = cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA)
                data = cv2.imencode(
                    ".webp",
                    np.ascontiguousarray(picture[..., ::-1]),
                    [cv2.IMWRITE_WEBP_QUALITY, PICTURE_QUALITY],
                )[1].tobytes()
            packed.append(data)
            offsets.append(offsets[-1] + len(data))
            sizes.append(size)
    return b"".join(packed), offsets, sizes


def _laid_onto(pose, target, known, scale):
    """As `metrics.align` on the known joints; the same map then moves all joints."""
    from_mean, to_mean = pose[known].mean(0), target[known].mean(0)
    p, t = pose[known] - from_mean, target[known] - to_mean
    turn, _ = Rotation.align_vectors(t, p)
    size = (t * turn.apply(p)).sum() / max((p**2).sum(), np.finfo(float).tiny) if scale else 1.0
    return size * turn.apply(pose - from_mean) + to_mean
