"""The command line: `python -m ipr_lib COMMAND`, or `ipr COMMAND`.

Each command is one function, named and described as the help shows it. The tables at the end say which options it takes.
What a command needs of the library is imported when it runs, so that the help does not wait for torch.
"""

import argparse
import functools
import io
import os
import sys
from pathlib import Path

from .data.h36m_layout import (
    ACTION_NUMBERS,
    ARCHIVE_GB,
    SUBJECTS,
    TEST_STEP,
    TEST_SUBJECTS,
    TRAIN_STEP,
)
from .files import REPOSITORY, InputError
from .geometry import BOX_SCALE

DATA = REPOSITORY / "data"
RESULTS = REPOSITORY / "results"
# For training on several machines. After "--", torchrun leaves alone what it would otherwise take for its own options.
ON_EACH_MACHINE = (
    "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 "
    "-m -- ipr_lib train --profile full"
)
# Options whose number must be above 0, where a command has them.
POSITIVE = ("times", "step", "test_step", "store", "workers", "focal", "every", "unfold_gb")


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; by default those of this process.

    Returns:
        exit code: 0, 1 for notebooks that failed, 2 for what the user can mend, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    options = make_parser().parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    if getattr(options, "unfold_gb", None) is not None:
        os.environ["IPR_UNFOLD_GB"] = str(options.unfold_gb)  # inherited, as the device is
    if "device" in options:
        os.environ["IPR_DEVICE"] = options.device  # processes that are started inherit it
        if options.device == "mps":
            # What an Apple GPU lacks, the CPU computes; `import torch` reads this.
            os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    try:
        for name in POSITIVE:
            number = getattr(options, name, None)
            if number is not None and not number > 0:
                option = name.replace("_", "-")
                raise InputError(f"--{option} {number}: expected a number above 0")
        return options.run(options) or 0
    except InputError as error:
        message, code = str(error), error.exit_code
    except KeyboardInterrupt:
        message, code = "interrupted; the same command goes on from here", 130
        print(file=sys.stderr)
    print(f"ipr_lib {options.command}: {message}", file=sys.stderr)
    return code


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; after parsing, `options.run(options)` runs the one that was given."""
    parser = argparse.ArgumentParser(
        prog="python -m ipr_lib",
        description="Integral human pose: a course and a reproduction.",
        # Indented by one, the longest command leaves room for its text on the same line.
        formatter_class=functools.partial(argparse.HelpFormatter, indent_increment=1),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    text = "Prepare a data set from what its owners distribute."
    prepare = commands.add_parser("prepare", help=text, description=text)
    sets = prepare.add_subparsers(dest="set", required=True, metavar="SET")
    for place, table in ((commands, COMMANDS), (sets, PREPARE)):
        for run, options in table.items():
            text = run.__doc__.partition("\n")[0]
            command = place.add_parser(run.__name__, help=text, description=text)
            command.set_defaults(run=run)
            for names, choices in options:
                command.add_argument(*names, **choices)
    train_parser = commands.choices["train"]
    train_parser.formatter_class = argparse.RawDescriptionHelpFormatter  # keeps the epilog's lines
    train_parser.epilog = (
        "Several machines share data/ and results/ on one disk. Run the same line on each of them,\n"
        f"where HOST is one of them:\n  {ON_EACH_MACHINE}"
    )
    return parser


# --- what several commands do ---


def _load(options):
    """The Config that the options of CONFIG describe."""
    from .config import load_config, parse_overrides

    overrides = parse_overrides(options.set)
    return load_config(options.profile or "laptop", seed=options.seed, **overrides)


def _numbers(text, option):
    """Whole numbers with commas between them, "0,1" -> [0, 1]."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"{option} {text}: expected whole numbers with commas between them, such as 0,1"
        ) from error


# --- the commands ---


def capture(options):
    """Write the built-in capture in the prepared Human3.6M layout."""
    from .course import pipeline
    from .studio import write_motion, write_sheet

    cfg = _load(options)
    if options.sheet is not None:
        write_sheet(options.sheet, cfg.capture_subjects, cfg.capture_actions)
        print(options.sheet)
        return
    if options.motion is None:
        print(pipeline.capture(cfg, options.target, options.workers))
        return
    target = options.target or DATA / f"motion-{options.motion.resolve().name}"
    plan = write_motion(
        target,
        options.motion,
        subjects=cfg.capture_subjects,
        cameras=cfg.capture_cameras,
        train_step=cfg.train_step,
        test_step=cfg.test_step,
        unit_mm=options.unit,
        up=options.up,
        workers=options.workers or cfg.workers,
    )
    for take in plan:
        place = f"S{take['subject']}, action {take['action']}, take {take['take']}"
        note = f"; note: {take['note']}" if "note" in take else ""
        print(f"{take['file']}: {place}, {take['n_frames']} poses{note}")
    print(target)


