"""`python -m ipr_lib COMMAND`; each command is a thin call into the library."""

import argparse
import sys
from pathlib import Path

from . import config, pipeline, results
from .files import InputError


def main(arguments=None):
    """Run one command; returns the exit code: 0, 2 for what the user can mend, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except InputError as error:
        print(f"ipr_lib {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nipr_lib {options.command}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser():
    parser = argparse.ArgumentParser(prog="python -m ipr_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, run, text):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    def add_config(command):
        command.add_argument("--profile", default="laptop", help=f"one of {', '.join(config.PROFILES)}")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="override fields of the profile")
        command.add_argument("--results-dir", type=Path, default=config.REPOSITORY / "results", metavar="DIR")

    command = add("capture", _capture, "write the built-in capture in the prepared Human3.6M layout")
    add_config(command)
    command.add_argument("--target", type=Path, metavar="DIR", help="default: data/capture-PROFILE")
    command.add_argument("--workers", type=int, help="processes; default: the profile's")
    add_config(add("train", _train, "train the network of a profile, or go on with its training"))
    add_config(add("test", _test, "score a profile's trained network and print its table"))
    command = add("reproduce", _reproduce, "capture, train, evaluate, run the notebooks, print the table")
    add_config(command)
    command.add_argument("--only", nargs="+", metavar="NN", help="run these notebooks alone, e.g. 00 06")
    command = add("report", _report, "condense runs into results/reference and the README's table")
    command.add_argument("runs", nargs="*", type=Path, help="run folders that differ in their seed alone")
    command.add_argument("--reference", type=Path, default=config.REPOSITORY / "results/reference/laptop.json")
    command.add_argument("--readme", action="store_true", help="write the table into README.md")
    return parser


def _load(options):
    return config.load_config(options.profile, seed=options.seed, **config.parse_overrides(options.set))


def _capture(options):
    print(pipeline.capture(_load(options), options.target, options.workers))


def _train(options):
    cfg = _load(options)
    pipeline.trained(cfg, options.results_dir)
    print(pipeline.run_dir(cfg, options.results_dir))


def _test(options):
    print(results.report(pipeline.evaluated(_load(options), options.results_dir)))


def _reproduce(options):
    overrides = config.parse_overrides(options.set)
    pipeline.reproduce(options.profile, options.seed, overrides, options.results_dir, options.only)


def _report(options):
    if options.runs:
        results.write_reference(options.runs, options.reference)
    if options.readme:
        results.update_readme(config.REPOSITORY / "README.md", options.reference)


if __name__ == "__main__":
    sys.exit(main())
