"""The command line: `python -m ipr_lib COMMAND`, or `ipr COMMAND`.

Each command is one function, named and described as the help shows it. The tables at the end say which options it takes.
What a command needs of the library is imported when it runs, so that the help does not wait for torch.
"""

import argparse
import functools
import io
import math
import os
import re
import shlex
import sys
from pathlib import Path

from . import __version__
from .files import INSTALL, InputError, data_folder, home_folder, read_json, results_folder

try:
    from .data.h36m_layout import (
        ACTION_NUMBERS,
        ARCHIVE_GB,
        SUBJECTS,
        TEST_STEP,
        TEST_SUBJECTS,
        TRAIN_STEP,
        TRAIN_SUBJECTS,
    )
    from .geometry import BOX_SCALE
except KeyboardInterrupt:  # Ctrl-C while NumPy and SciPy load; later on, `main` sees it
    sys.exit("\nipr_lib: interrupted")
except ModuleNotFoundError as error:
    sys.exit(f"ipr_lib: {error}; {INSTALL}, then `python -m ipr_lib doctor` checks the rest")

# For training on several machines. After "--", torchrun leaves alone what it would otherwise take for its own options.
ON_EACH_MACHINE = (
    "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 "
    "-m -- ipr_lib train --profile full"
)
CROP_PX = 256  # of profile full, for which `prepare` prints the training


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; by default those of this process.

    Returns:
        exit code: 0, 1 for notebooks that failed, 2 for what the user can mend, 130 after Ctrl-C, 141 where nobody
        reads the output any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # names of files need not be UTF-8, and a terminal may lack characters
    arguments = sys.argv[1:] if arguments is None else arguments
    name = "ipr_lib"
    try:
        options, unknown = make_parser().parse_known_args(arguments)
        name = f"ipr_lib {options.command}"
        if unknown:
            raise InputError(
                f"takes no {' '.join(unknown)}; {options.command} --help says what it takes"
            )
        _fill_in(options, arguments)
        code = options.function(options) or 0
        sys.stdout.flush()
        return code
    except InputError as error:
        message, code = str(error), error.exit_code
    except KeyboardInterrupt:
        message, code = "interrupted; the same command goes on from here", 130
        print(file=sys.stderr)
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return 141  # as a shell calls the end by SIGPIPE
    print(f"{name}: {message}", file=sys.stderr)
    return code


def _fill_in(options, arguments):
    """Add the defaults to what was typed, and set the variables that processes which are started inherit."""
    options.arguments = arguments
    options.typed = set(vars(options))
    for name, default in options.defaults.items():
        if name not in options.typed:
            setattr(options, name, default)
    if "target" in options.typed:
        _refuse(options, "with --target", "data_dir")
    if "unfold_gb" in options.typed:
        os.environ["IPR_UNFOLD_GB"] = str(options.unfold_gb)
    if "device" in options.typed:
        os.environ["IPR_DEVICE"] = options.device
    if os.environ.get("IPR_DEVICE") == "mps":
        # What an Apple GPU lacks, the CPU computes; `import torch` reads this.
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    if "data_dir" in options.typed:
        os.environ["IPR_DATA"] = str(options.data_dir)
    if "results_dir" in options.typed:
        os.environ["IPR_RESULTS"] = str(options.results_dir)
    # In full, because notebooks run in a folder of their own.
    if "data_dir" in options.defaults:
        os.environ["IPR_DATA"] = str(data_folder())
    if "results_dir" in options.defaults:
        os.environ["IPR_RESULTS"] = str(results_folder())
    options.results_dir = results_folder()


