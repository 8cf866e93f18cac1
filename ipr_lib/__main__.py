"""`python -m ipr_lib COMMAND`; each command is a thin call into the library."""

import argparse
import os
import sys
from pathlib import Path

from . import config
from .course import exercises, notebooks, pipeline, scoring
from .evaluation import report
from .evaluation.prediction import CHOICES
from .experiment import plan as compare_plan
from .experiment import verdicts
from .files import InputError, device_name
from .prepare import command as prepare_command
from .run import default_device
from .studio import write_motion, write_sheet
from .training import distributed
from .training.checkpoints import CHECKPOINT


def main(arguments=None):
    """Run one command; returns the exit code: 0, 1 for notebooks that failed, 2 for what the user can mend, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return options.run(options) or 0
    except notebooks.NotebooksFailed as error:
        print(f"ipr_lib {options.command}: {error}", file=sys.stderr)
        return 1
    except InputError as error:
        print(f"ipr_lib {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"\nipr_lib {options.command}: interrupted; the same command goes on from here",
            file=sys.stderr,
        )
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m ipr_lib",
        description=__doc__,
        # Indented by one, the longest command leaves room for its text on the same line.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, indent_increment=1),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, run, text):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    def add_config(command):
        command.add_argument(
            "--profile", default="laptop", help=f"one of {', '.join(config.PROFILES)}"
        )
        command.add_argument("--seed", type=int, default=0)
        command.add_argument(
            "--set",
            nargs="*",
            default=[],
            metavar="NAME=VALUE",
            help="override fields of the profile",
        )
        command.add_argument(
            "--results-dir", type=Path, default=config.REPOSITORY / "results", metavar="DIR"
        )

    command = add(
        "capture", _capture, "write the built-in capture in the prepared Human3.6M layout"
    )
    add_config(command)
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
        help="only draw everybody doing everything into one picture",
    )
    command.add_argument(
        "--motion", type=Path, metavar="DIR", help="play the .bvh files of this folder instead"
    )
    command.add_argument(
        "--unit",
        type=float,
        metavar="MM",
        help="mm per unit of these files; default: found from the leg",
    )
    command.add_argument(
        "--up", choices=("x", "y", "z"), help="upward axis of these files; default: found"
    )
    _add_train(
        add("train", _train, "train the network of a profile, or go on with its training"),
        add_config,
    )
    _add_test(
        add("test", _test, "score a trained or a published network and print its tables"),
        add_config,
    )
    _add_predict(add, add_config)
    command = add(
        "reproduce", _reproduce, "capture, train, evaluate, print the table, run the notebooks"
    )
    add_config(command)
    command.add_argument(
        "--only", nargs="+", metavar="NN", help="run these notebooks alone, e.g. 00 06"
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
    add("exercises", _exercises, "write each notebook's exercises from notebooks/solutions")
    _add_compare(
        add(
            "compare",
            _compare,
            "compare methods under equal conditions: the experiment of notebook 08",
        )
    )
    prepare = commands.add_parser(
        "prepare", help="prepare a data set from what its owners hand out"
    )
    prepare_command.add_sets(prepare.add_subparsers(dest="set", required=True, metavar="SET"))
    command = add("report", _report, "condense runs into results/reference and the README's table")
    command.add_argument(
        "runs", nargs="*", type=Path, help="run folders that differ in their seed alone"
    )
    command.add_argument(
        "--reference", type=Path, default=config.REPOSITORY / "results/reference/laptop.json"
    )
    command.add_argument("--readme", action="store_true", help="write the table into README.md")
    command.add_argument(
        "--model", type=Path, metavar="RUN", help="keep this run's network as the reference model"
    )
    return parser


def _add_predict(add, add_config):
    """`predict FILES`: poses from what people have themselves."""
    command = add("predict", _predict, "poses from pictures, folders and videos of your own")
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
        "--whole", action="store_true", help="take whole pictures as the person's box"
    )
    command.add_argument(
        "--focal", type=float, metavar="PX", help="focal length; default: from EXIF, else assumed"
    )
    command.add_argument(
        "--every", type=int, default=1, metavar="N", help="of videos, take every Nth frame"
    )
    command.add_argument(
        "--smooth", action="store_true", help="of videos, smooth paths by the One-Euro filter"
    )
    add_config(command)


def _add_train(command, add_config):
    """`train`: which run, on what. torchrun starts it, too."""
    add_config(command)
    command.formatter_class = (
        argparse.RawDescriptionHelpFormatter
    )  # which leaves the line below whole
    command.epilog = f"several machines, data/ and results/ on a disk that they share; on each:\n  {distributed.ON_EACH_MACHINE}"
    command.set_defaults(profile=None)
    command.add_argument(
        "--recipe",
        nargs="+",
        default=[],
        choices=config.RECIPES,
        help="changes people often ask for",
    )
    command.add_argument(
        "--times",
        type=int,
        default=1,
        metavar="N",
        help="N times the batch, at N times the learning rate",
    )
    # dest: `run` is the function that a command calls.
    command.add_argument(
        "--run", dest="run_name", metavar="NAME", help="the run's folder in --results-dir"
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on with --run NAME; its checkpoint brings the config, too",
    )
    command.add_argument(
        "--gpus", metavar="0,1", help="train on these GPUs, one process each, started by torchrun"
    )


def _add_test(command, add_config):
    """`test`: whose network, from which inputs, what is scored."""
    add_config(command)
    command.set_defaults(profile=None)
    # dest: `run` is the function that a command calls.
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
        "--subjects", type=int, nargs="+", metavar="N", help="score these test subjects alone"
    )
    command.add_argument("--box", choices=CHOICES["box"], default="oracle", help="whose box is cut")
    command.add_argument(
        "--root",
        choices=CHOICES["root"],
        default="oracle",
        help="where the root's depth comes from",
    )
    command.add_argument(
        "--intrinsics",
        choices=CHOICES["intrinsics"],
        default="oracle",
        help="what is known of the camera",
    )
    command.add_argument(
        "--texts", action="store_true", help="also write poses as public code does, a line each"
    )


def _add_compare(command):
    """`compare`: which runs of the experiment."""
    command.add_argument(
        "--profile", default="laptop", help=f"one of {', '.join(compare_plan.BASES)}"
    )
    command.add_argument(
        "--seeds", default="0,1,2", metavar="0,1,2", help="each case is run once for each seed"
    )
    command.add_argument(
        "--axes",
        nargs="+",
        choices=compare_plan.AXES,
        default=compare_plan.AXES,
        help="what to vary",
    )
    command.add_argument(
        "--cases", nargs="+", metavar="CASE", help="these cases alone, e.g. R1 'I*, map 8'"
    )
    command.add_argument("--list", action="store_true", help="only print the cases")
    command.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="override fields of all runs' config",
    )
    command.add_argument(
        "--results-dir", type=Path, default=config.REPOSITORY / "results", metavar="DIR"
    )


def _load(options):
    return config.load_config(
        options.profile, seed=options.seed, **config.parse_overrides(options.set)
    )


def _capture(options):
    cfg = _load(options)
    if options.sheet:
        write_sheet(options.sheet, cfg.capture_subjects, cfg.capture_actions)
        print(options.sheet)
        return
    if options.motion is None:
        print(pipeline.capture(cfg, options.target, options.workers))
        return
    target = options.target or pipeline.DATA / f"motion-{options.motion.resolve().name}"
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
        print(
            f"{take['file']}: S{take['subject']}, action {take['action']}, take {take['take']}, {take['n_frames']} poses"
        )
    print(target)


def _train(options):
    if options.gpus and "TORCHELASTIC_RUN_ID" not in os.environ:
        return distributed.launch(options.arguments, _numbers(options.gpus, "--gpus"))
    folder = options.results_dir / options.run_name if options.run_name else None
    profile, base = options.profile or "laptop", {"seed": options.seed}
    if options.resume:
        if folder is None:
            raise InputError("--resume goes with --run NAME, whose checkpoint brings the config")
        saved = scoring.checkpoint_config(folder / CHECKPOINT)
        if (
            options.profile is None
        ):  # else the config is stated in full, and training refuses one that is not the run's
            profile, base = (
                saved.profile,
                {name: value for name, value in vars(saved).items() if name != "profile"},
            )
    recipes = {
        name: value for recipe in options.recipe for name, value in config.RECIPES[recipe].items()
    }
    overrides = base | recipes | config.parse_overrides(options.set)
    cfg = config.load_config(profile, **overrides)
    if options.times < 1:
        raise InputError(f"--times {options.times}: expected a whole number above 0")
    if options.times > 1:
        cfg = config.load_config(profile, **config.scaled(overrides, cfg, options.times))
    folder = folder or pipeline.run_dir(cfg, options.results_dir)
    with distributed.process_group():
        pipeline.trained(cfg, options.results_dir, folder)
        if distributed.rank() == 0:
            print(folder)


def _numbers(text, option):
    """ "0,1" -> [0, 1]."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"{option} {text}: expected whole numbers with commas between, such as 0,1"
        ) from error


