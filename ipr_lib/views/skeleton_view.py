"""Skeletons in space, to turn, play and compare. Used in notebooks/00_start_here.ipynb, 02, 10 and 12."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import traitlets
from PIL import Image
from scipy.spatial.transform import Rotation

from ..files import InputError
from ..geometry.skeleton import HUMAN36M, SCORED_JOINTS
from . import plots
from .view import View, pack_image, within_limits


class SkeletonView(View):
    """One or several skeletons over frames: orbit, play, hover and select joints, compare after alignment.

    Only `frame`, `selected` and `alignment` travel between Python and the page after the view has
    been sent; setting one here moves the view, and a click there arrives here
    (`view.observe(function, "selected")`).

    Attributes:
        frame: frame shown, 0 … F - 1.
        selected: index of the selected joint, -1 for none.
        alignment: how others are laid onto the reference: "none", "root", "rigid" or "scale" (see
            `metrics.align`).
    """

    _esm = Path(__file__).with_suffix(".js")

    meta = traitlets.Dict().tag(sync=True)
    poses = traitlets.Bytes().tag(sync=True)
    overlay = traitlets.Bytes().tag(sync=True)
    images = traitlets.Bytes().tag(sync=True)
    video = traitlets.Bytes().tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    alignment = traitlets.Enum(("none", "root", "rigid", "scale"), "root").tag(sync=True)

    def __init__(
        self,
        poses,
        skeleton=HUMAN36M,
        *,
        images=None,
        joints_img=None,
        video=None,
        video_size=None,
        cameras=None,
        labels=(),
        title="",
        fps=None,
        up="-y",
        alignment="root",
        frame=0,
        turning=False,
    ):
        """Check the arrays and pack them, once.

        Args:
            poses: (F, J, 3) or (people, F, J, 3), mm; or {name: (F, J, 3)}. NaN marks unknown
                joints. J may stop short of the skeleton's last joints, e.g. 17 scored joints of
                HUMAN36M. Among several, the others are measured against the one named "truth";
                without it, they are different people and no errors are shown.
            skeleton: joint set. Errors and alignment count its first 17 joints where it is
                HUMAN36M, else all.
            images: F images (H, W, 3) uint8 RGB, None where there is none; or {camera name: such a
                sequence}.
            joints_img: (F, J, 2 or more) or (people, F, J, 2 or more), px of the images of one
                camera, or of the video. By default, with `cameras`, the poses as these see them.
            video: bytes of a WebM file with F frames at `fps`, in place of images: a long video
                takes far less as one track than as pictures.
            video_size: (width, height) that joints_img refer to, px; the track may be smaller.
            cameras: {name: Camera}, for poses in world axes: the view can be turned to each.
            labels: F texts, shown above the frame; or none.
            title: shown where there is no label.
            fps: frames a second where the frames are a film; None where each stands for itself.
            up: which axis of `poses` points up: "-y" (camera axes) or "z" (world axes).
            alignment, frame: see the class.
            turning: let the scene turn by itself until it is turned by hand.
        Raises:
            InputError: an array has a wrong shape, unit or type.
        """
        people, stacked = _stack_poses(poses, skeleton)
        _, frames, joints, _ = stacked.shape
        if up not in ("-y", "z"):
            raise InputError(
                f'up={up!r}: expected "-y" (camera axes, y down) or "z" (world axes, z up)'
            )
        if len(labels) not in (0, frames):
            raise InputError(f"labels: expected {frames} texts, one a frame, got {len(labels)}")
        if fps is not None and not fps > 0:
            raise InputError(f"fps={fps}: expected a number above 0, or None")
        if cameras and up != "z":
            raise InputError(
                'cameras: they turn the view of poses in world axes only; give such poses, and up="z"'
            )
        cameras = cameras or {}
        if video is not None and (images is not None or cameras or not fps or video_size is None):
            raise InputError(
                "video: it takes the place of images, has no cameras, and needs fps and video_size"
            )
        images = {} if images is None else images
        if not isinstance(images, Mapping):
            images = {"picture": images}
        packed, offsets, sizes = _pack_images(images, frames)
        shown = ["video"] if video is not None else list(images)
        views = []
        for name in shown or cameras:
            rotation = cameras[name].R.ravel().tolist() if name in cameras else None
            views.append({"name": str(name), "R": rotation})
        scored = min(SCORED_JOINTS, joints) if skeleton is HUMAN36M else joints
        compared = len(people) > 1 and "truth" in people
        self.skeleton = skeleton
        self.limits = {"frame": (0, frames - 1), "selected": (-1, joints - 1)}
        super().__init__(
            meta={
                "names": list(skeleton.names[:joints]),
                "parents": list(skeleton.parents[:joints]),
                "colours": {"right": plots.RIGHT, "left": plots.LEFT, "middle": plots.MIDDLE},
                "people": people,
                "frames": frames,
                "joints": joints,
                "root": skeleton.root,
                "scored": scored,
                "reference": people.index("truth") if compared else -1,
                "labels": [str(label) for label in labels],
                "title": str(title),
                "fps": float(fps or 0),
                "up": up,
                "offsets": offsets,
                "image_sizes": sizes,
                "cameras": views,
                "video_size": list(video_size or ()),
                "turning": bool(turning),
            },
            poses=stacked.tobytes(),
            overlay=_overlay(joints_img, shown, cameras, stacked).tobytes(),
            images=packed,
            video=video or b"",
            frame=frame,
            alignment=alignment,
        )

    _within_limits = traitlets.validate("frame", "selected")(within_limits)

    def aligned(self, frame):
        """All skeletons of a frame as they are drawn.

        Args:
            frame: 0 … F - 1.
        Returns:
            (people, J, 3) float64, mm, in the axes of the poses; the reference's root at the
            origin, unless alignment is "none".
        """
        m = self.meta
        poses = np.frombuffer(self.poses, np.float32)
        poses = poses.reshape(-1, m["frames"], m["joints"], 3)  # (people, F, J, 3)
        shown = poses[:, frame].astype(float)
        if m["reference"] < 0 or self.alignment == "none":
            return shown
        shown -= shown[:, m["root"], None]
        if self.alignment == "root":
            return shown
        target = shown[m["reference"]].copy()
        for p, pose in enumerate(shown):
            known = np.isfinite(pose + target).all(-1)
            known[m["scored"] :] = False
            if p != m["reference"] and known.sum() >= 3:
                shown[p] = _laid_onto(pose, target, known, self.alignment == "scale")
        return shown

    def _draw(self, figure):
        """Image, skeletons from the first viewpoint, error bars."""
        m = self.meta
        shown = self.aligned(self.frame)
        panels = ["space"]
        if self.images:
            panels = ["image", *panels]
        if m["reference"] >= 0:
            panels = [*panels, "errors"]
        figure.set_size_inches(1 + 2.7 * len(panels), 3.7)
        axes = figure.subplot_mosaic([panels], per_subplot_kw={"space": {"projection": "3d"}})
        if self.images:
            self._draw_image(axes["image"])
        names = list(m["people"])
        if m["reference"] >= 0:
            names[m["reference"]] += " (pale)"
            self._draw_errors(axes["errors"], shown)
        # Plots have z up; camera axes have y down and z away.
        away = "y (mm)"
        if m["up"] == "-y":
            away = "z (mm)"
            shown = shown[..., [0, 2, 1]] * (1, 1, -1)
        space = axes["space"]
        for p, pose in enumerate(shown):
            plots.draw_limbs(space, pose, self.skeleton, **self._style(p))
        space.set(xlabel="x (mm)", ylabel=away, title=", ".join(names))
        space.margins(x=0.6, y=0.6)
        space.set_aspect("equal")
        space.locator_params(nbins=3)
        space.view_init(elev=11.5, azim=-118.6)  # as in skeleton_view.js
        title = m["labels"][self.frame] if m["labels"] else m["title"]
        # The title may be a file's name, in which "$" begins no formula.
        figure.suptitle(title, x=0.01, ha="left", parse_math=False)

    def _style(self, p):
        """Line style of a person: the reference wide and pale."""
        wide = p == self.meta["reference"]
        return {"linewidth": 5, "alpha": 0.35} if wide else {"linewidth": 2.2}

    def _draw_image(self, ax):
        """The first camera's image of the frame, with the joints that are given for it."""
        m = self.meta
        start, end = m["offsets"][self.frame : self.frame + 2]
        ax.axis("off")
        if end == start:
            return
        image = np.asarray(Image.open(io.BytesIO(self.images[start:end])))
        plots.draw_image(ax, image)
        scale = image.shape[1] / m["image_sizes"][self.frame][0]
        overlay = np.frombuffer(self.overlay, np.float32)
        overlay = overlay.reshape(-1, len(m["people"]), m["frames"], m["joints"], 2)
        for p, joints in enumerate(overlay[0, :, self.frame]):
            joints = (joints + 0.5) * scale - 0.5  # px of the reduced image
            style = self._style(p)
            known = joints[np.isfinite(joints).all(axis=-1)]
            if len(known):  # thin lines on somebody small
                share = np.ptp(known, axis=0).max() / max(image.shape)
                style["linewidth"] *= min(share + 0.2, 1)
            plots.draw_limbs(ax, joints, self.skeleton, **style)

    def _draw_errors(self, ax, shown):
        """Bars of each scored joint's distance from the reference, with the mean as title."""
        m = self.meta
        names = m["names"][: m["scored"]]
        colours = [plots.side_colour(name) for name in names]
        rows = np.arange(len(names))
        height = 0.7 / (len(shown) - 1)
        means = []
        for p, pose in enumerate(shown):
            if p != m["reference"]:
                errors = np.linalg.norm(pose - shown[m["reference"]], axis=-1)[: m["scored"]]
                ax.barh(rows, errors, height, color=colours, alpha=1 / (1 + 0.6 * len(means)))
                rows = rows + height
                means.append(f"{m['people'][p]}: {np.nanmean(errors):.0f} mm")
        ax.set_yticks(np.arange(len(names)), names, fontsize=7)
        ax.invert_yaxis()
        ax.set(xlabel="error (mm)", title="\n".join(means))
        ax.grid(axis="y", visible=False)


