"""Which options each command of the command line takes, and how they are read.

`__main__` holds the commands. Neither loads torch, so that the help comes at once.
"""

import argparse
import math
import re
from pathlib import Path

from .data import h36m_layout as layout
from .files import InputError
from .geometry import BOX_SCALE


class Parser(argparse.ArgumentParser):
    """A parser whose errors are of one line, as all others are."""

    def __init__(self, **choices):
        super().__init__(**choices)
        # Numbers that begin with a minus are no options, be they several, as in --box -9,20,80,200.
        self._negative_number_matcher = re.compile(r"-\.?\d[-\d.,e]*$")

    def error(self, message):
        raise InputError(f"{message}; see {self.prog} --help")


class Once(argparse.Action):
    """Keep one value; an option that is given twice would lose the first without a word."""

    def __call__(self, parser, namespace, value, option_string=None):
        if hasattr(namespace, self.dest):
            raise argparse.ArgumentError(self, "is given twice, but takes one value")
        setattr(namespace, self.dest, value)


class Add(argparse.Action):
    """Add the values of an option to those that it was given before; its type makes a list of each text."""

    def __call__(self, parser, namespace, lists, option_string=None):
        values = list(getattr(namespace, self.dest, []))
        for several in lists:
            values += several
        setattr(namespace, self.dest, values)


# --- kinds of options ---


def option(usage, help, default=None, **choices):
    """One option, as `ArgumentParser.add_argument` takes it; its help names a default that is a number or a text."""
    name, _, metavar = usage.partition(" ")
    if isinstance(default, (int, float, str)):
        help += f"; default: {default}"
    return name, choices | {"metavar": metavar or None, "help": help, "default": default}


def path(usage, help, **choices):
    """An option that names a file or a folder."""
    return option(usage, help, type=Path, **choices)


def number(usage, within, help, default=None):
    """An option that is a number, in a range whose ends belong to it; whole where the first end is."""
    return option(usage, help, default, type=number_within(*within))


def several(usage, help, default=None, item=str):
    """An option with several values, apart or with commas between them; a repeated one adds."""
    return option(usage, help, default, type=items_of(item), nargs="+", action=Add)


def flag(name, help):
    """An option without a value."""
    return name, {"action": "store_true", "help": help, "default": False}


