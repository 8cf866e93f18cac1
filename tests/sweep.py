"""Run the checks that rest on trainings under several seeds, thread counts and instruction sets; print what they leave.

    python -m tests.sweep                                  notebooks 05 to 12 and the tests, under ten conditions
    python -m tests.sweep --only 07 09 --seeds 0 1         some notebooks, some seeds
    python -m tests.sweep --conditions "*onednn*" --tests  some conditions, by pattern; only the tests
    python -m tests.sweep --table                          run nothing; print the table of what has been run

It takes hours and is not part of `make test`. A condition is a process of its own, and what it has run is kept in
`results/sweep`; called again, the sweep goes on where it stopped. What has changed since, or ended in an error, is run
again.
"""

import argparse
import dataclasses
import fnmatch
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time

from ipr_lib.files import REPOSITORY, InputError, atomic_path, read_json, write_json

from . import recorded_checks

FOLDER = REPOSITORY / "results" / "sweep"
NUMBERS = ("05", "06", "07", "08", "09", "10", "11", "12")
ONEDNN, ATEN = "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"
SETUP = f"""import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from tests import recorded_checks as {recorded_checks.CALLS}
del sys.path[0]"""


# --- conditions ---


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a run depends on that no check may depend on; None leaves an instruction set as the processor has it."""

    seed: int
    threads: int = 2
    onednn: str | None = None
    aten: str | None = None

    @property
    def name(self):
        parts = [f"seed{self.seed}", f"threads{self.threads}"]
        if self.onednn:
            parts.append(f"onednn-{self.onednn}")
        if self.aten:
            parts.append(f"aten-{self.aten}")
        return "-".join(parts).lower()

    def environment(self):
        """The environment of a process that runs under this condition."""
        found = {name: value for name, value in os.environ.items() if name not in (ONEDNN, ATEN)}
        found |= {"OMP_NUM_THREADS": str(self.threads), "IPR_TEST_THREADS": str(self.threads)}
        found |= {"IPR_TRAINING_SEED": str(self.seed), "CUDA_VISIBLE_DEVICES": ""}
        found.setdefault(
            "OMP_WAIT_POLICY", "PASSIVE"
        )  # as in the Makefile: threads that wait leave the cores to others
        if self.onednn:
            found[ONEDNN] = self.onednn
        if self.aten:
            found[ATEN] = self.aten
        return found


def default_conditions(seeds):
    """Each seed as the machine is, then each other thread count and instruction set with one of the seeds."""
    conditions = [Condition(seed) for seed in seeds]
    others = [
        {"threads": 1},
        {"onednn": "AVX2"},
        {"aten": "default"},
        {"aten": "avx2"},
        {"onednn": "AVX2", "aten": "default"},
    ]
    for number, other in enumerate(others):
        conditions.append(Condition(seeds[number % len(seeds)], **other))
    return conditions


def all_conditions(seeds):
    """Every combination."""
    conditions = []
    for seed, threads, onednn, aten in itertools.product(
        seeds, (2, 1), (None, "AVX2"), (None, "default", "avx2")
    ):
        conditions.append(Condition(seed, threads, onednn, aten))
    return conditions


# --- one condition, in a process of its own ---


def run_condition(condition, profile, numbers, with_tests):
    """Run what has not been run under a condition, or has changed since; write its file after each notebook.

    Args:
        condition: Condition; the process has its environment already.
        profile: of the notebooks.
        numbers: of the notebooks, as "07".
        with_tests: whether the tests are run, too.
    """
    path = condition_file(condition, profile)
    kept = (
        read_json(path)
        if path.exists()
        else {"condition": dataclasses.asdict(condition), "runs": {}}
    )
    jobs = [(number, run_notebook) for number in numbers]
    if with_tests:
        jobs.append(("tests", run_tests))
    for number, (name, run) in enumerate(jobs, start=1):
        stamp = stamp_of(name)
        where = f"{condition.name} [{number}/{len(jobs)}] {name}"
        before = kept["runs"].get(name)
        if before and before["stamp"] == stamp and not before["error"]:
            print(f"{where}: kept", flush=True)
            continue
        start = time.perf_counter()
        record = FOLDER / f"{path.stem}.record"
        record.unlink(missing_ok=True)
        record.touch()
        os.environ[recorded_checks.RECORD] = str(record)
        error = run(condition, profile, name)
        checks = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
        record.unlink()
        seconds = round(time.perf_counter() - start, 1)
        kept["runs"][name] = {
            "stamp": stamp,
            "seconds": seconds,
            "error": error,
            "checks": summary(checks),
        }
        write_json(path, kept)
        failed = sum(not check["holds"] for check in kept["runs"][name]["checks"])
        print(
            f"{where}: {seconds:.0f} s, {failed} of {len(kept['runs'][name]['checks'])} checks failed",
            flush=True,
        )
        if error:
            print(f"    {error}", flush=True)


def condition_file(condition, profile):
    return FOLDER / f"{profile}-{condition.name}.json"


def stamp_of(name):
    """Tells the versions of a notebook and its solutions, or of the tests, apart."""
    if name == "tests":
        paths = training_tests()
    else:
        paths = [
            notebook_path(name),
            notebook_path(name).parent / "solutions" / notebook_path(name).name,
        ]
    content = b"".join(path.read_bytes() for path in paths if path.exists())
    return hashlib.sha256(content).hexdigest()[:16]


def notebook_path(number):
    from ipr_lib.course.notebooks import list_notebooks

    found = [path for path in list_notebooks() if path.name.startswith(f"{number}_")]
    if not found:
        raise InputError(f"no notebook {number}")
    return found[0]


def run_notebook(condition, profile, number):
    """Run one notebook with its solutions; returns the error that stopped it, or None."""
    import nbformat
    from nbformat.v4 import new_code_cell

    from ipr_lib.config import load_config
    from ipr_lib.course import exercises, notebooks, pipeline
    from ipr_lib.experiment import run as compare

    folder = FOLDER / f"{profile}-{condition.name}"
    source = notebook_path(number)
    notebook = nbformat.read(source, as_version=4)
    solutions = exercises.solutions_of(source)
    if solutions.exists():
        found = exercises.read_exercises(solutions)
        notebook = exercises.with_exercises(notebook, found, source.name, solved=True)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = recorded_checks.rewritten(cell.source, cell.id, raises=False)
    notebook.cells.insert(0, new_code_cell(SETUP, id="recorded-checks"))
    copy = folder / "notebooks" / source.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(copy) as temporary:
        nbformat.write(notebook, temporary)
    parameters = {
        "profile": profile,
        "seed": condition.seed,
        "overrides": {},
        "results_dir": str(folder),
    }
    try:
        cfg = load_config(profile, seed=condition.seed)
        pipeline.evaluated(cfg, folder)
        if number == "08" and profile in compare.IN_REPRODUCE:
            pipeline.small_comparison(profile, condition.seed, folder)
        notebooks.run_notebook(copy, pipeline.run_dir(cfg, folder) / number, parameters)
    except InputError as error:
        return str(error)
    return None


def training_tests():
    """Test files that hold a small training."""
    paths = sorted((REPOSITORY / "tests").glob("test_*.py"))
    return [path for path in paths if "training_seed" in path.read_text(encoding="utf-8")]


def run_tests(condition, profile, name):
    """Run the tests that ask for `training_seed`, from a copy whose checks are recorded; returns an error, or None."""
    folder = FOLDER / f"{profile}-{condition.name}" / "checked"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(
        REPOSITORY / "tests",
        folder / "tests",
        ignore=shutil.ignore_patterns("__pycache__", "browser"),
    )
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    chosen = []
    for path in training_tests():
        module = folder / "tests" / path.name
        module.write_text(
            recorded_checks.rewritten_module(path.read_text(encoding="utf-8"), path.name),
            encoding="utf-8",
        )
        chosen.append(f"tests/{path.name}")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.recorded_checks",
        "-p",
        "no:cacheprovider",
        *chosen,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode in (0, 1):  # 1: tests failed, which is noted test by test
        return None
    return (done.stdout + done.stderr)[-2000:]


def summary(checks):
    """One entry a check: the lowest and highest value that it met, its nearest miss, and whether it always held."""
    found = {}
    for check in checks:
        entry = found.setdefault(
            (check["place"], check["text"]),
            {"place": check["place"], "text": check["text"], "holds": True},
        )
        if not check["holds"]:
            entry["holds"] = False
            entry["message"] = check.get("message", "")
        if "value" in check:
            merge_numbers(entry, check["value"], check["value"], check["limit"], check["margin"])
    return list(found.values())


def merge_numbers(entry, low, high, limit, margin):
    """Widen an entry by further values; the limit kept is that of the smallest margin."""
    entry["low"] = min(low, entry.get("low", low))
    entry["high"] = max(high, entry.get("high", high))
    if margin <= entry.get("margin", margin):
        entry["margin"], entry["limit"] = margin, limit


# --- the table ---


def table(contents):
    """Markdown: every check that compares numbers, and every other one that has failed; those with least room first.

    Args:
        contents: what the conditions' files hold.
    Returns:
        text.
    """
    rows, plain = {}, set()
    for content in contents:
        for name, run in content["runs"].items():
            if run["error"]:
                row = rows.setdefault(
                    (name, "", "runs to its end"),
                    {"name": name, "text": "runs to its end", "failed": [], "n": 0},
                )
                row["failed"].append(content["condition"])
                row["message"] = run["error"]
            for check in run["checks"]:
                key = (name, check["place"], check["text"])
                if check["holds"] and "margin" not in check:
                    plain.add(key)
                    continue
                row = rows.setdefault(
                    key,
                    {
                        "name": place_name(name, check["place"]),
                        "text": check["text"],
                        "failed": [],
                        "n": 0,
                    },
                )
                row["n"] += 1
                if "margin" in check:
                    merge_numbers(row, check["low"], check["high"], check["limit"], check["margin"])
                if not check["holds"]:
                    row["failed"].append(content["condition"])
                    row["message"] = check.get("message", "")
    lines = [
        "| where | check | lowest | highest | limit | margin | failed |",
        "|:--|:--|--:|--:|--:|--:|--:|",
    ]
    for row in sorted(rows.values(), key=urgency):
        numbers = ["", "", "", ""]
        if "margin" in row:
            numbers = [f"{row[name]:.4g}" for name in ("low", "high", "limit")] + [
                f"{100 * row['margin']:.0f} %"
            ]
        text = row["text"].replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {row['name']} | `{text}` | {' | '.join(numbers)} | {len(row['failed'])} |")
    seconds = sum(run["seconds"] for content in contents for run in content["runs"].values())
    lines += [
        "",
        f"{len(contents)} conditions, {seconds / 60:.0f} minutes. {len(plain)} further checks compare no sizes and always held.",
    ]
    for row in rows.values():
        if row["failed"]:
            names = ", ".join(Condition(**condition).name for condition in row["failed"])
            lines.append(
                f"- {row['name']}, `{row['text']}` failed under {names}. {row.get('message', '')}"
            )
    return "\n".join(lines)


def place_name(name, place):
    """The notebook and the cell, or the test."""
    return place.removeprefix("tests/") if name == "tests" else f"{name} {place}"


def urgency(row):
    """Failed checks first, then those with the smallest margin."""
    return -len(row["failed"]), row.get("margin", 0.0), row["name"], row["text"]


# --- the command ---


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="smoke", help="of the notebooks (smoke)")
    parser.add_argument(
        "--only", nargs="+", default=NUMBERS, metavar="NN", help="numbers of notebooks (05 to 12)"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--conditions",
        nargs="+",
        metavar="PATTERN",
        help="only conditions of these names, as '*onednn*'",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="every combination of seeds, threads and instruction sets",
    )
    parser.add_argument("--tests", action="store_true", help="only the tests")
    parser.add_argument("--notebooks", action="store_true", help="only the notebooks")
    parser.add_argument("--fresh", action="store_true", help="run again what has been run")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--in-condition", metavar="JSON", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    numbers = [] if options.tests and not options.notebooks else list(options.only)
    with_tests = options.tests or not options.notebooks
    FOLDER.mkdir(parents=True, exist_ok=True)
    if options.in_condition:
        run_condition(
            Condition(**json.loads(options.in_condition)), options.profile, numbers, with_tests
        )
        return 0
    conditions = all_conditions(options.seeds) if options.all else default_conditions(options.seeds)
    if options.conditions:
        conditions = [
            each
            for each in conditions
            if any(fnmatch.fnmatch(each.name, pattern) for pattern in options.conditions)
        ]
    failed = 0
    for condition in conditions:
        if options.table:
            break
        path = condition_file(condition, options.profile)
        if options.fresh:
            path.unlink(missing_ok=True)
            shutil.rmtree(FOLDER / f"{options.profile}-{condition.name}", ignore_errors=True)
        command = [
            sys.executable,
            "-m",
            "tests.sweep",
            "--profile",
            options.profile,
            "--in-condition",
            json.dumps(dataclasses.asdict(condition)),
            "--only",
            *options.only,
        ]
        command += ["--tests"] if options.tests else []
        command += ["--notebooks"] if options.notebooks else []
        failed += (
            subprocess.run(command, cwd=REPOSITORY, env=condition.environment()).returncode != 0
        )
    paths = [condition_file(condition, options.profile) for condition in conditions]
    print(table([read_json(path) for path in paths if path.exists()]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