def human36m(options):
    """Human3.6M: from the download to a prepared set, or straight to crop stores."""
    from .prepare import prepare_human36m

    target = options.target or DATA / "human36m"
    lines = prepare_human36m(
        options.source,
        target,
        subjects=sorted(set(options.subjects)),
        actions=sorted(set(options.actions)),
        step=1 if options.all_frames else options.step,
        test_step=1 if options.all_frames else options.test_step,
        test_subjects=options.test_subjects,
        lens=options.lens,
        reader=options.reader,
        metadata=options.metadata,
        store_px=options.store,
        archive_gb=options.archive_gb,
        workers=options.workers,
    )
    print(*lines, sep="\n")
    if options.store is None:
        print(target)


def check(options):
    """Check a prepared set; the exit code says if it is usable."""
    from .prepare import check_set, read_metadata

    metadata = read_metadata(options.metadata) if options.metadata else None
    report, problems = check_set(options.root, metadata, options.workers)
    print(report)
    if problems:
        print(*problems, sep="\n")
        raise InputError(
            f"{options.root} cannot be used as it is: {len(problems)} problems, listed above"
        )
    print(f"{options.root} is usable")


def mpii(options):
    """MPII: from the .mat file and the images to json and crop stores."""
    from .prepare import prepare_mpii

    _prepare_people(
        options,
        prepare_mpii,
        validation_list=options.validation_list,
        published=options.published,
    )


def coco(options):
    """COCO: from the person keypoints to json and crop stores."""
    from .prepare import prepare_coco

    _prepare_people(
        options,
        prepare_coco,
        splits=options.splits,
        year=options.year,
        min_keypoints=options.min_keypoints,
        min_box_px=options.min_box,
    )


def _prepare_people(options, prepare, **choices):
    """Prepare a 2D set by its function; `choices` are those that the other sets do not have."""
    lines = prepare(
        options.source,
        options.target or DATA / options.set,
        store_px=options.store,
        box_scale=options.box_scale,
        workers=options.workers,
        **choices,
    )
    print(*lines, sep="\n")


def train(options):
    """Train the network of a profile, or go on with its training."""
    from .course import pipeline
    from .training import distributed

    if options.gpus and "TORCHELASTIC_RUN_ID" not in os.environ:  # else torchrun started us
        return distributed.launch(options.arguments, _numbers(options.gpus, "--gpus"))
    folder = options.results_dir / options.run_name if options.run_name else None
    if options.init is not None and folder is None:
        raise InputError("--init goes with --run NAME, because the profile's run starts afresh")
    cfg = _train_config(options, folder)
    folder = folder or pipeline.run_dir(cfg, options.results_dir)
    with distributed.process_group():
        pipeline.trained(cfg, options.results_dir, folder, options.init)
        if distributed.rank() == 0:
            print(folder)


def _train_config(options, folder):
    """The Config of a training: profile or checkpoint, then recipes, then --set, then --times."""
    from .config import RECIPES, load_config, parse_overrides, scaled
    from .run import checkpoint_config
    from .training.records import CHECKPOINT

    profile, overrides = options.profile or "laptop", {"seed": options.seed}
    if options.resume:
        if folder is None:
            raise InputError("--resume goes with --run NAME, whose checkpoint brings the config")
        saved = checkpoint_config(folder / CHECKPOINT)
        # With --profile, the config is stated in full, and training refuses one that is not the run's.
        if options.profile is None:
            overrides = dict(vars(saved))
            profile = overrides.pop("profile")
    for recipe in options.recipe:
        if recipe not in RECIPES:
            raise InputError(f"unknown recipe {recipe!r}; choose from {', '.join(RECIPES)}")
        overrides |= RECIPES[recipe]
    overrides |= parse_overrides(options.set)
    return scaled(load_config(profile, **overrides), options.times)


