import dataclasses

import numpy as np
import pytest
import torch

from ipr_lib.data.h36m_layout import DAMAGED_SEQUENCES
from ipr_lib.data.store import build_store
from ipr_lib.evaluation import evaluation, metrics, prediction
from ipr_lib.files import InputError
from ipr_lib.geometry.skeleton import HUMAN36M
from ipr_lib.geometry.transforms import apply_affine

from .conftest import write_sequence

RNG = np.random.default_rng(0)


@pytest.fixture
def test_store(tmp_path):
    """Two takes of S9 of other sizes than the training store's, one of them of a number that Human3.6M has damaged."""
    write_sequence(tmp_path / "other", subject=9, action=5, subaction=2, n=7, step=3, width=240, height=200)
    write_sequence(tmp_path / "other", subject=9, action=2, subaction=1, n=4, step=3)
    return build_store(tmp_path / "other", tmp_path / "other", subjects=(9,), step=3, crop_px=64)


# --- which pictures ---

def test_cameras_of_a_take_belong_together():
    columns = {"subject": np.array([9, 9, 1, 9, 9]), "action": np.array([2, 2, 2, 3, 2]), "subaction": np.array([1, 2, 1, 1, 1])}
    assert evaluation.sequence_index(columns).tolist() == [1, 2, 0, 3, 1]


def test_damaged_takes_are_found_by_all_three_numbers():
    near = [(9, 5, 2), (9, 5, 1), (11, 5, 2), (9, 10, 2), (9, 13, 2), (9, 13, 1)]
    columns = {name: np.array(column) for name, column in zip(("subject", "action", "subaction"), zip(*near))}
    assert evaluation.is_damaged(columns).tolist() == [take in DAMAGED_SEQUENCES for take in near]
    assert evaluation.is_damaged(columns).sum() == 3


def test_items_of_subjects():
    columns = {"subject": np.array([9, 11, 9, 11, 11])}
    assert evaluation.items_of(columns).tolist() == [0, 1, 2, 3, 4]
    assert evaluation.items_of(columns, [11]).tolist() == [1, 3, 4]
    with pytest.raises(InputError, match="no test picture of S1, S5: the test part holds S9, S11"):
        evaluation.items_of(columns, [9, 5, 1])


def test_scores_with_and_without_damaged(test_store):
    columns = test_store.columns
    pred = columns["joints_cam"].astype(float)
    damaged = evaluation.is_damaged(columns)
    assert damaged.any() and not damaged.all()
    pred[damaged, 1:17, 0] += 34
    scores = evaluation.score_items(pred, columns)
    share = damaged.mean()
    assert scores["mpjpe"]["frame_mean"] == pytest.approx(34 * 16 / 17 * share, rel=1e-5)
    assert scores["mpjpe"]["action_mean"] == pytest.approx(34 * 16 / 17 / 2, rel=1e-5)
    assert scores["without_damaged"]["n"] == (~damaged).sum() and scores["without_damaged"]["mpjpe"]["frame_mean"] < 1e-3
    only = evaluation.score_items(pred, columns, np.flatnonzero(damaged))
    assert only["n"] == damaged.sum() and only["without_damaged"] == {} and only["mpjpe"]["interval"] is None
    none = evaluation.score_items(pred, columns, np.flatnonzero(~damaged))
    assert none["without_damaged"]["mpjpe"]["frame_mean"] == none["mpjpe"]["frame_mean"]


# --- what a network is told ---

def perfect_look(store, told, crop_px):
    """A look that knows the truth: finds each crop's item by its pixels, answers the joints in the box that was cut."""
    from ipr_lib.data.datasets import CropDataset

    dataset = CropDataset(dataclasses.replace(store, columns=store.columns | {"box": told.box}), crop_px, np.inf)
    batch = dataset[0, 0, np.arange(len(store))]
    known = {crop.numpy().tobytes(): joints.numpy() for crop, joints in zip(batch["crops"], batch["joints"])}
    known |= {
        crop.flip(1).contiguous().numpy().tobytes(): mirror(joints.numpy(), crop_px)
        for crop, joints in zip(batch["crops"], batch["joints"])
    }
    return lambda crops: np.stack([known[crop.contiguous().numpy().tobytes()] for crop in crops])


