"""All choices of one run: a frozen, checked Config, and the four profiles that most runs start from.

What stands below this module takes plain arguments; from here on up, functions may take a Config.
"""

import dataclasses
import difflib
import hashlib
import itertools
import json
import math
import typing
from dataclasses import dataclass

from .data.h36m_layout import ACTION_NUMBERS, CAMERAS, SUBJECTS
from .files import InputError
from .integral import METHODS
from .network import BACKBONES, BINS_PER_PX
from .training.loop import OPTIMIZERS
from .training.precision import PRECISIONS

# Fields that change no result, and so do not count for a config's hash.
NOT_IN_HASH = ("workers", "keep_checkpoints")
# Fields that are younger than the first runs. They count where they differ from their defaults, so that a run keeps the
# name that it had before there was such a field.
IN_HASH_IF_CHANGED = (
    "method",
    "clip_gradient",
    "sync_batch_norm",
    "compile",
    "validation_subjects",
    "occlusion",
    "target_height",
    "ball_radius",
)
# Field -> its name in hashes and files (checkpoints, model.pt, result.json, metrics.json), which were there first.
NAMES_ON_DISK = {"backbone": "trunk", "backbone_width": "trunk_width"}

# What a field's value must be.
CHOICES = {
    "backbone": BACKBONES,
    "method": METHODS,
    "optimizer": OPTIMIZERS,
    "schedule": ("steps", "cosine"),
    "precision": PRECISIONS,
}
POSITIVE = (
    "capture_frames",
    "train_step",
    "test_step",
    "crop_px",
    "depth_bins",
    "depth_mm",
    "backbone_width",
    "head_width",
    "deconvolutions",
    "batch_size",
    "micro_batches",
    "epochs",
    "learning_rate",
    "keep_checkpoints",
    "target_height",
    "ball_radius",
)
NOT_NEGATIVE = (
    "seed",
    "weight_decay",
    "warmup_steps",
    "scale",
    "rotation",
    "shift",
    "flip",
    "colour",
    "hue",
    "contrast",
    "clip_gradient",
    "workers",
)
NOT_EMPTY = ("capture_subjects", "capture_actions", "capture_takes", "capture_cameras")
# A repeated entry of these would count twice, or not at all.
NO_REPEATS = (*NOT_EMPTY, "train_subjects", "validation_subjects", "test_subjects", "mix")


