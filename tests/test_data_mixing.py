"""3D and 2D stores in one batch: names, ratio, coverage, depth."""

import cv2
import numpy as np
import pytest
import torch

from ipr_lib.config import load_config
from ipr_lib.data.datasets import BatchKeys, CropDataset, StoreMix, batches, training_keys
from ipr_lib.data.people import as_people
from ipr_lib.files import InputError
from ipr_lib.geometry.skeleton import COCO, HUMAN36M, MPII
from ipr_lib.geometry.transforms import Augmentation, apply_affine
from ipr_lib.integral import integral_loss
from ipr_lib.prepare import build_people_store
from ipr_lib.run import train_run


def people_store(folder, skeleton, n, width=90, height=71):
    """A store of n made-up people of one joint set, each in a picture of its own; joint j at (20 + 2 j, 60 - 3 j)."""
    rng = np.random.default_rng(len(skeleton))
    pictures, persons = [], []
    (folder / "images").mkdir(parents=True)
    for i in range(n):
        name = f"images/{i}.jpg"
        cv2.imwrite(
            str(folder / name),
            cv2.resize(rng.integers(0, 255, (5, 5, 3), np.uint8), (width, height)),
        )
        pictures.append((100 + i, name, width, height))
        keypoints = [(20 + 2 * j, 60 - 3 * j, 0 if j == i % 3 else 2) for j in range(len(skeleton))]
        persons.append((i, i, keypoints, (18.0, 10.0, 40.0, 54.0), None, 600.0))
    people = as_people(skeleton, pictures, persons)
    store, problems, _ = build_people_store(people, folder, folder / "people", crop_px=64)
    assert not problems
    return store


@pytest.fixture
def mpii(tmp_path):
    return people_store(tmp_path / "mpii", MPII, 4)


def items_seen(keys):
    return [items for _, _, items in keys]


# ---------------------------------------------------------------- order


