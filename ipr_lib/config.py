"""One frozen, checked Config and its four profiles. Only the engine, the command line and notebooks see it."""

import dataclasses
import hashlib
import json
import types
import typing
from dataclasses import dataclass

from .data.h36m_layout import ACTIONS, CAMERAS, FIRST_ACTION, SUBJECTS
from .files import REPOSITORY as REPOSITORY  # until its users import it from files
from .files import InputError
from .integral import METHODS
from .network import BACKBONES
from .training.optimizers import OPTIMIZERS
from .training.precision import PRECISIONS

ALL_ACTIONS = tuple(range(FIRST_ACTION, FIRST_ACTION + len(ACTIONS)))


# Fields that change no result, and fields younger than the first runs, which count where they differ from their defaults.
FREE = ("workers", "keep_checkpoints")
LATER = (
    "method",
    "clip_gradient",
    "sync_batch_norm",
    "compile",
    "validation_subjects",
    "occlusion",
)


@dataclass(frozen=True)
class Config:
    """All choices of one run. Lengths in mm, picture sizes in px.

    The fields up to `mix_ratio` say which data; `capture_*` concern the built-in capture alone.
    """

    profile: str
    seed: int = 0  # of the network's start, the batches' order and the augmentation
    dataset: str = "capture"  # "capture", or the folder of a prepared set: in data/, or a full path
    capture_subjects: tuple[int, ...] = SUBJECTS
    capture_actions: tuple[int, ...] = ALL_ACTIONS
    capture_takes: tuple[int, ...] = (1, 2)
    capture_cameras: tuple[int, ...] = CAMERAS
    capture_frames: int = 400  # poses a take, 50 a second
    train_subjects: tuple[int, ...] = (1, 5, 6, 7, 8)
    test_subjects: tuple[int, ...] = (9, 11)
    train_step: int = 5  # every how many frames one is used
    test_step: int = 64
    mix: tuple[
        str, ...
    ] = ()  # 2D sets mixed into training, by the names of their stores in data/stores: mpii, coco
    mix_ratio: tuple[int, ...] = ()  # shares of a batch, the 3D set first; equal shares where empty

    crop_px: int = 256
    depth_bins: int = 64
    depth_mm: float = 2000.0
    trunk: str = "resnet50"
    trunk_width: int = 64  # of trunk "small" only
    head_width: int = 256
    deconvolutions: int = 3
    pretrained: bool = False
    method: str = "I*"  # of integral.METHODS: head, loss and decoder

    batch_size: int = 32
    micro_batches: int = (
        1  # parts that a batch is worked through in: for cores of a CPU, or the memory of a GPU
    )
    epochs: int = 20
    optimizer: str = "adamw"  # of optimizers.OPTIMIZERS
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
    precision: str = (
        "float32"  # of precision.PRECISIONS, for the network; the integral is always float32
    )
    clip_gradient: float = 0.0  # largest norm of all gradients together; 0: as they come
    sync_batch_norm: bool = (
        False  # with several processes: statistics of the whole batch, not of each one's share
    )
    compile: bool = False  # the network by torch.compile
    validation_subjects: tuple[
        int, ...
    ] = ()  # scored after each epoch; the best checkpoint is kept. None of train or test
    keep_checkpoints: int = 1  # the last how many
    workers: int = 2  # processes for capture, store and, on a GPU, batches

    def __post_init__(self):
        choices = {
            "trunk": BACKBONES,
            "method": METHODS,
            "optimizer": OPTIMIZERS,
            "schedule": ("steps", "cosine"),
            "precision": PRECISIONS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name}={getattr(self, name)!r}: expected one of {', '.join(allowed)}"
                )
        positive = (
            "capture_frames",
            "train_step",
            "test_step",
            "crop_px",
            "depth_bins",
            "depth_mm",
            "trunk_width",
            "head_width",
            "deconvolutions",
            "batch_size",
            "micro_batches",
            "epochs",
            "learning_rate",
            "keep_checkpoints",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise InputError(f"{name}={getattr(self, name)}: expected a number above 0")
        not_negative = (
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
            "workers",
        )
        for name in not_negative:
            if not getattr(self, name) >= 0:
                raise InputError(f"{name}={getattr(self, name)}: expected 0 or a number above it")
        if not 0 <= self.occlusion <= 1:
            raise InputError(f"occlusion={self.occlusion}: expected a probability, 0 … 1")
        if not self.scale < 1:
            raise InputError(
                f"scale={self.scale}: expected a number below 1; the zoom lies in 1 - scale … 1 + scale"
            )
        for name in ("capture_subjects", "capture_actions", "capture_takes", "capture_cameras"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty: expected at least one number")
        if self.crop_px % BACKBONES[self.trunk]:
            raise InputError(
                f"crop_px={self.crop_px}: expected a multiple of {BACKBONES[self.trunk]}, the stride of trunk {self.trunk}"
            )
        if self.batch_size % self.micro_batches:
            raise InputError(
                f"batch_size={self.batch_size}: expected a multiple of micro_batches={self.micro_batches}"
            )
        if self.mix_ratio and len(self.mix_ratio) != 1 + len(self.mix):
            raise InputError(
                f"mix_ratio={self.mix_ratio}: expected {1 + len(self.mix)} numbers, one for {self.dataset} and one for each "
                f"of mix={self.mix}, or none for equal shares"
            )
        ratio = self.mix_ratio or (1,) * (1 + len(self.mix))
        if (
            min(ratio) < 1 or self.mix and self.batch_size % sum(ratio)
        ):  # before hours are spent on the 3D store
            raise InputError(
                f"batch_size={self.batch_size}: expected a multiple of {sum(ratio)}, to be shared out {' : '.join(map(str, ratio))}; "
                "shares are whole numbers above 0"
            )
        if not self.clip_gradient >= 0:
            raise InputError(
                f"clip_gradient={self.clip_gradient}: expected a number above 0, or 0 for none"
            )
        parts = [f"{part}_subjects" for part in ("train", "validation", "test")]
        for first, second in ((0, 2), (0, 1), (1, 2)):
            first, second = parts[first], parts[second]
            if set(getattr(self, first)) & set(getattr(self, second)):
                raise InputError(
                    f"{first} {getattr(self, first)} and {second} {getattr(self, second)} overlap"
                )

    @property
    def volume_shape(self):
        """(D, H, W) of each joint's volume, cells."""
        side = self.crop_px // BACKBONES[self.trunk] * 2**self.deconvolutions
        return self.depth_bins, side, side

    @property
    def network(self):
        """The network in words: trunk, crop, and the volume of a method that has one."""
        width = f" (width {self.trunk_width})" if self.trunk == "small" else ""
        volume = (
            f", volume {' x '.join(map(str, self.volume_shape))}"
            if METHODS[self.method].head == "volume"
            else ""
        )
        return f"{self.trunk}{width}, {self.crop_px} px{volume}"

    def hash(self):
        """8 hex digits that name this config: equal configs, equal hash. Fields of FREE do not change results."""
        fields = dataclasses.asdict(self)
        if not self.mix:
            del fields["mix"], fields["mix_ratio"]
        for field in dataclasses.fields(
            self
        ):  # a run keeps the name that it had before there was such a field
            if field.name in FREE or field.name in LATER and fields[field.name] == field.default:
                del fields[field.name]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]

    def __str__(self):
        return "\n".join(
            f"{field.name:17} {getattr(self, field.name)}" for field in dataclasses.fields(self)
        )


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
        "trunk": "small",
        "trunk_width": 8,
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
        "train_step": 16,
        "crop_px": 128,
        "depth_bins": 16,
        "trunk": "small",
        "trunk_width": 32,
        "head_width": 64,
        "deconvolutions": 1,
        "batch_size": 32,
        "micro_batches": 2,
        "epochs": 28,
        "optimizer": "muon",
        "learning_rate": 3e-3,
        "warmup_steps": 300,
        "schedule": "cosine",
        "scale": 0.15,
        "rotation": 15.0,
        "hue": 60.0,
        "contrast": 0.3,
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
        "trunk": "resnet152",
        "pretrained": True,
        "crop_px": 384,
        "mix": ("mpii", "coco"),
        "mix_ratio": (2, 1, 1),
        "contrast": 0.3,
        "occlusion": 0.5,
        "warmup_steps": 1000,
    },
}


