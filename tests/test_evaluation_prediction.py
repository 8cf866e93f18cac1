import dataclasses

import numpy as np
import pytest
import torch

from ipr_lib.data.store import build_store
from ipr_lib.evaluation import prediction
from ipr_lib.files import InputError
from ipr_lib.geometry.transforms import apply_affine

from .conftest import write_sequence

RNG = np.random.default_rng(0)


@pytest.fixture
def test_store(tmp_path):
    """Two takes of S9 of other sizes than the training store's, one of them of a number that Human3.6M has damaged."""
    write_sequence(
        tmp_path / "other", subject=9, action=5, subaction=2, n=7, step=3, width=240, height=200
    )
    write_sequence(tmp_path / "other", subject=9, action=2, subaction=1, n=4, step=3)
    return build_store(tmp_path / "other", tmp_path / "store", subjects=(9,), step=3, crop_px=64)


# --- the flip test ---

# Row of each joint's partner: 1 to 3 are the right leg, 4 to 6 the left one, 11 to 13 the left arm, 14 to 16 the right one.
PARTNERS = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13, 17]


def test_flip_mean_exchanges_the_sides_and_turns_x_round():
    joints = RNG.normal(32, 9, (2, 18, 3))
    in_mirror = joints[:, PARTNERS] * [-1, 1, 1] + [63, 0, 0]
    np.testing.assert_allclose(prediction.flip_mean(joints, in_mirror, 64), joints)
    # A mirror that sees everything 2 px lower and 8 mm deeper moves the mean by half of it.
    np.testing.assert_allclose(
        prediction.flip_mean(joints, in_mirror + [0, 2, 8], 64), joints + [0, 1, 4]
    )


# --- oracle inputs ---


def perfect_network(store, inputs, crop_px):
    """A network that knows the truth: finds each crop's item by its pixels, answers the joints in the box that was cut."""
    from ipr_lib.data.datasets import CropDataset

    dataset = CropDataset(
        dataclasses.replace(store, columns=store.columns | {"box": inputs.box}), crop_px, np.inf
    )
    batch = dataset[0, 0, np.arange(len(store))]
    known = {
        crop.numpy().tobytes(): joints.numpy()
        for crop, joints in zip(batch["crops"], batch["joints"])
    }
    known |= {
        crop.flip(1).contiguous().numpy().tobytes(): mirror(joints.numpy(), crop_px)
        for crop, joints in zip(batch["crops"], batch["joints"])
    }
    return lambda crops: np.stack([known[crop.contiguous().numpy().tobytes()] for crop in crops])


def mirror(joints, crop_px):
    result = joints[PARTNERS]
    result[:, 0] = crop_px - 1 - result[:, 0]
    return result


def test_oracles_lose_nothing(test_store):
    inputs = prediction.oracle_inputs(test_store)
    assert inputs.notes == ("2 m box at the true root", "root depth", "intrinsics")
    result = prediction.predict_store(
        perfect_network(test_store, inputs, 64), test_store, inputs, 64, batch_size=2
    )
    assert result["items"].tolist() == list(range(len(test_store)))
    for name in ("pred_cam", "pred_cam_flip"):
        np.testing.assert_allclose(result[name], test_store.columns["joints_cam"], atol=0.05)
    alone = prediction.predict_store(
        perfect_network(test_store, inputs, 64), test_store, inputs, 64, flip_test=False
    )
    np.testing.assert_array_equal(alone["pred_cam"], result["pred_cam"])
    assert not [name for name in alone if "flip" in name]


def test_flip_test_is_the_mean_of_both_passes(test_store):
    """A network that always sees the spot three px too far right: the mirror sees it three px too far left."""
    inputs = prediction.oracle_inputs(test_store)
    perfect = perfect_network(test_store, inputs, 64)
    result = prediction.predict_store(
        lambda crops: perfect(crops) + [3, 0, 50], test_store, inputs, 64
    )
    np.testing.assert_allclose(
        result["joints_crop"] - result["joints_crop_flip"],
        np.broadcast_to([3.0, 0, 0], (5, 18, 3)),
        atol=1e-4,
    )
    np.testing.assert_allclose(
        result["pred_cam_flip"][..., 2] - result["target_cam"][..., 2], 50, atol=1e-2
    )


