"""Skeletons in space, to turn, play and compare. Used in notebooks/00_start_here.ipynb, 02, 10 and 12.

The file has three parts: the view itself, the checks of what it is given, and the static figure that pages without
scripts and printed pages show in its place.
"""

from collections.abc import Mapping
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import traitlets
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from ..files import InputError
from ..geometry.skeleton import HUMAN36M, SCORED_JOINTS
from . import plots
from .view import View

ALIGNMENTS = ("none", "root", "rigid", "scale")
PICTURE_QUALITY = 40  # of WebP: of 128 px crops, drawn twice as large, 30 shows blocks and 55 takes a fifth more bytes
# From little to much; both ends stand out from a white and from a black page.
_PLASMA = matplotlib.colormaps["plasma"](np.linspace(0.12, 0.92, 12))
ERROR_COLOURS = [to_hex(colour) for colour in _PLASMA]
SIDE_COLOURS = (plots.MIDDLE, plots.RIGHT, plots.LEFT)  # by the numbers of `_sides`
FAR = 5200.0  # mm from the viewer to the middle of the scene, as in skeleton_view.js
HOME = (-0.5, 0.2)  # first yaw and pitch in rad, as in skeleton_view.js


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
    images = traitlets.Bytes().tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    alignment = traitlets.Enum(ALIGNMENTS, "root").tag(sync=True)

    def __init__(
        self,
        poses,
        skeleton=HUMAN36M,
        *,
        reference="truth",
        images=None,
        joints_img=None,
        cameras=None,
        labels=None,
        title="",
        fps=None,
        up="-y",
        scored_joints=None,
        image_px=256,
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
            images: F pictures (H, W, 3) uint8 RGB, None where there is none; or {camera name: such a sequence}.
            joints_img: (F, J, 2 or more) or (people, F, J, 2 or more), px of `images`; or {camera name: such an array}.
                By default, with `cameras`, the poses as these see them.
            cameras: {name: Camera}, for poses in world axes: the view can be turned to each.
            labels: F texts, shown above the frame; or None.
            title: shown where there is no label.
            fps: frames a second where the frames are a film; None where each stands for itself.
            up: which axis of `poses` points up: "-y" (camera axes) or "z" (world axes).
            scored_joints: how many joints, from the first on, count for errors and alignment; by default 17 of
                HUMAN36M, else all.
            image_px: larger pictures are sent with their longer side reduced to this.
            alignment, frame, selected: see the class.
        Raises:
            InputError: an array has a wrong shape, unit or type.
        """
        named = _named_poses(poses)
        frames, joints = _check_poses(named, skeleton, up)
        people = list(named)
        if scored_joints is None:
            scored_joints = min(SCORED_JOINTS, joints) if skeleton is HUMAN36M else joints
        if not 0 < scored_joints <= joints:
            raise InputError(
                f"scored_joints={scored_joints}: expected 1 … {joints}, the number of joints in poses"
            )
        labels = [] if labels is None else labels
        if len(labels) not in (0, frames):
            raise InputError(f"labels: expected {frames} texts, one a frame, got {len(labels)}")
        if fps is not None and not fps > 0:
            raise InputError(f"fps={fps}: expected a number above 0, or None")
        if cameras and up != "z":
            raise InputError(
                'cameras: they turn the view of poses in world axes only; give such poses, and up="z"'
            )
        cameras = cameras or {}
        stacked = np.stack([np.asarray(pose, np.float32) for pose in named.values()])
        images = _by_camera(images, "images")
        joints_img = _by_camera(joints_img, "joints_img")
        names = list(images or cameras)
        if images and cameras and joints_img is None:
            joints_img = {}
            for name in names:
                if name in cameras:
                    joints_img[name] = _seen(cameras[name], stacked)
        overlay = _check_overlay(joints_img, names, stacked.shape)
        packed, offsets, sizes = _pack_images(images or {}, frames, image_px)
        meta = {
            "names": list(skeleton.names[:joints]),
            "parents": list(skeleton.parents[:joints]),
            "sides": _sides(skeleton.names[:joints]),
            "colours": {"right": plots.RIGHT, "left": plots.LEFT, "middle": plots.MIDDLE},
            "palette": ERROR_COLOURS,
            "people": people,
            "frames": frames,
            "joints": joints,
            "root": skeleton.root,
            "scored": scored_joints,
            "reference": _reference_index(reference, people),
            "labels": [str(label) for label in labels],
            "title": str(title),
            "fps": float(fps or 0),
            "up": up,
            "offsets": offsets,
            "image_sizes": sizes,
            "cameras": _camera_rotations(names, cameras),
        }
        super().__init__(
            meta=meta,
            poses=stacked.tobytes(),
            overlay=overlay.tobytes(),
            images=packed,
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
        return _skeleton_figure(self)


# --- checks of what the view is given ---


def _named_poses(poses):
    """{name: (F, J, 3)} from whatever was given."""
    if isinstance(poses, Mapping):
        return {str(name): np.asarray(pose) for name, pose in poses.items()}
    poses = np.asarray(poses)
    if poses.ndim != 4:
        return {"person": poses}
    if len(poses) == 1:
        return {"person": poses[0]}
    return {f"person {p + 1}": pose for p, pose in enumerate(poses)}


def _reference_index(reference, people):
    """Index of the reference among `people`; -1 where nothing is compared."""
    if reference not in (None, "truth", *people):
        raise InputError(
            f"reference={reference!r}: expected one of the poses, {', '.join(people)}, or None"
        )
    if len(people) == 1 or reference not in people:
        return -1
    return people.index(reference)


def _sides(names):
    """1 for joints of the person's right, 2 for those of the left, 0 for the others."""
    sides = []
    for name in names:
        if name.startswith("R_"):
            sides.append(1)
        elif name.startswith("L_"):
            sides.append(2)
        else:
            sides.append(0)
    return sides


def _camera_rotations(names, cameras):
    """For each camera its name and its rotation as 9 numbers, or None where it is not known."""
    described = []
    for name in names:
        rotation = np.ravel(cameras[name].R).tolist() if name in cameras else None
        described.append({"name": str(name), "R": rotation})
    return described


def _check_poses(named, skeleton, up):
    """(F, J) of all poses; InputError says which is wrong, and how."""
    if up not in ("-y", "z"):
        raise InputError(
            f'up={up!r}: expected "-y" (camera axes, y down) or "z" (world axes, z up)'
        )
    if not named:
        raise InputError("poses: expected at least one skeleton, got none")
    for name, pose in named.items():
        _check_pose(name, pose, skeleton)
    shapes = {name: pose.shape for name, pose in named.items()}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"poses: expected one shape for all, got {found}")
    frames, joints, _ = next(iter(shapes.values()))
    return frames, joints


