"""The choreography of the built-in capture: bodies that stay whole, on the floor, in the room, and do what they are called."""

import numpy as np
import pytest

from ipr_lib.data.h36m_layout import ACTIONS, FIRST_ACTION, SUBJECTS
from ipr_lib.geometry.skeleton import HUMAN36M, bone_lengths
from ipr_lib.studio import perform
from ipr_lib.studio.acting.actors import ACTORS
from ipr_lib.studio.acting.motion import (
    blend_rotation,
    ease,
    keyed,
    softly_positive,
    turn,
    two_bones,
)
from ipr_lib.studio.acting.performance import FRAME_NAMES

FRAMES = 250
NUMBER = {name: k + FIRST_ACTION for k, name in enumerate(ACTIONS)}
SEATED = {("Sitting", 1), ("Sitting", 2), ("Eating", 2), ("Smoking", 2)}
ON_FEET = [
    (name, take)
    for name in ACTIONS
    for take in (1, 2)
    if (name, take) not in SEATED and name != "SittingDown"
]
J = {name: k for k, name in enumerate(HUMAN36M.names)}
FEET = (("r_foot", J["R_Ankle"]), ("l_foot", J["L_Ankle"]))


@pytest.fixture(scope="module")
def takes():
    """Every take, FRAMES long: {(subject, action name, take): Performance}."""
    return {
        (subject, name, take): perform(subject, NUMBER[name], take, FRAMES)
        for subject in SUBJECTS
        for name in ACTIONS
        for take in (1, 2)
    }


def sole(performance, foot, ankle):
    """Height of toe and heel over the floor, (n, 2) mm."""
    height, toe, heel = performance.actor.foot_mm
    points = np.array([[0.0, toe, -height], [0.0, -heel, -height]])
    offsets = np.einsum("nij,kj->nki", performance.frames_world[foot], points)
    return performance.joints_world[:, ankle, None, 2] + offsets[..., 2]


def speeds(joints):
    """(n - 1, J) m/s."""
    return np.linalg.norm(np.diff(joints, axis=0), axis=-1) * 50 / 1000


def failing(takes, holds):
    """Keys of the takes for which `holds` is not true."""
    return [key for key, take in takes.items() if not holds(key, take)]


def wrists(performance):
    """{"r": (n, 3), "l": (n, 3)}."""
    joints = performance.joints_world
    return {"r": joints[:, J["R_Wrist"]], "l": joints[:, J["L_Wrist"]]}


# ---------------------------------------------------------------- actors


def test_actors_are_human36m_subjects_and_differ():
    assert tuple(ACTORS) == SUBJECTS
    rows = np.array(
        [
            [*actor.bone_mm.values(), actor.hand_mm, *actor.foot_mm, actor.girth]
            for actor in ACTORS.values()
        ]
    )
    assert (np.abs(rows[:, None] - rows[None]).max(-1) > 5)[~np.eye(len(rows), dtype=bool)].all()
    ratios = np.array([actor.bone_mm["Knee"] / actor.bone_mm["Neck"] for actor in ACTORS.values()])
    assert np.ptp(ratios) > 0.02  # not one body, scaled
    for actor in ACTORS.values():
        bone = actor.bone_mm
        highest = (
            actor.foot_mm[0] + sum(bone[name] for name in ("Knee", "Ankle", "Torso", "Neck")) + 205
        )
        assert 1540 < highest < 1840 and 0.85 <= actor.girth <= 1.25 and 110 < bone["Hip"] < 150


# ---------------------------------------------------------------- bodies


def test_bones_keep_the_actors_lengths(takes):
    side_free = [HUMAN36M.names[child].split("_")[-1] for child, _ in HUMAN36M.limbs[:16]]
    for key, take in takes.items():
        wanted = np.array([take.actor.bone_mm[name] for name in side_free])
        assert np.abs(bone_lengths(take.joints_world, _SCORED) - wanted).max() < 1e-6, key


_SCORED = type(HUMAN36M)(HUMAN36M.names[:17], HUMAN36M.parents[:17], HUMAN36M.flip_pairs, 0)


