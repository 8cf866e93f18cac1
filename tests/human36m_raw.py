"""Small raw trees in the official form of Human3.6M, with made-up poses, cameras, names and videos."""

import tarfile

import av
import numpy as np
from cdflib.cdfwrite import CDF

from ipr_lib.geometry.camera import distort, look_at
from ipr_lib.geometry.skeleton import HUMAN36M

# Index among the 32 recorded joints, by the name in our joint set; what the recording calls each is in the comment. Written
# out here, so that a wrong table in the library does not confirm itself.
RAW_INDEX = {
    "Pelvis": 0,  # Hips
    "R_Hip": 1,  # RightUpLeg
    "R_Knee": 2,  # RightLeg
    "R_Ankle": 3,  # RightFoot
    "L_Hip": 6,  # LeftUpLeg
    "L_Knee": 7,  # LeftLeg
    "L_Ankle": 8,  # LeftFoot
    "Torso": 12,  # Spine1
    "Neck": 13,  # Neck
    "Nose": 14,  # Head
    "Head": 15,  # Site, the end of Head
    "L_Shoulder": 17,  # LeftArm
    "L_Elbow": 18,  # LeftForeArm
    "L_Wrist": 19,  # LeftHand
    "R_Shoulder": 25,  # RightArm
    "R_Elbow": 26,  # RightForeArm
    "R_Wrist": 27,  # RightHand
}
JOINTS = [RAW_INDEX[name] for name in HUMAN36M.names[:17]]
ACTION_NAMES = {
    1: "_ALL",
    2: "Directions",
    3: "Discussion",
    4: "Eating",
    5: "Greeting",
    6: "Phoning",
    7: "Posing",
    8: "Purchases",
    9: "Sitting",
    10: "SittingDown",
    11: "Smoking",
    12: "Photo",
    13: "Waiting",
    14: "Walking",
    15: "WalkDog",
    16: "WalkTogether",
}
CAMERA_NAMES = ("54138969", "55011271", "58860488", "60457274")
WIDTH, HEIGHT = 64, 48
# Sequences of a tree, and their numbers of poses.
SMALL = (((1, 12, 1), 23), ((1, 12, 2), 7), ((11, 6, 1), 66), ((11, 6, 2), 9))
# The digits of these follow no rule, as in the real file.
IRREGULAR = {
    (1, 10, 1): "SittingDown 2",
    (1, 12, 1): "TakingPhoto 1",
    (1, 12, 2): "TakingPhoto",
    (5, 3, 1): "Discussion 2",
    (5, 3, 2): "Discussion 3",
    (11, 6, 1): "Phoning 3",
    (11, 6, 2): "Phoning 2",
}


def sequence_names():
    """Name by (subject, action, subaction), for S1 … S11."""
    names = {}
    for subject in range(1, 12):
        for action in range(1, 17):
            for take in (1, 2):
                plain = ACTION_NAMES[action]
                regular = f"{plain} 1" if take == 1 else plain
                names[subject, action, take] = IRREGULAR.get((subject, action, take), regular)
    return names


def make_w0(seed=0):
    """(300,) calibration: all cameras look at the origin from 4 m, each subject's a little differently."""
    rng = np.random.default_rng(seed)
    w0 = np.empty(300)
    for camera in range(4):
        for subject in range(11):
            angle = np.pi / 4 + camera * np.pi / 2 + rng.normal(0, 0.05)
            centre = [4000 * np.cos(angle), 4000 * np.sin(angle), 1500 + rng.normal(0, 50)]
            R = look_at(centre, [0, 0, 900], (1, 1), (0, 0), 1, 1).R
            angles = [
                np.arctan2(-R[1, 2], R[2, 2]),
                np.arcsin(R[0, 2]),
                np.arctan2(-R[0, 1], R[0, 0]),
            ]
            w0[6 * (camera * 11 + subject) :][:6] = [*angles, *centre]
        w0[264 + 9 * camera :][:9] = [
            70 + camera,
            71,
            32.5,
            24.25,
            -0.2,
            0.24,
            -0.002,
            -0.0009,
            -0.0014,
        ]
    return w0


def project(w0, subject, camera, joints_world):
    """Camera mm and lens px, written out apart from the library's own code: (n, J, 3), (n, J, 2)."""
    rx, ry, rz, *T = w0[6 * ((camera - 1) * 11 + subject - 1) :][:6]
    f, c, k, p = np.split(w0[264 + 9 * (camera - 1) :][:9], [2, 4, 7])
    turn = np.eye(3)
    for axis, angle in ((0, rx), (1, ry), (2, rz)):
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[j, i], step[i, j] = np.sin(angle), -np.sin(angle)
        turn = turn @ step
    cam = (joints_world - T) @ turn.T
    return cam, distort(cam[..., :2] / cam[..., 2:], k, p) * f + c