def _check_pose(name, pose, skeleton):
    """InputError where one pose has a wrong shape, type or unit."""
    if pose.ndim != 3 or pose.shape[-1] != 3 or not len(pose) or pose.dtype.kind not in "fiu":
        raise InputError(
            f"poses, {name}: expected numbers of shape (F, J, 3), got {pose.dtype} {pose.shape}"
        )
    joints, most = pose.shape[1], len(skeleton)
    if not 2 <= joints <= most:
        complete = False
    else:  # the joints that are there must not hang on one that is missing
        complete = max(*skeleton.parents[:joints], skeleton.root) < joints
    if not complete:
        raise InputError(
            f"poses, {name}: expected the {most} joints of the skeleton (or its first ones), got {joints}"
        )
    if np.isinf(pose).any():
        raise InputError(
            f"poses, {name}: holds infinite values; expected mm, or NaN for an unknown joint"
        )
    if not np.isfinite(pose).all(-1).any():
        raise InputError(f"poses, {name}: not one joint is known")
    low = np.nanmin(pose.astype(float), axis=(0, 1))
    high = np.nanmax(pose.astype(float), axis=(0, 1))
    size = (high - low).max()
    if 0 < size < 30:
        raise InputError(
            f"poses, {name}: {size:.3g} mm from end to end; expected mm, these look like m: multiply by 1000"
        )
    if size > 100_000:
        raise InputError(
            f"poses, {name}: {size:.3g} mm from end to end; expected mm and people within 100 m"
        )