def _nobody_reads():
    """Whether the reader of our output has gone, as after `| head`; what is left of it is then dropped."""
    try:
        print(flush=True)  # fails again where it was the output that broke
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


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


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands.

    Defaults are left out of what it returns, so that `_fill_in` can tell them from what was typed;
    `options.function(options)` then runs the command.
    """
    parser = Parser(
        prog="python -m ipr_lib",
        description="Integral human pose: a course and a reproduction.",
        # Indented by one, the longest command leaves room for its text on the same line.
        formatter_class=functools.partial(argparse.HelpFormatter, indent_increment=1),
    )
    parser.add_argument("--version", action="version", version=f"ipr_lib {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    text = "Prepare a data set from what its owners distribute."
    prepare = commands.add_parser("prepare", help=text, description=text)
    sets = prepare.add_subparsers(dest="set", required=True, metavar="SET")
    for place, table in ((commands, COMMANDS), (sets, PREPARE)):
        for function, options in table.items():
            text = function.__doc__.partition("\n")[0]
            command = place.add_parser(function.__name__, help=text, description=text)
            command.register("action", None, Once)
            defaults = {}
            for names, choices in options:
                action = command.add_argument(*names, **choices | {"default": argparse.SUPPRESS})
                defaults[action.dest] = choices.get("default")
            command.set_defaults(function=function, defaults=defaults)
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
    return load_config(options.profile, seed=getattr(options, "seed", 0), **overrides)


def _refuse(options, why, *names):
    """InputError where one of these options was typed, although it has no effect in this call."""
    for name in names:
        if name in options.typed:
            raise InputError(f"--{name.replace('_', '-')} has no effect {why}; leave it out")


def _print_training(target, crop_px, overrides):
    """Print the command that trains profile full on a set.

    Args:
        target: folder of the set; its crop stores lie in `stores` beside it.
        crop_px: side of the training crops, px.
        overrides: fields of the Config that differ from the profile's, as texts.
    """
    command = ["python", "-m", "ipr_lib", "train", "--profile", "full"]
    if target.absolute().parent != data_folder():
        command += ["--data-dir", str(target.absolute().parent)]
    if crop_px != CROP_PX:
        overrides["crop_px"] = crop_px
    if overrides:
        command += ["--set", *(f"{name}={value}" for name, value in overrides.items())]
    print("to train on it:", shlex.join(command))


# --- the commands ---


def capture(options):
    """Write the built-in capture in the prepared Human3.6M layout."""
    from .course import pipeline
    from .studio import write_motion, write_sheet

    cfg = _load(options)
    if options.sheet is not None:
        _refuse(options, "with --sheet", "target", "data_dir", "workers", "motion", "unit", "up")
        write_sheet(options.sheet, cfg.capture_subjects, cfg.capture_actions)
        print(options.sheet)
        return
    if options.motion is None:
        _refuse(options, "without --motion", "unit", "up")
        print(pipeline.capture(cfg, options.target, options.workers))
        return
    target = options.target or data_folder() / f"motion-{options.motion.resolve().name}"
    plan = write_motion(
        target,
        options.motion,
        subjects=cfg.capture_subjects,
        cameras=cfg.capture_cameras,
        train_step=cfg.train_step,
        test_step=cfg.test_step,
        unit_mm=options.unit,
        up=options.up,
        workers=options.workers or max(1, cfg.workers),
    )
    for take in plan:
        place = f"S{take['subject']}, action {take['action']}, take {take['take']}"
        note = f"; note: {take['note']}" if "note" in take else ""
        print(f"{take['file']}: {place}, {take['n_frames']} poses{note}")
    print(target)


def human36m(options):
    """Human3.6M: from the download to a prepared set, or straight to crop stores."""
    from .prepare import prepare_human36m

    train = sorted(set(options.subjects) - set(options.test_subjects))
    test = sorted(set(options.subjects) & set(options.test_subjects))
    if not train:
        _refuse(options, "with test subjects alone", "step")
    if not test:
        _refuse(options, "with training subjects alone", "test_step")
    if options.all_frames:
        _refuse(options, "with --all-frames", "step", "test_step")
        options.step = options.test_step = 1
    target = options.target or data_folder() / "human36m"
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
        archive_gb=options.archive_gb,
        workers=options.workers,
    )
    print(*lines, sep="\n")
    if options.store is None:
        print(target)
    if not train or not test:
        print("a training needs subjects for training and for tests; this set has one kind alone")
        return
    overrides = {}
    if target.name != "human36m":
        overrides["dataset"] = target.name
    if train != list(TRAIN_SUBJECTS):
        overrides["train_subjects"] = ",".join(map(str, train))
    if test != list(TEST_SUBJECTS):
        overrides["test_subjects"] = ",".join(map(str, test))
    if options.step != TRAIN_STEP:
        overrides["train_step"] = options.step
    if options.test_step != TEST_STEP:
        overrides["test_step"] = options.test_step
    crop_px = options.store or CROP_PX
    if not (target.parent / "stores" / f"mpii-train-{crop_px}").is_dir():
        overrides["mix"] = ""
    _print_training(target, crop_px, overrides)


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
    if options.store is None:
        _refuse(options, "without --store", "box_scale")
    target = options.target or data_folder() / options.set
    lines = prepare(
        options.source,
        target,
        store_px=options.store,
        box_scale=options.box_scale,
        workers=options.workers,
        **choices,
    )
    print(*lines, sep="\n")
    if options.store is None:
        print(f"training takes crops, not yet written: run again with --store {CROP_PX}")
    elif "train" in choices.get("splits", ["train"]):
        mix = {} if target.name == "mpii" else {"mix": target.name}
        _print_training(target, options.store, mix)


def train(options):
    """Train the network of a profile, or go on with its training."""
    from .course import pipeline
    from .training import distributed

    if options.gpus and "TORCHELASTIC_RUN_ID" not in os.environ:  # else torchrun started us
        return distributed.launch(options.arguments, options.gpus)
    folder = options.results_dir / options.run if options.run else None
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

    profile, overrides = options.profile, {"seed": options.seed}
    if options.resume:
        if folder is None:
            raise InputError("--resume goes with --run NAME, whose checkpoint brings the config")
        saved = checkpoint_config(folder / CHECKPOINT)
        # With --profile, the config is stated in full, and training refuses one that is not the run's.
        if "profile" not in options.typed:
            _refuse(options, "with --resume, whose checkpoint brings it", "seed")
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
    from .run import find_run

    oracles = {"box": options.box, "root": options.root, "intrinsics": options.intrinsics}
    if options.published is not None:
        _refuse(options, "with --published", "run", "checkpoint", *oracles, "seed")
        if "profile" not in options.typed:
            options.profile = "full"
        content, folder = pipeline.evaluate_published(
            options.published, _load(options), options.results_dir, options.subjects, options.texts
        )
        report = published_report(content)
    else:
        if options.run is None:
            cfg = _load(options)
            pipeline.trained(cfg, options.results_dir)
            run = pipeline.run_dir(cfg, options.results_dir)
        else:
            _refuse(options, "with --run, which brings its own config", "profile", "set", "seed")
            run = find_run(options.run, options.results_dir)
        content, folder = pipeline.evaluate_run(
            run, options.checkpoint, options.subjects, texts=options.texts, **oracles
        )
        report = run_report(content)
    print(report)
    print(f"tables, predictions and numbers: {folder}")


def runs(options):
    """List the runs: profile, state and score of each."""
    from .course import pipeline
    from .evaluation import markdown_table

    rows = pipeline.list_runs(options.results_dir)
    if not rows:
        raise InputError(f"{options.results_dir} holds no run; train one: python -m ipr_lib train")
    print(markdown_table(["run", "profile", "state", "MPJPE (mm)"], rows))


def predict(options):
    """Predict poses in pictures, folders and videos of your own."""
    from .files import device_name
    from .inference import load_detector, parse_box, parse_up, predict_files, read_boxes
    from .inference.inputs import is_video
    from .inference.poses import DETECTOR
    from .run import default_device

    videos = [path for path in options.files if path.is_dir() or is_video(path)]
    if not videos:
        _refuse(options, "with pictures alone", "every", "smooth", "start", "end", "also")
    if not any(path.is_dir() for path in options.files):
        _refuse(options, "without a folder", "recursive")
    if not {"bvh", "glb"} & set(options.also):
        _refuse(options, "without --also bvh or glb", "up")
    if len(options.typed & {"box", "boxes", "whole"}) > 1:
        raise InputError("--box, --boxes and --whole each say where people are; give one of them")
    if options.start >= options.end:
        raise InputError(f"--start {options.start:g} is not before --end {options.end:g}")
    box = None
    if options.box:
        box = parse_box(options.box)
    if options.boxes:
        box = read_boxes(options.boxes)
    network = _network(options)
    device = default_device()
    print(f"network: {network.about}; on {device_name(device)}")
    detector = None
    if box is None and not options.whole:
        detector = load_detector(device)
        print(f"person boxes by torchvision's {DETECTOR}")
    _, problems = predict_files(
        options.files,
        options.out,
        network,
        recursive=options.recursive,
        box=box,
        whole=options.whole,
        detector=detector,
        focal_px=options.focal,
        every=options.every,
        smooth=options.smooth,
        start=options.start,
        end=options.end,
        person=options.person,
        flip_test=options.flip_test,
        also=tuple(options.also),
        up=parse_up(options.up),
    )
    print(options.out)
    if problems:
        raise InputError(
            f"inputs that were not used in full: {len(problems)}; the lines above say why"
        )


def export(options):
    """Write a network as ONNX, with its input scaling and the integral inside."""
    import torch

    from .inference import export_onnx, network_card

    network = _network(options, torch.device("cpu"))
    line = export_onnx(network, options.out)
    for name, text in network_card(network).items():
        print(f"{name}: {text}")
    print(line)


def _network(options, device=None):
    """The network that the options of NETWORK choose; by default on the GPU where there is one."""
    from .inference import finished_run, load_network

    chosen = options.typed & {"run", "weights", "published", "profile"}
    if len(chosen) > 1:
        names = " and ".join(f"--{name}" for name in sorted(chosen))
        raise InputError(f"{names} each choose a network; give one of them")
    if "profile" not in chosen:
        _refuse(options, "without --profile, whose run they name", "set", "seed")
    if chosen <= {"weights"}:
        _refuse(options, "without --run, --profile or --published", "results_dir")
    run = options.run
    if "profile" in chosen:
        run = finished_run(_load(options), options.results_dir)
    return load_network(run, options.weights, options.published, options.results_dir, device)


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

    axes = tuple(options.axes or CONTEST)
    for axis in axes:
        if axis not in (*AXES, SWEEP):
            raise InputError(f"unknown axis {axis!r}; choose from {', '.join((*AXES, SWEEP))}")
    if SWEEP in axes:
        _refuse(options, "with --axes sweep, which has one seed of its own", "seeds")
        if len(axes) > 1:
            raise InputError(f"--axes {SWEEP} goes alone, because it stops after the sweep")
    elif options.cases:
        _refuse(options, "with --cases", "axes")
    if len(set(options.seeds or [])) < len(options.seeds or []):
        raise InputError("--seeds: each seed once; a repeated one would narrow the spread")
    if options.list:
        _refuse(
            options,
            "with --list",
            "seeds",
            "cases",
            "set",
            "data_dir",
            "results_dir",
            "device",
            "processes",
        )
        for case in planned_cases(options.profile):
            if case.axis in axes:
                print(f"{case.axis:8}{case.name}")
        return
    summary = pipeline.compared(
        options.profile,
        options.seeds,
        options.results_dir,
        options.cases,
        axes,
        parse_overrides(options.set),
        processes=options.processes,
    )
    runs, claims = summary["runs"], summary["claims"]
    print(sweep_table(runs), case_table(runs), claim_table(claims), sep="\n\n")


def reproduce(options):
    """Capture, train, evaluate, print the table, run the notebooks."""
    from .config import parse_overrides
    from .course import pipeline
    from .course.checkout import need

    need("papermill", "course")  # before hours of training
    pipeline.reproduce(
        options.profile,
        options.seed,
        parse_overrides(options.set),
        options.results_dir,
        options.only,
        options.fresh,
        options.solutions,
        options.as_is,
    )


def doctor(_):
    """Check whether this machine is ready: a line OK, NOTE or FAIL for each thing."""
    from .course.doctor import FAIL, diagnose

    failures = 0
    for sign, text in diagnose():
        print(f"{sign:4}  {text}")
        failures += sign == FAIL
    if failures:
        raise InputError(f"not ready: {failures} of the lines above say FAIL, and what to do")
    print("ready")


def lab(_):
    """Open JupyterLab at the first notebook."""
    from .course.checkout import open_lab

    open_lab()


def selftest(options):
    """Run the project's own tests, or parts of them."""
    from .course.checkout import run_tests

    return run_tests(options.parts or TEST_PARTS)