def test(options):
    """Score a trained or a published network and print its tables."""
    from .course import pipeline
    from .evaluation import published_report, run_report

    oracles = {"box": options.box, "root": options.root, "intrinsics": options.intrinsics}
    if options.published is not None:
        chosen = [options.run_name, *(name for name in oracles.values() if name != "oracle")]
        if any(chosen) or options.checkpoint != "last":
            raise InputError(
                "--published takes no --run, --checkpoint, --box, --root or --intrinsics; leave them out"
            )
        options.profile = options.profile or "full"
        content, folder = pipeline.evaluate_published(
            options.published, _load(options), options.results_dir, options.subjects, options.texts
        )
        report = published_report(content)
    else:
        if not options.run_name:
            cfg = _load(options)
            pipeline.trained(cfg, options.results_dir)
            run = pipeline.run_dir(cfg, options.results_dir)
        elif options.profile or options.set:
            raise InputError("--run brings its own config; leave out --profile and --set")
        else:
            run = pipeline.find_run(options.run_name, options.results_dir)
        content, folder = pipeline.evaluate_run(
            run, options.checkpoint, options.subjects, texts=options.texts, **oracles
        )
        report = run_report(content)
    print(report)
    print(f"tables, predictions and numbers: {folder}")


def predict(options):
    """Predict poses in pictures, folders and videos of your own."""
    from .course import load_reference
    from .files import device_name
    from .inference import load_detector, parse_box, predict_files
    from .run import default_device

    if options.box and options.whole:
        raise InputError("--box and --whole both say where the person is; give one of them")
    box = parse_box(options.box) if options.box else None
    network, cfg, line = load_reference(_load(options), options.results_dir)
    device = default_device()
    print(f"{line}; on {device_name(device)}")
    detector = None
    if box is None and not options.whole:
        detector, line = load_detector(device)
        print(line if detector is not None else f"{line}; taking whole pictures")
    _, problems = predict_files(
        options.files,
        options.out,
        network,
        cfg,
        box,
        detector,
        options.focal,
        options.every,
        options.smooth,
    )
    print(options.out)
    if problems:
        raise InputError(f"inputs without a pose: {len(problems)}; the lines above say why")


def compare(options):
    """Compare methods under equal conditions: the experiment of notebook 08."""
    from .config import parse_overrides
    from .course import pipeline
    from .experiment import (
        AXES,
        CONTEST,
        SWEEP,
        case_table,
        claim_table,
        planned_cases,
        sweep_table,
    )

    profile, axes = options.profile or "laptop", tuple(options.axes or CONTEST)
    for axis in axes:
        if axis not in (*AXES, SWEEP):
            raise InputError(f"unknown axis {axis!r}; choose from {', '.join((*AXES, SWEEP))}")
    if options.list:
        for case in planned_cases(profile):
            if case.axis in axes:
                print(f"{case.axis:8}{case.name}")
        return
    summary = pipeline.compared(
        profile,
        _numbers(options.seeds, "--seeds") if options.seeds else None,
        options.results_dir,
        options.cases,
        axes,
        parse_overrides(options.set),
    )
    runs, claims = summary["runs"], summary["claims"]
    print(sweep_table(runs), case_table(runs), claim_table(claims), sep="\n\n")


def reproduce(options):
    """Capture, train, evaluate, print the table, run the notebooks."""
    from .config import parse_overrides
    from .course import pipeline

    pipeline.reproduce(
        options.profile or "laptop",
        options.seed,
        parse_overrides(options.set),
        options.results_dir,
        options.only,
        options.fresh,
        options.solutions,
    )


def exercises(_):
    """Write each notebook's exercises from notebooks/solutions."""
    from .course.exercises import solutions_of, update_exercises
    from .course.notebooks import list_notebooks

    for path in list_notebooks():
        if solutions_of(path).exists() and update_exercises(path):
            print(f"{path.parent.name}/{path.name}: exercises written anew")


def report(options):
    """Condense runs into results/reference and the README's table."""
    from .course import save_reference
    from .evaluation import update_readme, write_reference

    if options.runs:
        write_reference(options.runs, options.reference)
    if options.model is not None:
        print(save_reference(options.model))
    if options.readme:
        update_readme(REPOSITORY / "README.md", options.reference)


# --- their options ---


