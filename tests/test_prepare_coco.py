"""COCO people from a small json of the official form, with made-up values."""

import copy
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from ipr_lib.data.images import read_image
from ipr_lib.data.people import read_people
from ipr_lib.data.store import open_store
from ipr_lib.files import InputError
from ipr_lib.geometry import apply_affine
from ipr_lib.geometry.skeleton import COCO, SKELETONS
from ipr_lib.prepare import build_people_store, coco, prepare_coco
from tests.conftest import UNDO
from tests.fuzzing import corruptions

NAMES = [
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
]
SIZES = {7: (120, 91), 12: (64, 101), 30: (75, 60), 31: (83, 59)}


def person(identity, picture, known, **fields):
    """An annotation: joint j at (30 + j, 20 + 2 j), visibility 2 for even joints and 1 for odd ones among `known`."""
    keypoints = []
    for j in range(17):
        keypoints += [30 + j, 20 + 2 * j, 2 - j % 2] if j in known else [0, 0, 0]
    return {
        "id": identity,
        "image_id": picture,
        "category_id": 1,
        "iscrowd": 0,
        "area": 800.5,
        "segmentation": [[1, 2, 3, 4, 5, 6]],
        "bbox": [25.5, 15.0, 30.0, 44.25],
        "keypoints": keypoints,
        "num_keypoints": len(known),
        **fields,
    }


def content():
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": i, "file_name": f"{i:012d}.jpg", "width": width, "height": height, "license": 1}
            for i, (width, height) in SIZES.items()
        ],
        "annotations": [
            person(500, 12, range(17)),
            person(501, 7, [0, 5, 6]),
            person(502, 7, []),
            person(503, 7, [5, 6], iscrowd=1, segmentation={"counts": [1], "size": [91, 120]}),
            person(504, 30, [0], bbox=[28.0, 18.0, 9.0, 6.5]),
        ],
        "categories": [
            {
                "id": 1,
                "name": "person",
                "supercategory": "person",
                "keypoints": NAMES,
                "skeleton": [[16, 14]],
            }
        ],
    }


def write_coco(root, part="train2017", data=None):
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"person_keypoints_{part}.json").write_text(
        json.dumps(data or content()), encoding="utf-8"
    )
    folder = root / part
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for i, size in SIZES.items():
        cv2.imwrite(
            str(folder / f"{i:012d}.jpg"),
            cv2.resize(rng.integers(0, 255, (4, 4, 3), np.uint8), size),
        )
    return root / "annotations" / f"person_keypoints_{part}.json", folder


def test_people_by_hand(tmp_path, capsys):
    people, skipped, problems = coco.read_coco(*write_coco(tmp_path))
    assert problems == [] and skipped == {"crowd": 1, "no keypoints": 1}
    assert people.skeleton == COCO and people.person_id.tolist() == [500, 501, 504]
    assert people.image_id.tolist() == [7, 12, 30]  # nobody is in 31
    assert people.image_name[0] == "train2017/000000000007.jpg" and people.image_size[
        1
    ].tolist() == [64, 101]
    assert people.image.tolist() == [1, 0, 2]
    assert people.joints_img[0, COCO.index("L_Eye")].tolist() == [31, 22]
    assert people.joints_img[0, COCO.index("R_Ankle")].tolist() == [46, 52]
    assert people.visibility[0].tolist() == [2, 1] * 8 + [2]
    assert np.flatnonzero(people.visibility[1]).tolist() == [
        COCO.index(n) for n in ("Nose", "L_Shoulder", "R_Shoulder")
    ]
    assert np.isnan(people.head_box).all()
    assert capsys.readouterr().out == ""


def test_joint_names_are_coco_s_in_its_order():
    assert [name.replace("left_", "l_").replace("right_", "r_") for name in NAMES] == [
        name.lower() for name in COCO.names
    ]


@pytest.mark.parametrize(
    ("options", "kept", "reasons"),
    [
        ({"min_keypoints": 2}, [500, 501], {"fewer than 2 keypoints": 1}),
        ({"min_keypoints": 4}, [500], {"fewer than 4 keypoints": 2}),
        ({"min_box_px": 9}, [500, 501, 504], {}),
        ({"min_box_px": 9.5}, [500, 501], {"box smaller than 9.5 px": 1}),
    ],
)
def test_filters(tmp_path, options, kept, reasons):
    people, skipped, _ = coco.read_coco(*write_coco(tmp_path), **options)
    assert people.person_id.tolist() == kept
    assert skipped == {"crowd": 1, "no keypoints": 1, **reasons}