def exercises(options):
    """Write the exercises from notebooks/solutions; for instructors: hand them out, grade answers."""
    from .course.checkout import hand_out, need
    from .course.exercises import solutions_of, update_exercises
    from .course.notebooks import list_notebooks

    need("nbformat", "course")
    if options.grade is None:
        _refuse(options, "without --grade", "profile", "csv", "data_dir", "results_dir")
    elif options.without_solutions is not None:
        raise InputError("--grade and --without-solutions are two jobs; give one of them")
    if options.without_solutions is not None:
        print(hand_out(options.without_solutions))
        return
    if options.grade is not None:
        _grade(options)
        return
    for path in list_notebooks():
        if solutions_of(path).exists() and update_exercises(path):
            print(f"{path.parent.name}/{path.name}: exercises written anew")


def _grade(options):
    """Grade students' notebooks: print the table that the csv file holds, too."""
    from .config import load_config
    from .course.grading import HEADER, RESULTS, grade
    from .evaluation import markdown_table

    load_config(options.profile)  # refuses an unknown one
    rows, n_bad = grade(options.grade, options.profile, options.csv)
    print(markdown_table(HEADER, rows))
    counts = []
    for word in RESULTS.values():
        counts.append(f"{sum(row[2] == word for row in rows)} {word}")
    print(f"{', '.join(counts)}; also in {options.csv}")
    if n_bad:
        raise InputError(f"notebooks not graded: {n_bad}; the table says why")