def make_poses(subject, n, seed=0):
    """(n, 32, 3) mm: one stiff body, alike left and right, that walks and turns; other joints are noise."""
    rng = np.random.default_rng([seed, subject])
    body = np.zeros((17, 3))
    for child, parent in HUMAN36M.limbs[:16]:
        body[child] = body[parent] + rng.normal(0, 150, 3)
    body[:, 0] *= [0 if name[:2] not in ("R_", "L_") else 1 for name in HUMAN36M.names[:17]]
    for right, left in HUMAN36M.flip_pairs:
        body[left] = body[right] * [-1, 1, 1]
    angle = np.linspace(0, 1, n)
    turn = np.zeros((n, 3, 3))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle)
    turn[:, 0, 1], turn[:, 1, 0] = -np.sin(angle), np.sin(angle)
    turn[:, 2, 2] = 1
    joints = rng.normal(0, 200, (n, 32, 3))
    joints[:, JOINTS] = body @ turn.transpose(0, 2, 1)
    return joints + [0, 0, 900] + np.linspace(0, 300, n)[:, None, None] * [1, 0.5, 0]


def write_metadata(path, names=None, w0=None, counts=None, cameras=CAMERA_NAMES):
    """Write metadata.xml; counts: number of poses by (subject, action, subaction), 8 elsewhere."""
    names, w0, counts = names or sequence_names(), make_w0() if w0 is None else w0, counts or {}

    def row(cells):
        return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"

    takes = [(action, take) for action in range(1, 17) for take in (1, 2)]
    mapping = [row(["", "", *(f"S{s}" for s in range(1, 12))])]
    mapping += [row([a, t, *(names[s, a, t] for s in range(1, 12))]) for a, t in takes]
    mapping += [row(["", "", *["[1000 1002;1000 1000]"] * 11])]
    frames = []
    for s in range(1, 12):
        cells = (counts.get((s, a, t), 8) for a, t in takes)
        frames.append(row(["", *(f"[{n + 3} {n} {n + 1} {n} {4 * n + 2}]" for n in cells)]))
    path.write_text(
        f"<a><mapping>{''.join(mapping)}</mapping><frames>{''.join(frames)}</frames>"
        f"<dbcameras><index2id>{''.join(f'<item>{c}</item>' for c in cameras)}</index2id></dbcameras>"
        f"<w0>[{' '.join(repr(float(number)) for number in w0)}]</w0></a>",
        encoding="utf-8",
    )


def write_pose(path, pose, name="Pose", compress=False):
    """Write (n, width) numbers as variable `name` of a CDF file, (1, n, width) float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = CDF(path, cdf_spec={"Compressed": 6} if compress else {}, delete=True)
    spec = {
        "Variable": name,
        "Data_Type": 21,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Dim_Sizes": list(pose.shape),
        "Compress": 0,
        "Var_Type": "zVariable",
    }
    file.write_var(spec, var_data=np.asarray(pose, np.float32)[None])
    file.close()


def shade(frame):
    """Grey level of the picture of 0-based `frame`."""
    return 30 + 7 * frame % 200


def write_video(path, n, width=WIDTH, height=HEIGHT, picture=None):
    """Write `n` frames at 50 a second; each is plain grey and tells its number, or all are `picture`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture is not None:
        height, width = picture.shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=50)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = (
            width,
            height,
            "yuv420p",
            800_000,
        )
        for i in range(n):
            rgb = np.full((height, width, 3), shade(i), np.uint8) if picture is None else picture
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())


def write_tree(
    root, sequences=SMALL, cameras=(1, 2, 3, 4), longer=3, folders="MyPoseFeatures", w0=None
):
    """Write a raw download; returns poses (n, 32, 3) by (subject, action, subaction).

    Args:
        root: folder.
        sequences: ((subject, action, subaction), number of poses).
        cameras: those with videos.
        longer: the videos have this many frames more than there are poses, as some of S9's.
        folders: "MyPoseFeatures" as downloaded, or "Poses" as some tools extract it.
    """
    w0 = make_w0() if w0 is None else w0
    root.mkdir(parents=True, exist_ok=True)
    write_metadata(root / "metadata.xml", w0=w0, counts=dict(sequences))
    names, poses = sequence_names(), {}
    for key, n in sequences:
        person = root / f"S{key[0]}"
        base = {
            kind: person / "MyPoseFeatures" / kind
            if folders == "MyPoseFeatures"
            else person / f"Poses_{kind}"
            for kind in ("D3_Positions", "D3_Positions_mono", "D2_Positions")
        }
        poses[key] = make_poses(key[0], n)
        write_pose(base["D3_Positions"] / f"{names[key]}.cdf", poses[key].reshape(n, -1))
        for camera in cameras:
            cam, img = project(w0, key[0], camera, poses[key])
            name = f"{names[key]}.{CAMERA_NAMES[camera - 1]}"
            write_pose(base["D3_Positions_mono"] / f"{name}.cdf", cam.reshape(n, -1))
            write_pose(base["D2_Positions"] / f"{name}.cdf", img.reshape(n, -1))
            write_video(person / "Videos" / f"{name}.mp4", n + longer)
    return poses


def pack(root, subject, kind, archive, drop=True):
    """Move one kind of file of one subject into a .tgz, with the paths that the download has."""
    folder = {"Videos": "Videos"}.get(kind, f"MyPoseFeatures/{kind}")
    with tarfile.open(root / archive, "w:gz") as tar:
        tar.add(root / f"S{subject}" / folder, f"S{subject}/{folder}")
    if drop:
        for path in sorted((root / f"S{subject}" / folder).iterdir()):
            path.unlink()
        (root / f"S{subject}" / folder).rmdir()
