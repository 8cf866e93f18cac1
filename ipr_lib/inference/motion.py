"""The motion of a video as bones that animation programs play: BVH and glTF.

Poses are places of joints, and the lengths between them change from frame to frame. An animation is
bones of constant length and a rotation of each. `fit_motion` finds these rotations. Joints have the
names of Mixamo's skeletons, which Blender's tools know. Shown in
notebooks/12_your_own_pictures.ipynb.
"""

import json
import struct
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from scipy.interpolate import make_interp_spline
from scipy.spatial.transform import Rotation

from ..files import InputError, atomic_path
from ..geometry.skeleton import HUMAN36M
from ..views.plots import side_colour
from .poses import Poses

# Name, parent, the joint of HUMAN36M that it lies at, direction from its parent in the rest pose: a
# T-pose, y up, facing +z, so that the person's left is at +x. Where several bones begin at one
# joint (the spine and the hips, the neck and the shoulders), each has a joint of its own to turn.
# A bone is followed by all that hangs on it, as BVH has it.
BONES = (
    ("Hips", None, "Pelvis", (0, 0, 0)),
    ("RightUpLeg", "Hips", "R_Hip", (-1, 0, 0)),
    ("RightLeg", "RightUpLeg", "R_Knee", (0, -1, 0)),
    ("RightFoot", "RightLeg", "R_Ankle", (0, -1, 0)),
    ("LeftUpLeg", "Hips", "L_Hip", (1, 0, 0)),
    ("LeftLeg", "LeftUpLeg", "L_Knee", (0, -1, 0)),
    ("LeftFoot", "LeftLeg", "L_Ankle", (0, -1, 0)),
    ("Spine", "Hips", "Pelvis", (0, 0, 0)),
    ("Spine1", "Spine", "Torso", (0, 1, 0)),
    ("Neck", "Spine1", "Neck", (0, 1, 0)),
    # Human3.6M's nose and top of the head, as seen from the neck of somebody who looks ahead.
    ("Head", "Neck", "Nose", (0, 0.89, 0.46)),
    ("HeadTop_End", "Head", "Head", (0, 0.93, -0.37)),
    ("LeftShoulder", "Spine1", "Neck", (0, 1, 0)),
    ("LeftArm", "LeftShoulder", "L_Shoulder", (1, 0, 0)),
    ("LeftForeArm", "LeftArm", "L_Elbow", (1, 0, 0)),
    ("LeftHand", "LeftForeArm", "L_Wrist", (1, 0, 0)),
    ("RightShoulder", "Spine1", "Neck", (0, 1, 0)),
    ("RightArm", "RightShoulder", "R_Shoulder", (-1, 0, 0)),
    ("RightForeArm", "RightArm", "R_Elbow", (-1, 0, 0)),
    ("RightHand", "RightForeArm", "R_Wrist", (-1, 0, 0)),
)
NAMES = tuple(bone[0] for bone in BONES)
PARENTS = tuple(-1 if bone[1] is None else NAMES.index(bone[1]) for bone in BONES)
CHILDREN = {bone: [] for bone in range(-1, len(BONES))}
for _bone, _parent in enumerate(PARENTS):
    CHILDREN[_parent].append(_bone)
JOINTS = [HUMAN36M.index(bone[2]) for bone in BONES]  # where each lies
# Lines that tell how a bone is turned about itself: from, to, direction in the rest pose.
HINTS = {
    "Hips": ("Pelvis", "Torso", (0, 1, 0)),
    "Spine1": ("R_Shoulder", "L_Shoulder", (1, 0, 0)),
}
# Weights of the least squares. Bones come first; what they leave open is told by a hint, and what
# that leaves open, by the parent: a bone turns about itself as its parent does.
BONE_WEIGHT, HINT_WEIGHT, PARENT_WEIGHT = 1.0, 1e-3, 1e-6
LEVEL = (0.0, -1.0, 0.0)  # up in the axes of a camera that is held level
ALONE_RATE = 25.0  # frames a second of a motion of one frame
MM_PER_CM, MM_PER_M = 10.0, 1000.0
TIP_MM = 80.0  # length of the last bones, which BVH asks for and nobody has measured
TOES = (0, 0, 1)  # direction of a foot in the rest pose
EULER = "ZXY"  # order of the rotation channels in BVH


