import dataclasses
import json

import pytest

from ipr_lib.__main__ import main
from ipr_lib.config import (
    PROFILES,
    RECIPES,
    Config,
    config_from_record,
    load_config,
    parse_overrides,
    scaled,
)
from ipr_lib.data.h36m_layout import SPLITS
from ipr_lib.files import InputError


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_loads(profile):
    cfg = load_config(profile, seed=3)
    assert (cfg.profile, cfg.seed) == (profile, 3)
    for name in PROFILES[profile]:
        assert getattr(cfg, name) == PROFILES[profile][name]


def test_full_is_the_papers_recipe():
    cfg = load_config("full")
    assert (cfg.backbone, cfg.crop_px, cfg.depth_bins, cfg.batch_size, cfg.learning_rate) == (
        "resnet50",
        256,
        64,
        32,
        1e-3,
    )
    assert (cfg.epochs, cfg.lr_drops, cfg.train_step, cfg.test_step) == (20, (15, 17), 5, 64)
    assert cfg.pretrained and cfg.mix == ("mpii",)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (dict(crop_pixels=96), "unknown override 'crop_pixels'"),
        (dict(batchsize=96), "did you mean 'batch_size'"),
        (dict(trunk="big"), "backbone='big': expected one of small"),
        (dict(profile="laptop"), "unknown override 'profile'"),
        (dict(crop_px="96"), "crop_px='96': expected a value of type int"),
        (dict(crop_px=96.0), "expected a value of type int"),
        (dict(epochs=True), "epochs=True: expected a value of type int"),
        (dict(pretrained=1), "expected a value of type bool"),
        (dict(lr_drops=5), "lr_drops=5: expected a list of whole numbers"),
        (dict(lr_drops=[1.5]), "expected a list of whole numbers"),
        (dict(mix="mpii"), "mix='mpii': expected a list of names"),
        (dict(mix=[1]), "mix=.1.: expected a list of names"),
        (
            dict(mix=["mpii"], mix_ratio=[1]),
            "expected 2 numbers, one for capture and one for each of mix",
        ),
        (dict(mix_ratio=[1, 1]), "expected 1 numbers"),
        (
            dict(mix=["mpii"], batch_size=15, micro_batches=1),
            "batch_size=15: expected a multiple of 2, so that it can be divided 1 : 1",
        ),
        (
            dict(mix=["mpii"], mix_ratio=[0, 1]),
            r"mix_ratio=\(0, 1\): expected whole numbers above 0",
        ),
        (dict(crop_px=100), "multiple of 16, the stride of backbone small"),
        (dict(crop_px=48, backbone="resnet18"), "multiple of 32"),
        (dict(epochs=0), "epochs=0: expected a number above 0"),
        (dict(backbone="resnet51"), "expected one of small, resnet18"),
        (dict(schedule="linear"), "expected one of steps, cosine"),
        (
            dict(test_subjects=[5, 9]),
            "train_subjects=.*: expected subjects that are not among test_subjects",
        ),
        (
            dict(validation_subjects=[8]),
            "train_subjects=.*: expected subjects that are not among validation_subjects",
        ),
        (
            dict(validation_subjects=[9]),
            "validation_subjects=.*: expected subjects that are not among test_subjects",
        ),
        (dict(clip_gradient=-1), "clip_gradient=-1.0: expected 0 or a number above it"),
        (dict(keep_checkpoints=0), "keep_checkpoints=0: expected a number above 0"),
        (dict(train_subjects=[1, 5, 1]), r"train_subjects=\(1, 5, 1\): expected each entry once"),
        (dict(capture_subjects=[9, 9]), "capture_subjects=.*: expected each entry once"),
        (dict(mix=["mpii", "mpii"]), "mix=.*: expected each entry once"),
        (dict(capture_takes=[]), r"capture_takes=\(\): expected at least one number"),
        (dict(seed=-1), "seed=-1: expected 0 or a number above it"),
        (dict(warmup_steps=-1), "warmup_steps=-1: expected 0 or"),
        (dict(rotation=float("nan")), "rotation=nan: expected 0 or"),
        (dict(occlusion=1.5), "occlusion=1.5: expected a probability"),
        (dict(occlusion=float("nan")), "occlusion=nan: expected a probability"),
        (dict(scale=1.0), "scale=1.0: expected a number below 1"),
        (dict(learning_rate=float("nan")), "expected a number above 0"),
    ],
)
def test_wrong_overrides(overrides, message):
    with pytest.raises(InputError, match=message):
        load_config("smoke", **overrides)


@pytest.mark.parametrize("profile", ["labtop", None, 3])
def test_unknown_profile(profile):
    with pytest.raises(
        InputError, match="unknown profile .* choose one of smoke, laptop, gpu, full"
    ):
        load_config(profile)


def test_hash_follows_every_field_that_changes_results():
    cfg = load_config("smoke", micro_batches=1)
    changed = {
        int: lambda v: v + 32,
        float: lambda v: v + 0.1,
        bool: lambda v: not v,
        str: None,
        tuple: lambda v: (*v, 99),
    }
    for field in dataclasses.fields(Config):
        change = changed[type(getattr(cfg, field.name))]
        if change is None or field.name in ("train_subjects", "test_subjects", "mix", "mix_ratio"):
            continue
        value = change(getattr(cfg, field.name)) if field.name != "micro_batches" else 2
        other = dataclasses.replace(cfg, **{field.name: value})
        assert (other.hash() == cfg.hash()) == (field.name in ("workers", "keep_checkpoints")), (
            field.name
        )
    assert load_config("smoke", micro_batches=1, lr_drops=[15, 17]).hash() == cfg.hash()
    mixes = [dict(), dict(mix=["mpii"]), dict(mix=["coco"]), dict(mix=["mpii"], mix_ratio=[3, 1])]
    assert len({load_config("smoke", micro_batches=1, **mix).hash() for mix in mixes}) == 4