def test_estimated_box_holds_the_person(store, test_store):
    inputs = prediction.oracle_inputs(test_store, box="estimated", train_store=store)
    joints = test_store.columns["joints_img"]
    low, high = joints.min(1), joints.max(1)
    np.testing.assert_allclose(inputs.box[:, :2], (low + high) / 2, rtol=1e-6)
    columns = store.columns
    extent = (columns["joints_img"].max(1) - columns["joints_img"].min(1)).max(1)
    widening = np.median(columns["box"][:, 2] / extent)
    np.testing.assert_allclose(inputs.box[:, 2], widening * (high - low).max(1), rtol=1e-6)
    assert inputs.notes[0] == "box of the true joints' extent"
    # The crop comes from that box; a perfect answer in it leads back to the truth all the same.
    result = prediction.predict_store(
        perfect_network(test_store, inputs, 64), test_store, inputs, 64
    )
    from_box = apply_affine(result["affine"], inputs.box[:, None, :2])
    np.testing.assert_allclose(from_box, np.full((5, 1, 2), 31.5), atol=1e-9)
    np.testing.assert_allclose(result["pred_cam_flip"], test_store.columns["joints_cam"], atol=0.05)


def test_hidden_joints_do_not_widen_a_box():
    columns = {
        "joints_img": np.array([[[0, 0], [10, 4], [900, 0]]], np.float32),
        "visible": np.array([[True, True, False]]),
    }
    assert prediction.joint_boxes(columns, 1.5).tolist() == [[5, 2, 15]]


def deeper(store, mm):
    """The store with everybody so much farther away, and with boxes that are wider by a tenth."""
    joints = store.columns["joints_cam"] + np.float32([0, 0, mm])
    box = store.columns["box"] * [1, 1, 1.1]
    return dataclasses.replace(store, columns=store.columns | {"joints_cam": joints, "box": box})


def test_estimates_come_from_the_training_part(store, test_store):
    """Whoever takes them from the test part has seen its labels: another training part has to move them."""
    one, other = (
        prediction.oracle_inputs(test_store, box="estimated", root="mean", train_store=train)
        for train in (store, deeper(store, 700))
    )
    np.testing.assert_allclose(other.root_depth, one.root_depth + 700, rtol=1e-5)
    np.testing.assert_allclose(other.box[:, 2], 1.1 * one.box[:, 2], rtol=1e-6)
    np.testing.assert_allclose(other.box[:, :2], one.box[:, :2])


def test_root_depth_is_assumed(store, test_store):
    store = deeper(store, 700)
    mean = prediction.oracle_inputs(test_store, root="mean", train_store=store)
    typical = store.columns["joints_cam"][:, 0, 2].mean()
    np.testing.assert_allclose(mean.root_depth, typical, rtol=1e-6)
    assert mean.notes[1] == f"root depth assumed ({typical:.0f} mm)"
    from_box = prediction.oracle_inputs(test_store, box="estimated", root="box", train_store=store)
    np.testing.assert_allclose(
        from_box.root_depth, 2000 * test_store.columns["f"].mean(1) / from_box.box[:, 2]
    )
    # A pose at twice the depth is drawn twice as large across the view.
    far = dataclasses.replace(
        prediction.oracle_inputs(test_store),
        root_depth=2 * test_store.columns["joints_cam"][:, 0, 2].astype(float),
    )
    flat = perfect_network(test_store, far, 64)
    result = prediction.predict_store(
        lambda crops: flat(crops) * [1, 1, 0], test_store, far, 64, flip_test=False
    )
    near = prediction.predict_store(
        lambda crops: flat(crops) * [1, 1, 0],
        test_store,
        prediction.oracle_inputs(test_store),
        64,
        flip_test=False,
    )
    np.testing.assert_allclose(result["pred_cam"], 2 * near["pred_cam"], rtol=1e-9)