def mirror(joints, crop_px):
    result = joints.copy()
    for right, left in HUMAN36M.flip_pairs:
        result[right], result[left] = joints[left], joints[right]
    result[:, 0] = crop_px - 1 - result[:, 0]
    return result


def test_oracles_lose_nothing(test_store):
    told = evaluation.tell(test_store)
    assert told.words == ("2 m box at the true root", "root depth", "intrinsics")
    result = prediction.predict_store(perfect_look(test_store, told, 64), test_store, told, 64, batch_size=2)
    assert result["items"].tolist() == list(range(len(test_store)))
    for name in ("pred_cam", "pred_cam_flip"):
        np.testing.assert_allclose(result[name], test_store.columns["joints_cam"], atol=0.05)
    alone = prediction.predict_store(perfect_look(test_store, told, 64), test_store, told, 64, flip_test=False)
    np.testing.assert_array_equal(alone["pred_cam"], result["pred_cam"])
    assert not [name for name in alone if "flip" in name]


def test_flip_test_is_the_mean_of_both_looks(test_store):
    """A network that always sees the spot three px too far right: the mirror sees it three px too far left."""
    told = evaluation.tell(test_store)
    perfect = perfect_look(test_store, told, 64)
    result = prediction.predict_store(lambda crops: perfect(crops) + [3, 0, 50], test_store, told, 64)
    np.testing.assert_allclose(result["joints_crop"] - result["joints_crop_flip"], np.broadcast_to([3.0, 0, 0], (5, 18, 3)), atol=1e-4)
    np.testing.assert_allclose(result["pred_cam_flip"][..., 2] - result["target_cam"][..., 2], 50, atol=1e-2)


def test_estimated_box_holds_the_person(store, test_store):
    told = evaluation.tell(test_store, box="estimated", train_store=store)
    joints = test_store.columns["joints_img"]
    low, high = joints.min(1), joints.max(1)
    np.testing.assert_allclose(told.box[:, :2], (low + high) / 2, rtol=1e-6)
    columns = store.columns
    extent = (columns["joints_img"].max(1) - columns["joints_img"].min(1)).max(1)
    widening = np.median(columns["box"][:, 2] / extent)
    np.testing.assert_allclose(told.box[:, 2], widening * (high - low).max(1), rtol=1e-6)
    assert told.words[0] == "box of the true joints' extent"
    # The crop comes from that box; a perfect answer in it leads back to the truth all the same.
    result = prediction.predict_store(perfect_look(test_store, told, 64), test_store, told, 64)
    from_box = apply_affine(result["affine"], told.box[:, None, :2])
    np.testing.assert_allclose(from_box, np.full((5, 1, 2), 31.5), atol=1e-9)
    np.testing.assert_allclose(result["pred_cam_flip"], test_store.columns["joints_cam"], atol=0.05)


def test_hidden_joints_do_not_widen_a_box():
    columns = {"joints_img": np.array([[[0, 0], [10, 4], [900, 0]]], np.float32), "visible": np.array([[True, True, False]])}
    assert evaluation.joint_boxes(columns, 1.5).tolist() == [[5, 2, 15]]