def _test(options):
    sources = {"box": options.box, "root": options.root, "intrinsics": options.intrinsics}
    all_oracles = set(sources.values()) == {"oracle"}
    if options.published:
        if options.run_name or options.checkpoint != "last" or not all_oracles:
            raise InputError(
                "--published takes no --run, --checkpoint, --box, --root or --intrinsics; leave them out"
            )
        options.profile = options.profile or "full"
        content, folder = scoring.evaluate_published(
            options.published, _load(options), options.results_dir, options.subjects, options.texts
        )
        print(report.published_report(content))
        print(f"tables, predictions and numbers: {folder}")
        return
    if options.run_name:
        if options.profile or options.set:
            raise InputError("--run brings its own config; leave out --profile and --set")
        folder = scoring.find_run(options.run_name, options.results_dir)
    else:
        options.profile = options.profile or "laptop"
        cfg = _load(options)
        content = pipeline.evaluated(cfg, options.results_dir)  # trains where that is not done
        folder = pipeline.run_dir(cfg, options.results_dir)
        everything = options.checkpoint == "last" and not options.subjects and not options.texts
        if all_oracles and everything:
            print(report.run_report(content))
            print(f"tables, predictions and numbers: {folder}")
            return
    content, folder = scoring.evaluate_run(
        folder, options.checkpoint, options.subjects, texts=options.texts, **sources
    )
    print(report.run_report(content))
    print(f"tables, predictions and numbers: {folder}")