def report(options):
    """Condense runs into results/reference and the README's table."""
    from .course import save_reference
    from .course.reference import save_shown_crops
    from .evaluation import update_readme, write_reference

    if not (options.runs or options.model or options.readme):
        raise InputError(
            "nothing to do: name run folders to condense, --model RUN to keep its network, or --readme"
        )
    if not (options.runs or options.readme):
        _refuse(options, "without runs and --readme", "reference")
    profile = "laptop"
    if options.runs:
        profile = read_json(options.runs[0] / "metrics.json")["profile"]
    reference = options.reference or home_folder() / "results" / "reference" / f"{profile}.json"
    if options.runs:
        write_reference(options.runs, reference)
        print(reference)
    if options.model is not None:
        print(save_reference(options.model))
        print(save_shown_crops())
    if options.readme:
        readme = home_folder() / "README.md"
        if not readme.is_file():
            raise InputError(f"{readme} is missing; run this in a checkout of the repository")
        update_readme(readme, reference)
        print(readme)


# --- their options ---


def option(*names, **choices):
    """One option, as `ArgumentParser.add_argument` takes it."""
    return names, choices


def path(*names, help, metavar="DIR", **choices):
    """An option that names a file or a folder."""
    return option(*names, type=Path, metavar=metavar, help=help, **choices)