def load_config(profile, /, **overrides):
    """Make a checked Config.

    Args:
        profile: one of PROFILES.
        **overrides: fields of Config to set otherwise; lists stand for tuples, as notebooks and JSON pass them.
    Returns:
        Config.
    Raises:
        InputError: unknown profile or field (with the nearest known name), or a value of the wrong type or range.
    """
    if not isinstance(profile, str) or profile not in PROFILES:
        raise InputError(f"unknown profile {profile!r}; choose one of {', '.join(PROFILES)}")
    kinds = typing.get_type_hints(Config)
    for name in overrides:
        if name not in kinds or name == "profile":
            raise InputError(f"unknown override {name!r}; {_nearest(name, kinds)}")
    values = {
        name: _checked(name, value, kinds[name])
        for name, value in (PROFILES[profile] | overrides).items()
    }
    return Config(profile=profile, **values)


def scaled(overrides, cfg, times):
    """Overrides for batches `times` as large, with the learning rate scaled alike (Goyal et al. 2017, linear scaling).

    Args:
        overrides: to add to, by name of field.
        cfg: Config made with them.
        times: whole number, often that of GPUs.
    Returns:
        dict. Warm-up is at least 500 steps: a rate for large batches is too large for fresh weights.
    """
    return overrides | {
        "batch_size": cfg.batch_size * times,
        "learning_rate": cfg.learning_rate * times,
        "warmup_steps": max(cfg.warmup_steps, 500 if times > 1 else 0),
    }


def parse_overrides(pairs):
    """["crop_px=96", "trunk=small"] -> {"crop_px": 96, "trunk": "small"}; values are read as JSON where they can be."""
    overrides = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"override {pair!r}: expected NAME=VALUE, such as crop_px=96")
        try:
            overrides[name] = json.loads(text)
        except ValueError:
            overrides[name] = text
    return overrides


def _nearest(name, known):
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def _checked(name, value, kind):
    """`value` as `kind`, or InputError."""
    if isinstance(kind, types.GenericAlias):  # tuple[int, ...] or tuple[str, ...]
        if isinstance(value, (list, tuple)) and all(
            type(item) is kind.__args__[0] for item in value
        ):
            return tuple(value)
    elif kind is float and type(value) in (int, float):
        return float(value)
    elif type(value) is kind:
        return value
    lists = {tuple[int, ...]: "a list of whole numbers", tuple[str, ...]: "a list of names"}
    expected = lists.get(kind) or f"a value of type {kind.__name__}"
    raise InputError(f"{name}={value!r}: expected {expected}")