def number_within(low, high):
    """A function that reads a number of the kind of `low`, and refuses one that is out of its range."""
    words = "a whole number" if isinstance(low, int) else "a number"

    def read(text):
        try:
            value = type(low)(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # NaN is in no range
            raise argparse.ArgumentTypeError(f"{text}: expected {words} from {low} to {high}")
        return value

    return read


def items_of(item):
    """A function that makes a list of "a,b"; a comma before a space belongs to a name."""

    def read(text):
        return [item(part) for part in re.split(r",(?! )", text.strip(",")) if part]

    return read


def subject(text):
    """ "S9" or "9" -> 9."""
    return number_within(1, 99)(text.removeprefix("S"))


def one_of(item, known):
    """A function that reads an item, and refuses one that is not known."""

    def read(text):
        value = item(text)
        if value not in known:
            names = ", ".join(map(str, known))
            raise argparse.ArgumentTypeError(f"{text}: choose from {names}")
        return value

    return read


# --- the options of each command ---

# Parts of the project's tests, in the order in which they run; course.checkout knows what each of them runs.
TEST_PARTS = ("lint", "unit", "notebooks", "narrow", "browser")
SEEDS = (0, 2**32 - 1)
PROCESSES = (1, 1024)
CROPS = (8, 4096)  # px
EVERY = (1, 100_000)  # frames
GB = (0.001, 1e6)
SECONDS = (0.0, 1e6)

PROFILE = option("--profile NAME", "smoke, laptop, gpu or full", "laptop")
SEED = number("--seed N", SEEDS, "of the start, the order of batches and the augmentation", 0)
SET = option(
    "--set NAME=VALUE",
    "override fields of the profile's config; lists as 1,5,6",
    [],
    nargs="+",
    action="extend",
)
DATA_DIR = path(
    "--data-dir DIR", "where data sets and crop stores lie; default: IPR_DATA, or data/"
)
RESULTS_DIR = path("--results-dir DIR", "where runs lie; default: IPR_RESULTS, or results/")
FOLDERS = [DATA_DIR, RESULTS_DIR]
CONFIG = [PROFILE, SEED, SET, *FOLDERS]
DEVICE = option(
    "--device",
    "default: IPR_DEVICE, or auto, an NVIDIA GPU where there is one; mps is an Apple GPU",
    choices=("auto", "cpu", "cuda", "mps"),
)
RUN = option("--run NAME", "a run's folder in --results-dir; default: that of the profile")
TARGET = path("--target DIR", "folder to write to; default: one in --data-dir, named after the set")
WORKERS = number("--workers N", PROCESSES, "processes", 2)
SOURCE = path("--source DIR", "the download, extracted; of Human3.6M also as .tgz", required=True)
UNFOLD = number("--unfold-gb GB", GB, "what a .mat, .pt or json may unfold to in memory", 4)
PEOPLE = [
    SOURCE,
    TARGET,
    DATA_DIR,
    number("--store N", CROPS, "write crop stores, for training crops of N px"),
    number(
        "--box-scale N",
        (0.1, 10),
        "side of the crop's box, in longer sides of the person's box",
        BOX_SCALE,
    ),
    WORKERS,
    UNFOLD,
]
# Which network `predict` and `export` take.
NETWORK = [
    option("--run NAME", "a run's folder in --results-dir; default: the course's own network"),
    path("--weights FILE", "a checkpoint or model.pt of this library"),
    path("--published FILE", "a published checkpoint, by its own conventions"),
    option("--profile NAME", "take the finished run of this profile"),
    number("--seed N", SEEDS, "of that run", 0),
    SET,
    RESULTS_DIR,
]

PREPARE = {
    "human36m": [
        SOURCE,
        TARGET,
        DATA_DIR,
        several(
            "--subjects S", "S1,S5; default: all", layout.SUBJECTS, one_of(subject, layout.SUBJECTS)
        ),
        several(
            "--actions N",
            "2 is Directions; default: all",
            layout.ACTION_NUMBERS,
            one_of(number_within(1, 99), layout.ACTION_NUMBERS),
        ),
        number("--step N", EVERY, "use every N-th frame of training subjects", layout.TRAIN_STEP),
        number("--test-step N", EVERY, "use every N-th frame of test subjects", layout.TEST_STEP),
        several(
            "--test-subjects S",
            "default: S9,S11; with S11 alone, S9 is for training",
            layout.TEST_SUBJECTS,
            one_of(subject, layout.SUBJECTS),
        ),
        flag("--all-frames", "use every frame"),
        flag("--lens", "keep the full lens model; default: the usual pinhole camera"),
        number(
            "--store N",
            CROPS,
            "write crop stores for training crops of N px into TARGET/../stores, and no whole images",
        ),
        path("--metadata FILE", "metadata.xml of the data set, if it is not in --source"),
        option("--reader", "of the videos", "opencv", choices=("opencv", "pyav")),
        number("--archive-gb GB", GB, "what one archive may unfold to", layout.ARCHIVE_GB),
        WORKERS,
        UNFOLD,
    ],
    "check": [
        path("root DIR", "a prepared set, or the built-in capture"),
        path("--metadata FILE", "metadata.xml, to compare the counts with"),
        WORKERS,
        UNFOLD,
    ],
    "mpii": [
        *PEOPLE,
        path("--validation-list FILE", "names of validation images, one a line, or json"),
        flag("--published", "keep 1-based pixels, as the published converter does"),
    ],
    "coco": [
        *PEOPLE,
        several(
            "--splits SPLIT",
            "train, validation; default: both",
            ["train", "validation"],
            one_of(str, ("train", "validation")),
        ),
        number("--year N", (1, 9999), "of the annotations", 2017),
        number("--min-keypoints N", (0, 17), "skip people with fewer annotated joints", 1),
        number("--min-box PX", (0.0, 1e5), "skip boxes whose longer side is smaller", 0.0),
    ],
}
COMMANDS = {
    "capture": [
        PROFILE,
        SET,
        DATA_DIR,
        TARGET,
        number("--workers N", PROCESSES, "processes; default: the profile's"),
        path("--sheet FILE", "only draw all actors in all actions into one picture"),
        path("--motion DIR", "play the .bvh files of this folder instead"),
        number(
            "--unit MM",
            (0.001, 1e5),
            "mm per unit of these files; default: found from the leg's length",
        ),
        option("--up", "upward axis of these files; default: found", choices=("x", "y", "z")),
    ],
    "train": [
        *CONFIG,
        DEVICE,
        several("--recipe NAME", "usual changes: every-50th, depth-32, depth-16, strong", []),
        number("--times N", (1, 4096), "N times the batch, at N times the learning rate", 1),
        RUN,
        flag("--resume", "go on with --run NAME; its checkpoint brings the config, too"),
        path(
            "--init FILE",
            "start --run NAME from the weights of a run, a checkpoint or a published model",
        ),
        several(
            "--gpus N",
            "train on these GPUs, such as 0,1, with one process for each",
            item=number_within(0, 1023),
        ),
        UNFOLD,
    ],
    "test": [
        *CONFIG,
        DEVICE,
        RUN,
        option("--checkpoint last|best|FILE", "which of the run's checkpoints", "last"),
        path("--published FILE", "score a published checkpoint on the profile's data"),
        several("--subjects S", "score only these test subjects, such as S9,S11", item=subject),
        option("--box oracle|estimated", "which box is cut", "oracle"),
        option("--root oracle|mean|box", "where the root's depth comes from", "oracle"),
        option("--intrinsics oracle|pinhole|assumed", "what is known of the camera", "oracle"),
        flag("--texts", "also write poses as public code does, a line each"),
        UNFOLD,
    ],
    "runs": [RESULTS_DIR],
    "predict": [
        path("files FILE", "pictures, videos, folders of them", nargs="+"),
        path("--out DIR", "where tables, overlays and pages go", required=True),
        option(
            "--box X,Y,W,H",
            "of the one person: top left corner, width, height, px of the upright picture; "
            "default: a person detector's",
        ),
        path("--boxes FILE", ".csv of boxes: file,person,x,y,w,h"),
        flag("--whole", "take the whole picture as the person's box"),
        number("--focal PX", (1.0, 1e6), "focal length; default: from EXIF, else assumed"),
        number("--person N", (0, 100_000), "keep person N alone, as the tables count"),
        flag("--recursive", "of folders, take what lies in their folders, too"),
        number("--every N", EVERY, "of videos, take every N-th frame", 1),
        number("--start N", SECONDS, "of videos, begin here, s", 0.0),
        number("--end N", SECONDS, "and end before here, s", math.inf),
        flag("--smooth", "of videos, smooth paths by the One-Euro filter"),
        several(
            "--also KIND",
            "of videos, also write the motion as bvh or glb (glTF), the overlay as mp4 (H.264)",
            [],
            one_of(str, ("bvh", "glb", "mp4")),
        ),
        option(
            "--up X,Y,Z",
            "of bvh and glb: which way is up in the camera's axes, x right, y down, z away; "
            "0,-1,0 where it is held level",
            "0,-1,0",
        ),
        *NETWORK,
        flag("--flip-test", "average with what the network sees in the mirror"),
        DEVICE,
    ],
    "export": [path("--out FILE", "the .onnx file to write", required=True), *NETWORK],
    "compare": [
        option("--profile NAME", "smoke, laptop or gpu", "laptop"),
        several(
            "--seeds N",
            "each case is run once for each seed; default: five for the methods, three for others",
            item=number_within(*SEEDS),
        ),
        several(
            "--axes AXIS",
            "what to vary: method, map, 2D, budget, variant (default: these), depth, trunk "
            "(backbone), crop; or sweep: only pick each method's settings",
        ),
        several("--cases CASE", "only these cases, e.g. R1 'I*, coarse map'"),
        number(
            "--processes N",
            (1, 256),
            "so many runs at a time, which share the cores: 2 on a laptop, as many as cores with a GPU",
            1,
        ),
        flag("--list", "only print the cases"),
        SET,
        *FOLDERS,
        DEVICE,
    ],
    "reproduce": [
        *CONFIG,
        DEVICE,
        several("--only NN", "run only these notebooks, e.g. 00,06"),
        flag("--as-is", "run notebooks on the trained network that is there; train none for them"),
        flag("--fresh", "run notebooks again though nothing has changed for them"),
        flag("--solutions", "solve the exercises as well, and check the solutions"),
    ],
    "doctor": [],
    "lab": FOLDERS,
    "selftest": [
        option(
            "parts PART",
            f"{', '.join(TEST_PARTS)}; default: all, in this order",
            nargs="*",
            type=one_of(str, TEST_PARTS),
        )
    ],
    "exercises": [
        path("--without-solutions DIR", "copy the course, without solutions, to this new folder"),
        several(
            "--grade FILE",
            "run the checks of students' notebooks, such as 06_maria.ipynb",
            item=Path,
        ),
        path("--csv FILE", "the table to write; default: grades.csv", default=Path("grades.csv")),
        option("--profile NAME", "to run them with", "smoke"),
        *FOLDERS,
    ],
    "report": [
        path("runs DIR", "run folders that differ only in their seed", nargs="*", default=[]),
        path(
            "--reference FILE",
            "the file to write, or to read for --readme; default: that of the runs' profile, or laptop.json",
        ),
        flag("--readme", "write the table into README.md"),
        path("--model RUN", "keep this run's network as the reference model"),
    ],
}
