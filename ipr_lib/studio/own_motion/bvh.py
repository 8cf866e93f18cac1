"""BVH files: a skeleton of named joints and its motion, parsed, posed and brought to another rate.

A joint's rotation channels apply in the order in which they are
written, the last one first: "Zrotation Yrotation Xrotation" is Rz Ry Rx.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from ...files import InputError

_MOST_JOINTS = 1000
_BLOCK_WORDS = {"ROOT", "JOINT", "END", "OFFSET", "CHANNELS", "}"}


@dataclass(frozen=True)
class Bvh:
    """One file.

    Attributes:
        names: of the J joints, parents before children. parents: their indices, -1 for the root.
        offsets: (J, 3) from parent to joint, file units.
        rotations: (n, J, 4) unit quaternions x, y, z, w: joint against parent.
        root: (n, 3) position of the root, file units.
        frame_seconds: s from one frame to the next.
        note: what is odd about the file, "" for nothing.
    """

    names: tuple
    parents: tuple
    offsets: np.ndarray
    rotations: np.ndarray
    root: np.ndarray
    frame_seconds: float
    note: str = ""

    def __len__(self):
        return len(self.root)


def read_bvh(path):
    """Read a BVH file.

    Position channels of other joints than the root are passed over: bones keep their length. Exporters differ in upper
    and lower case, in spaces within and between words, and some count one frame too many or too few: all of these are read.

    Args:
        path: the file.
    Returns:
        Bvh.
    Raises:
        InputError: the file is missing, truncated, or not of the form.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        parts = re.split(r"^\s*MOTION\s*$", text, maxsplit=1, flags=re.MULTILINE | re.IGNORECASE)
        if len(parts) < 2:
            raise ValueError("it has no MOTION part")
        names, parents, offsets, channels = _hierarchy(re.findall(r"[{}]|[^\s{}]+", parts[0]))
        frame_seconds, values, note = _motion(parts[1], sum(len(mine) for mine in channels))
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(
            f"{path} is damaged, truncated or no BVH file ({error}); export it again"
        ) from error
    rotations, root = _poses(channels, values)
    root = root + offsets[0]
    return Bvh(
        tuple(names), tuple(parents), np.array(offsets), rotations, root, frame_seconds, note
    )


def _hierarchy(tokens):
    """Names, parents, offsets and channels of the joints; `tokens` are braces and the words between them."""
    if [word.upper() for word in tokens[:2]] != ["HIERARCHY", "ROOT"]:
        raise ValueError("it does not begin with HIERARCHY and ROOT")
    names, parents, offsets, channels = [], [], [], []
    stack, at = [], 1  # of joint indices; None for an end site, which moves with its joint
    while at < len(tokens):
        word = tokens[at].upper()
        if word in ("ROOT", "JOINT", "END"):
            brace = tokens.index("{", at) if "{" in tokens[at:] else at
            name = " ".join(tokens[at + 1 : brace])  # it may hold spaces
            if not name or _BLOCK_WORDS & {part.upper() for part in tokens[at + 1 : brace]}:
                raise ValueError(f"no joint follows {' '.join(tokens[at : at + 2])}")
            inside = len(stack) > 0 and stack[-1] is not None
            if inside == (word == "ROOT") or (word == "ROOT" and names):
                raise ValueError(f"{word} {name} is out of place")
            if len(names) >= _MOST_JOINTS:
                raise ValueError(f"it has more than {_MOST_JOINTS} joints")
            if word == "END":
                stack.append(None)
            else:
                names.append(name)
                parents.append(stack[-1] if stack else -1)
                offsets.append(None)
                channels.append([])
                stack.append(len(names) - 1)
            at = brace + 1
        elif word == "OFFSET":
            offset = [float(number) for number in tokens[at + 1 : at + 4]]
            if len(offset) != 3 or not np.isfinite(offset).all() or max(map(abs, offset)) > 1e6:
                raise ValueError("an OFFSET is no three finite numbers")
            if stack[-1] is not None:
                if offsets[stack[-1]] is not None:
                    raise ValueError(f"{names[stack[-1]]} has two offsets")
                offsets[stack[-1]] = offset
            at += 4
        elif word == "CHANNELS":
            count = int(tokens[at + 1])
            mine = [name.capitalize() for name in tokens[at + 2 : at + 2 + count]]
            known = {axis + kind for axis in "XYZ" for kind in ("position", "rotation")}
            if (
                not 0 <= count <= 6
                or len(mine) != count
                or not set(mine) <= known
                or len(set(mine)) != count
            ):
                raise ValueError(f"the channels {' '.join(mine)[:60]} are unknown")
            if stack[-1] is None or channels[stack[-1]]:
                raise ValueError("CHANNELS are out of place")
            channels[stack[-1]] = mine
            at += 2 + count
        elif word == "}":
            stack.pop()
            at += 1
        else:
            raise ValueError(f"the word {tokens[at][:30]!r} is unexpected")
    if stack or any(offset is None for offset in offsets):
        raise ValueError("a joint has no end or no offset")
    return names, parents, offsets, channels