def test_shapes_and_finiteness(takes):
    for key, take in takes.items():
        assert take.actor is ACTORS[key[0]]
        assert (
            take.joints_world.shape == (FRAMES, 17, 3) and np.isfinite(take.joints_world).all()
        ), key
        assert set(take.frames_world) == set(FRAME_NAMES)
        for prop in take.props:
            assert prop.origin_world.shape == (FRAMES, 3) and prop.rotation_world.shape == (
                FRAMES,
                3,
                3,
            ), (key, prop.kind)
            assert len(prop.size_mm) == 3 and all(
                len(value) == FRAMES for value in prop.extra.values()
            )
            assert np.isfinite(prop.origin_world).all()


def test_frames_are_rotations(takes):
    for key, take in takes.items():
        rotations = [*take.frames_world.values(), *(prop.rotation_world for prop in take.props)]
        for R in rotations:
            assert np.abs(np.swapaxes(R, 1, 2) @ R - np.eye(3)).max() < 1e-9, key
            assert np.linalg.det(R).min() > 0.5, key


def test_frames_agree_with_the_joints(takes):
    for key, take in takes.items():
        joints, frames = take.joints_world, take.frames_world
        across = joints[:, J["R_Hip"]] - joints[:, J["L_Hip"]]
        assert np.allclose(
            frames["pelvis"][..., 0], across / np.linalg.norm(across, axis=1, keepdims=True)
        ), key
        # Wrists do not break: the hand stays within 100 degrees of the forearm's line.
        for side, hand in (("R", "r_hand"), ("L", "l_hand")):
            fore = joints[:, J[f"{side}_Wrist"]] - joints[:, J[f"{side}_Elbow"]]
            line = -frames[hand][..., 2] * fore / np.linalg.norm(fore, axis=1, keepdims=True)
            assert line.sum(1).min() > np.cos(np.radians(100)), (key, hand)


def test_knees_bend_forward(takes):
    for name, take in ON_FEET:
        for subject in SUBJECTS:
            performance = takes[subject, name, take]
            joints = performance.joints_world
            for side, foot in (("R", "r_foot"), ("L", "l_foot")):
                hip, knee, ankle = (
                    joints[:, J[f"{side}_{part}"]] for part in ("Hip", "Knee", "Ankle")
                )
                front = (
                    performance.frames_world["pelvis"][..., 1]
                    + performance.frames_world[foot][..., 1]
                )
                assert (((knee - (hip + ankle) / 2) * front).sum(1) > 0).all(), (
                    subject,
                    name,
                    take,
                )


def test_limbs_are_not_folded_beyond_their_joints(takes):
    for key, take in takes.items():
        for parts in (("Hip", "Knee", "Ankle"), ("Shoulder", "Elbow", "Wrist")):
            for side in "RL":
                a, b, c = (take.joints_world[:, J[f"{side}_{part}"]] for part in parts)
                cosine = (
                    ((a - b) * (c - b)).sum(1)
                    / np.linalg.norm(a - b, axis=1)
                    / np.linalg.norm(c - b, axis=1)
                )
                assert cosine.max() < np.cos(np.radians(25)), (key, parts)


def test_nothing_goes_through_the_floor(takes):
    low = failing(takes, lambda key, take: take.joints_world[..., 2].min() > 30)
    assert not low
    through = failing(takes, lambda key, take: min(sole(take, *foot).min() for foot in FEET) > -5)
    assert not through
    for name, take in ON_FEET:
        for subject in SUBJECTS:
            performance = takes[subject, name, take]
            ankles = performance.joints_world[:, [J["R_Ankle"], J["L_Ankle"]], 2]
            assert ankles.min() > performance.actor.foot_mm[0] - 5, (subject, name, take)


def test_hands_stay_out_of_the_trunk(takes):
    for key, take in takes.items():
        girth, shoulder = take.actor.girth, take.actor.bone_mm["Shoulder"]
        chest, neck = take.frames_world["chest"], take.joints_world[:, J["Neck"]]
        for wrist in wrists(take).values():
            local = np.einsum("nji,nj->ni", chest, wrist - neck)
            inside = np.hypot(local[:, 0] / (0.8 * shoulder), local[:, 1] / (85.0 * girth)) < 1
            assert not (inside & (local[:, 2] < -60) & (local[:, 2] > -400)).any(), key


