"""MPII from a small .mat of the official form, with made-up values."""

import json

import cv2
import numpy as np
import pytest
import scipy.io
from PIL import ExifTags, Image
from pycocotools.coco import COCO

from ipr_lib.data.images import image_size, read_image
from ipr_lib.data.people import read_people, write_people
from ipr_lib.files import InputError
from ipr_lib.geometry.skeleton import MPII
from ipr_lib.geometry.transforms import apply_affine
from ipr_lib.prepare import build_people_store, mpii, prepare_mpii
from tests.fuzzing import corruptions
from tests.test_data_store import contents

EMPTY = np.zeros((0, 0))


def structs(*rows):
    """A 1 x n MATLAB struct array; a field that a row lacks is empty, as MATLAB makes it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in names])
    for i, row in enumerate(rows):
        for name in names:
            array[0, i][name] = row.get(name, EMPTY)
    return array


def points(joints):
    """`annopoints` of {joint id: (x, y)}, 1-based px, in the given order."""
    rows = [
        {"x": float(x), "y": float(y), "id": float(i), "is_visible": EMPTY if i == 9 else 1.0}
        for i, (x, y) in joints.items()
    ]
    return structs({"point": structs(*rows)})


WHOLE = {
    6: (61, 60),
    7: (60, 31),
    8: (60, 26),
    9: (59, 12),
    0: (51, 101),
    1: (52, 81),
    2: (55, 60),
    3: (66, 60),
    4: (67, 80),
    5: (71, 99),
    10: (45, 61),
    11: (46, 46),
    12: (52, 31),
    13: (68, 31),
    14: (75, 46),
    15: (76, 62),
}
PARTIAL = {7: (101.5, 20), 8: (100, 15), 13: (111, 22.25)}
HEAD = {"x1": 54.0, "y1": 10.0, "x2": 66.0, "y2": 26.0}
SIZES = {
    "01.jpg": (120, 110),
    "02.jpg": (131, 97),
    "03.jpg": (104, 140),
    "04.jpg": (77, 81),
    "05.jpg": (64, 48),
    "06.jpg": (50, 52),
}


def entries():
    """annolist rows and img_train. Fields vary by picture, as they do in MPII."""
    whole = {
        **HEAD,
        "annopoints": points(WHOLE),
        "scale": 0.5,
        "objpos": structs({"x": 60.0, "y": 60.0}),
    }
    return [
        (
            {
                "annorect": structs(
                    whole, {"x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0, "annopoints": EMPTY}
                )
            },
            1,
        ),
        ({"annorect": EMPTY}, 1),  # nobody: the picture is not listed
        (
            {
                "annorect": structs(
                    {"annopoints": points(PARTIAL)}, {**HEAD, "annopoints": points({9: (40, 40)})}
                )
            },
            1,
        ),
        (
            {"annorect": structs({"scale": 1.0, "objpos": structs({"x": 4.0, "y": 5.0})})},
            0,
        ),  # test part
        (
            {"annorect": structs({"x1": 5.0, "y1": 6.0, "x2": 7.0, "y2": 8.0})},
            1,
        ),  # no field annopoints: listed, nobody
        (
            {
                "annorect": structs(
                    {**HEAD, "annopoints": points({1: (20, 20), 3: (21, 44), 5: (20.5, 30)})}
                )
            },
            1,
        ),
    ]


def write_mpii(folder, rows=None):
    """A download of six pictures; returns its folder."""
    rows = rows or entries()
    annolist = [{"image": structs({"name": name}), **row} for name, (row, _) in zip(SIZES, rows)]
    release = structs(
        {
            "annolist": structs(*annolist),
            "img_train": np.array([[float(train) for _, train in rows]]),
            "version": "12",
            "single_person": EMPTY,
        }
    )
    (folder / "images").mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / mpii.ANNOTATIONS, {"RELEASE": release}, do_compression=True)
    rng = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        small = rng.integers(0, 255, (5, 5, 3), np.uint8)
        cv2.imwrite(
            str(folder / "images" / name),
            cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC),
        )
    return folder


@pytest.fixture
def source(tmp_path):
    return write_mpii(tmp_path / "mpii")


def read(source, **options):
    return mpii.read_mpii(source / mpii.ANNOTATIONS, source, **options)


def test_people_pictures_and_boxes_by_hand(source):
    people, skipped, problems = read(source)
    assert problems == [] and skipped == {"no joints": 2, "joints span no box": 2}
    assert people.image_id.tolist() == [
        0,
        2,
        4,
        5,
    ]  # 0-based indices in annolist; 1 is empty, 3 is for testing
    assert people.image_name == ["images/01.jpg", "images/03.jpg", "images/05.jpg", "images/06.jpg"]
    assert people.image_size.tolist() == [[120, 110], [104, 140], [64, 48], [50, 52]]
    assert people.person_id.tolist() == [0, 1] and people.image.tolist() == [0, 1]
    # Joints span x 45 … 76 and y 12 … 101, 1-based: w = 30, h = 88, middle (59.5, 55.5) 0-based.
    np.testing.assert_allclose(people.bbox[0], [59.5 - 18, 55.5 - 52.8, 36, 105.6])
    # x 100 … 111, y 15 … 22.25: w = 10, h = 6.25, middle (104.5, 17.625).
    np.testing.assert_allclose(people.bbox[1], [104.5 - 6, 17.625 - 3.75, 12, 7.5])
    assert people.joints_img[0, MPII.index("Pelvis")].tolist() == [60, 59]
    assert people.joints_img[0, MPII.index("R_Ankle")].tolist() == [50, 100]
    assert people.joints_img[1, MPII.index("L_Shoulder")].tolist() == [110, 21.25]
    assert (
        np.flatnonzero(people.visibility[1]).tolist() == [7, 8, 13]
        and people.visibility[0].tolist() == [1] * 16
    )
    assert not people.joints_img[1, people.visibility[1] == 0].any()
    assert people.head_box[0].tolist() == [53, 9, 65, 25] and np.isnan(people.head_box[1]).all()


def published_converter(release, sizes):
    """What the published converter computes, told anew from its rules, straight from the rows."""
    annotations = []
    for index, (row, train) in enumerate(release):
        if not train or not len(row["annorect"]):
            continue
        for rect in row["annorect"][0]:
            if "annopoints" not in rect.dtype.names or not len(rect["annopoints"]):
                continue
            keypoints = [0.0] * 48
            for point in rect["annopoints"][0, 0]["point"][0]:
                joint = int(point["id"])
                keypoints[3 * joint : 3 * joint + 3] = [point["x"], point["y"], 1.0]
            x = [keypoints[3 * j] for j in range(16) if keypoints[3 * j + 2]]
            y = [keypoints[3 * j + 1] for j in range(16) if keypoints[3 * j + 2]]
            width, height = max(x) - min(x) - 1, max(y) - min(y) - 1
            if width <= 0 or height <= 0:
                continue
            bbox = [
                (min(x) + max(x)) / 2.0 - width / 2 * 1.2,
                (min(y) + max(y)) / 2.0 - height / 2 * 1.2,
                width * 1.2,
                height * 1.2,
            ]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": index,
                    "category_id": 1,
                    "area": bbox[2] * bbox[3],
                    "bbox": bbox,
                    "iscrowd": 0,
                    "keypoints": keypoints,
                    "num_keypoints": int(sum(keypoints[2::3])),
                }
            )
    return annotations


def test_published_convention_gives_the_published_numbers_exactly(source, tmp_path):
    people, _, _ = read(source, published=True)
    write_people(tmp_path / "train.json", people)
    content = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))
    for annotation in content["annotations"]:
        annotation.pop("head_box", None)  # ours, on top
    assert content["annotations"] == published_converter(entries(), SIZES)
    assert content["images"][1] == {
        "id": 2,
        "file_name": "images/03.jpg",
        "width": 104,
        "height": 140,
    }
    assert len(content["categories"]) == 1 and len(content["categories"][0]["keypoints"]) == 16


def test_the_conventions_differ_by_one_pixel_alone(source):
    ours, published = read(source)[0], read(source, published=True)[0]
    known = ours.visibility > 0
    assert (published.joints_img[known] - ours.joints_img[known] == 1).all()
    assert (published.joints_img[~known] == 0).all() and (ours.joints_img[~known] == 0).all()
    np.testing.assert_allclose(published.bbox - ours.bbox, [[1, 1, 0, 0]] * 2)


def test_json_comes_back_and_pycocotools_reads_it(source, tmp_path, capsys):
    people, _, _ = read(source)
    write_people(tmp_path / "train.json", people)
    again, skipped, problems = read_people(tmp_path / "train.json")
    assert not skipped and not problems and again.skeleton == MPII
    for name in (
        "image_id",
        "image_size",
        "person_id",
        "image",
        "joints_img",
        "visibility",
        "bbox",
        "head_box",
    ):
        np.testing.assert_array_equal(getattr(again, name), getattr(people, name))
    assert again.image_name == people.image_name
    assert capsys.readouterr().out == ""
    coco = COCO(str(tmp_path / "train.json"))
    assert coco.loadAnns(coco.getAnnIds(imgIds=[2]))[0]["num_keypoints"] == 3


def test_published_spelling_of_the_joint_names_is_understood(source, tmp_path):
    write_people(tmp_path / "train.json", read(source)[0])
    content = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))
    content["categories"][0]["keypoints"] = [
        "r_ankle",
        "r_knee",
        "r_hip",
        "l_hip",
        "l_knee",
        "l_ankle",
        "pelvis",
        "throax",
        "upper_neck",
        "head_top",
        "r_wrist",
        "r_elbow",
        "r_shoulder",
        "l_shoulder",
        "l_elbow",
        "l_wrist",
    ]
    (tmp_path / "train.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_people(tmp_path / "train.json")[0].skeleton == MPII


@pytest.mark.parametrize("suffix", [".txt", ".json"])
def test_split_by_list(source, tmp_path, suffix):
    text = {
        ".txt": "03.jpg\n\n06.jpg\n",
        ".json": json.dumps([{"image": "03.jpg"}, "images/06.jpg"]),
    }[suffix]
    (tmp_path / f"list{suffix}").write_text(text, encoding="utf-8")
    lines = prepare_mpii(source, tmp_path / "out", validation_list=tmp_path / f"list{suffix}")
    train = read_people(tmp_path / "out/annotations/train.json")[0]
    validation = read_people(tmp_path / "out/annotations/validation.json")[0]
    assert train.image_name == ["images/01.jpg", "images/05.jpg"] and train.person_id.tolist() == [
        0
    ]
    assert validation.image_name == [
        "images/03.jpg",
        "images/06.jpg",
    ] and validation.person_id.tolist() == [1]
    assert validation.image.tolist() == [0]
    assert "skipped, no joints: 2 people" in lines


@pytest.mark.parametrize(
    ("text", "message"), [("99.jpg\n", "0 people into"), ("", "names no image"), ("{", "one image")]
)
def test_useless_lists_are_refused(source, tmp_path, text, message):
    name = "list.json" if text == "{" else "list.txt"
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        prepare_mpii(source, tmp_path / "out", validation_list=tmp_path / name)


def test_store_of_people(source, tmp_path):
    people, _, _ = read(source)
    store, problems, _ = build_people_store(people, source, tmp_path / "m", crop_px=32)
    assert problems == [] and len(store) == 2 and store.skeleton == MPII
    columns = store.columns
    np.testing.assert_allclose(columns["box"][0], [59.5, 55.5, 105.6 * 1.25])
    # The second person's box is 12 x 7.5 px about (104.5, 17.625).
    np.testing.assert_allclose(columns["box"][1], [104.5, 17.625, 12 * 1.25])
    assert not columns["has_depth"].any() and not columns["joints_cam"].any()
    assert columns["visible"][0].all()
    # The left shoulder is annotated at x = 110, right of a picture that is 104 px wide.
    assert np.flatnonzero(columns["visible"][1]).tolist() == [7, 8]
    assert columns["frame"].tolist() == [0, 2] and columns["person"].tolist() == [0, 1]
    camera = store.cameras(np.array([0, 1]))
    assert (camera.f > 0).all() and np.isfinite(
        camera.image_to_camera(columns["joints_img"], np.full((2, 16), 1e3))
    ).all()
    # A joint of the picture lies where the stored affine says: its pixels agree.
    picture = cv2.imread(str(source / "images/01.jpg"), cv2.IMREAD_COLOR_RGB)
    x, y = apply_affine(columns["affine"][0], people.joints_img[0, :1])[0]
    row, column = round(y), round(x)
    there = apply_affine(
        np.linalg.inv(np.vstack([columns["affine"][0], [0, 0, 1]]))[:2],
        np.array([[column, row]], float),
    )[0]
    expected = picture[round(there[1]), round(there[0])].astype(int)
    assert np.abs(store.image(0)[row, column] - expected).max() < 12


@pytest.mark.parametrize("orientation", [3, 6])
def test_pictures_that_exif_turns_are_labelled_upright(source, tmp_path, orientation):
    """MPII's file states no sizes, so nothing speaks for another convention."""
    people, _, _ = read(source)
    before, _, turned = build_people_store(people, source, tmp_path / "before", crop_px=32)
    assert turned == {}
    undo = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = source / "images/01.jpg"
    Image.open(path).transpose(undo).save(path, quality=98, subsampling=0, exif=exif)
    people, _, problems = read(source)
    assert problems == [] and people.image_size[0].tolist() == [120, 110]
    after, _, turned = build_people_store(people, source, tmp_path / "after", crop_px=32)
    assert turned == {"upright": 1}
    # Well inside the picture; at its edge, the last block of a reduced decoding is cut short.
    inside = (slice(12, -12), slice(12, -12))
    expected = before.image(0).astype(int)
    assert np.abs(after.image(0)[inside] - expected[inside]).mean() < 2
    assert np.abs(after.image(0)[::-1, ::-1][inside] - expected[inside]).mean() > 10