def test_root_depth_is_assumed(store, test_store):
    mean = evaluation.tell(test_store, root="mean", train_store=store)
    typical = store.columns["joints_cam"][:, 0, 2].mean()
    np.testing.assert_allclose(mean.root_depth, typical, rtol=1e-6)
    assert mean.words[1] == f"root depth assumed ({typical:.0f} mm)"
    from_box = evaluation.tell(test_store, box="estimated", root="box", train_store=store)
    np.testing.assert_allclose(from_box.root_depth, 2000 * test_store.columns["f"].mean(1) / from_box.box[:, 2])
    # A pose at twice the depth is drawn twice as large across the view.
    far = dataclasses.replace(evaluation.tell(test_store), root_depth=2 * test_store.columns["joints_cam"][:, 0, 2].astype(float))
    flat = perfect_look(test_store, far, 64)
    result = prediction.predict_store(lambda crops: flat(crops) * [1, 1, 0], test_store, far, 64, flip_test=False)
    near = prediction.predict_store(
        lambda crops: flat(crops) * [1, 1, 0], test_store, evaluation.tell(test_store), 64, flip_test=False
    )
    np.testing.assert_allclose(result["pred_cam"], 2 * near["pred_cam"], rtol=1e-9)


def test_intrinsics_assumed(test_store):
    told = evaluation.tell(test_store, intrinsics="assumed")
    size = test_store.columns["picture_size"]
    for i, (width, height) in enumerate(size.tolist()):
        assert told.cameras.f[i].tolist() == [[1.2 * max(width, height)] * 2]
        assert told.cameras.c[i].tolist() == [[(width - 1) / 2, (height - 1) / 2]]
    assert len(set(map(tuple, size.tolist()))) == 2 and "assumed" in told.words[2]


def test_lens_is_used_or_left_out(test_store):
    n = len(test_store)
    lens = {"k": np.full((n, 3), [-0.2, 0.1, 0.0]), "p": np.full((n, 2), [1e-3, -2e-3])}
    bent = dataclasses.replace(test_store, columns=test_store.columns | lens)
    with_lens, without = evaluation.tell(bent), evaluation.tell(bent, intrinsics="pinhole")
    assert with_lens.words[2] == "intrinsics with lens" and with_lens.cameras.k.shape == (n, 1, 3)
    assert without.words[2] == "intrinsics without lens" and without.cameras.k is None and without.cameras.p is None
    np.testing.assert_array_equal(with_lens.cameras.f, without.cameras.f)


@pytest.mark.parametrize("choice, message", [
    ({"box": "drawn"}, "box 'drawn': expected one of oracle, estimated"), ({"root": "box"}, "gives the true depth away"),
    ({"root": "mean"}, "need the training part"), ({"intrinsics": "none"}, "intrinsics 'none'"),
])
def test_what_cannot_be_told(test_store, choice, message):
    with pytest.raises(InputError, match=message):
        evaluation.tell(test_store, **choice)


# --- text files ---

def test_text_files_hold_a_pose_a_line(tmp_path):
    pred, target = RNG.normal(0, 300, (2, 4, 18, 3)) + [100, 200, 4000]
    evaluation.write_texts(tmp_path, pred, target)
    lines = (tmp_path / "pred_3d_kpt.txt").read_text().split("\n")
    assert len(lines) == 5 and lines[-1] == "" and lines[0].startswith("0.000 0.000 0.000 ") and lines[0].endswith(" ")
    assert len(lines[0].split()) == 54
    read = {name: np.loadtxt(tmp_path / f"{name}.txt").reshape(4, 18, 3) for name in ("pred_3d_kpt", "pred_3d_kpt_align", "gt_3d_kpt")}
    np.testing.assert_allclose(read["pred_3d_kpt"], pred - pred[:, :1], atol=6e-4)
    np.testing.assert_allclose(read["gt_3d_kpt"], target - target[:, :1], atol=6e-4)
    errors = np.linalg.norm(read["pred_3d_kpt_align"] - read["gt_3d_kpt"], axis=-1)
    assert errors.mean() == pytest.approx(metrics.pa_mpjpe(pred, target), abs=1e-3)


def test_looks_get_whole_batches_of_uint8(test_store):
    seen = []

    def look(crops):
        seen.append((tuple(crops.shape), crops.dtype))
        return np.zeros((len(crops), 18, 3))

    prediction.predict_store(look, test_store, evaluation.tell(test_store), 32, batch_size=3)
    assert seen == [((size, 32, 32, 3), torch.uint8) for size in (3, 3, 2, 2)]