def _predict(options):
    from .course.reference import load_reference
    from .inference.boxes import load_detector, parse_box
    from .inference.outputs import predict_files

    for name in ("focal", "every"):
        if getattr(options, name) is not None and not getattr(options, name) > 0:
            raise InputError(f"--{name} {getattr(options, name)}: expected a number above 0")
    box = parse_box(options.box) if options.box else None
    model, cfg, line = load_reference(_load(options), options.results_dir)
    device = default_device()
    print(f"{line}; on {device_name(device)}")
    detector = None
    if box is None and not options.whole:
        detector, line = load_detector(device)
        print(line if detector is not None else f"{line}; taking whole pictures")
    _, problems = predict_files(
        options.files,
        options.out,
        model,
        cfg,
        box,
        detector,
        options.focal,
        options.every,
        options.smooth,
    )
    print(options.out)
    if problems:
        raise InputError(f"{len(problems)} inputs gave no pose; the lines above say why")


def _reproduce(options):
    overrides = config.parse_overrides(options.set)
    pipeline.reproduce(
        options.profile,
        options.seed,
        overrides,
        options.results_dir,
        options.only,
        options.fresh,
        options.solutions,
    )


def _exercises(_):
    for path in notebooks.list_notebooks():
        if exercises.solutions_of(path).exists() and exercises.update_exercises(path):
            print(f"{path.relative_to(config.REPOSITORY)}: exercises written anew")


def _compare(options):
    if options.list:
        print(
            "\n".join(
                f"{case.axis:8}{case.name}"
                for case in compare_plan.planned_cases(options.profile)
                if case.axis in options.axes
            )
        )
        return
    try:
        seeds = tuple(int(seed) for seed in options.seeds.split(","))
    except ValueError as error:
        raise InputError(
            f"--seeds {options.seeds}: expected whole numbers with commas between, such as 0,1,2"
        ) from error
    overrides = config.parse_overrides(options.set)
    summary = pipeline.compared(
        options.profile, seeds, options.results_dir, options.cases, options.axes, overrides
    )
    print(verdicts.case_table(summary["runs"]), verdicts.claim_table(summary["claims"]), sep="\n\n")


def _report(options):
    if options.runs:
        report.write_reference(options.runs, options.reference)
    if options.model:
        from .course.reference import save_reference

        print(save_reference(options.model))
    if options.readme:
        report.update_readme(config.REPOSITORY / "README.md", options.reference)


if __name__ == "__main__":
    sys.exit(main())