def test_people_in_one_picture_share_its_decoding_and_workers_change_nothing(tmp_path):
    rows = entries()
    rows[0] = (
        {
            "annorect": structs(
                *(
                    {"annopoints": points({j: (x + 9 * i, y) for j, (x, y) in WHOLE.items()})}
                    for i in range(3)
                )
            )
        },
        1,
    )
    source = write_mpii(tmp_path / "crowded", rows)
    people, _, _ = read(source)
    one, _, _ = build_people_store(people, source, tmp_path / "one", crop_px=32)
    two, _, _ = build_people_store(people, source, tmp_path / "two", crop_px=32, workers=2)
    assert len(one) == 4 and one.columns["frame"].tolist() == [0, 0, 0, 2]
    assert contents(one.path) == contents(two.path)
    assert (one.image(0) != one.image(1)).any()


# ---------------------------------------------------------------- bad input


def test_damaged_pictures_are_listed_and_the_rest_is_done(source, tmp_path):
    (source / "images/03.jpg").unlink()
    (source / "images/05.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        prepare_mpii(source, tmp_path / "out")
    text = str(caught.value)
    assert (
        "2 problems" in text
        and "annolist(3)" in text
        and "03.jpg is missing" in text
        and "05.jpg is not a readable" in text
    )
    assert read_people(tmp_path / "out/annotations/train.json")[0].image_id.tolist() == [0, 5]


def test_what_was_good_before_stays(source, tmp_path):
    prepare_mpii(source, tmp_path / "out", store_px=32)
    path, store = tmp_path / "out/annotations/train.json", tmp_path / "stores/out-train-32"
    good = path.read_bytes(), contents(store), store.stat().st_ino
    prepare_mpii(source, tmp_path / "out", store_px=32)
    assert store.stat().st_ino == good[2]  # a store that fits is not built again
    (source / "images/03.jpg").unlink()
    with pytest.raises(InputError, match="kept as it was"):
        prepare_mpii(source, tmp_path / "out", store_px=32)
    assert (path.read_bytes(), contents(store)) == good[:2]
    (source / mpii.ANNOTATIONS).write_bytes(b"MATLAB 5.0")
    with pytest.raises(InputError, match="damaged"):
        prepare_mpii(source, tmp_path / "out", store_px=32)
    assert (path.read_bytes(), contents(store)) == good[:2]


def test_a_picture_of_another_size_is_left_out_of_the_store(source, tmp_path):
    people, _, _ = read(source)
    cv2.imwrite(str(source / "images/01.jpg"), np.zeros((111, 120, 3), np.uint8))
    store, problems, _ = build_people_store(people, source, tmp_path / "m", crop_px=32)
    assert store.columns["person"].tolist() == [1]
    assert len(problems) == 1 and "01.jpg" in problems[0] and "120 x 110" in problems[0]
    before = contents(store.path)
    cv2.imwrite(str(source / "images/03.jpg"), np.zeros((140, 105, 3), np.uint8))
    with pytest.raises(InputError, match="kept as it was"):
        build_people_store(people, source, tmp_path / "m", crop_px=32)
    assert contents(store.path) == before
    with pytest.raises(InputError, match="no usable image"):
        build_people_store(people, source, tmp_path / "other", crop_px=32)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"annopoints": points({3: (9, 9), 16: (30, 30)})}, "joint id 16"),
        ({"annopoints": points({3: (9, np.nan), 4: (30, 30)})}, "y is not a finite number"),
        ({"annopoints": structs({"point": structs({"x": 3.0, "id": 2.0})})}, "lacks id, x or y"),
        ({"annopoints": structs({"point": 7.0})}, "is not a struct"),
        ({"annopoints": points({3: (900, 900), 4: (930, 930)})}, "outside its 120 x 110"),
        ({"annopoints": points({3: (-500, 20), 4: (30, 50)})}, "box"),
        ({**HEAD, "x2": "left", "annopoints": points(WHOLE)}, "x2 is not a finite number"),
    ],
)
def test_damaged_people_are_listed(tmp_path, row, message):
    rows = entries()
    rows[0] = ({"annorect": structs(row, {"annopoints": points(WHOLE)})}, 1)
    people, _, problems = read(write_mpii(tmp_path / "mpii", rows))
    assert (
        len(problems) == 1 and message in problems[0] and "annolist(1).annorect(1)" in problems[0]
    )
    assert people.image.tolist() == [0, 1]


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path):
    source = write_mpii(tmp_path / "mpii")
    annolist = [
        {"image": structs({"name": name}), **row}
        for name, (row, _) in zip(("../../x.jpg", *list(SIZES)[1:]), entries())
    ]
    release = structs({"annolist": structs(*annolist), "img_train": np.ones((1, 6))})
    scipy.io.savemat(source / mpii.ANNOTATIONS, {"RELEASE": release}, do_compression=True)
    assert "leads out of" in read(source)[2][0]