def _stack_poses(poses, skeleton):
    """Names of the people, and their checked poses (people, F, J, 3) float32."""
    if not isinstance(poses, Mapping):
        poses = np.asarray(poses)
        if poses.ndim == 3:
            poses = poses[None]
        names = [f"person {p + 1}" for p in range(len(poses))] if len(poses) > 1 else ["person"]
        poses = dict(zip(names, poses))
    shapes = {str(name): np.shape(pose) for name, pose in poses.items()}
    if len(set(shapes.values())) != 1:
        raise InputError(f"poses: expected at least one, all of one shape, got {shapes}")
    stacked = np.stack(list(poses.values()))
    if (
        stacked.ndim != 4
        or stacked.shape[-1] != 3
        or not stacked.size
        or stacked.dtype.kind not in "fiu"
    ):
        raise InputError(
            f"poses: expected numbers of shape (F, J, 3), got {stacked.dtype} {stacked.shape}"
        )
    joints = stacked.shape[2]
    # The joints that are there must not hang on one that is missing.
    if joints > len(skeleton) or max(skeleton.root, *skeleton.parents[:joints]) >= joints:
        raise InputError(
            f"poses: expected the {len(skeleton)} joints of the skeleton (or its first ones), got {joints}"
        )
    for name, pose in zip(shapes, stacked):
        known = pose[~np.isnan(pose).any(-1)]
        if not len(known):
            raise InputError(f"poses, {name}: not one joint is known")
        size = np.ptp(known.astype(float), axis=0).max()
        if size != 0 and not 30 <= size <= 100_000:
            raise InputError(
                f"poses, {name}: {size:.3g} mm from end to end; expected mm, 30 to 100000 from end to end "
                "(multiply poses in m by 1000), and NaN for unknown joints"
            )
    return list(shapes), stacked.astype(np.float32)