def option(*names, **choices):
    """One option, as `ArgumentParser.add_argument` takes it."""
    return names, choices


def path(*names, help, metavar="DIR", **choices):
    """An option that names a file or a folder."""
    return option(*names, type=Path, metavar=metavar, help=help, **choices)


def number(*names, help=None, **choices):
    """An option that is a whole number, or several."""
    return option(*names, type=int, metavar="N", help=help, **choices)


def flag(name, help):
    """An option without a value."""
    return option(name, action="store_true", help=help)


PROFILE = option("--profile", help="smoke, laptop, gpu or full; default: laptop")
SET = option(
    "--set",
    nargs="*",
    default=[],
    metavar="NAME=VALUE",
    help="override fields of the profile's config",
)
RESULTS_DIR = path("--results-dir", default=RESULTS, help="where runs lie")
CONFIG = [PROFILE, number("--seed", default=0), SET, RESULTS_DIR]
DEVICE = option(
    "--device",
    choices=("auto", "cpu", "cuda", "mps"),
    default=os.environ.get("IPR_DEVICE", "auto"),
    help="default: auto, an NVIDIA GPU where there is one; mps is an Apple GPU",
)
RUN = option(
    "--run",
    dest="run_name",
    metavar="NAME",
    help="a run's folder in --results-dir; default: that of the profile",
)
TARGET = path("--target", help="folder to write to; default: one in data/, named after the set")
METADATA = path(
    "--metadata", metavar="FILE", help="metadata.xml of the data set, if it is not in --source"
)
WORKERS = number("--workers", default=2, help="processes; default: 2")
SOURCE = path("--source", required=True, help="the download, extracted; of Human3.6M also as .tgz")
STORE = number("--store", help="write crop stores, for training crops of N px")
UNFOLD = option(
    "--unfold-gb",
    type=float,
    metavar="GB",
    help="what a .mat, .pt or json may unfold to in memory; default: 4",
)
PEOPLE = [
    SOURCE,
    TARGET,
    STORE,
    option(
        "--box-scale",
        type=float,
        default=BOX_SCALE,
        help=f"side of the crop's box, in longer sides of the person's box; default: {BOX_SCALE}",
    ),
    WORKERS,
    UNFOLD,
]