def test_whole_preparation_with_stores(tmp_path):
    write_coco(tmp_path / "raw")
    smaller = content()
    smaller["annotations"] = smaller["annotations"][:1]
    write_coco(tmp_path / "raw", "val2017", smaller)
    lines = prepare_coco(tmp_path / "raw", tmp_path / "data/coco", store_px=32)
    people, _, problems = read_people(tmp_path / "data/coco/annotations/train.json")
    assert problems == [] and people.person_id.tolist() == [500, 501, 504]
    store = open_store(tmp_path / "data/stores/coco-train-32")
    assert len(store) == 3 and store.skeleton == COCO and store.recipe["box_scale"] == 1.25
    assert len(open_store(tmp_path / "data/stores/coco-validation-32")) == 1
    # Rows follow the pictures: 501 is in the first one.
    assert store.columns["person"].tolist() == [501, 500, 504] and store.columns[
        "frame"
    ].tolist() == [7, 12, 30]
    assert store.columns["visible"].sum(1).tolist() == [3, 17, 1]
    assert any("3 people in 3 images" in line for line in lines)


def test_json_is_what_coco_s_own_tools_expect(tmp_path):
    """Keypoints are counted from 1, and the area is the segment's, by which OKS divides."""
    data = content()
    data["annotations"][1].pop("area")
    data["annotations"][4]["area"] = -1
    write_coco(tmp_path, data=data)
    lines = prepare_coco(tmp_path, tmp_path / "out", splits=("train",))
    assert lines[0].endswith("area of the segment for 1 people, of the box for 2")
    written = json.loads((tmp_path / "out/annotations/train.json").read_text(encoding="utf-8"))
    assert written["info"]["area"] == "area of the segment for 1 people, of the box for 2"
    # Boxes of 30 x 44.25 and of 9 x 6.5 px stand in for the segments that are not there.
    areas = {annotation["id"]: annotation["area"] for annotation in written["annotations"]}
    assert areas == {500: 800.5, 501: 1327.5, 504: 58.5}
    category = written["categories"][0]
    limbs = {frozenset(category["keypoints"][i - 1] for i in limb) for limb in category["skeleton"]}
    assert frozenset({"l_ankle", "l_knee"}) in limbs and frozenset({"nose", "l_eye"}) in limbs
    assert min(min(limb) for limb in category["skeleton"]) >= 1


@pytest.mark.parametrize("folder", ["a/b", "train2017"])
def test_file_names_may_hold_a_folder(tmp_path, folder):
    """Below the images' folder, or that folder itself."""
    data = content()
    for image in data["images"]:
        image["file_name"] = f"{folder}/{image['file_name']}"
    path, images = write_coco(tmp_path, data=data)
    place = images if folder == "train2017" else images / folder
    place.mkdir(parents=True, exist_ok=True)
    for file in images.glob("*.jpg"):
        file.rename(place / file.name)
    people, _, problems = coco.read_coco(path, images)
    assert problems == [] and people.person_id.tolist() == [500, 501, 504]
    where = "train2017" if folder == "train2017" else "train2017/a/b"
    assert people.image_name[0] == f"{where}/000000000007.jpg"
    store, problems, _ = build_people_store(people, tmp_path, tmp_path / "c", crop_px=32)
    assert problems == [] and len(store) == 3


@pytest.mark.parametrize(
    "numbers",
    [
        {"store_px": -5},
        {"store_px": 0},
        {"store_px": 100000},
        {"store_px": 32, "box_scale": float("nan")},
        {"store_px": 32, "box_scale": -1.0},
        {"box_scale": 0.0},
        {"workers": 0},
        {"min_keypoints": 18},
        {"min_keypoints": 0},
        {"min_box_px": float("inf")},
        {"min_box_px": -1},
    ],
)
def test_numbers_have_ranges_and_nothing_is_written(tmp_path, numbers):
    write_coco(tmp_path / "raw")
    option = "--" + [*numbers][-1].removesuffix("_px").replace("_", "-")
    with pytest.raises(InputError, match=f"{option}.* expected a number from"):
        prepare_coco(tmp_path / "raw", tmp_path / "data/coco", splits=("train",), **numbers)
    assert not (tmp_path / "data").exists()


def test_a_capture_is_never_prepared_over(tmp_path):
    write_coco(tmp_path / "raw")
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/capture.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="coco holds a capture.*another with --target"):
        prepare_coco(tmp_path / "raw", tmp_path / "coco", splits=("train",), store_px=32)
    assert [path.name for path in (tmp_path / "coco").iterdir()] == ["capture.json"]
    assert not (tmp_path / "stores").exists()


# ---------------------------------------------------------------- pictures that EXIF turns