def test_motion_is_smooth(takes):
    fast = failing(takes, lambda key, take: speeds(take.joints_world).max() < 4.5)
    assert not fast
    for key, take in takes.items():
        jolt = np.linalg.norm(np.diff(take.joints_world, 2, axis=0), axis=-1).max() * 2500 / 1000
        assert jolt < 150, (key, jolt)


def test_nobody_is_a_statue(takes):
    for key, take in takes.items():
        seconds = take.joints_world[:, J["Neck"]].reshape(5, 50, 3)
        assert (np.ptp(seconds, axis=1).max(-1) > 0.8).all(), key


def test_everybody_stays_in_the_room(takes):
    for key, take in takes.items():
        people = [take] + ([take.companion] if take.companion else [])
        for person in people:
            assert (np.abs(person.joints_world[:, 0, :2]).max(0) <= (1600, 2000)).all(), key
            assert (np.abs(person.joints_world[..., :2]).max((0, 1)) < (2000, 2500)).all(), key


# ---------------------------------------------------------------- takes


@pytest.mark.parametrize("action", range(2, 17))
def test_same_numbers_same_take_and_longer_takes_begin_alike(action):
    subject, take = SUBJECTS[action % 7], 1 + action % 2
    long, short = perform(subject, action, take, 200), perform(subject, action, take, 120)
    again = perform(subject, action, take, 120)
    assert np.array_equal(short.joints_world, again.joints_world)
    assert np.abs(long.joints_world[:120] - short.joints_world).max() < 1e-6
    for name in FRAME_NAMES:
        assert np.abs(long.frames_world[name][:120] - short.frames_world[name]).max() < 1e-9
    for a, b in zip(long.props, short.props, strict=True):
        assert a.size_mm == b.size_mm and np.abs(a.origin_world[:120] - b.origin_world).max() < 1e-6
    assert not np.allclose(
        perform(subject, action, take, 120, seed=1).joints_world, short.joints_world, atol=50
    )


def test_one_frame_is_enough():
    assert perform(1, 2, 1, 1).joints_world.shape == (1, 17, 3)


def test_takes_and_actors_differ(takes):
    def pose(performance):
        return performance.joints_world - performance.joints_world[:, :1]

    for name in ACTIONS:
        poses = np.stack(
            [pose(takes[subject, name, take]) for subject in SUBJECTS for take in (1, 2)]
        )
        gaps = np.linalg.norm(poses[:, None] - poses[None], axis=-1).mean((2, 3))
        assert gaps[~np.eye(len(gaps), dtype=bool)].min() > 40, name


def test_bodies_face_all_ways(takes):
    front = np.concatenate([take.frames_world["pelvis"][:, :2, 1] for take in takes.values()])
    counts = np.histogram(np.arctan2(front[:, 0], front[:, 1]), bins=8, range=(-np.pi, np.pi))[0]
    assert counts.min() > 0.06 * counts.sum()


# ---------------------------------------------------------------- what the actions are called


@pytest.mark.parametrize("name", ["Walking", "WalkDog", "WalkTogether"])
def test_walkers_plant_their_feet(takes, name):
    for subject in SUBJECTS:
        for number in (1, 2):
            take = takes[subject, name, number]
            supported = np.zeros(FRAMES, bool)
            for foot, ankle in FEET:
                heights = sole(take, foot, ankle)
                flat = np.abs(heights).max(1) < 1.0
                supported |= heights.min(1) < 3.0
                both = flat[1:] & flat[:-1]
                slide = np.linalg.norm(np.diff(take.joints_world[:, ankle], axis=0), axis=1)[both]
                assert both.mean() > 0.15 and slide.max() < 2.0, (subject, number, foot)
            assert supported.mean() > 0.98, (subject, number)


