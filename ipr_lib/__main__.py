"""The command line: `python -m ipr_lib COMMAND`, or `ipr COMMAND`.

Each command is one function, named and described as the help shows it; `options` says which options it takes.
What a command needs of the library is imported when it runs, so that the help does not wait for torch.
"""

import argparse
import functools
import io
import os
import shlex
import sys

from . import __version__
from .files import INSTALL, InputError, data_folder, home_folder, read_json, results_folder

try:
    from .options import COMMANDS, PREPARE, TEST_PARTS, Once, Parser
except KeyboardInterrupt:  # Ctrl-C while NumPy and SciPy load; later on, `main` sees it
    sys.exit("\nipr_lib: interrupted")
except ModuleNotFoundError as error:
    sys.exit(f"ipr_lib: {error}; {INSTALL}, then `python -m ipr_lib doctor` checks the rest")

# For training on several machines. After "--", torchrun leaves alone what it would otherwise take for its own options.
ON_EACH_MACHINE = (
    "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 "
    "-m -- ipr_lib train --profile full"
)
# Options that go to the functions of the library, and to the processes that are started, as variables.
VARIABLES = {
    "data_dir": "IPR_DATA",
    "results_dir": "IPR_RESULTS",
    "device": "IPR_DEVICE",
    "unfold_gb": "IPR_UNFOLD_GB",
}
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
    """Add the defaults to what was typed, and set the variables."""
    options.arguments = arguments
    options.typed = set(vars(options))
    for name, default in options.defaults.items():
        if name not in options.typed:
            setattr(options, name, default)
    if "target" in options.typed:
        _refuse(options, "with --target", "data_dir")
    for name, variable in VARIABLES.items():
        if name in options.typed:
            os.environ[variable] = str(getattr(options, name))
    if os.environ.get("IPR_DEVICE") == "mps":
        # What an Apple GPU lacks, the CPU computes; `import torch` reads this.
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    # In full, because notebooks run in a folder of their own.
    for variable, folder in (("IPR_DATA", data_folder()), ("IPR_RESULTS", results_folder())):
        if variable in os.environ:
            os.environ[variable] = str(folder)


def _nobody_reads():
    """Whether the reader of our output has gone, as after `| head`; what is left of it is then dropped."""
    try:
        print(flush=True)  # fails again where it was the output that broke
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


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
        for name, options in table.items():
            function = globals()[name]
            text = function.__doc__.partition("\n")[0]
            command = place.add_parser(name, help=text, description=text)
            command.register("action", None, Once)
            defaults = {}
            for usage, choices in options:
                action = command.add_argument(usage, **choices | {"default": argparse.SUPPRESS})
                defaults[action.dest] = choices["default"]
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


def _refuse_all_but(options, why, *names):
    """InputError where an option was typed that is none of these."""
    _refuse(options, why, *(name for name in options.defaults if name not in names))


def _print_training(target, **fields):
    """Print the command that trains profile full on a set.

    Args:
        target: folder of the set; its crop stores lie in `stores` beside it.
        fields: of the Config; those that the profile has already are left out.
    """
    from .config import load_config

    command = ["python", "-m", "ipr_lib", "train", "--profile", "full"]
    if target.absolute().parent != data_folder():
        command += ["--data-dir", str(target.absolute().parent)]
    profile = load_config("full")
    changes = []
    for name, value in fields.items():
        if value != getattr(profile, name):
            items = value if isinstance(value, tuple) else [value]
            changes.append(f"{name}={','.join(map(str, items))}")
    if changes:
        command += ["--set", *changes]
    print("to train on it:", shlex.join(command))


# --- the commands ---


def capture(options):
    """Write the built-in capture in the prepared Human3.6M layout."""
    from .course import pipeline
    from .studio import write_motion, write_sheet

    cfg = _load(options)
    if options.sheet is not None:
        _refuse_all_but(options, "with --sheet", "sheet", "profile", "set")
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

    train = tuple(sorted(set(options.subjects) - set(options.test_subjects)))
    test = tuple(sorted(set(options.subjects) & set(options.test_subjects)))
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
    crop_px = options.store or CROP_PX
    has_mpii = (target.parent / "stores" / f"mpii-train-{crop_px}").is_dir()
    _print_training(
        target,
        dataset=target.name,
        train_subjects=train,
        test_subjects=test,
        train_step=options.step,
        test_step=options.test_step,
        crop_px=crop_px,
        mix=("mpii",) if has_mpii else (),
    )


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
        _print_training(target, mix=(target.name,), crop_px=options.store)


def train(options):
    """Train the network of a profile, or go on with its training."""
    from .course import pipeline
    from .training import distributed

    if options.gpus and "TORCHELASTIC_RUN_ID" not in os.environ:  # else torchrun started us
        return distributed.launch(options.arguments, options.gpus)
    folder = results_folder() / options.run if options.run else None
    if options.init is not None and folder is None:
        raise InputError("--init goes with --run NAME, because the profile's run starts afresh")
    cfg = _train_config(options, folder)
    folder = folder or pipeline.run_dir(cfg)
    with distributed.process_group():
        pipeline.trained(cfg, folder=folder, init=options.init)
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
            options.published, _load(options), options.subjects, options.texts
        )
        report = published_report(content)
    else:
        if options.run is None:
            cfg = _load(options)
            pipeline.trained(cfg)
            run = pipeline.run_dir(cfg)
        else:
            _refuse(options, "with --run, which brings its own config", "profile", "set", "seed")
            run = find_run(options.run)
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

    rows = pipeline.list_runs()
    if not rows:
        raise InputError(f"{results_folder()} holds no run; train one: python -m ipr_lib train")
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
        run = finished_run(_load(options))
    return load_network(run, options.weights, options.published, device=device)


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
        _refuse_all_but(options, "with --list", "list", "profile", "axes")
        for case in planned_cases(options.profile):
            if case.axis in axes:
                print(f"{case.axis:8}{case.name}")
        return
    summary = pipeline.compared(
        options.profile,
        options.seeds,
        names=options.cases,
        axes=axes,
        overrides=parse_overrides(options.set),
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
        only=options.only,
        fresh=options.fresh,
        solutions=options.solutions,
        as_is=options.as_is,
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
        _refuse_all_but(options, "without --grade", "without_solutions")
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
    from .course.reference import save_reference, save_shown_crops
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


if __name__ == "__main__":
    sys.exit(main())