UPRIGHT = (203, 151)
SPOT = (52, 37)  # the middle of a red square, px of the upright picture
# Where that pixel lies before a viewer turns the picture as EXIF says: (x, y) by orientation, counted by hand.
SPOT_AS_STORED = {
    1: (52, 37),
    2: (150, 37),  # mirrored: 202 - 52
    3: (150, 113),  # upside down: 150 - 37
    4: (52, 113),
    5: (37, 52),
    6: (37, 150),
    7: (113, 150),
    8: (113, 52),
}


def turned_jpeg(path, orientation, size=UPRIGHT):
    """Write a green picture with the red square, stored so that `orientation` turns it upright."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[..., 1] = 120
    pixels[SPOT[1] - 10 : SPOT[1] + 11, SPOT[0] - 10 : SPOT[0] + 11] = 250, 0, 0
    picture = Image.fromarray(pixels)
    if orientation > 1:
        picture = picture.transpose(UNDO[orientation])
    if size == UPRIGHT:
        assert picture.getpixel(SPOT_AS_STORED[orientation]) == (250, 0, 0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture.save(path, quality=95, exif=exif)
    return picture.size


def coco_of_one(root, width, height, joint, bbox):
    """A download of one picture, with one joint of one person."""
    data = content()
    data["images"] = [{"id": 7, "file_name": "x.jpg", "width": width, "height": height}]
    data["annotations"] = [person(500, 7, [0], bbox=bbox)]
    data["annotations"][0]["keypoints"][:2] = joint
    path, folder = write_coco(root, data=data)
    return path, folder / "x.jpg"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("labels", ["upright", "as the pixels lie", "square"])
def test_labels_of_turned_pictures(tmp_path, orientation, labels):
    """A joint on the red square stays on it, whichever way the labels refer to."""
    size = UPRIGHT if labels != "square" else (203, 203)
    stored = (203, 203) if labels == "square" else UPRIGHT[:: -1 if orientation >= 5 else 1]
    width, height, joint = *size, SPOT
    if labels == "as the pixels lie" and orientation >= 5:  # elsewhere the sizes cannot tell
        width, height, joint = *stored, SPOT_AS_STORED[orientation]
    box = [joint[0] - 30, joint[1] - 20, 80, 90]
    _, jpeg = coco_of_one(tmp_path / "raw", width, height, list(joint), box)
    assert turned_jpeg(jpeg, orientation, size) == stored
    lines = prepare_coco(tmp_path / "raw", tmp_path / "coco", splits=("train",), store_px=32)
    store = open_store(tmp_path / "stores/coco-train-32")
    in_crop = apply_affine(store.columns["affine"][0], np.array([joint], float))[0]
    x, y = np.rint(in_crop).astype(int)
    red, green, _ = store.image(0)[y, x].astype(int)
    assert red > 200 and green < 50
    taken = "as the pixels lie" if joint != SPOT else "upright"
    said = f"1 images with an EXIF orientation: labels taken {taken}"
    assert (said in lines) == (orientation > 1)
    assert len([line for line in lines if "EXIF" in line]) == (orientation > 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shrink", [1, 2, 4])
def test_reduced_turned_pictures_lie_over_the_whole_one(tmp_path, orientation, shrink):
    turned_jpeg(tmp_path / "x.jpg", orientation)
    image, to_whole = read_image(tmp_path / "x.jpg", *UPRIGHT, shrink)
    red = np.argwhere((image[..., 2] > 128) & (image[..., 1] < 90))[:, ::-1]
    middle = apply_affine(to_whole, red.mean(axis=0)[None])[0]
    np.testing.assert_allclose(middle, SPOT, atol=0.6 * shrink)


def test_labels_of_another_size_are_refused_either_way(tmp_path):
    path, jpeg = coco_of_one(tmp_path, 150, 203, [52, 37], [20, 20, 80, 90])
    turned_jpeg(jpeg, 6)
    people, _, _ = coco.read_coco(path, jpeg.parent)
    with pytest.raises(InputError, match="x.jpg: the picture is not of the 150 x 203 px"):
        build_people_store(people, tmp_path, tmp_path / "c", crop_px=32)


def test_damaged_exif_is_no_reason_to_refuse(tmp_path):
    _, jpeg = coco_of_one(tmp_path, *UPRIGHT, list(SPOT), [20, 20, 80, 90])
    turned_jpeg(jpeg, 3)
    data = jpeg.read_bytes()
    start = data.index(b"Exif\0\0") + 6
    jpeg.write_bytes(data[:start] + b"?" * 20 + data[start + 20 :])
    image, _ = read_image(jpeg, *UPRIGHT)
    assert image.shape == (151, 203, 3)


# ---------------------------------------------------------------- what stands before and after a JPEG


def with_segment(jpeg, content):
    """A JPEG with a segment for programs (APP5) behind its first two bytes."""
    return jpeg[:2] + b"\xff\xe5" + (len(content) + 2).to_bytes(2, "big") + content + jpeg[2:]


def test_what_phones_add_to_a_jpeg_is_no_damage(tmp_path):
    """A film behind it, and a preview before it whose end is not the picture's."""
    turned_jpeg(tmp_path / "x.jpg", 1)
    jpeg = (tmp_path / "x.jpg").read_bytes()
    preview = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    assert preview.endswith(b"\xff\xd9")
    film = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40
    whole = with_segment(jpeg, preview)
    for data in (jpeg, jpeg + film, whole, whole + film):
        (tmp_path / "x.jpg").write_bytes(data)
        assert read_image(tmp_path / "x.jpg", *UPRIGHT)[0].shape == (151, 203, 3)
    for cut in (len(whole) - 2, len(whole) - 200, len(whole) - len(jpeg) + 30, 300):
        (tmp_path / "x.jpg").write_bytes(whole[:cut])
        with pytest.raises(InputError, match="not a complete JPEG"):
            read_image(tmp_path / "x.jpg", *UPRIGHT)