def test_walkers_get_about(takes):
    for subject in SUBJECTS:
        for number in (1, 2):
            take = takes[subject, "Walking", number]
            root = take.joints_world[:, 0]
            assert speeds(root[:, None]).mean() > 0.65
            front = take.frames_world["pelvis"][:, :2, 1]
            step = np.gradient(root[:, :2], axis=0)
            assert ((front * step).sum(1) / np.linalg.norm(step, axis=1)).mean() > 0.9
            gap = {
                side: ((take.joints_world[:, J[f"{side}_Ankle"], :2] - root[:, :2]) * front).sum(1)
                for side in "RL"
            }
            hand = {
                side: ((take.joints_world[:, J[f"{side}_Wrist"], :2] - root[:, :2]) * front).sum(1)
                for side in "RL"
            }
            # Arms swing against the legs.
            assert np.corrcoef(gap["R"] - gap["L"], hand["R"] - hand["L"])[0, 1] < -0.5, (
                subject,
                number,
            )


def test_companion_walks_beside(takes):
    for subject in SUBJECTS:
        for number in (1, 2):
            take = takes[subject, "WalkTogether", number]
            assert take.companion.actor.subject != subject
            gap = np.linalg.norm(
                (take.joints_world[:, 0] - take.companion.joints_world[:, 0])[:, :2], axis=1
            )
            assert gap.min() > 650 and gap.max() < 950, (subject, number)
    assert all(
        (take.companion is not None) == (key[1] == "WalkTogether") for key, take in takes.items()
    )


def props_of(performance, kind):
    """The things of one kind."""
    return [prop for prop in performance.props if prop.kind == kind]


def test_the_phone_is_at_the_ear(takes):
    for subject in SUBJECTS:
        for number in (1, 2):
            take = takes[subject, "Phoning", number]
            (phone,) = props_of(take, "phone")
            offset = phone.origin_world - take.joints_world[:, J["Nose"]]
            local = np.einsum("nji,nj->ni", take.frames_world["head"], offset)[-100:]
            ear = np.array([np.sign(local[:, 0].mean()) * 75.0, -60.0, 20.0])
            assert np.linalg.norm(local - ear, axis=1).max() < 165, (subject, number)
            assert np.abs(local[:, 0]).min() > 60, "beside the head, not in it"


def test_sitting_is_on_the_seat(takes):
    for subject in SUBJECTS:
        for name, number in SEATED:
            take = takes[subject, name, number]
            (seat,) = props_of(take, "stool" if name == "Smoking" else "chair")
            above = take.joints_world[:, 0, 2] - seat.size_mm[2]
            assert above.min() > 80 * take.actor.girth and above.max() < 125 * take.actor.girth, (
                subject,
                name,
            )
            local = np.einsum(
                "nji,nj->ni", seat.rotation_world, take.joints_world[:, 0] - seat.origin_world
            )
            assert (np.abs(local[:, :2]) < np.array(seat.size_mm[:2]) / 2 - 40).all(), (
                subject,
                name,
            )
            thighs = take.joints_world[:, [J["R_Knee"], J["L_Knee"]], 2]
            assert thighs.min() > seat.size_mm[2], (subject, name)


def test_sitting_down_ends_on_the_floor(takes):
    for subject in SUBJECTS:
        for number in (1, 2):
            height = takes[subject, "SittingDown", number].joints_world[:, 0, 2]
            assert height[0] > 750 and height[150:].max() < 160 * ACTORS[subject].girth, (
                subject,
                number,
            )
            assert height.min() > 85 * ACTORS[subject].girth