def number(*names, within, help=None, kind=int, **choices):
    """An option that is a number, in a range whose ends belong to it."""
    choices = {"metavar": "N"} | choices
    return option(*names, type=number_within(kind, *within), help=help, **choices)


def several(*names, item=str, help=None, **choices):
    """An option with several values, apart or with commas between them; a repeated one adds."""
    return option(*names, type=items_of(item), nargs="+", action=Add, help=help, **choices)


def flag(name, help):
    """An option without a value."""
    return option(name, action="store_true", default=False, help=help)


def number_within(kind, low, high):
    """A function that reads a number, and refuses one that is out of its range."""
    words = "a whole number" if kind is int else "a number"

    def read(text):
        try:
            value = kind(text)
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
    return number_within(int, 1, 99)(text.removeprefix("S"))


def one_of(item, known):
    """A function that reads an item, and refuses one that is not known."""

    def read(text):
        value = item(text)
        if value not in known:
            names = ", ".join(map(str, known))
            raise argparse.ArgumentTypeError(f"{text}: choose from {names}")
        return value

    return read


# Parts of the project's tests, in the order in which they run; course.checkout knows what each of them runs.
TEST_PARTS = ("lint", "unit", "notebooks", "narrow", "browser")
SEED = (0, 2**32 - 1)
PROFILE = option("--profile", default="laptop", help="smoke, laptop, gpu or full; default: laptop")
SET = option(
    "--set",
    nargs="+",
    action="extend",
    default=[],
    metavar="NAME=VALUE",
    help="override fields of the profile's config; lists as 1,5,6",
)
DATA_DIR = path(
    "--data-dir", help="where data sets and crop stores lie; default: IPR_DATA, or data/"
)
RESULTS_DIR = path("--results-dir", help="where runs lie; default: IPR_RESULTS, or results/")
FOLDERS = [DATA_DIR, RESULTS_DIR]
CONFIG = [PROFILE, number("--seed", within=SEED, default=0), SET, *FOLDERS]
DEVICE = option(
    "--device",
    choices=("auto", "cpu", "cuda", "mps"),
    help="default: IPR_DEVICE, or auto, an NVIDIA GPU where there is one; mps is an Apple GPU",
)
RUN = option(
    "--run", metavar="NAME", help="a run's folder in --results-dir; default: that of the profile"
)
TARGET = path(
    "--target", help="folder to write to; default: one in --data-dir, named after the set"
)
METADATA = path(
    "--metadata", metavar="FILE", help="metadata.xml of the data set, if it is not in --source"
)
PROCESSES = (1, 1024)
WORKERS = number("--workers", within=PROCESSES, default=2, help="processes; default: 2")
SOURCE = path("--source", required=True, help="the download, extracted; of Human3.6M also as .tgz")
UNFOLD = number(
    "--unfold-gb",
    kind=float,
    within=(0.001, 1e6),
    metavar="GB",
    help="what a .mat, .pt or json may unfold to in memory; default: 4",
)
CROPS = (8, 4096)  # px
EVERY = (1, 100_000)  # frames
SECONDS = (0, 1e6)
STORE = number("--store", within=CROPS, help="write crop stores, for training crops of N px")
PEOPLE = [
    SOURCE,
    TARGET,
    DATA_DIR,
    STORE,
    number(
        "--box-scale",
        kind=float,
        within=(0.1, 10),
        default=BOX_SCALE,
        help=f"side of the crop's box, in longer sides of the person's box; default: {BOX_SCALE}",
    ),
    WORKERS,
    UNFOLD,
]