def _motion(text, n_channels):
    """Seconds a frame, the channels' values (n, C), and a note where the file counts its frames wrongly by one."""
    head = re.match(r"\s*Frames\s*:\s*(\S+)\s+Frame\s+Time\s*:\s*(\S+)", text, re.IGNORECASE)
    if head is None:
        raise ValueError("Frames and Frame Time are missing")
    stated, frame_seconds = int(head[1]), float(head[2])
    if stated < 1 or not 1e-4 <= frame_seconds <= 1:
        raise ValueError(f"{stated} frames of {frame_seconds:g} s")
    values = np.array(text[head.end() :].split(), float)
    n, rest = divmod(len(values), max(1, n_channels))
    if n_channels == 0 or n == 0 or rest or abs(n - stated) > 1:
        raise ValueError(
            f"it holds {len(values)} numbers, {stated} frames of {n_channels} channels need {stated * n_channels}"
        )
    if not np.isfinite(values).all() or np.abs(values).max() > 1e6:
        raise ValueError("a number of the motion is not finite or far too large")
    note = "" if n == stated else f"it states {stated} frames and holds {n}; all {n} are used"
    return frame_seconds, values.reshape(n, n_channels), note


def _poses(channels, values):
    """(n, J, 4) quaternions and (n, 3) root position."""
    rotations = np.zeros((len(values), len(channels), 4))
    rotations[..., 3] = 1
    root, at = np.zeros((len(values), 3)), 0
    for joint, mine in enumerate(channels):
        block = values[:, at : at + len(mine)]
        at += len(mine)
        turns = [i for i, name in enumerate(mine) if name.endswith("rotation")]
        if turns:
            axes = "".join(mine[i][0] for i in turns)  # upper case: about the axes as turned so far
            rotations[:, joint] = Rotation.from_euler(axes, block[:, turns], degrees=True).as_quat()
        if joint == 0:
            for i, name in enumerate(mine):
                if name.endswith("position"):
                    root[:, "XYZ".index(name[0])] = block[:, i]
    return rotations, root


def drop_t_pose(bvh, within_seconds=0.25):
    """Without the first frames where they are a pose of their own, such as an added T-pose, and the way out of it.

    Dropped are the frames at the start from which the body moves on faster than ever later, where that adds up to more
    than 5 degrees on average over the joints: programs put a T-pose before the motion, and some smooth the jump.

    Args:
        bvh: Bvh.
        within_seconds: the pose and the way out of it end within this time.
    Returns:
        Bvh.
    """
    most = max(1, round(within_seconds / bvh.frame_seconds))
    steps = 2 * np.arccos(
        np.clip(np.abs((bvh.rotations[1:] * bvh.rotations[:-1]).sum(-1)), 0, 1)
    ).mean(1)
    if len(steps) <= most:
        return bvh
    fast = steps[:most] > steps[most:].max()
    lead = most if fast.all() else int(np.argmin(fast))
    if steps[:lead].sum() <= np.deg2rad(5):
        return bvh
    return replace(bvh, rotations=bvh.rotations[lead:], root=bvh.root[lead:])


def resample(bvh, rate):
    """The same motion at `rate` frames a second, from its first frame on; rotations along the shortest turn."""
    if len(bvh) == 1:
        return replace(bvh, frame_seconds=1 / rate)
    times = np.arange(len(bvh)) * bvh.frame_seconds
    # Frame times are often rounded, as 0.0083333: a last frame must not be lost to that.
    wanted = np.arange(int(times[-1] * rate + 0.01) + 1) / rate
    wanted = np.minimum(wanted, times[-1])
    rotations = np.stack(
        [
            Slerp(times, Rotation.from_quat(bvh.rotations[:, joint]))(wanted).as_quat()
            for joint in range(len(bvh.names))
        ],
        axis=1,
    )
    root = np.stack([np.interp(wanted, times, bvh.root[:, axis]) for axis in range(3)], axis=1)
    return replace(bvh, rotations=rotations, root=root, frame_seconds=1 / rate)


def zero_pose(bvh):
    """One frame with every rotation 0: the pose that the offsets draw."""
    rotations = np.zeros((1, len(bvh.names), 4))
    rotations[..., 3] = 1
    return replace(bvh, rotations=rotations, root=np.zeros((1, 3)))


def joint_frames(bvh):
    """Forward kinematics.

    Args:
        bvh: Bvh.
    Returns:
        positions (n, J, 3), file units; rotations (n, J, 3, 3), joint to file axes.
    """
    n, J = len(bvh), len(bvh.names)
    local = Rotation.from_quat(bvh.rotations.reshape(-1, 4)).as_matrix().reshape(n, J, 3, 3)
    positions, rotations = np.empty((n, J, 3)), np.empty((n, J, 3, 3))
    for joint, parent in enumerate(bvh.parents):
        if parent < 0:
            positions[:, joint], rotations[:, joint] = bvh.root, local[:, joint]
        else:
            positions[:, joint] = positions[:, parent] + rotations[:, parent] @ bvh.offsets[joint]
            rotations[:, joint] = rotations[:, parent] @ local[:, joint]
    return positions, rotations