def test_actions_are_recognisable(takes):
    for subject in SUBJECTS:
        for number in (1, 2):
            pick = {name: takes[subject, name, number] for name in ACTIONS}
            arm = ACTORS[subject].bone_mm["Elbow"] + ACTORS[subject].bone_mm["Wrist"]
            joints = pick["Directions"].joints_world
            stretch = [
                (
                    np.linalg.norm(
                        joints[:, J[f"{s}_Wrist"]] - joints[:, J[f"{s}_Shoulder"]], axis=1
                    )
                    > 0.94 * arm
                )
                & (joints[:, J[f"{s}_Wrist"], 2] > joints[:, J[f"{s}_Shoulder"], 2] - 250)
                for s in "RL"
            ]
            assert np.any(stretch), "points"
            for name, near in (("Eating", 200), ("Smoking", 200)):
                nose = pick[name].joints_world[:, J["Nose"]]
                gap = min(
                    np.linalg.norm(wrist - nose, axis=1).min()
                    for wrist in wrists(pick[name]).values()
                )
                assert gap < near, (subject, number, name)
            joints = pick["Greeting"].joints_world
            raised = max(
                (wrist[:, 2] - joints[:, J["Nose"], 2]).max()
                for wrist in wrists(pick["Greeting"]).values()
            )
            bow = joints[:, J["Head"], 2].min() < joints[:, J["Head"], 2].max() - 150
            assert raised > -60 or bow, (subject, number)
            (camera,) = props_of(pick["Photo"], "camera")
            assert (
                np.linalg.norm(
                    camera.origin_world - pick["Photo"].joints_world[:, J["Nose"]], axis=1
                ).min()
                < 300
            )
            (bag,) = props_of(pick["Purchases"], "bag")
            assert bag.origin_world[0, 2] < 600 and np.ptp(bag.origin_world[:, 2]) > 150, (
                subject,
                number,
            )
            assert np.linalg.norm(np.diff(bag.origin_world, axis=0), axis=1).max() < 80, (
                "the bag does not jump"
            )


def test_the_dog_walks_beside_on_its_leash(takes):
    for subject in SUBJECTS:
        for number in (1, 2):
            take = takes[subject, "WalkDog", number]
            (dog,), (leash,) = props_of(take, "dog"), props_of(take, "leash")
            gap = np.linalg.norm(dog.origin_world[:, :2] - take.joints_world[:, 0, :2], axis=1)
            assert gap.min() > 250 and gap.max() < 1400, (subject, number)
            assert np.linalg.norm(leash.extra["end"] - leash.origin_world, axis=1).max() < 1600
            hand = min(
                np.linalg.norm(leash.origin_world - wrist, axis=1).max()
                for wrist in wrists(take).values()
            )
            assert hand < 150
            assert (np.diff(dog.extra["phase"]) >= 0).all()


# ---------------------------------------------------------------- the parts


def test_two_bones_reaches_bends_towards_its_pole_and_never_stretches():
    start = np.zeros((3, 3))
    target = np.array([[0.0, 0.0, -500.0], [0.0, 0.0, -900.0], [0.0, 300.0, -1.0]])
    middle, end = two_bones(start, target, np.array([[0.0, 1.0, 0.2]] * 3), 300.0, 250.0)
    assert np.allclose(np.linalg.norm(middle - start, axis=1), 300.0) and np.allclose(
        np.linalg.norm(end - middle, axis=1), 250.0
    )
    assert np.allclose(end[[0, 2]], target[[0, 2]])
    assert middle[0, 1] > 0 and np.linalg.norm(end[1]) < 550.0


def test_keyed_eases_between_held_values():
    t = np.linspace(0, 4, 401)
    track = keyed(t, 1.0, [(1.0, 1.0, 3.0), (3.0, 0.5, 0.0)])
    assert (
        track[0] == 1 and track[50] == 1 and abs(track[250] - 3) < 1e-12 and abs(track[-1]) < 1e-12
    )
    assert ease(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])).tolist() == [0, 0, 0.5, 1, 1]
    assert softly_positive(np.array([-1.0, 0.0, 10.0]), 2.0).tolist() == [0, 0, 9]


def test_blend_does_not_flip_past_half_a_turn():
    angle = np.linspace(2.8, 3.5, 50)  # the shortest way changes sides at pi
    weight = np.linspace(0.4, 0.6, 50)
    blended = blend_rotation(np.tile(np.eye(3), (50, 1, 1)), turn("z", angle), weight)
    assert np.abs(np.diff(blended, axis=0)).max() < 0.05
    assert np.allclose(blended, turn("z", angle * weight))
