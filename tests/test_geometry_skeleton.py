import numpy as np
import pytest

from ipr_lib.geometry import (
    HUMAN36M,
    SKELETONS,
    Skeleton,
    add_thorax,
    bone_lengths,
    convert_joints,
)


def test_flip_order_swaps_right_and_left_and_undoes_itself():
    order = HUMAN36M.flip_order
    assert [HUMAN36M.names[i] for i in order[[1, 6, 11, 9]]] == [
        "L_Hip",
        "R_Ankle",
        "R_Shoulder",
        "Nose",
    ]
    assert (order[order] == np.arange(18)).all()
    for index, name in enumerate(HUMAN36M.names):
        swapped = {"R": "L", "L": "R"}.get(name[0]) if name[1] == "_" else None
        assert HUMAN36M.names[order[index]] == (swapped + name[1:] if swapped else name)


def test_joints_and_parents_in_full():
    expected = {
        "Pelvis": None,
        "R_Hip": "Pelvis",
        "R_Knee": "R_Hip",
        "R_Ankle": "R_Knee",
        "L_Hip": "Pelvis",
        "L_Knee": "L_Hip",
        "L_Ankle": "L_Knee",
        "Torso": "Pelvis",
        "Neck": "Torso",
        "Nose": "Neck",
        "Head": "Nose",
        "L_Shoulder": "Neck",
        "L_Elbow": "L_Shoulder",
        "L_Wrist": "L_Elbow",
        "R_Shoulder": "Neck",
        "R_Elbow": "R_Shoulder",
        "R_Wrist": "R_Elbow",
        "Thorax": "Neck",
    }
    assert HUMAN36M.names == tuple(expected)
    parents = [HUMAN36M.names[parent] if parent >= 0 else None for parent in HUMAN36M.parents]
    assert parents == list(expected.values())


def test_tree_is_connected_and_starts_at_the_pelvis():
    for joint in range(len(HUMAN36M)):
        seen = []
        while joint >= 0:
            assert joint not in seen
            seen.append(joint)
            joint = HUMAN36M.parents[joint]
        assert seen[-1] == HUMAN36M.root == HUMAN36M.index("Pelvis")


def test_bone_lengths_by_hand():
    skeleton = Skeleton(("a", "b", "c"), (-1, 0, 1), (), 0)
    joints = np.array([[[0, 0, 0], [3, 4, 0], [3, 4, 12]]], float)
    assert bone_lengths(joints, skeleton).tolist() == [[5, 12]]


def test_convert_joints_meets_by_name_and_weighs_strangers_zero():
    source = Skeleton(("Neck", "Tail", "Pelvis"), (2, 2, -1), (), 2)
    joints, weights = convert_joints(np.arange(12).reshape(2, 3, 2), source, HUMAN36M)
    assert joints.shape == (2, 18, 2)
    assert joints[1, HUMAN36M.index("Pelvis")].tolist() == [10, 11]
    assert joints[0, HUMAN36M.index("Neck")].tolist() == [0, 1]
    assert np.flatnonzero(weights).tolist() == [0, 8]
    assert not joints[:, weights == 0].any()


def test_thorax_is_the_middle_of_both_shoulders():
    joints = np.zeros((2, 17, 3))
    joints[:, HUMAN36M.index("R_Shoulder")] = [2, 4, 6]
    joints[:, HUMAN36M.index("L_Shoulder")] = [0, 0, 2]
    assert add_thorax(joints)[1, 17].tolist() == [1, 2, 4]


@pytest.mark.parametrize("name", ["MPII", "COCO"])
def test_other_joint_sets_are_trees_with_true_mirror_pairs(name):
    skeleton = SKELETONS[name]
    for index, joint in enumerate(skeleton.names):
        swapped = {"R": "L", "L": "R"}.get(joint[0]) if joint[1] == "_" else None
        assert skeleton.names[skeleton.flip_order[index]] == (
            swapped + joint[1:] if swapped else joint
        )
    assert [index for index, parent in enumerate(skeleton.parents) if parent < 0] == [skeleton.root]
    assert len(skeleton.parents) == len(skeleton)


@pytest.mark.parametrize(
    ("name", "strangers"),
    [
        ("MPII", {"Torso", "Nose"}),
        ("COCO", {"Pelvis", "Torso", "Neck", "Head", "Thorax"}),
    ],
)
def test_who_has_no_partner_on_the_reference_skeleton(name, strangers):
    source = SKELETONS[name]
    numbered = np.arange(1, len(source) + 1)[:, None]
    joints, weights = convert_joints(numbered, source, HUMAN36M)
    assert {HUMAN36M.names[i] for i in np.flatnonzero(weights == 0)} == strangers
    for joint, number in zip(HUMAN36M.names, joints[:, 0]):
        assert number == (0 if joint in strangers else source.index(joint) + 1)


def test_thorax_of_mpii_meets_the_virtual_joint():
    joints, _ = convert_joints(np.arange(16)[:, None], SKELETONS["MPII"], HUMAN36M)
    assert joints[17, 0] == 7 and joints[8, 0] == 8 and joints[10, 0] == 9