@dataclass(frozen=True)
class Motion:
    """One person's motion at a constant rate; y is up, and the bones are `BONES`.

    Attributes:
        person: number of the person within the video.
        offsets: (K, 3) from parent to joint in the rest pose, mm.
        rotations: (F, K, 4) unit quaternions x, y, z, w: joint against parent.
        root: (F, 3) place of the hips, mm.
        rate: frames a second.
        start_s: time of the first frame in the video, s.
    """

    person: int
    offsets: np.ndarray
    rotations: np.ndarray
    root: np.ndarray
    rate: float
    start_s: float


def parse_up(text: str) -> np.ndarray:
    """ "X,Y,Z", the upward direction in camera axes -> (3,); InputError if it is not."""
    try:
        x, y, z = map(float, text.split(","))
        is_usable = np.isfinite([x, y, z]).all() and np.hypot(x, y) > 1e-3 * abs(z)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise InputError(
            f"up {text!r}: expected three finite numbers X,Y,Z, such as 0,-1,0, and a camera that does "
            "not look straight up or down"
        )
    return np.array([x, y, z])


def upright_axes(up: np.ndarray = LEVEL) -> np.ndarray:
    """The rotation from camera axes to axes with y up and z towards the camera.

    Args:
        up: (3,) upward direction in camera axes (x right, y down, z away).

    Returns:
        (3, 3); its rows are the new axes.
    """
    y = np.asarray(up, float) / np.linalg.norm(up)
    towards_camera = np.array([0.0, 0.0, -1.0])
    z = towards_camera - (towards_camera @ y) * y
    z /= np.linalg.norm(z)
    return np.stack([np.cross(y, z), y, z])


def motions_of(poses: Poses, up: np.ndarray = LEVEL) -> list[Motion]:
    """The motion of everybody in a video, in one space.

    The ground is where the lowest joints are in the median of all poses. The origin lies on it,
    below the middle of everybody's places.

    Args:
        poses: of one video.
        up: upward direction in camera axes; by default that of a camera that is held level.

    Returns:
        A Motion for each person, in the order of their numbers.
    """
    joints = (poses.joints_rel + poses.root_cam[:, None]) @ upright_axes(up).T  # (n, J, 3)
    middle = np.median(joints[:, HUMAN36M.root], axis=0)
    ground = np.median(joints[..., 1].min(axis=1))
    joints = joints - [middle[0], ground, middle[2]]
    motions = []
    for person in np.unique(poses.person):
        rows = poses.person == person
        motions.append(fit_motion(joints[rows], poses.time_s[rows], int(person)))
    return motions


def fit_motion(joints: np.ndarray, times: np.ndarray, person: int = 0) -> Motion:
    """Bones of constant length, turned so that they follow the joints.

    Each bone has its median length. Parents first, each joint takes the rotation R that fits best:
    the sum of w |R rest - seen|² over the unit vectors of the bones that begin there is smallest
    (Kabsch 1976). Where frames are missing, the joints move evenly from one to the next.

    Args:
        joints: (F, J, 3) mm, y up, without gaps.
        times: (F,) s, rising.
        person: see Motion.

    Returns:
        Motion.
    """
    times, rate = np.asarray(times, float), ALONE_RATE
    if len(times) > 1:  # put the frames at a constant rate
        rate = 1 / float(np.median(np.diff(times)))
        count = round((times[-1] - times[0]) * rate) + 1
        even = np.linspace(times[0], times[-1], count)
        joints = make_interp_spline(times, joints, k=1)(even)
    places = joints[:, JOINTS]  # (F, K, 3)
    offsets = np.zeros((len(BONES), 3))
    bones = np.zeros_like(places)  # from parent to joint, as seen
    for bone in range(1, len(BONES)):
        bones[:, bone] = places[:, bone] - places[:, PARENTS[bone]]
        length = np.median(np.linalg.norm(bones[:, bone], axis=-1))
        offsets[bone] = length * _unit(np.array(BONES[bone][3], float))
    turned = np.zeros((len(places), len(BONES), 3, 3))  # each joint against the room
    local = turned.copy()
    for bone, name in enumerate(NAMES):
        parent = turned[:, PARENTS[bone]] if bone > 0 else np.eye(3)
        target = PARENT_WEIGHT * parent
        for child in CHILDREN[bone]:
            target = target + BONE_WEIGHT * _outer(bones[:, child], offsets[child])
        if name in HINTS:
            start, end, rest = HINTS[name]
            seen = joints[:, HUMAN36M.index(end)] - joints[:, HUMAN36M.index(start)]
            target = target + HINT_WEIGHT * _outer(seen, np.array(rest, float))
        turned[:, bone] = _nearest_rotation(target)
        local[:, bone] = np.swapaxes(np.broadcast_to(parent, target.shape), 1, 2) @ turned[:, bone]
    rotations = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_quat().reshape(*local.shape[:2], 4)
    # q and -q are the same rotation: take the one that is nearer to the frame before.
    same_side = np.sign((rotations[1:] * rotations[:-1]).sum(axis=-1, keepdims=True))
    rotations[1:] *= np.cumprod(np.where(same_side == 0, 1, same_side), axis=0)
    return Motion(person, offsets, rotations, places[:, 0], rate, float(times[0]))