# Which network `predict` and `export` take.
NETWORK = [
    option(
        "--run",
        metavar="NAME",
        help="a run's folder in --results-dir; default: the course's own network",
    ),
    path("--weights", metavar="FILE", help="a checkpoint or model.pt of this library"),
    path("--published", metavar="FILE", help="a published checkpoint, by its own conventions"),
    option("--profile", help="take the finished run of this profile"),
    number("--seed", within=SEED, default=0, help="of that run"),
    SET,
    RESULTS_DIR,
]

PREPARE = {
    human36m: [
        SOURCE,
        TARGET,
        DATA_DIR,
        several(
            "--subjects",
            item=one_of(subject, SUBJECTS),
            default=SUBJECTS,
            help="S1,S5; default: all",
        ),
        several(
            "--actions",
            item=one_of(number_within(int, 1, 99), ACTION_NUMBERS),
            default=ACTION_NUMBERS,
            help="2 is Directions; default: all",
        ),
        number(
            "--step",
            within=EVERY,
            default=TRAIN_STEP,
            help=f"use every N-th frame of training subjects; default: {TRAIN_STEP}",
        ),
        number(
            "--test-step",
            within=EVERY,
            default=TEST_STEP,
            help=f"use every N-th frame of test subjects; default: {TEST_STEP}",
        ),
        several(
            "--test-subjects",
            item=one_of(subject, SUBJECTS),
            default=TEST_SUBJECTS,
            help="default: S9,S11; with S11 alone, S9 is for training",
        ),
        flag("--all-frames", "use every frame"),
        flag("--lens", "keep the full lens model; default: the usual pinhole camera"),
        number(
            "--store",
            within=CROPS,
            help="write crop stores for training crops of N px into TARGET/../stores, and no whole images",
        ),
        METADATA,
        option("--reader", choices=("opencv", "pyav"), default="opencv", help="of the videos"),
        number(
            "--archive-gb",
            kind=float,
            within=(0.001, 1e6),
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
        several(
            "--splits",
            item=one_of(str, ("train", "validation")),
            default=["train", "validation"],
            help="train, validation; default: both",
        ),
        number("--year", within=(1, 9999), default=2017),
        number(
            "--min-keypoints",
            within=(0, 17),
            default=1,
            help="skip people with fewer annotated joints",
        ),
        number(
            "--min-box",
            kind=float,
            within=(0, 100_000),
            default=0.0,
            metavar="PX",
            help="skip boxes whose longer side is smaller",
        ),
    ],
}
COMMANDS = {
    capture: [
        PROFILE,
        SET,
        DATA_DIR,
        TARGET,
        number("--workers", within=PROCESSES, help="processes; default: the profile's"),
        path(
            "--sheet",
            metavar="FILE",
            help="only draw all actors in all actions into one picture",
        ),
        path("--motion", help="play the .bvh files of this folder instead"),
        number(
            "--unit",
            kind=float,
            within=(0.001, 100_000),
            metavar="MM",
            help="mm per unit of these files; default: found from the leg's length",
        ),
        option("--up", choices=("x", "y", "z"), help="upward axis of these files; default: found"),
    ],
    train: [
        *CONFIG,
        DEVICE,
        several(
            "--recipe",
            default=[],
            metavar="NAME",
            help="usual changes: every-50th, depth-32, depth-16, strong",
        ),
        number(
            "--times",
            within=(1, 4096),
            default=1,
            help="N times the batch, at N times the learning rate",
        ),
        RUN,
        flag("--resume", "go on with --run NAME; its checkpoint brings the config, too"),
        path(
            "--init",
            metavar="FILE",
            help="start --run NAME from the weights of a run, a checkpoint or a published model",
        ),
        several(
            "--gpus",
            item=number_within(int, 0, 1023),
            metavar="N",
            help="train on these GPUs, such as 0,1, with one process for each",
        ),
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
        several("--subjects", item=subject, help="score only these test subjects, such as S9,S11"),
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
    runs: [RESULTS_DIR],
    predict: [
        path("files", nargs="+", metavar="FILE", help="pictures, videos, folders of them"),
        path("--out", required=True, help="where tables, overlays and pages go"),
        option(
            "--box",
            metavar="X,Y,W,H",
            help="of the one person: top left corner, width, height, px of the upright picture; "
            "default: a person detector's",
        ),
        path("--boxes", metavar="FILE", help=".csv of boxes: file,person,x,y,w,h"),
        flag("--whole", "take the whole picture as the person's box"),
        number(
            "--focal",
            kind=float,
            within=(1, 1_000_000),
            metavar="PX",
            help="focal length; default: from EXIF, else assumed",
        ),
        number("--person", within=(0, 100_000), help="keep person N alone, as the tables count"),
        flag("--recursive", "of folders, take what lies in their folders, too"),
        number("--every", within=EVERY, default=1, help="of videos, take every N-th frame"),
        number("--start", kind=float, within=SECONDS, default=0.0, help="of videos, begin here, s"),
        number(
            "--end", kind=float, within=SECONDS, default=math.inf, help="and end before here, s"
        ),
        flag("--smooth", "of videos, smooth paths by the One-Euro filter"),
        several(
            "--also",
            item=one_of(str, ("bvh", "glb", "mp4")),
            default=[],
            help="of videos, also write the motion as bvh or glb (glTF), the overlay as mp4 (H.264)",
        ),
        option(
            "--up",
            metavar="X,Y,Z",
            default="0,-1,0",
            help="of bvh and glb: which way is up in the camera's axes, x right, y down, z away; "
            "default: 0,-1,0, a camera held level",
        ),
        *NETWORK,
        flag("--flip-test", "average with what the network sees in the mirror"),
        DEVICE,
    ],
    export: [
        path("--out", metavar="FILE", required=True, help="the .onnx file to write"),
        *NETWORK,
    ],
    compare: [
        option("--profile", default="laptop", help="smoke, laptop or gpu; default: laptop"),
        several(
            "--seeds",
            item=number_within(int, *SEED),
            metavar="N",
            help="each case is run once for each seed; default: five for the methods, three for others",
        ),
        several(
            "--axes",
            metavar="AXIS",
            help="what to vary: method, map, 2D, budget, variant (default: these), depth, trunk "
            "(backbone), crop; or sweep: only pick each method's settings",
        ),
        several("--cases", metavar="CASE", help="only these cases, e.g. R1 'I*, coarse map'"),
        option(
            "--processes",
            type=number_within(int, 1, 256),
            default=1,
            help="so many runs at a time, which share the cores: 2 on a laptop, as many as cores with a GPU; default: 1",
        ),
        flag("--list", "only print the cases"),
        SET,
        *FOLDERS,
        DEVICE,
    ],
    reproduce: [
        *CONFIG,
        DEVICE,
        several("--only", metavar="NN", help="run only these notebooks, e.g. 00,06"),
        flag("--as-is", "run notebooks on the trained network that is there; train none for them"),
        flag("--fresh", "run notebooks again though nothing has changed for them"),
        flag("--solutions", "solve the exercises as well, and check the solutions"),
    ],
    doctor: [],
    lab: FOLDERS,
    selftest: [
        option(
            "parts",
            nargs="*",
            type=one_of(str, TEST_PARTS),
            metavar="PART",
            help=f"{', '.join(TEST_PARTS)}; default: all, in this order",
        )
    ],
    exercises: [
        path("--without-solutions", help="copy the course, without solutions, to this new folder"),
        several(
            "--grade",
            item=Path,
            metavar="FILE",
            help="run the checks of students' notebooks, such as 06_maria.ipynb",
        ),
        path("--csv", metavar="FILE", default=Path("grades.csv"), help="default: grades.csv"),
        option("--profile", default="smoke", help="to run them with; default: smoke"),
        *FOLDERS,
    ],
    report: [
        path("runs", nargs="*", default=[], help="run folders that differ only in their seed"),
        path(
            "--reference",
            metavar="FILE",
            help="the file to write, or to read for --readme; default: that of the runs' profile, or laptop.json",
        ),
        flag("--readme", "write the table into README.md"),
        path("--model", metavar="RUN", help="keep this run's network as the reference model"),
    ],
}


if __name__ == "__main__":
    sys.exit(main())
