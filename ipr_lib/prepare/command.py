"""`python -m ipr_lib prepare …`: arguments in, library calls out."""

from pathlib import Path

from ..data.h36m_layout import ACTION_NUMBERS, SUBJECTS, TEST_STEP, TEST_SUBJECTS, TRAIN_STEP
from ..files import REPOSITORY, InputError
from .check import check_set
from .human36m import prepare_human36m, prepare_human36m_stores
from .raw import READERS, read_metadata


def add_sets(sets):
    """Add `prepare human36m`, `check`, `mpii` and `coco` to the sub-commands `sets` of argparse."""
    for name, add, run, text in (
        ("human36m", _add_human36m, _human36m, "Human3.6M: raw download -> prepared layout"),
        ("check", _add_check, _check, "is a prepared set whole and plausible? The exit code tells"),
        ("mpii", _add_mpii, _people, "MPII's .mat and pictures to json and crop stores"),
        ("coco", _add_coco, _people, "COCO's person keypoints to json and crop stores"),
    ):
        parser = sets.add_parser(name, help=text, description=text)
        add(parser)
        parser.set_defaults(run=run)


def _add_human36m(parser):
    parser.add_argument(
        "--source",
        type=Path,
        required=True,
        metavar="DIR",
        help="the download: S1, S5 … extracted, or .tgz archives, and metadata.xml",
    )
    parser.add_argument("--target", type=Path, metavar="DIR", help="default: data/human36m")
    parser.add_argument(
        "--subjects", type=int, nargs="+", choices=SUBJECTS, default=SUBJECTS, metavar="N"
    )
    parser.add_argument(
        "--actions",
        type=int,
        nargs="+",
        choices=ACTION_NUMBERS,
        default=ACTION_NUMBERS,
        metavar="N",
        help="2 is Directions; default: all",
    )
    parser.add_argument(
        "--step",
        type=int,
        default=TRAIN_STEP,
        metavar="N",
        help=f"use every N-th frame of training subjects; default {TRAIN_STEP}",
    )
    parser.add_argument(
        "--test-step",
        type=int,
        default=TEST_STEP,
        metavar="N",
        help=f"use every N-th frame of test subjects; default {TEST_STEP}",
    )
    parser.add_argument(
        "--test-subjects",
        type=int,
        nargs="+",
        choices=SUBJECTS,
        default=TEST_SUBJECTS,
        metavar="N",
        help="default: 9 11; with 11 alone, S9 is for training",
    )
    parser.add_argument("--all-frames", action="store_true", help="use every frame")
    parser.add_argument(
        "--lens",
        action="store_true",
        help="keep the full lens model; default: the customary pinhole",
    )
    parser.add_argument(
        "--store",
        type=int,
        metavar="PX",
        help="write crop stores for training crops of PX px into TARGET/../stores, and no whole pictures",
    )
    parser.add_argument(
        "--metadata", type=Path, metavar="FILE", help="metadata.xml, if it is not in --source"
    )
    parser.add_argument("--reader", choices=READERS, default=READERS[0], help="of the videos")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes")


def _human36m(options):
    step, test_step = (1, 1) if options.all_frames else (options.step, options.test_step)
    for name, value in (
        ("--step", step),
        ("--test-step", test_step),
        ("--workers", options.workers),
    ):
        if value < 1:
            raise InputError(f"{name} {value}: expected 1 or more")
    target = options.target or REPOSITORY / "data" / "human36m"
    choices = {
        "subjects": tuple(sorted(set(options.subjects))),
        "actions": tuple(sorted(set(options.actions))),
        "step": step,
        "test_step": test_step,
        "test_subjects": tuple(sorted(set(options.test_subjects))),
        "lens": options.lens,
        "reader": options.reader,
        "metadata": options.metadata,
        "workers": options.workers,
    }
    if options.store is None:
        report = [*prepare_human36m(options.source, target, **choices), target]
    elif options.store < 1:
        raise InputError(
            f"--store {options.store}: expected the side of the training crops, px, such as 256"
        )
    else:
        stores = target.parent / "stores"  # where training looks for them
        report = prepare_human36m_stores(
            options.source, stores, target.name, crop_px=options.store, **choices
        )
    print(*report, sep="\n")


def _add_check(parser):
    parser.add_argument(
        "root", type=Path, metavar="DIR", help="a prepared set, or the built-in capture"
    )
    parser.add_argument(
        "--metadata", type=Path, metavar="FILE", help="metadata.xml, to compare the counts with"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes")


def _check(options):
    metadata = read_metadata(options.metadata) if options.metadata else None
    report, problems = check_set(options.root, metadata, options.workers)
    print(report)
    if problems:
        print(*problems, sep="\n")
        raise InputError(
            f"{options.root} is not usable as it is: {len(problems)} problems, listed above"
        )
    print(f"{options.root} is usable")


def _add_people(parser, name):
    """What the commands of all 2D sets take."""
    parser.add_argument(
        "--source", type=Path, required=True, metavar="DIR", help="the extracted download"
    )
    parser.add_argument("--target", type=Path, metavar="DIR", help=f"default: data/{name}")
    parser.add_argument(
        "--store",
        type=int,
        metavar="PX",
        help="also build crop stores, for training crops of PX px",
    )
    parser.add_argument(
        "--box-scale",
        type=float,
        default=1.25,
        help="side of the crop box over the person box's longer",
    )
    parser.add_argument("--workers", type=int, default=2)


def _add_mpii(parser):
    _add_people(parser, "mpii")
    parser.add_argument(
        "--validation-list", type=Path, metavar="FILE", help="picture names, one a line, or json"
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="keep 1-based pixels, as the published converter does",
    )


def _add_coco(parser):
    _add_people(parser, "coco")
    parser.add_argument(
        "--parts", nargs="+", choices=("train", "validation"), default=["train", "validation"]
    )
    parser.add_argument("--year", type=int, default=2017)
    parser.add_argument(
        "--min-keypoints", type=int, default=1, help="skip people with fewer annotated joints"
    )
    parser.add_argument(
        "--min-box",
        type=float,
        default=0.0,
        metavar="PX",
        help="skip boxes whose longer side is smaller",
    )


def _people(options):
    from .people import prepare_coco, prepare_mpii  # pycocotools is an extra

    target = options.target or REPOSITORY / "data" / options.set
    stores = {"store_px": options.store, "box_scale": options.box_scale, "workers": options.workers}
    if options.set == "mpii":
        lines = prepare_mpii(
            options.source, target, options.validation_list, options.published, **stores
        )
    else:
        lines = prepare_coco(
            options.source,
            target,
            options.parts,
            options.year,
            options.min_keypoints,
            options.min_box,
            **stores,
        )
    print("\n".join(lines))