@pytest.mark.parametrize(
    ("profile", "overrides", "expected"),
    [
        ("smoke", {}, "965ca6d0"),
        ("smoke", {"seed": 3}, "42ba6609"),
        ("smoke", {"workers": 7, "keep_checkpoints": 2}, "965ca6d0"),
        (
            "smoke",
            {"method": "H2", "clip_gradient": 1.0, "compile": True, "occlusion": 0.5},
            "6b28b17c",
        ),
        ("laptop", {}, "e3ea60e2"),
        ("laptop", {"seed": 3}, "4f83fc1e"),
        ("laptop", {"backbone_width": 16, "mix": ["coco"], "mix_ratio": [2, 2]}, "854c71b3"),
        ("gpu", {}, "ebb7f7da"),
        ("gpu", {"seed": 3}, "1a9a8a36"),
        ("full", {}, "f32f78ec"),
        ("full", {"seed": 3}, "1473a30e"),
        (
            "full",
            {
                "backbone": "resnet152",
                "crop_px": 384,
                "mix": ["mpii", "coco"],
                "mix_ratio": [2, 1, 1],
                "contrast": 0.3,
                "occlusion": 0.5,
                "warmup_steps": 1000,
            },
            "90d8d0c9",
        ),
    ],
)
def test_runs_keep_the_names_of_their_folders(profile, overrides, expected):
    """The hash names a run's folder. Whatever is renamed in the code, finished runs must be found again."""
    assert load_config(profile, **overrides).hash() == expected


def test_a_record_has_the_names_that_files_had_first():
    record = load_config("laptop", mix=["coco"]).record()
    assert record["trunk"] == "small" and record["trunk_width"] == 32
    assert "backbone" not in record and "backbone_width" not in record
    through_json = json.loads(json.dumps(record))
    assert config_from_record(through_json) == load_config("laptop", mix=["coco"])


def test_fields_that_a_record_lacks_have_their_defaults():
    record = load_config("laptop", hue=0.0).record()
    del record["clip_gradient"], record["hue"]
    assert config_from_record(record) == load_config("laptop", hue=0.0), (
        "hue is 120 in profile laptop, and 0 by default"
    )


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "unknown profile None"),
        ({"profile": "smoke", "depth": 3}, "unknown override 'depth'"),
        ({"profile": "smoke", "crop_px": "64"}, "expected a value of type int"),
    ],
)
def test_a_damaged_record_is_refused(record, message):
    with pytest.raises(InputError, match=message):
        config_from_record(record)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_fits_the_full_profile(recipe):
    cfg = load_config("full", **RECIPES[recipe])
    assert cfg != load_config("full") and all(
        getattr(cfg, name) == value for name, value in RECIPES[recipe].items()
    )


def test_linear_scaling_by_hand():
    cfg = load_config("full", seed=3)
    large = scaled(cfg, 4)
    assert (large.batch_size, large.learning_rate, large.warmup_steps, large.seed) == (
        128,
        4e-3,
        500,
        3,
    )
    assert scaled(cfg, 1) == cfg


def test_parse_overrides():
    assert parse_overrides(
        ["crop_px=96", "backbone=small", "lr_drops=[1, 2]", "pretrained=true"]
    ) == {"crop_px": 96, "backbone": "small", "lr_drops": [1, 2], "pretrained": True}
    with pytest.raises(InputError, match="expected NAME=VALUE"):
        parse_overrides(["crop_px"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train", "--profile", "labtop"], "ipr_lib train: unknown profile 'labtop'"),
        (
            ["train", "--profile", "smoke", "--set", "crop=96"],
            "ipr_lib train: unknown override 'crop'",
        ),
        (
            ["capture", "--profile", "smoke", "--set", "capture_takes=two"],
            "expected a list of whole numbers",
        ),
    ],
)
def test_command_line_answers_in_one_line_and_exits_with_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_network_in_words():
    """What stands beside every score; a network without a volume is not said to have one."""
    assert load_config("smoke").network == "small (width 8), 64 px, volume 8 x 8 x 8"
    assert load_config("full", method="R1").network == "resnet50, 256 px"


def test_recipes_by_hand():
    """What people ask for, as its name says; each fits the full profile and is a run of its own."""
    made = {name: load_config("full", **RECIPES[name]) for name in RECIPES}
    assert made["every-50th"].train_step == 50 and made["every-50th"].volume_shape == (64, 64, 64)
    assert made["depth-32"].volume_shape == (32, 64, 64) and made["depth-16"].volume_shape == (
        16,
        64,
        64,
    )
    assert made["strong"].network == "resnet152, 384 px, volume 64 x 96 x 96" and made[
        "strong"
    ].mix == ("mpii", "coco")
    assert len({cfg.hash() for cfg in made.values()} | {load_config("full").hash()}) == 5


@pytest.mark.parametrize("split", SPLITS)
def test_both_customary_splits_are_overrides(split):
    train, test = SPLITS[split]
    cfg = load_config("full", train_subjects=list(train), test_subjects=list(test))
    assert (cfg.train_subjects, cfg.test_subjects) == (train, test)


@pytest.mark.parametrize("name", ["profile", "seed"])
def test_what_has_an_option_of_its_own_is_not_set_twice(name):
    with pytest.raises(InputError, match=f"--set {name}=1: use --{name} 1 instead"):
        parse_overrides([f"{name}=1"])
