import numpy as np

from ipr_lib.skeleton import HUMAN36M, Skeleton, add_thorax, bone_lengths, convert_joints


def test_flip_order_swaps_right_and_left_and_undoes_itself():
    order = HUMAN36M.flip_order
    assert [HUMAN36M.names[i] for i in order[[1, 6, 11, 9]]] == ["L_Hip", "R_Ankle", "R_Shoulder", "Nose"]
    assert (order[order] == np.arange(18)).all()
    for index, name in enumerate(HUMAN36M.names):
        swapped = {"R": "L", "L": "R"}.get(name[0]) if name[1] == "_" else None
        assert HUMAN36M.names[order[index]] == (swapped + name[1:] if swapped else name)


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