@pytest.mark.parametrize(
    "content",
    [
        {"OTHER": 1.0},
        {"RELEASE": 1.0},
        {"RELEASE": structs({"annolist": 1.0, "img_train": 1.0})},
        {
            "RELEASE": structs(
                {"annolist": structs({"image": 1.0}, {"image": 2.0}), "img_train": np.ones((1, 3))}
            )
        },
    ],
)
def test_other_mat_files_are_refused(tmp_path, content):
    scipy.io.savemat(tmp_path / mpii.ANNOTATIONS, content, do_compression=True)
    with pytest.raises(InputError, match="expected a struct RELEASE"):
        mpii.read_mpii(tmp_path / mpii.ANNOTATIONS, tmp_path)


def test_missing_parts_of_the_download(tmp_path):
    with pytest.raises(InputError, match="holds no mpii_human_pose"):
        mpii.find_source(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / mpii.ANNOTATIONS).write_bytes(b"")
    with pytest.raises(InputError, match="no folder images"):
        mpii.find_source(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "a/images").mkdir(parents=True)  # deeper down, so it is not the one
    assert mpii.find_source(tmp_path) == (tmp_path / "deep" / mpii.ANNOTATIONS, tmp_path)


def test_damaged_mat_files_give_an_error_or_the_right_people(tmp_path):
    """A compressed file, as MATLAB writes it, carries checksums: what is read at all must be right."""
    source = write_mpii(tmp_path / "mpii")
    path = source / mpii.ANNOTATIONS
    good = read(source)[0]
    refused = 0
    for what, damaged in corruptions(path.read_bytes(), 210, seed=12):
        print(what)
        path.write_bytes(damaged)
        try:
            people, _, _ = read(source)
        except InputError:
            refused += 1
            continue
        np.testing.assert_array_equal(people.joints_img, good.joints_img)
        np.testing.assert_array_equal(people.bbox, good.bbox)
    assert refused > 70  # all truncations


def test_structs_without_compression_are_refused(tmp_path):
    """They carry no checksum, and scipy crashes on some that are damaged."""
    release = scipy.io.loadmat(write_mpii(tmp_path) / mpii.ANNOTATIONS)["RELEASE"]
    scipy.io.savemat(tmp_path / mpii.ANNOTATIONS, {"RELEASE": release})
    with pytest.raises(InputError, match="neither compressed nor an array of numbers"):
        read(tmp_path)


def test_damaged_jpegs_give_an_error_or_a_picture_of_their_size(source):
    path = source / "images/01.jpg"
    decoded = 0
    for what, damaged in corruptions(path.read_bytes(), 210, seed=13):
        print(what)
        path.write_bytes(damaged)
        try:
            picture, _ = read_image(path, 120, 110)
        except InputError:
            continue
        decoded += 1
        assert picture.shape == (110, 120, 3) and image_size(path) == (120, 110)
        assert "truncated" not in what
    assert decoded > 20