@pytest.mark.parametrize(
    ("sizes", "batch_size", "ratio"),
    [
        ((96, 40), 16, (1, 1)),
        ((40, 96), 16, (1, 1)),
        ((1003, 250), 16, (1, 1)),
        ((300, 7), 12, (2, 1)),
        ((60, 200, 31), 20, (2, 1, 1)),
        ((997, 1000), 32, (1, 1)),
        ((50, 5000), 8, (3, 1)),
    ],
)
def test_ratio_and_coverage(sizes, batch_size, ratio):
    keys = BatchKeys(sizes, batch_size, epochs=2, seed=5, ratio=ratio)
    ends = np.cumsum([0, *sizes])
    share = [batch_size * part // sum(ratio) for part in ratio]
    longest = int(np.argmax([size / part for size, part in zip(sizes, share)]))
    epochs = [[], []]
    for epoch, step, items in keys:
        assert step == len(epochs[epoch])
        epochs[epoch].append(items)
        assert len(items) == batch_size
        assert np.histogram(items, ends)[0].tolist() == share
        assert (np.diff(np.digitize(items, ends)) >= 0).all()  # store by store
    assert len(keys) == sum(map(len, epochs))
    for epoch in epochs:
        seen = np.bincount(np.concatenate(epoch), minlength=ends[-1])
        for store, (low, high) in enumerate(zip(ends, ends[1:])):
            if store == longest:
                # Each at most once; what does not fill a batch is left over.
                assert seen[low:high].max() == 1
                assert (seen[low:high] == 0).sum() == sizes[longest] % share[longest]
            else:
                assert np.ptp(seen[low:high]) <= 1  # everybody equally often
    first, second = (np.concatenate(epoch) for epoch in epochs)
    assert (first != second).mean() > 0.5  # reshuffled


def test_small_sets_come_in_a_new_order_each_time_round():
    keys = BatchKeys((400, 10), 20, seed=1, ratio=(1, 1))
    small = np.concatenate([items[10:] for items in items_seen(keys)]).reshape(-1, 10)
    assert (np.sort(small, axis=1) == np.arange(400, 410)).all()
    assert len({tuple(order) for order in small.tolist()}) == len(small)


def test_a_resumed_run_meets_the_batches_it_would_have_met():
    whole = items_seen(BatchKeys((50, 31), 8, epochs=3, seed=2, ratio=(1, 1)))
    rest = items_seen(BatchKeys((50, 31), 8, epochs=3, seed=2, start=16, ratio=(1, 1)))
    assert len(rest) == len(whole) - 16
    for a, b in zip(whole[16:], rest):
        np.testing.assert_array_equal(a, b)
    other = items_seen(BatchKeys((50, 31), 8, epochs=3, seed=3, ratio=(1, 1)))
    assert any((a != b).any() for a, b in zip(whole, other))


@pytest.mark.parametrize(
    ("sizes", "batch_size", "ratio", "message"),
    [
        ((10, 10), 9, (1, 1), "multiple"),
        ((10, 10), 8, (1, 1, 2), "2 stores at 1 : 1 : 2"),
        ((10, 10), 8, (0, 1), "above 0"),
        ((10, 0), 8, (1, 1), "empty"),
    ],
)
def test_ratios_that_cannot_be_held_are_refused(sizes, batch_size, ratio, message):
    with pytest.raises(InputError, match=message):
        BatchKeys(sizes, batch_size, ratio=ratio)


def test_one_store_keeps_its_keys(store):
    keys = training_keys(store, 2, 3, seed=4)
    for a, b in zip(keys, BatchKeys(6, 2, 3, 4)):
        assert a[:2] == b[:2] and (a[2] == b[2]).all()


# ---------------------------------------------------------------- items


def test_joints_meet_by_name(store, mpii, tmp_path):
    coco = people_store(tmp_path / "coco", COCO, 3)
    mix = StoreMix([store, mpii, coco])
    assert len(mix) == 13
    items = np.array([12, 0, 7, 9, 5])  # coco 2, store 0, mpii 1, mpii 3, store 5
    assert mix.sources(items).tolist() == [2, 0, 1, 1, 0]
    joints, visible = mix.rows("joints_img", items), mix.rows("visible", items)
    np.testing.assert_array_equal(joints[[1, 4]], store.columns["joints_img"][[0, 5]])
    assert visible[[1, 4]].all()
    for row, skeleton, person in ((0, COCO, 2), (2, MPII, 1), (3, MPII, 3)):
        for index, name in enumerate(HUMAN36M.names):
            if name not in skeleton.names:
                assert not visible[row, index]
            else:
                j = skeleton.index(name)
                assert visible[row, index] == (j != person % 3)
                if visible[row, index]:
                    assert joints[row, index].tolist() == [20 + 2 * j, 60 - 3 * j]
    assert mix.rows("has_depth", items).tolist() == [False, True, False, False, True]
    np.testing.assert_array_equal(mix.image(7), mpii.image(1))
    np.testing.assert_array_equal(mix.image(5), store.image(5))


def test_people_on_their_own_are_brought_to_the_reference_skeleton(mpii):
    batch = CropDataset(mpii, 64, 2000.0)[(0, 0, np.array([1, 3]))]
    weights = batch["weights"].numpy()
    assert batch["joints"].shape == (2, 18, 3) and not weights[..., 2].any()
    known = MPII.index("Thorax")
    expected = apply_affine(
        batch["affine"].numpy(), np.full((2, 1, 2), [20.0 + 2 * known, 60.0 - 3 * known])
    )
    np.testing.assert_allclose(batch["joints"][:, 17, :2], expected[:, 0], rtol=1e-5)
    assert (
        not weights[:, [HUMAN36M.index("Torso"), HUMAN36M.index("Nose")]].any()
        and weights[:, 17, :2].all()
    )


def test_flipped_people_swap_their_sides(mpii):
    mirror = Augmentation(scale=0, rotation=0, shift=0, flip=1, colour=0)
    plain = CropDataset(mpii, 64, 2000.0)[(0, 0, np.array([0]))]
    flipped = CropDataset(mpii, 64, 2000.0, mirror)[(0, 0, np.array([0]))]
    right, left = HUMAN36M.index("R_Ankle"), HUMAN36M.index("L_Ankle")
    # Person 0 lacks its right ankle: in the mirror it is the left one that is unknown.
    assert plain["weights"][0, right, 0] == 0 and plain["weights"][0, left, 0] == 1
    assert flipped["weights"][0, right, 0] == 1 and flipped["weights"][0, left, 0] == 0
    assert flipped["joints"][0, right, 0] == pytest.approx(
        63 - plain["joints"][0, left, 0].item(), abs=1e-4
    )


def test_depth_of_people_in_2d_gets_no_gradient(store, mpii):
    mix = StoreMix([store, mpii])
    keys = training_keys(mix, 4, 1, seed=0)
    key = next(iter(keys))
    batch = CropDataset(mix, 64, 2000.0)[key]
    prediction = torch.zeros(4, 18, 3, requires_grad=True)
    integral_loss(prediction, batch["joints"], batch["weights"], (64, 64, 2000.0)).backward()
    gradient = prediction.grad
    two_d = torch.from_numpy(mix.sources(key[2]) == 1)
    assert two_d.tolist() == [False, False, True, True]
    assert (gradient[two_d][..., 2] == 0).all() and (gradient[two_d][..., :2] != 0).any(dim=1).all()
    assert (gradient[~two_d][..., 2] != 0).any()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # three workers on any machine
@pytest.mark.parametrize("workers", [0, 3])
def test_workers_change_neither_coverage_nor_contents(store, mpii, workers):
    mix = StoreMix([store, mpii])
    keys = training_keys(mix, 4, 2, seed=7)
    seen, checksum = [[], []], 0.0
    for (epoch, _, items), batch in zip(
        keys, batches(CropDataset(mix, 64, 2000.0, Augmentation(), 7), keys, workers)
    ):
        assert batch["items"].tolist() == items.tolist() and len(items) == 4
        assert (mix.sources(items) == [0, 0, 1, 1]).all()
        seen[epoch].extend(items.tolist())
        checksum += (
            batch["crops"].double().mean().item() + batch["joints"].double().abs().mean().item()
        )
    for epoch in seen:
        counts = np.bincount(epoch, minlength=10)
        assert counts[:6].tolist() == [1] * 6  # the larger set, each once
        assert counts[6:].sum() == 6 and set(counts[6:]) <= {1, 2}
    assert seen[0] != seen[1]
    reference = sum(
        batch["crops"].double().mean().item() + batch["joints"].double().abs().mean().item()
        for batch in (CropDataset(mix, 64, 2000.0, Augmentation(), 7)[key] for key in keys)
    )
    assert checksum == reference


def test_a_network_trains_on_the_mix(store, mpii, tmp_path, training_seed):
    cfg = load_config("smoke", batch_size=4, epochs=2, seed=training_seed)
    model = train_run(cfg, StoreMix([store, mpii]), tmp_path / "run", torch.device("cpu"))
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert (
        len((tmp_path / "run/training.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    )  # 3 steps a pass