@dataclass(frozen=True)
class Config:
    """All choices of one run. Lengths in mm, picture sizes in px.

    The fields up to `mix_ratio` say which data; `capture_*` concern the built-in capture alone.
    """

    profile: str
    seed: int = 0  # of the network's start, the batches' order and the augmentation
    dataset: str = "capture"  # "capture", or the folder of a prepared set: in data/, or a full path
    capture_subjects: tuple[int, ...] = SUBJECTS
    capture_actions: tuple[int, ...] = ACTION_NUMBERS
    capture_takes: tuple[int, ...] = (1, 2)
    capture_cameras: tuple[int, ...] = CAMERAS
    capture_frames: int = 400  # poses a take, 50 a second
    train_subjects: tuple[int, ...] = (1, 5, 6, 7, 8)
    test_subjects: tuple[int, ...] = (9, 11)
    train_step: int = 5  # every how many frames one is used
    test_step: int = 64
    # 2D sets mixed into training, by the names of their stores in data/stores: mpii, coco.
    mix: tuple[str, ...] = ()
    mix_ratio: tuple[int, ...] = ()  # parts of a batch, the 3D set first; equal parts where empty

    crop_px: int = 256
    depth_bins: int = 64
    depth_mm: float = 2000.0
    backbone: str = "resnet50"
    backbone_width: int = 64  # of backbone "small" only
    head_width: int = 256
    deconvolutions: int = 3
    pretrained: bool = False
    method: str = "I*"  # of integral.METHODS: head, loss and decoder
    target_height: float = 1.0  # of the Gaussian that H1 and I1 are taught
    ball_radius: float = 1.5  # of the ball that H3 and I3 are taught, cells

    batch_size: int = 32
    # Parts that a batch is worked through in: for the cores of a CPU, or the memory of a GPU.
    micro_batches: int = 1
    epochs: int = 20
    optimizer: str = "adamw"  # of loop.OPTIMIZERS
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup_steps: int = 0
    schedule: str = "steps"  # "steps": x 0.1 after each epoch of lr_drops; "cosine": down to zero
    lr_drops: tuple[int, ...] = (15, 17)
    scale: float = 0.25
    rotation: float = 30.0
    shift: float = 0.0
    flip: float = 0.5
    colour: float = 0.2
    hue: float = 0.0  # degrees
    contrast: float = 0.0
    occlusion: float = 0.0  # probability that shapes are laid over a crop
    # Of precision.PRECISIONS, for the network; the integral is always float32.
    precision: str = "float32"
    clip_gradient: float = 0.0  # largest norm of all gradients together; 0: as they come
    # With several processes: the statistics of the whole batch, not of each process's part.
    sync_batch_norm: bool = False
    compile: bool = False  # the network by torch.compile
    # Scored after each epoch, and the best checkpoint is kept; neither training nor test subjects.
    validation_subjects: tuple[int, ...] = ()
    keep_checkpoints: int = 1  # how many of the last ones
    workers: int = 2  # processes for capture, store and, on a GPU, batches

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            self._expect(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")
        # The comparisons are written so that NaN fails them.
        for name in POSITIVE:
            self._expect(name, getattr(self, name) > 0, "a number above 0")
        for name in NOT_NEGATIVE:
            self._expect(name, getattr(self, name) >= 0, "0 or a number above it")
        for name in NOT_EMPTY:
            self._expect(name, getattr(self, name), "at least one number")
        for name in NO_REPEATS:
            entries = getattr(self, name)
            self._expect(name, len(set(entries)) == len(entries), "each entry once")
        self._expect("occlusion", 0 <= self.occlusion <= 1, "a probability, 0 … 1")
        self._expect(
            "scale",
            self.scale < 1,
            "a number below 1, because the zoom lies in 1 - scale … 1 + scale",
        )
        stride = BACKBONES[self.backbone]
        self._expect(
            "crop_px",
            self.crop_px % stride == 0,
            f"a multiple of {stride}, the stride of backbone {self.backbone}",
        )
        self._expect(
            "batch_size",
            self.batch_size % self.micro_batches == 0,
            f"a multiple of micro_batches={self.micro_batches}",
        )
        self._check_mix()
        splits = ("train_subjects", "validation_subjects", "test_subjects")
        for first, second in itertools.combinations(splits, 2):
            overlap = set(getattr(self, first)) & set(getattr(self, second))
            self._expect(first, not overlap, f"subjects that are not among {second}, too")

    def _expect(self, name, is_right, expected):
        """InputError with a field's name and value unless it is right."""
        if not is_right:
            raise InputError(f"{name}={getattr(self, name)!r}: expected {expected}")

    def _check_mix(self):
        """A batch must be divisible; otherwise training would fail hours later, after the 3D store is built."""
        sets = 1 + len(self.mix)
        self._expect(
            "mix_ratio",
            len(self.mix_ratio) in (0, sets),
            f"{sets} numbers, one for {self.dataset} and one for each of mix={self.mix}, or none for equal parts",
        )
        ratio = self.mix_ratio or (1,) * sets
        self._expect("mix_ratio", min(ratio) > 0, "whole numbers above 0")
        in_words = " : ".join(str(part) for part in ratio)
        self._expect(
            "batch_size",
            not self.mix or self.batch_size % sum(ratio) == 0,
            f"a multiple of {sum(ratio)}, so that it can be divided {in_words}",
        )

    @property
    def map_side(self) -> int:
        """Height and width of the head's maps, cells."""
        return self.crop_px // BACKBONES[self.backbone] * 2**self.deconvolutions

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """(D, H, W) of each joint's volume, cells; the bins along z, y and x of a head with lines."""
        if METHODS[self.method].head == "lines":
            return (BINS_PER_PX * self.crop_px,) * 3
        return self.depth_bins, self.map_side, self.map_side

    @property
    def network(self) -> str:
        """The network in words: backbone, crop, and the volume of a method that has one."""
        words = self.backbone
        if self.backbone == "small":
            words += f" (width {self.backbone_width})"
        words += f", {self.crop_px} px"
        head = METHODS[self.method].head
        if head == "volume":
            depth, height, width = self.volume_shape
            words += f", volume {depth} x {height} x {width}"
        elif head == "lines":
            words += f", map {self.map_side} x {self.map_side}, lines of {self.volume_shape[0]}"
        return words

    def record(self) -> dict:
        """All fields as they are written to disk; `config_from_record` reads them back."""
        fields = dataclasses.asdict(self)
        return {NAMES_ON_DISK.get(name, name): value for name, value in fields.items()}

    def hash(self) -> str:
        """8 hex digits that name this config; configs that give the same results have the same hash."""
        record = self.record()
        for field in dataclasses.fields(self):
            unchanged = getattr(self, field.name) == field.default
            if field.name in NOT_IN_HASH or (field.name in IN_HASH_IF_CHANGED and unchanged):
                del record[field.name]
        if not self.mix:
            del record["mix"], record["mix_ratio"]
        text = json.dumps(record, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def __str__(self):
        lines = [f"{name:19} {value}" for name, value in dataclasses.asdict(self).items()]
        return "\n".join(lines)


# Types of fields that hold several values: the type of each, and what to call them.
LISTS = {
    tuple[int, ...]: (int, "a list of whole numbers"),
    tuple[str, ...]: (str, "a list of names"),
}

# What each profile is for, and what bounds it, stands in the README.
PROFILES = {
    "smoke": {
        "capture_subjects": (1, 5, 9, 11),
        "capture_takes": (1,),
        "capture_cameras": (1, 3),
        "capture_frames": 130,
        "train_step": 40,
        "crop_px": 64,
        "depth_bins": 8,
        "backbone": "small",
        "backbone_width": 8,
        "head_width": 16,
        "deconvolutions": 1,
        "batch_size": 16,
        "micro_batches": 2,
        "epochs": 3,
        "optimizer": "muon",
        "learning_rate": 3e-3,
        "schedule": "cosine",
    },
    "laptop": {
        "capture_frames": 3000,
        "train_step": 120,
        "test_step": 480,
        "crop_px": 128,
        "depth_bins": 16,
        "backbone": "small",
        "backbone_width": 32,
        "head_width": 64,
        "deconvolutions": 1,
        "batch_size": 32,
        "micro_batches": 2,
        "epochs": 15,
        "optimizer": "muon",
        "learning_rate": 5e-3,
        "warmup_steps": 300,
        "schedule": "cosine",
        "scale": 0.1,
        "rotation": 0.0,
        "hue": 120.0,
        "contrast": 0.5,
        "precision": "native",
    },
    "gpu": {
        "capture_frames": 1500,
        "train_step": 15,
        "batch_size": 64,
        "schedule": "cosine",
        "warmup_steps": 500,
        "precision": "bfloat16",
        "workers": 14,
    },
    "full": {
        "dataset": "human36m",
        "mix": ("mpii",),
        "pretrained": True,
        "precision": "bfloat16",
        "workers": 14,
    },
}

# What people often ask for on top of a profile, as overrides: `python -m ipr_lib train --profile full --recipe every-50th`.
RECIPES = {
    "every-50th": {"train_step": 50},  # a tenth of the frames, and of the time
    "depth-32": {"depth_bins": 32},
    "depth-16": {"depth_bins": 16},
    # Crops are square here: 384 px a side where others take 384 x 288, for a third more work. Half of each batch is 3D.
    "strong": {
        "backbone": "resnet152",
        "pretrained": True,
        "crop_px": 384,
        "mix": ("mpii", "coco"),
        "mix_ratio": (2, 1, 1),
        "contrast": 0.3,
        "occlusion": 0.5,
        "warmup_steps": 1000,
    },
}


def load_config(profile: str, /, **overrides) -> Config:
    """Make a checked Config.

    Args:
        profile: one of PROFILES.
        **overrides: fields of Config to set otherwise; lists stand for tuples, as notebooks and JSON pass them.

    Returns:
        Config.

    Raises:
        InputError: the profile or a field is unknown, or a value has the wrong type or lies out of its range.
    """
    return _make_config(profile, PROFILES.get(profile, {}) | overrides)


def config_from_record(record: dict) -> Config:
    """The Config that `Config.record` described; fields that are younger than the record have their defaults.

    Args:
        record: fields by their names on disk, as `model.pt`, `metrics.json` and `result.json` hold them.

    Returns:
        Config.

    Raises:
        InputError: the record is not one of a Config.
    """
    values = dict(record)
    return _make_config(values.pop("profile", None), values)


def _make_config(profile, values):
    """The Config of a profile with these fields, by their names here or on disk; InputError where one is wrong."""
    if profile not in PROFILES:
        raise InputError(f"unknown profile {profile!r}; choose one of {', '.join(PROFILES)}")
    types = typing.get_type_hints(Config)
    del types["profile"]
    names_here = {name: field for field, name in NAMES_ON_DISK.items()}
    checked = {}
    for given, value in values.items():
        name = names_here.get(given, given)
        if name not in types:
            close = difflib.get_close_matches(name, types, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(types)}"
            raise InputError(f"unknown override {name!r}; {advice}")
        checked[name] = _typed(name, value, types[name])
    return Config(profile, **checked)


def _typed(name, value, kind):
    """`value` as a field of type `kind` holds it, or InputError."""
    if kind in LISTS:
        item_type, expected = LISTS[kind]
        if isinstance(value, (list, tuple)) and {type(item) for item in value} <= {item_type}:
            return tuple(value)
        raise InputError(f"{name}={value!r}: expected {expected}")
    if kind is float and type(value) is int:
        return float(value)
    if kind is float and value in (math.inf, -math.inf):
        raise InputError(f"{name}={value!r}: expected a finite number")
    if type(value) is not kind:  # not isinstance: True is no number here
        raise InputError(f"{name}={value!r}: expected a value of type {kind.__name__}")
    return value


def scaled(cfg: Config, times: int) -> Config:
    """A Config of batches `times` as large, with the learning rate scaled alike (Goyal et al. 2017, linear scaling).

    Args:
        cfg: Config.
        times: whole number, often that of the GPUs.

    Returns:
        Config. Above 1, the warm-up is at least 500 steps, because a rate for large batches is too large for fresh weights.
    """
    if times == 1:
        return cfg
    return dataclasses.replace(
        cfg,
        batch_size=cfg.batch_size * times,
        learning_rate=cfg.learning_rate * times,
        warmup_steps=max(cfg.warmup_steps, 500),
    )


def parse_overrides(pairs: list[str]) -> dict:
    """Read what --set was given: ["crop_px=96", "mix=mpii,coco"] -> {"crop_px": 96, "mix": ["mpii", "coco"]}.

    Args:
        pairs: NAME=VALUE each. A list's items stand between commas, with or without brackets and quotes, and subjects
            may be written S9; other values are read as JSON where they can be.

    Returns:
        values by name.

    Raises:
        InputError: a text is no pair, a name stands twice, or another option sets it.
    """
    types = typing.get_type_hints(Config)
    overrides = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"override {pair!r}: expected NAME=VALUE, such as crop_px=96")
        if name in ("profile", "seed"):
            raise InputError(f"--set {pair}: use --{name} {text} instead")
        if name in overrides:
            raise InputError(f"--set {pair}: {name} is set twice")
        if types.get(name) in LISTS:
            items = [item.strip(" '\"") for item in text.strip("[]() ").split(",")]
            if name.endswith("subjects"):
                items = [item.removeprefix("S") for item in items]
            overrides[name] = [_value(item) for item in items if item]
        else:
            overrides[name] = _value(text)
    return overrides


def _value(text):
    """A text read as JSON, or as it stands where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text