def _overlay(joints_img, shown, cameras, stacked):
    """(cameras, people, F, J, 2) float32 px of the images or the video, NaN where unknown; empty without."""
    overlay = np.full((len(shown), *stacked.shape[:3], 2), np.nan, np.float32)
    if joints_img is not None:
        joints_img = np.asarray(joints_img, np.float32)
        if joints_img.ndim == 3:
            joints_img = joints_img[None]
        if len(shown) != 1 or joints_img.shape[:3] != stacked.shape[:3] or joints_img.shape[-1] < 2:
            raise InputError(
                f"joints_img: expected {(*stacked.shape[:3], 2)} px and the images of one camera, "
                f"got {joints_img.shape} and images of {len(shown)}"
            )
        overlay[0] = joints_img[..., :2]
        return overlay
    for number, name in enumerate(shown):
        if name in cameras:
            in_camera = cameras[name].world_to_camera(stacked.astype(float))
            overlay[number] = cameras[name].camera_to_image(in_camera)
    return overlay


def _pack_images(images, frames):
    """WebP files end to end; where each begins, and the last ends; (width, height) of each before reduction."""
    packed, offsets, sizes = bytearray(), [0], []
    for name, sequence in images.items():
        if len(sequence) != frames:
            raise InputError(f"images, {name}: expected {frames}, one a frame, got {len(sequence)}")
        for number, image in enumerate(sequence):
            size = [1, 1]
            if image is not None:
                packed += pack_image(image, f"images, {name}, frame {number}")
                size = [image.shape[1], image.shape[0]]
            offsets.append(len(packed))
            sizes.append(size)
    return bytes(packed), offsets, sizes


def _laid_onto(pose, target, known, scale):
    """As `metrics.align` on the known joints; the same map then moves all joints."""
    from_mean, to_mean = pose[known].mean(0), target[known].mean(0)
    p, t = pose[known] - from_mean, target[known] - to_mean
    turn, _ = Rotation.align_vectors(t, p)
    size = (t * turn.apply(p)).sum() / max((p**2).sum(), np.finfo(float).tiny) if scale else 1.0
    return size * turn.apply(pose - from_mean) + to_mean