def test_progressive_jpegs_are_whole(tmp_path):
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "x.jpg", progressive=True)
    assert read_image(tmp_path / "x.jpg", 256, 256)[0].shape == (256, 256, 3)
    data = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(data[: len(data) // 2])  # after its first scans
    with pytest.raises(InputError, match="not a complete JPEG"):
        read_image(tmp_path / "x.jpg", 256, 256)


def test_pictures_may_lie_in_a_folder_images(tmp_path):
    path, folder = write_coco(tmp_path)
    (tmp_path / "images").mkdir()
    folder.rename(tmp_path / "images/train2017")
    assert coco.find_source(tmp_path, "train") == (path, tmp_path / "images/train2017")
    prepare_coco(tmp_path, tmp_path / "out", splits=("train",), store_px=32)


def test_missing_parts_of_the_download(tmp_path):
    with pytest.raises(InputError, match="annotations_trainval2017.zip"):
        coco.find_source(tmp_path, "train")
    _, folder = write_coco(tmp_path)
    for picture in folder.iterdir():
        picture.unlink()
    folder.rmdir()
    with pytest.raises(InputError, match="extract train2017.zip.*images.cocodataset.org/zips"):
        coco.find_source(tmp_path, "train")
    with pytest.raises(InputError, match="1999.json is missing; .* holds the year 2017: .*--year"):
        coco.find_source(tmp_path, "train", 1999)
    (tmp_path / "val2017").mkdir()  # all that many people download
    with pytest.raises(InputError, match="train2017.*alone by --splits validation"):
        prepare_coco(tmp_path, tmp_path / "out")


def test_missing_pictures_are_listed_and_the_rest_is_done(tmp_path):
    _, folder = write_coco(tmp_path)
    (folder / "000000000012.jpg").unlink()
    (folder / "000000000031.jpg").unlink()  # nobody is in it: not missed
    with pytest.raises(InputError) as caught:
        prepare_coco(tmp_path, tmp_path / "out", splits=("train",))
    assert "1 problems" in str(caught.value) and "000000000012.jpg is missing" in str(caught.value)
    assert read_people(tmp_path / "out/annotations/train.json")[0].person_id.tolist() == [501, 504]


# ---------------------------------------------------------------- bad input


def damaged(change):
    data = copy.deepcopy(content())
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["annotations"][0].update(image_id=99),
            "annotation 500 is left out: image_id 99 is none of the pictures",
        ),
        (
            lambda d: d["annotations"][0].update(image_id=[1]),
            r"image_id \[1\] is none of the pictures",
        ),
        (
            lambda d: d["annotations"][0].update(bbox=[200, 15, 30, 44]),
            "500 is left out: the box .* lies outside its 64 x 101",
        ),
        (lambda d: d["annotations"][0].update(bbox=[25, 15, 0, 44]), "the box is empty"),
        (lambda d: d["annotations"][0].update(bbox=[25, 15, 500, 44]), "far larger than its"),
        (lambda d: d["annotations"][0].update(bbox=[25, 15, "30", 44]), "4 finite numbers as bbox"),
        (
            lambda d: d["annotations"][0].update(bbox=[25, 15, 1e999, 44]),
            "4 finite numbers as bbox",
        ),
        (lambda d: d["annotations"][0].update(keypoints=[1, 2, 2]), "expected 51 finite numbers"),
        (
            lambda d: d["annotations"][0]["keypoints"].__setitem__(2, 3),
            "visibility is not 0, 1 or 2",
        ),
        (
            lambda d: d["annotations"][0]["keypoints"].__setitem__(2, 0),
            "num_keypoints is 17, but 16",
        ),
        (
            lambda d: d["annotations"][0].update(num_keypoints=[17, 17]),
            r"num_keypoints is \[17, 17\], but 17",
        ),
        (
            lambda d: d["annotations"][0]["keypoints"].__setitem__(3, 9000),
            "a joint lies far outside",
        ),
        (
            lambda d: d["annotations"][0]["keypoints"].__setitem__(3, 10**400),
            "expected 51 finite numbers",
        ),
        (lambda d: d["annotations"][0].update(id=501), "its id is missing or used twice"),
        (lambda d: d["annotations"][0].update(iscrowd=7), "iscrowd is 7"),
        (lambda d: d["images"][1].update(width=-64), "picture 12 is left out: width and height"),
        (
            lambda d: d["images"][1].update(file_name="../../etc/x.jpg"),
            "leads out of the picture folder",
        ),
        (
            lambda d: d["images"][1].update(file_name="/etc/x.jpg"),
            "leads out of the picture folder",
        ),
        (lambda d: d["images"][1].pop("file_name"), "has no file_name"),
        (lambda d: d["images"][1].update(id=7), "its id is used twice"),
        (lambda d: d.pop("images"), "no list called images"),
        (lambda d: d.update(annotations={}), "no list called annotations"),
        (lambda d: d["categories"][0].pop("keypoints"), "no category lists its keypoints"),
        (lambda d: d["categories"][0]["keypoints"].reverse(), "are no joint set of"),
        (lambda d: d.update(annotations=[]), "holds no usable person"),
        (lambda d: d.update(annotations=d["annotations"][2:4]), "holds no usable person"),
    ],
)
def test_bad_annotations_are_named(tmp_path, change, message):
    path, _ = write_coco(tmp_path, data=damaged(change))
    try:
        people, _, problems = read_people(path)
    except InputError as error:
        text = str(error)
    else:
        text = problems[0]
        assert 500 not in people.person_id[:1] or "used twice" in text
    assert str(path) in text
    assert re.search(message, text), text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        '{"images": 3}',
        "\x00",
        '{"images": [], "annotations": [[]], "categories": []}',
    ],
)
def test_other_json_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="x.json"):
        read_people(tmp_path / "x.json")
    with pytest.raises(InputError, match="missing"):
        read_people(tmp_path / "none.json")