PREPARE = {
    human36m: [
        SOURCE,
        TARGET,
        number("--subjects", nargs="+", choices=SUBJECTS, default=SUBJECTS),
        number(
            "--actions",
            nargs="+",
            choices=ACTION_NUMBERS,
            default=ACTION_NUMBERS,
            help="2 is Directions; default: all",
        ),
        number(
            "--step",
            default=TRAIN_STEP,
            help=f"use every N-th frame of training subjects; default: {TRAIN_STEP}",
        ),
        number(
            "--test-step",
            default=TEST_STEP,
            help=f"use every N-th frame of test subjects; default: {TEST_STEP}",
        ),
        number(
            "--test-subjects",
            nargs="+",
            choices=SUBJECTS,
            default=TEST_SUBJECTS,
            help="default: 9 11; with 11 alone, S9 is for training",
        ),
        flag("--all-frames", "use every frame"),
        flag("--lens", "keep the full lens model; default: the usual pinhole camera"),
        number(
            "--store",
            help="write crop stores for training crops of N px into TARGET/../stores, and no whole images",
        ),
        METADATA,
        option("--reader", choices=("opencv", "pyav"), default="opencv", help="of the videos"),
        option(
            "--archive-gb",
            type=float,
            default=ARCHIVE_GB,
            metavar="GB",
            help=f"what one archive may unfold to; default: {ARCHIVE_GB}",
        ),
        WORKERS,
        UNFOLD,
    ],
    check: [
        path("root", help="a prepared set, or the built-in capture"),
        path("--metadata", metavar="FILE", help="metadata.xml, to compare the counts with"),
        WORKERS,
        UNFOLD,
    ],
    mpii: [
        *PEOPLE,
        path(
            "--validation-list",
            metavar="FILE",
            help="names of validation images, one a line, or json",
        ),
        flag("--published", "keep 1-based pixels, as the published converter does"),
    ],
    coco: [
        *PEOPLE,
        option(
            "--splits",
            nargs="+",
            choices=("train", "validation"),
            default=["train", "validation"],
        ),
        number("--year", default=2017),
        number("--min-keypoints", default=1, help="skip people with fewer annotated joints"),
        option(
            "--min-box",
            type=float,
            default=0.0,
            metavar="PX",
            help="skip boxes whose longer side is smaller",
        ),
    ],
}
COMMANDS = {
    capture: [
        *CONFIG,
        TARGET,
        number("--workers", help="processes; default: the profile's"),
        path(
            "--sheet",
            metavar="FILE",
            help="only draw all actors in all actions into one picture",
        ),
        path("--motion", help="play the .bvh files of this folder instead"),
        option(
            "--unit",
            type=float,
            metavar="MM",
            help="mm per unit of these files; default: found from the leg's length",
        ),
        option("--up", choices=("x", "y", "z"), help="upward axis of these files; default: found"),
    ],
    train: [
        *CONFIG,
        DEVICE,
        option(
            "--recipe",
            nargs="+",
            default=[],
            metavar="NAME",
            help="usual changes: every-50th, depth-32, depth-16, strong",
        ),
        number("--times", default=1, help="N times the batch, at N times the learning rate"),
        RUN,
        flag("--resume", "go on with --run NAME; its checkpoint brings the config, too"),
        path(
            "--init",
            metavar="FILE",
            help="start --run NAME from the weights of a run, a checkpoint or a published model",
        ),
        option("--gpus", metavar="0,1", help="train on these GPUs, with one process for each"),
        UNFOLD,
    ],
    test: [
        *CONFIG,
        DEVICE,
        RUN,
        option(
            "--checkpoint",
            default="last",
            metavar="last|best|FILE",
            help="which of the run's checkpoints",
        ),
        path(
            "--published",
            metavar="FILE",
            help="score a published checkpoint on the profile's data",
        ),
        number("--subjects", nargs="+", help="score only these test subjects"),
        option("--box", default="oracle", metavar="oracle|estimated", help="which box is cut"),
        option(
            "--root",
            default="oracle",
            metavar="oracle|mean|box",
            help="where the root's depth comes from",
        ),
        option(
            "--intrinsics",
            default="oracle",
            metavar="oracle|pinhole|assumed",
            help="what is known of the camera",
        ),
        flag("--texts", "also write poses as public code does, a line each"),
        UNFOLD,
    ],
    predict: [
        path("files", nargs="+", metavar="FILE", help="pictures, videos, folders of them"),
        path("--out", required=True, help="where tables, overlays and pages go"),
        option(
            "--box",
            metavar="X,Y,W,H",
            help="of the one person, px; default: a person detector's",
        ),
        flag("--whole", "take the whole picture as the person's box"),
        option(
            "--focal",
            type=float,
            metavar="PX",
            help="focal length; default: from EXIF, else assumed",
        ),
        number("--every", default=1, help="of videos, take every N-th frame"),
        flag("--smooth", "of videos, smooth paths by the One-Euro filter"),
        *CONFIG,
        DEVICE,
    ],
    compare: [
        option("--profile", help="smoke, laptop or gpu; default: laptop"),
        option(
            "--seeds",
            metavar="0,1,2",
            help="each case is run once for each seed; default: five for the methods, three for others",
        ),
        option(
            "--axes",
            nargs="+",
            metavar="AXIS",
            help="what to vary: method, map, 2D, budget, variant (default: these), depth, trunk "
            "(backbone), crop; or sweep: only pick each method's settings",
        ),
        option(
            "--cases", nargs="+", metavar="CASE", help="only these cases, e.g. R1 'I*, coarse map'"
        ),
        flag("--list", "only print the cases"),
        SET,
        RESULTS_DIR,
        DEVICE,
    ],
    reproduce: [
        *CONFIG,
        DEVICE,
        option("--only", nargs="+", metavar="NN", help="run only these notebooks, e.g. 00 06"),
        flag("--fresh", "run notebooks again though nothing has changed for them"),
        flag("--solutions", "solve the exercises as well, and check the solutions"),
    ],
    exercises: [],
    report: [
        path("runs", nargs="*", help="run folders that differ only in their seed"),
        path(
            "--reference",
            metavar="FILE",
            default=RESULTS / "reference" / "laptop.json",
            help="the file to write, or to read for --readme",
        ),
        flag("--readme", "write the table into README.md"),
        path("--model", metavar="RUN", help="keep this run's network as the reference model"),
    ],
}


if __name__ == "__main__":
    sys.exit(main())