def _by_camera(value, name):
    """{camera name: what belongs to it}; one entry called "picture" where there is one camera."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return {"picture": value}
    if not value:
        raise InputError(f"{name}: expected at least one camera, got none")
    return value


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


def _pack_images(images, frames, longest):
    """WebP files end to end; where each begins, and the last ends; (width, height) of each before reduction."""
    packed, offsets, sizes = [], [0], []
    for name, sequence in images.items():
        if len(sequence) != frames:
            raise InputError(f"images, {name}: expected {frames}, one a frame, got {len(sequence)}")
        for number, image in enumerate(sequence):
            if image is None:
                data, size = b"", [1, 1]
            else:
                data, size = _packed(image, longest, f"images, {name}, frame {number}")
            packed.append(data)
            offsets.append(offsets[-1] + len(data))
            sizes.append(size)
    return b"".join(packed), offsets, sizes


def _packed(image, longest, where):
    """One picture as WebP bytes, its longer side at most `longest` px; [width, height] before reduction."""
    image = np.asarray(image)
    is_rgb = image.ndim == 3 and image.shape[2] == 3
    if not is_rgb or image.dtype != np.uint8 or image.size == 0:
        raise InputError(f"{where}: expected (H, W, 3) uint8 RGB, got {image.dtype} {image.shape}")
    size = [image.shape[1], image.shape[0]]
    scale = longest / max(size)
    if scale < 1:
        smaller = [max(round(side * scale), 1) for side in size]
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    bgr = np.ascontiguousarray(image[..., ::-1])
    _, data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, PICTURE_QUALITY])
    return data.tobytes(), size


def _laid_onto(pose, target, known, scale):
    """As `metrics.align` on the known joints; the same map then moves all joints."""
    from_mean, to_mean = pose[known].mean(0), target[known].mean(0)
    p, t = pose[known] - from_mean, target[known] - to_mean
    turn, _ = Rotation.align_vectors(t, p)
    size = (t * turn.apply(p)).sum() / max((p**2).sum(), np.finfo(float).tiny) if scale else 1.0
    return size * turn.apply(pose - from_mean) + to_mean


# --- the static figure ---


def project(points, yaw, pitch):
    """Seen from a viewpoint, as skeleton_view.js sees it.

    Args:
        points: (..., 3) scene axes (x right, y away, z up), mm from the middle of the scene.
        yaw, pitch: rad.
    Returns:
        (..., 2) right and up, mm at the middle's distance; (...) depth, mm; growing away from the viewer.
    """
    X, Y, Z = np.moveaxis(np.asarray(points, float), -1, 0)
    right = X * np.cos(yaw) + Y * np.sin(yaw)
    away = Y * np.cos(yaw) - X * np.sin(yaw)
    depth = away * np.cos(pitch) - Z * np.sin(pitch)
    up = Z * np.cos(pitch) + away * np.sin(pitch)
    size = FAR / np.maximum(FAR + depth, FAR / 20)
    return np.stack([right * size, up * size], -1), depth


def to_scene(points, up):
    """Poses' axes -> scene axes (x right, y away, z up): (..., 3) -> (..., 3)."""
    if up == "z":
        return np.asarray(points)
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)


def _skeleton_figure(view):
    """A SkeletonView as a static matplotlib Figure: picture, skeletons from the first viewpoint, error bars."""
    m = view.meta
    shown = view.aligned(view.frame)
    compared = m["reference"] >= 0
    has_image = len(view.images) > 0
    widths = [1.25]
    if has_image:
        widths = [0.8, *widths]
    if compared:
        widths = [*widths, 0.62]
    figure = Figure(figsize=(8.6 if len(widths) > 1 else 4.6, 3.7), layout="constrained")
    with matplotlib.rc_context(plots.STYLE):
        axes = list(figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0])
    title = m["labels"][view.frame] if m["labels"] else m["title"]
    if has_image:
        _draw_image(axes.pop(0), view)
    _draw_space(axes[0], shown, m)
    if compared:
        _draw_bars(axes[1], shown, m)
    figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
    return figure


def _line_style(m, p):
    """Line style of a person: the reference wide and pale, the others narrow and full."""
    return {"linewidth": 5, "alpha": 0.35} if p == m["reference"] else {"linewidth": 2.2}