def test_intrinsics_assumed(test_store):
    inputs = prediction.oracle_inputs(test_store, intrinsics="assumed")
    size = test_store.columns["picture_size"]
    for i, (width, height) in enumerate(size.tolist()):
        assert inputs.cameras.f[i].tolist() == [[1.2 * max(width, height)] * 2]
        assert inputs.cameras.c[i].tolist() == [[(width - 1) / 2, (height - 1) / 2]]
    assert len(set(map(tuple, size.tolist()))) == 2 and "assumed" in inputs.notes[2]


def test_lens_is_used_or_left_out(test_store):
    n = len(test_store)
    lens = {"k": np.full((n, 3), [-0.2, 0.1, 0.0]), "p": np.full((n, 2), [1e-3, -2e-3])}
    bent = dataclasses.replace(test_store, columns=test_store.columns | lens)
    with_lens, without = (
        prediction.oracle_inputs(bent),
        prediction.oracle_inputs(bent, intrinsics="pinhole"),
    )
    assert with_lens.notes[2] == "intrinsics with lens" and with_lens.cameras.k.shape == (n, 1, 3)
    assert (
        without.notes[2] == "intrinsics without lens"
        and without.cameras.k is None
        and without.cameras.p is None
    )
    np.testing.assert_array_equal(with_lens.cameras.f, without.cameras.f)


@pytest.mark.parametrize(
    "choice, message",
    [
        ({"box": "drawn"}, "box 'drawn': expected one of oracle, estimated"),
        ({"root": "box"}, "gives the true depth away"),
        ({"root": "mean"}, "need the training split"),
        ({"intrinsics": "none"}, "intrinsics 'none'"),
    ],
)
def test_inputs_that_cannot_be_had(test_store, choice, message):
    with pytest.raises(InputError, match=message):
        prediction.oracle_inputs(test_store, **choice)


def test_networks_get_whole_batches_of_uint8(test_store):
    seen = []

    def network(crops):
        seen.append((tuple(crops.shape), crops.dtype))
        return np.zeros((len(crops), 18, 3))

    prediction.predict_store(
        network, test_store, prediction.oracle_inputs(test_store), 32, batch_size=3
    )
    assert seen == [((size, 32, 32, 3), torch.uint8) for size in (3, 3, 2, 2)]


def test_mean_pose_is_that_of_the_training_part(store, test_store):
    joints = store.columns["joints_cam"].astype(float)
    expected = np.mean([pose - pose[0] for pose in joints], axis=0)
    found = prediction.mean_pose(store, test_store)
    assert found.shape == (5, 18, 3)
    for pose in found:
        np.testing.assert_allclose(pose, expected, atol=1e-3)


# --- the loop over batches ---


def test_predictions_come_in_order_with_what_the_batches_hold():
    crops = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 2, 2, 3)
    batches = [
        {"crops": crops[3:], "items": torch.tensor([3, 4]), "affine": torch.tensor([30.0, 40.0])},
        {
            "crops": crops[:3],
            "items": torch.tensor([0, 1, 2]),
            "affine": torch.tensor([0.0, 10.0, 20.0]),
        },
    ]

    def two_decoders(crops):
        value = crops[:, 0, 0, 0].numpy().astype(float)
        return np.stack([value, -value], axis=1)

    found = prediction.predict_batches(two_decoders, batches, flip_test=False)
    assert found["joints_crop"].tolist() == [[0, 0], [1, -1], [2, -2], [3, -3], [4, -4]]
    assert found["affine"].tolist() == [0, 10, 20, 30, 40] and set(found) == {
        "joints_crop",
        "affine",
        "items",
    }


def test_the_mirror_is_the_crop_from_right_to_left():
    crops = torch.zeros(1, 2, 4, 3, dtype=torch.uint8)
    crops[0, :, 1] = 9
    seen = []

    def network(crops):
        seen.append(crops[0, 0, :, 0].tolist())
        return np.zeros((1, 18, 3))

    found = prediction.predict_batches(network, [{"crops": crops, "items": torch.tensor([0])}])
    assert seen == [[0, 9, 0, 0], [0, 0, 9, 0]] and "joints_mirrored" in found