def test_another_joint_set_is_refused(tmp_path):
    data = content()
    data["categories"][0]["keypoints"] = list(SKELETONS["MPII"].names)
    for annotation in data["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:48]
        annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])
    path, folder = write_coco(tmp_path, data=data)
    with pytest.raises(InputError, match="another joint set"):
        coco.read_coco(path, folder)


def test_damaged_json_gives_an_error_or_checked_people(tmp_path):
    """A changed digit is a digit; whatever is read must hold together and lie where pictures are."""
    path, folder = write_coco(tmp_path)
    refused = 0
    for what, broken in corruptions(path.read_bytes(), 240, seed=17):
        print(what)
        path.write_bytes(broken)
        try:
            people, _, _ = coco.read_coco(path, folder)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        assert "truncated" not in what
        size = people.image_size[people.image][:, None]
        assert (
            np.isfinite(people.joints_img).all() and (np.abs(people.joints_img) <= 2 * size).all()
        )
        assert (people.bbox[:, 2:] > 0).all() and len(set(people.person_id.tolist())) == len(people)
        assert set(people.image_name) <= {f"train2017/{i:012d}.jpg" for i in SIZES}
    assert refused >= 80


def test_damaged_jpegs_end_in_whole_crops_or_a_line(tmp_path):
    path, folder = write_coco(tmp_path)
    people, _, _ = coco.read_coco(path, folder)
    jpeg = folder / "000000000012.jpg"
    built = 0
    for what, broken in corruptions(jpeg.read_bytes(), 200, seed=19):
        print(what)
        jpeg.write_bytes(broken)
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        store, problems, _ = build_people_store(people, tmp_path, tmp_path / "c", crop_px=32)
        assert len(store) + len(problems) == 3 and all(str(jpeg) in line for line in problems)
        built += len(store) == 3
        assert store.image(0).shape == (43, 43, 3) and store.columns["person"][0] == 501
    assert 20 < built < 180