def _unit(vectors):
    """Vectors (..., 3) of length 1; those of no length stay."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _outer(seen, rest):
    """(F, 3) and (3,) -> (F, 3, 3), the products of their unit vectors."""
    return _unit(seen)[:, :, None] * _unit(rest)


def _nearest_rotation(matrices):
    """The rotations (F, 3, 3) with the largest sum of products with the matrices."""
    left, _, right = np.linalg.svd(matrices)
    mirrors = np.linalg.det(left @ right) < 0
    left[mirrors, :, 2] *= -1
    return left @ right


# --- BVH ---


def write_bvh(path: str | Path, motion: Motion) -> None:
    """Write a BVH file: centimetres, y up, degrees in the order Z, X, Y.

    Args:
        path: the file.
        motion: Motion.
    """
    flat = motion.rotations.reshape(-1, 4)
    # Where two of the three axes fall together, SciPy takes one of the many answers.
    angles = Rotation.from_quat(flat).as_euler(EULER, degrees=True, suppress_warnings=True)
    angles = angles.reshape(len(motion.root), len(BONES), 3)
    angles = np.unwrap(angles, period=360, axis=0)  # no jumps, between which programs would blend
    lines = ["HIERARCHY", _joint_text(motion, 0) + "MOTION"]
    lines += [f"Frames: {len(motion.root)}", f"Frame Time: {1 / motion.rate:.7f}"]
    for root, turns in zip(motion.root / MM_PER_CM, angles):
        lines.append(_numbers([*root, *turns.ravel()]))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def _joint_text(motion, bone):
    """The lines of a joint and of all that hangs on it."""
    kind = "JOINT" if bone > 0 else "ROOT"
    channels = [f"{axis}rotation" for axis in EULER]
    if bone == 0:
        channels = ["Xposition", "Yposition", "Zposition", *channels]
    offset = _numbers(motion.offsets[bone] / MM_PER_CM)
    inner = f"OFFSET {offset}\nCHANNELS {len(channels)} {' '.join(channels)}\n"
    for child in CHILDREN[bone]:
        inner += _joint_text(motion, child)
    if not CHILDREN[bone]:
        direction = TOES if NAMES[bone].endswith("Foot") else BONES[bone][3]
        tip = TIP_MM / MM_PER_CM * _unit(np.array(direction, float))
        inner += f"End Site\n{{\n  OFFSET {_numbers(tip)}\n}}\n"
    return f"{kind} {NAMES[bone]}\n{{\n{textwrap.indent(inner, '  ')}}}\n"


def _numbers(values):
    """Numbers as the text of a line."""
    return " ".join(f"{value:.5f}" for value in values)


# --- glTF ---

COMPONENT_TYPES = {"float32": 5126, "uint8": 5121, "uint16": 5123}  # glTF's numbers
ELEMENT_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}  # by how many numbers each has
GLB_MAGIC, GLB_JSON, GLB_BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942
# A bone's shape is a long octahedron: where it is widest, and its half width there; in lengths.
WAIST, WIDTH = 0.2, 0.07


def write_glb(path: str | Path, motions: list[Motion]) -> None:
    """Write a binary glTF file with everybody's skeleton, a shape of bones on it, and its motion.

    Metres, y up; people stand where they stood towards each other, and move at their times in the
    video.

    Args:
        path: the .glb file.
        motions: of one video.
    """
    gltf = {
        "asset": {"version": "2.0", "generator": "ipr_lib"},
        "scene": 0,
        "scenes": [{"nodes": []}],
        "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 0.8}}],
        "animations": [{"name": "motion", "channels": [], "samplers": []}],
    }
    for name in ("nodes", "meshes", "skins", "accessors", "bufferViews"):
        gltf[name] = []
    binary = bytearray()
    for motion in motions:
        _add_person(gltf, binary, motion)
    gltf["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(gltf, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<III", GLB_MAGIC, 2, total))
        file.write(struct.pack("<II", len(text), GLB_JSON) + text)
        file.write(struct.pack("<II", len(binary), GLB_BINARY) + binary)


def _add_person(gltf, binary, motion):
    """Add the joints of a person, the shape that moves with them, and their motion."""
    first = len(gltf["nodes"])
    offsets = motion.offsets / MM_PER_M
    root = motion.root / MM_PER_M
    rest = np.zeros_like(offsets)  # places of the joints in the rest pose, the hips at the origin
    for bone, name in enumerate(NAMES):
        node = {"name": name, "translation": root[0].tolist()}
        if bone > 0:
            rest[bone] = rest[PARENTS[bone]] + offsets[bone]
            node["translation"] = offsets[bone].tolist()
        if CHILDREN[bone]:
            node["children"] = [first + child for child in CHILDREN[bone]]
        gltf["nodes"].append(node)
    # The shape is drawn about the rest pose; these matrices move each joint to the origin.
    inverse = np.tile(np.eye(4), (len(BONES), 1, 1))
    inverse[:, 3, :3] = -rest  # column by column, as glTF has it
    gltf["skins"].append(
        {
            "joints": list(range(first, len(gltf["nodes"]))),
            "inverseBindMatrices": _add_array(gltf, binary, inverse.reshape(-1, 16)),
            "skeleton": first,
        }
    )
    _add_shape(gltf, binary, rest)
    last = len(gltf["skins"]) - 1
    gltf["nodes"].append({"name": f"person {motion.person}", "mesh": last, "skin": last})
    gltf["scenes"][0]["nodes"] += [first, len(gltf["nodes"]) - 1]
    times = motion.start_s + np.arange(len(root)) / motion.rate
    times = _add_array(gltf, binary, times[:, None])
    tracks = [(first, "translation", root)]
    for bone in range(len(BONES)):
        tracks.append((first + bone, "rotation", motion.rotations[:, bone]))
    channels, samplers = gltf["animations"][0]["channels"], gltf["animations"][0]["samplers"]
    for node, what, values in tracks:
        channels.append({"sampler": len(samplers), "target": {"node": node, "path": what}})
        samplers.append({"input": times, "output": _add_array(gltf, binary, values)})


def _add_shape(gltf, binary, rest):
    """Add a mesh of octahedra, one for each bone, in the colours of the sides."""
    points, triangles, owners, colours = [], [], [], []
    for bone in range(1, len(BONES)):
        start, end = rest[PARENTS[bone]], rest[bone]
        along = end - start
        length = np.linalg.norm(along)
        if length == 0:
            continue
        across = _unit(np.cross(along, [0, 0, 1])) * length * WIDTH
        other = _unit(np.cross(along, across)) * length * WIDTH
        waist = start + WAIST * along
        k = len(points)
        points += [start, waist + across, waist + other, waist - across, waist - other, end]
        for near, far in ((1, 2), (2, 3), (3, 4), (4, 1)):
            triangles += [(k + near, k + far, k + 5), (k + far, k + near, k)]
        owners += [(PARENTS[bone], 0, 0, 0)] * 6
        colours += [np.array(to_rgb(side_colour(BONES[bone][2]))) ** 2.2] * 6  # as glTF has them
    arrays = {
        "POSITION": np.array(points),
        "COLOR_0": np.array(colours),
        "JOINTS_0": np.array(owners, np.uint8),
        "WEIGHTS_0": np.tile([1.0, 0, 0, 0], (len(owners), 1)),
    }
    attributes = {name: _add_array(gltf, binary, array) for name, array in arrays.items()}
    corners = _add_array(gltf, binary, np.array(triangles, np.uint16).reshape(-1, 1))
    gltf["meshes"].append(
        {"primitives": [{"attributes": attributes, "indices": corners, "material": 0}]}
    )


def _add_array(gltf, binary, array):
    """Add an array (n, numbers of one element); index of its accessor."""
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    gltf["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": array.nbytes})
    binary += array.tobytes() + bytes(-array.nbytes % 4)
    gltf["accessors"].append(
        {
            "bufferView": len(gltf["bufferViews"]) - 1,
            "componentType": COMPONENT_TYPES[array.dtype.name],
            "count": len(array),
            "type": ELEMENT_TYPES[array.shape[1]],
            "min": array.min(axis=0).tolist(),
            "max": array.max(axis=0).tolist(),
        }
    )
    return len(gltf["accessors"]) - 1
