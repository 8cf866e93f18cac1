"""The command line: `python -m ipr_lib COMMAND`, or `ipr COMMAND`.

For each command, one function declares its arguments and the next one runs it. What a command needs of the library is
imported when it runs, so that the help does not wait for torch.
"""

import argparse
import os
import sys
from pathlib import Path

from .data.h36m_layout import ACTION_NUMBERS, SUBJECTS, TEST_STEP, TEST_SUBJECTS, TRAIN_STEP
from .files import REPOSITORY, InputError

DATA = REPOSITORY / "data"
RESULTS = REPOSITORY / "results"
# For training on several machines. After "--", torchrun leaves alone what it would otherwise take for its own options.
ON_EACH_MACHINE = (
    "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 "
    "-m -- ipr_lib train --profile full"
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; by default those of this process.

    Returns:
        exit code: 0, 1 for notebooks that failed, 2 for what the user can mend, 130 after Ctrl-C.
    """
    options = make_parser().parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    if "device" in options:
        os.environ["IPR_DEVICE"] = options.device  # processes that are started inherit it
        if (
            options.device == "mps"
        ):  # what an Apple GPU lacks, the CPU computes; read by import torch
            os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    try:
        return options.run(options) or 0
    except InputError as error:
        return _failed(options, str(error), 2)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return _failed(options, "interrupted; the same command goes on from here", 130)


def _failed(options, message, code):
    print(f"ipr_lib {options.command}: {message}", file=sys.stderr)
    return code


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; after parsing, `options.run(options)` runs the one that was given."""
    result = argparse.ArgumentParser(
        prog="python -m ipr_lib",
        description="Integral human pose: a course and a reproduction.",
        formatter_class=_help_format,
    )
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_capture(commands)
    add_prepare(commands)
    add_train(commands)
    add_test(commands)
    add_predict(commands)
    add_compare(commands)
    add_reproduce(commands)
    add_exercises(commands)
    add_report(commands)
    return result


def _help_format(prog):
    """Indented by one, the longest command leaves room for its text on the same line."""
    return argparse.HelpFormatter(prog, indent_increment=1)


# --- what several commands take ---


def _add_config(command, profile="laptop"):
    """The arguments that a Config is made of."""
    command.add_argument(
        "--profile", default=profile, help="smoke, laptop, gpu or full; default: laptop"
    )
    command.add_argument("--seed", type=int, default=0)
    _add_set(command)
    _add_results(command)


def _add_set(command):
    command.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="override fields of the profile's config",
    )


def _add_results(command):
    command.add_argument(
        "--results-dir", type=Path, default=RESULTS, metavar="DIR", help="where runs lie"
    )


def _add_device(command):
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default=os.environ.get("IPR_DEVICE", "auto"),
        help="default: auto, an NVIDIA GPU where there is one; mps is an Apple GPU",
    )


def _load(options):
    """The Config that the arguments of `_add_config` describe."""
    from .config import load_config, parse_overrides

    overrides = parse_overrides(options.set)
    return load_config(options.profile or "laptop", seed=options.seed, **overrides)


