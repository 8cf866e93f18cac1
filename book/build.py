"""Executed notebooks -> a static site that asks the network for nothing: `make book`, or `python book/build.py --help`."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat

from ipr_lib.config import load_config, parse_overrides
from ipr_lib.course import exercises, notebooks, pipeline
from ipr_lib.evaluation.report import minutes_table, run_minutes
from ipr_lib.files import InputError, atomic_path, results_folder

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # this folder is no package; run from elsewhere, it has to be named

from alternative import alternative_text  # noqa: E402

PAGES = ("glossary.md", "trouble.md", "recipes.md", "instructors.md")  # beside index.md
VIEW, STATE = (
    "application/vnd.jupyter.widget-view+json",
    "application/vnd.jupyter.widget-state+json",
)


def clean_notebook(notebook):
    """What a reader of the site should see of an executed notebook; in place.

    The cell that papermill injects goes (it holds paths of one machine), and so do progress bars and other widgets that
    are nothing without a kernel. Anywidgets stay, with their state. Figures get a text that says what they show.
    """
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    state = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    alive = {name: model for name, model in state.items() if "_esm" in model.get("state", {})}
    for number, cell in enumerate(notebook.cells):
        cell.metadata = nbformat.NotebookNode({"tags": cell.metadata.get("tags", [])})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _is_shown(output, alive)]
            if any(
                kind.startswith("image/")
                for output in cell.outputs
                for kind in output.get("data", {})
            ):
                cell.metadata["mystnb"] = {
                    "image": {"alt": alternative_text(notebook.cells, number)}
                }
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    if alive:
        notebook.metadata["widgets"] = {
            STATE: {"state": alive, "version_major": 2, "version_minor": 0}
        }
    return notebook


def _is_shown(output, alive):
    view = output.get("data", {}).get(VIEW)
    return view is None or view["model_id"] in alive


def write_source(run, folder):
    """Write what Sphinx reads: notebooks, pictures, first page, pages to look things up in.

    Args:
        run: a run's folder; NN/executed.ipynb is taken from there.
        folder: to be filled.
    Returns:
        names of the notebooks that the run has not executed; they are shown without outputs.
    Raises:
        InputError: the run has executed none, or has no report.
    """
    missing, chapters = [], []
    for path in notebooks.list_notebooks():
        executed = run / path.name[:2] / "executed.ipynb"
        if not executed.exists():
            missing.append(path.name)
        notebook = nbformat.read(executed if executed.exists() else path, as_version=4)
        nbformat.write(clean_notebook(notebook), folder / path.name)
        chapters.append(path.stem)
        if (solutions := exercises.solutions_of(path)).exists():
            notebook = nbformat.read(solutions, as_version=4)
            notebook.metadata["orphan"] = (
                True  # reached from its notebook, not from the list of pages
            )
            (folder / "solutions").mkdir(exist_ok=True)
            nbformat.write(notebook, folder / "solutions" / path.name)
    if len(missing) == len(chapters):
        raise InputError(
            f"{run} holds no executed notebook; run `make reproduce` with the same PROFILE first"
        )
    for name in ("images", "figures"):
        scripts = shutil.ignore_patterns("*.py", "__pycache__")
        shutil.copytree(notebooks.NOTEBOOKS / name, folder / name, ignore=scripts)
    try:
        report = (run / "report.md").read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{run} holds no report; run `make reproduce` with the same PROFILE first"
        ) from error
    report += f"\n## Minutes\n\n{minutes_table(run_minutes(run))}\n"
    text = (HERE / "index.md").read_text(encoding="utf-8").replace("CHAPTERS", "\n".join(chapters))
    # The report's own headings go one level down, under the page's.
    table = "\n".join(
        f"#{line}" if line.startswith("##") else line for line in report.splitlines()[2:]
    )
    (folder / "index.md").write_text(text.replace("TABLE", table), encoding="utf-8")
    for name in PAGES:  # their links hold in the repository; here the notebooks lie beside them
        (folder / name).write_text(
            (HERE / name).read_text(encoding="utf-8").replace("../notebooks/", ""), encoding="utf-8"
        )
    return missing


def build(run, target):
    """Build the site of a run.

    Args:
        run: a run's folder.
        target: folder of the site; replaced as a whole.
    Returns:
        names of the notebooks without outputs.
    Raises:
        InputError: see `write_source`; Sphinx is not installed, or has found something wrong.
    """
    try:
        from sphinx.cmd.build import build_main
    except ImportError as error:
        raise InputError("sphinx is not installed; run `make env`") from error
    with tempfile.TemporaryDirectory(prefix="ipr-book-") as scratch, atomic_path(target) as site:
        source = Path(scratch) / "source"
        source.mkdir()
        missing = write_source(run, source)
        code = build_main(
            [
                "-q",
                "-W",
                "--keep-going",
                "-b",
                "html",
                "-c",
                str(HERE),
                "-d",
                f"{scratch}/doctrees",
                str(source),
                str(site),
            ]
        )
        if code:
            raise InputError(
                f"the site of {run} was not built: Sphinx exited with {code}; the lines above say why"
            )
        for path in site.rglob("*.map"):  # 2 MB that only serve to debug the theme
            path.unlink()
    return missing


def main(arguments=None):
    """Build the site of a profile's run; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--results-dir", type=Path, default=results_folder(), metavar="DIR")
    parser.add_argument(
        "--target", type=Path, metavar="DIR", help="default: site-PROFILE beside the runs"
    )
    options = parser.parse_args(arguments)
    try:
        cfg = load_config(options.profile, seed=options.seed, **parse_overrides(options.set))
        run = pipeline.run_dir(cfg, options.results_dir)
        target = options.target or options.results_dir / f"site-{cfg.profile}"
        missing = build(run, target)
    except InputError as error:
        print(f"make book: {error}", file=sys.stderr)
        return 2
    if missing:
        print(f"shown without outputs, for this run has not executed them: {', '.join(missing)}")
    print(target / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