def _draw_image(ax, view):
    m = view.meta
    start, end = m["offsets"][view.frame : view.frame + 2]
    ax.axis("off")
    if end == start:
        return
    packed = np.frombuffer(view.images[start:end], np.uint8)
    image = cv2.cvtColor(cv2.imdecode(packed, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    width, height = m["image_sizes"][view.frame]
    ax.imshow(image, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    if view.overlay:
        overlay = np.frombuffer(view.overlay, np.float32)
        overlay = overlay.reshape(-1, len(m["people"]), m["frames"], m["joints"], 2)
        for p, joints in enumerate(overlay[0, :, view.frame]):
            _draw_limbs(ax, joints, m, **_line_style(m, p))
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _draw_limbs(ax, points, m, depth=None, **style):
    limbs = [(child, parent) for child, parent in enumerate(m["parents"]) if parent >= 0]
    if depth is not None:  # far limbs first
        limbs.sort(key=lambda limb: -np.nan_to_num(depth[list(limb)].mean()))
    colours = [SIDE_COLOURS[m["sides"][child]] for child, _ in limbs]
    _draw_lines(ax, points[limbs], colours, **style)


def _draw_lines(ax, ends, colours, **style):
    """Lines from one end to the other, (n, 2, 2), as one artist: as many of `ax.plot` take far longer."""
    ax.add_collection(LineCollection(ends, colors=colours, capstyle="round", **style))
    ax.autoscale_view()


def _draw_space(ax, shown, m):
    scene = to_scene(shown, m["up"])
    known = np.isfinite(scene).all(-1)  # nobody at all in some frames of a film
    if m["reference"] < 0 and known.any():
        scene = scene - scene[known].mean(0)
    floor = scene[known, 2].min() if known.any() else 0.0
    ends = []
    for at in np.linspace(-1000, 1000, 9):
        ends.append([[at, -1000, floor], [at, 1000, floor]])
        ends.append([[-1000, at, floor], [1000, at, floor]])
    _draw_lines(ax, project(ends, *HOME)[0], "#E0E0E0", linewidth=0.8, zorder=0)
    for p, pose in enumerate(scene):
        points, depth = project(pose, *HOME)
        _draw_limbs(ax, points, m, depth, **_line_style(m, p))
    for at in (-500, 0, 500):
        place = project([[at, -1120, floor], [1120, at, floor]], *HOME)[0]
        for x, y in place:
            ax.text(x, y, at, fontsize=7, ha="center", va="center", color=plots.MIDDLE)
    corner = project([[860, -1120, floor], [1120, 860, floor]], *HOME)[0]
    for (x, y), name in zip(corner, ("x", "y" if m["up"] == "z" else "z")):
        ax.text(x, y, f"{name} (mm)", fontsize=7, ha="center", va="center")
    ax.set_aspect("equal")
    ax.axis("off")
    names = list(m["people"])
    if m["reference"] >= 0:
        names[m["reference"]] += " (pale)"
    if len(names) > 1:
        ax.set_title(", ".join(names), fontsize=9, loc="center")


def _draw_bars(ax, shown, m):
    scored = m["scored"]
    place = np.arange(scored)
    others = [p for p in range(len(shown)) if p != m["reference"]]
    colours = [SIDE_COLOURS[side] for side in m["sides"][:scored]]
    height = 0.7 / len(others)
    for o, p in enumerate(others):
        errors = np.linalg.norm(shown[p] - shown[m["reference"]], axis=-1)[:scored]  # mm
        ax.barh(
            place + (o - (len(others) - 1) / 2) * height,
            errors,
            height,
            color=colours,
            alpha=1 / (1 + 0.6 * o),
        )
        ax.text(
            1,
            1.01 + 0.06 * (len(others) - 1 - o),
            f"{m['people'][p]}: {np.nanmean(errors):.0f} mm",
            fontsize=8,
            ha="right",
            va="bottom",
            transform=ax.transAxes,
        )
    ax.set_yticks(place, m["names"][:scored], fontsize=7)
    ax.set(ylim=(scored - 0.4, -0.6))
    ax.set_xlabel("error (mm)", fontsize=8)
    ax.tick_params(axis="x", labelsize=7)
    ax.grid(axis="y", visible=False)