def _numbers(text, option):
    """ "0,1" -> [0, 1]."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"{option} {text}: expected whole numbers with commas between them, such as 0,1"
        ) from error


def _check_positive(option, value):
    if not value > 0:
        raise InputError(f"{option} {value}: expected a number above 0")


# --- capture ---


def add_capture(commands):
    """The arguments of `capture`."""
    command = _add(
        commands,
        "capture",
        run_capture,
        "write the built-in capture in the prepared Human3.6M layout",
    )
    _add_config(command)
    command.add_argument(
        "--target",
        type=Path,
        metavar="DIR",
        help="default: data/capture-PROFILE, or data/motion-NAME",
    )
    command.add_argument("--workers", type=int, help="processes; default: the profile's")
    command.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="only draw all actors in all actions into one picture",
    )
    command.add_argument(
        "--motion", type=Path, metavar="DIR", help="play the .bvh files of this folder instead"
    )
    command.add_argument(
        "--unit",
        type=float,
        metavar="MM",
        help="mm per unit of these files; default: found from the leg's length",
    )
    command.add_argument(
        "--up", choices=("x", "y", "z"), help="upward axis of these files; default: found"
    )


def run_capture(options):
    """Run `capture`."""
    from .course import pipeline
    from .studio import write_motion, write_sheet

    cfg = _load(options)
    if options.sheet is not None:
        write_sheet(options.sheet, cfg.capture_subjects, cfg.capture_actions)
        print(options.sheet)
    elif options.motion is None:
        print(pipeline.capture(cfg, options.target, options.workers))
    else:
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


# --- prepare ---


def add_prepare(commands):
    """The arguments of `prepare`."""
    text = "prepare a data set from what its owners distribute"
    sets = commands.add_parser("prepare", help=text, description=text)
    sets = sets.add_subparsers(dest="set", required=True, metavar="SET")
    human36m = _add(sets, "human36m", run_human36m, "Human3.6M: download to prepared layout")
    _add_human36m(human36m)
    check = _add(
        sets, "check", run_check, "check a prepared set; the exit code says if it is usable"
    )
    _add_check(check)
    mpii = _add(sets, "mpii", run_mpii, "MPII: .mat and images to json and crop stores")
    _add_people(mpii)
    mpii.add_argument(
        "--validation-list",
        type=Path,
        metavar="FILE",
        help="names of validation images, one a line, or json",
    )
    mpii.add_argument(
        "--published",
        action="store_true",
        help="keep 1-based pixels, as the published converter does",
    )
    coco = _add(sets, "coco", run_coco, "COCO: person keypoints to json and crop stores")
    _add_people(coco)
    coco.add_argument(
        "--splits", nargs="+", choices=("train", "validation"), default=["train", "validation"]
    )
    coco.add_argument("--year", type=int, default=2017)
    coco.add_argument(
        "--min-keypoints", type=int, default=1, help="skip people with fewer annotated joints"
    )
    coco.add_argument(
        "--min-box",
        type=float,
        default=0.0,
        metavar="PX",
        help="skip boxes whose longer side is smaller",
    )


def _add_human36m(command):
    command.add_argument(
        "--source",
        type=Path,
        required=True,
        metavar="DIR",
        help="the download: S1, S5 … extracted, or .tgz archives, and metadata.xml",
    )
    command.add_argument("--target", type=Path, metavar="DIR", help="default: data/human36m")
    command.add_argument(
        "--subjects", type=int, nargs="+", choices=SUBJECTS, default=SUBJECTS, metavar="N"
    )
    command.add_argument(
        "--actions",
        type=int,
        nargs="+",
        choices=ACTION_NUMBERS,
        default=ACTION_NUMBERS,
        metavar="N",
        help="2 is Directions; default: all",
    )
    command.add_argument(
        "--step",
        type=int,
        default=TRAIN_STEP,
        metavar="N",
        help=f"use every N-th frame of training subjects; default: {TRAIN_STEP}",
    )
    command.add_argument(
        "--test-step",
        type=int,
        default=TEST_STEP,
        metavar="N",
        help=f"use every N-th frame of test subjects; default: {TEST_STEP}",
    )
    command.add_argument(
        "--test-subjects",
        type=int,
        nargs="+",
        choices=SUBJECTS,
        default=TEST_SUBJECTS,
        metavar="N",
        help="default: 9 11; with 11 alone, S9 is for training",
    )
    command.add_argument("--all-frames", action="store_true", help="use every frame")
    command.add_argument(
        "--lens",
        action="store_true",
        help="keep the full lens model; default: the usual pinhole camera",
    )
    command.add_argument(
        "--store",
        type=int,
        metavar="PX",
        help="write crop stores for training crops of PX px into TARGET/../stores, and no whole images",
    )
    command.add_argument(
        "--metadata", type=Path, metavar="FILE", help="metadata.xml, if it is not in --source"
    )
    command.add_argument(
        "--reader", choices=("opencv", "pyav"), default="opencv", help="of the videos"
    )
    command.add_argument("--workers", type=int, default=1, metavar="N", help="processes")


def run_human36m(options):
    """Prepare Human3.6M, as images or straight as crop stores."""
    from .prepare import prepare_human36m

    if options.all_frames:
        options.step, options.test_step = 1, 1
    for name in ("step", "test_step", "workers", "store"):
        value = getattr(options, name)
        if value is not None:
            _check_positive(f"--{name.replace('_', '-')}", value)
    target = options.target or DATA / "human36m"
    lines = prepare_human36m(
        options.source,
        target,
        subjects=sorted(set(options.subjects)),
        actions=sorted(set(options.actions)),
        step=options.step,
        test_step=options.test_step,
        test_subjects=options.test_subjects,
        lens=options.lens,
        reader=options.reader,
        metadata=options.metadata,
        store_px=options.store,
        workers=options.workers,
    )
    print(*lines, sep="\n")
    if options.store is None:
        print(target)


def _add_check(command):
    command.add_argument(
        "root", type=Path, metavar="DIR", help="a prepared set, or the built-in capture"
    )
    command.add_argument(
        "--metadata", type=Path, metavar="FILE", help="metadata.xml, to compare the counts with"
    )
    command.add_argument("--workers", type=int, default=1, metavar="N", help="processes")


def run_check(options):
    """Check a prepared set; exit code 2 where it is not usable."""
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


def _add_people(command):
    """What the commands of all 2D sets take."""
    command.add_argument(
        "--source", type=Path, required=True, metavar="DIR", help="the extracted download"
    )
    command.add_argument("--target", type=Path, metavar="DIR", help="default: data/SET")
    command.add_argument(
        "--store",
        type=int,
        metavar="PX",
        help="also build crop stores, for training crops of PX px",
    )
    command.add_argument(
        "--box-scale",
        type=float,
        default=1.25,
        help="side of the crop's box, in longer sides of the person's box; default: 1.25",
    )
    command.add_argument("--workers", type=int, default=2, help="processes")


def run_mpii(options):
    """Prepare MPII."""
    from .prepare import prepare_mpii

    lines = prepare_mpii(
        options.source,
        options.target or DATA / "mpii",
        options.validation_list,
        options.published,
        store_px=options.store,
        box_scale=options.box_scale,
        workers=options.workers,
    )
    print(*lines, sep="\n")


def run_coco(options):
    """Prepare COCO."""
    from .prepare import prepare_coco

    lines = prepare_coco(
        options.source,
        options.target or DATA / "coco",
        options.splits,
        options.year,
        options.min_keypoints,
        options.min_box,
        store_px=options.store,
        box_scale=options.box_scale,
        workers=options.workers,
    )
    print(*lines, sep="\n")


# --- train ---


def add_train(commands):
    """The arguments of `train`."""
    command = _add(
        commands, "train", run_train, "train the network of a profile, or go on with its training"
    )
    command.formatter_class = argparse.RawDescriptionHelpFormatter  # the epilog keeps its lines
    command.epilog = (
        "Several machines share data/ and results/ on one disk. Run the same line on each of them, where HOST is one of "
        f"them:\n  {ON_EACH_MACHINE}"
    )
    _add_config(command, profile=None)
    _add_device(command)
    command.add_argument(
        "--recipe",
        nargs="+",
        default=[],
        metavar="NAME",
        help="usual changes: every-50th, depth-32, depth-16, strong",
    )
    command.add_argument(
        "--times",
        type=int,
        default=1,
        metavar="N",
        help="N times the batch, at N times the learning rate",
    )
    command.add_argument(
        "--run", dest="run_name", metavar="NAME", help="the run's folder in --results-dir"
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on with --run NAME; its checkpoint brings the config, too",
    )
    command.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="start --run NAME from the weights of a run, a checkpoint or a published model",
    )
    command.add_argument(
        "--gpus", metavar="0,1", help="train on these GPUs, with one process for each"
    )


def run_train(options):
    """Run `train`."""
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
    return 0


def _train_config(options, folder):
    """The Config of a training: profile or checkpoint, then recipes, then --set, then --times."""
    from .config import RECIPES, load_config, parse_overrides, scaled
    from .course.scoring import checkpoint_config
    from .training.checkpoints import CHECKPOINT

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
    _check_positive("--times", options.times)
    cfg = load_config(profile, **overrides)
    return load_config(profile, **scaled(overrides, cfg, options.times))


# --- test ---


def add_test(commands):
    """The arguments of `test`."""
    command = _add(
        commands, "test", run_test, "score a trained or a published network and print its tables"
    )
    _add_config(command, profile=None)
    _add_device(command)
    command.add_argument(
        "--run",
        dest="run_name",
        metavar="NAME",
        help="a run's folder; default: that of the profile",
    )
    command.add_argument(
        "--checkpoint",
        default="last",
        metavar="last|best|FILE",
        help="which of the run's checkpoints",
    )
    command.add_argument(
        "--published",
        type=Path,
        metavar="FILE",
        help="score a published checkpoint on the profile's data",
    )
    command.add_argument(
        "--subjects", type=int, nargs="+", metavar="N", help="score only these test subjects"
    )
    command.add_argument(
        "--box", default="oracle", metavar="oracle|estimated", help="which box is cut"
    )
    command.add_argument(
        "--root",
        default="oracle",
        metavar="oracle|mean|box",
        help="where the root's depth comes from",
    )
    command.add_argument(
        "--intrinsics",
        default="oracle",
        metavar="oracle|pinhole|assumed",
        help="what is known of the camera",
    )
    command.add_argument(
        "--texts", action="store_true", help="also write poses as public code does, a line each"
    )


def run_test(options):
    """Run `test`."""
    from .course import pipeline, scoring
    from .evaluation import published_report, run_report

    sources = {"box": options.box, "root": options.root, "intrinsics": options.intrinsics}
    usual = options.checkpoint == "last" and set(sources.values()) == {"oracle"}
    if options.published is not None:
        if options.run_name or not usual:
            raise InputError(
                "--published takes no --run, --checkpoint, --box, --root or --intrinsics; leave them out"
            )
        options.profile = options.profile or "full"
        content, folder = scoring.evaluate_published(
            options.published, _load(options), options.results_dir, options.subjects, options.texts
        )
        print(published_report(content))
        print(f"tables, predictions and numbers: {folder}")
        return
    if options.run_name:
        if options.profile or options.set:
            raise InputError("--run brings its own config; leave out --profile and --set")
        content = None
        folder = scoring.find_run(options.run_name, options.results_dir)
    else:
        cfg = _load(options)
        content = pipeline.evaluated(cfg, options.results_dir)  # trains where that is not done
        folder = pipeline.run_dir(cfg, options.results_dir)
    if content is None or not usual or options.subjects or options.texts:
        content, folder = scoring.evaluate_run(
            folder, options.checkpoint, options.subjects, texts=options.texts, **sources
        )
    print(run_report(content))
    print(f"tables, predictions and numbers: {folder}")


# --- predict ---


def add_predict(commands):
    """The arguments of `predict`."""
    command = _add(
        commands, "predict", run_predict, "poses from pictures, folders and videos of your own"
    )
    command.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="pictures, videos, folders of them"
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where tables, overlays and pages go"
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--box", metavar="X,Y,W,H", help="of the one person, px; default: a person detector's"
    )
    where.add_argument(
        "--whole", action="store_true", help="take the whole picture as the person's box"
    )
    command.add_argument(
        "--focal", type=float, metavar="PX", help="focal length; default: from EXIF, else assumed"
    )
    command.add_argument(
        "--every", type=int, default=1, metavar="N", help="of videos, take every N-th frame"
    )
    command.add_argument(
        "--smooth", action="store_true", help="of videos, smooth paths by the One-Euro filter"
    )
    _add_config(command)
    _add_device(command)


def run_predict(options):
    """Run `predict`."""
    from .course.reference import load_reference
    from .files import device_name
    from .inference import load_detector, parse_box, predict_files
    from .run import default_device

    if options.focal is not None:
        _check_positive("--focal", options.focal)
    _check_positive("--every", options.every)
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


# --- compare ---


def add_compare(commands):
    """The arguments of `compare`."""
    command = _add(
        commands,
        "compare",
        run_compare,
        "compare methods under equal conditions: the experiment of notebook 08",
    )
    command.add_argument(
        "--profile", default="laptop", help="smoke, laptop or gpu; default: laptop"
    )
    command.add_argument(
        "--seeds", default="0,1,2", metavar="0,1,2", help="each case is run once for each seed"
    )
    command.add_argument(
        "--axes",
        nargs="+",
        metavar="AXIS",
        help="what to vary: method, budget, map, depth, 2D, trunk (backbone), crop; default: all",
    )
    command.add_argument(
        "--cases", nargs="+", metavar="CASE", help="only these cases, e.g. R1 'I*, map 8'"
    )
    command.add_argument("--list", action="store_true", help="only print the cases")
    _add_set(command)
    _add_results(command)
    _add_device(command)


def run_compare(options):
    """Run `compare`."""
    from .config import parse_overrides
    from .course.pipeline import compared
    from .experiment import AXES, case_table, claim_table, planned_cases

    axes = options.axes or AXES
    for axis in axes:
        if axis not in AXES:
            raise InputError(f"unknown axis {axis!r}; choose from {', '.join(AXES)}")
    if options.list:
        for case in planned_cases(options.profile):
            if case.axis in axes:
                print(f"{case.axis:8}{case.name}")
        return
    summary = compared(
        options.profile,
        _numbers(options.seeds, "--seeds"),
        options.results_dir,
        options.cases,
        axes,
        parse_overrides(options.set),
    )
    print(case_table(summary["runs"]), claim_table(summary["claims"]), sep="\n\n")


# --- reproduce ---


def add_reproduce(commands):
    """The arguments of `reproduce`."""
    command = _add(
        commands,
        "reproduce",
        run_reproduce,
        "capture, train, evaluate, print the table, run the notebooks",
    )
    _add_config(command)
    _add_device(command)
    command.add_argument(
        "--only", nargs="+", metavar="NN", help="run only these notebooks, e.g. 00 06"
    )
    command.add_argument(
        "--fresh",
        action="store_true",
        help="run notebooks again though nothing has changed for them",
    )
    command.add_argument(
        "--solutions",
        action="store_true",
        help="solve the exercises as well, and check the solutions",
    )


def run_reproduce(options):
    """Run `reproduce`."""
    from .config import parse_overrides
    from .course import reproduce
    from .course.notebooks import NotebooksFailed

    try:
        reproduce(
            options.profile,
            options.seed,
            parse_overrides(options.set),
            options.results_dir,
            options.only,
            options.fresh,
            options.solutions,
        )
    except NotebooksFailed as error:
        return _failed(options, str(error), 1)
    return 0


# --- exercises and report ---


def add_exercises(commands):
    """The arguments of `exercises`."""
    _add(
        commands,
        "exercises",
        run_exercises,
        "write each notebook's exercises from notebooks/solutions",
    )


def run_exercises(_):
    """Run `exercises`."""
    from .course.exercises import solutions_of, update_exercises
    from .course.notebooks import list_notebooks

    for path in list_notebooks():
        if solutions_of(path).exists() and update_exercises(path):
            print(f"{path.parent.name}/{path.name}: exercises written anew")


def add_report(commands):
    """The arguments of `report`."""
    command = _add(
        commands,
        "report",
        run_report_command,
        "condense runs into results/reference and the README's table",
    )
    command.add_argument(
        "runs", nargs="*", type=Path, help="run folders that differ only in their seed"
    )
    command.add_argument(
        "--reference", type=Path, default=RESULTS / "reference" / "laptop.json", metavar="FILE"
    )
    command.add_argument("--readme", action="store_true", help="write the table into README.md")
    command.add_argument(
        "--model", type=Path, metavar="RUN", help="keep this run's network as the reference model"
    )


def run_report_command(options):
    """Condense runs, keep a network, write the README's table."""
    from .course import save_reference
    from .evaluation import update_readme, write_reference

    if options.runs:
        write_reference(options.runs, options.reference)
    if options.model is not None:
        print(save_reference(options.model))
    if options.readme:
        update_readme(REPOSITORY / "README.md", options.reference)


def _add(commands, name, run, text):
    """A command's parser; `run` is the function that the command calls."""
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(run=run)
    return command


if __name__ == "__main__":
    sys.exit(main())
