"""The site: what goes in, formulas, workflows; and in a real browser with every outside request refused."""

import contextlib
import functools
import http.server
import importlib.util
import re
import shlex
import shutil
import threading

import nbformat
import numpy as np
import pytest
import yaml

from ipr_lib.__main__ import make_parser
from ipr_lib.course import checkout, notebooks
from ipr_lib.files import REPOSITORY, InputError, write_json
from ipr_lib.geometry.skeleton import HUMAN36M
from tests.chromium import CHROMIUM, FLAGS

BOOK = REPOSITORY / "book"


def load(name):
    """A module of book/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"book_{name}", BOOK / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build, mathml = load("build"), load("mathml")


# Cells of notebook 06 that draw, with what they leave.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LINES = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M0 0L9 9" stroke="black"/></svg>'
DRAWN = {
    "map": f"image/svg+xml;{LINES}",
    "two-peaks-figure": f"image/svg+xml;{LINES}",
    "trained-figure": f"image/png;{PIXEL}",
}


def output(**data):
    return nbformat.v4.new_output(
        "display_data", {name.replace("_", "/", 1): value for name, value in data.items()}
    )


def view_of(model_id):
    return nbformat.v4.new_output(
        "display_data", {build.VIEW: {"model_id": model_id, "version_major": 2, "version_minor": 0}}
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has executed notebook 06 alone: with a live skeleton view, a dead slider, a table, an injected cell."""
    from ipywidgets import IntSlider
    from ipywidgets.embed import dependency_state

    from ipr_lib.views import SkeletonView

    folder = tmp_path_factory.mktemp("run")
    (folder / "report.md").write_text(
        "# smoke\n\nMPJPE **1.0 mm**.\n\n## Per action\n\n| mm | all |\n| :-- | --: |\n| ours | 1.0 |\n",
        encoding="utf-8",
    )
    write_json(folder / "metrics.json", {"minutes": {"data": 1.25}})
    write_json(folder / "06" / "stamp.json", {"minutes": 0.5})
    rng = np.random.default_rng(0)
    view, slider = (
        SkeletonView(rng.normal(0, 300, (2, 5, len(HUMAN36M), 3)).astype(np.float32)),
        IntSlider(),
    )
    state = dependency_state([view, slider], drop_defaults=False)
    (path,) = [path for path in notebooks.list_notebooks() if path.name.startswith("06")]
    notebook = nbformat.read(path, as_version=4)
    injected = nbformat.v4.new_code_cell(
        'results_dir = "/elsewhere/results"', metadata={"tags": ["injected-parameters"]}
    )
    shown = nbformat.v4.new_code_cell(
        "view",
        outputs=[
            view_of(view.model_id),
            view_of(slider.model_id),
            output(text_markdown="| a | b |\n|:--|--:|\n| 1 | $x^2$ |"),
            nbformat.v4.new_output("stream", name="stderr", text="a warning of one machine"),
        ],
    )
    notebook.cells[5:5] = [injected, shown]
    for cell in notebook.cells:
        if cell.id in DRAWN:
            cell.outputs = [
                output(
                    **{
                        DRAWN[cell.id].partition(";")[0].replace("/", "_", 1): DRAWN[
                            cell.id
                        ].partition(";")[2]
                    }
                )
            ]
    notebook.metadata["widgets"] = {
        build.STATE: {"state": state, "version_major": 2, "version_minor": 0}
    }
    notebook.metadata["papermill"] = {"output_path": "/elsewhere/results"}
    nbformat.write(notebook, folder / "06" / "executed.ipynb")
    return folder


@pytest.fixture(scope="module")
def site(run):
    missing = build.build(run, run / "site")
    assert len(missing) == len(notebooks.list_notebooks()) - 1
    return run / "site"


def page(site, number):
    (path,) = site.glob(f"{number}_*.html")
    return path.read_text(encoding="utf-8")


# --- what goes in ---


def test_dead_widgets_and_paths_of_one_machine_are_left_out(run):
    notebook = build.clean_notebook(nbformat.read(run / "06" / "executed.ipynb", as_version=4))
    nbformat.validate(notebook)
    assert "elsewhere" not in nbformat.writes(notebook)
    views = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if build.VIEW in output.get("data", {})
    ]
    (state,) = notebook.metadata["widgets"][build.STATE]["state"].values()
    assert len(views) == 1 and "_esm" in state["state"]


def test_a_run_without_notebooks_or_report_is_one_line(tmp_path, run):
    (tmp_path / "source").mkdir()
    with pytest.raises(InputError, match="holds no executed notebook"):
        build.write_source(tmp_path, tmp_path / "source")
    shutil.copytree(run / "06", tmp_path / "06")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="holds no report"):
        build.write_source(tmp_path, tmp_path / "other")


def test_formulas_become_mathml():
    assert "<mfrac" in mathml.to_mathml(r"\tfrac12", block=False)
    assert mathml.to_mathml(r"\frac{1}{2}", block=False) == mathml.to_mathml(
        r"\frac12", block=False
    )
    assert 'display="block"' in mathml.to_mathml(r"\sum_i p_i", block=True)
    with pytest.raises(mathml.MathError):
        mathml.to_mathml(r"\nosuchthing{x}", block=False)


def test_the_site_holds_every_notebook_and_asks_nobody(site):
    names = {path.stem for path in site.glob("[0-9][0-9]_*.html")}
    assert names == {path.stem for path in notebooks.list_notebooks()}
    for path in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"((?:https?:)?//[^\"]+)",
            path.read_text(encoding="utf-8"),
        )
        assert not loaded, f"{path.name} loads {loaded}"
    assert all((site / name).with_suffix(".html").exists() for name in build.PAGES)
    six = page(site, "06")
    assert re.search(r"<td[^>]*><p><math|<td[^>]*><math", six), "a formula in a printed table"
    assert "<math" in six and "elsewhere" not in six and "a warning of one machine" not in six
    assert "smoke" not in (site / "index.html").read_text(encoding="utf-8").split("This run")[
        0
    ] and "Per action" in (site / "index.html").read_text(encoding="utf-8")
    minutes = re.findall(
        r"<t[dh][^>]*><p>([^<]*)</p>",
        (site / "index.html").read_text(encoding="utf-8").split("Minutes<a")[1],
    )
    assert minutes[:8] == ["minutes", "data", "06", "all", "measured", "1.2", "0.5", "2"]


def test_every_figure_is_told_in_words(site):
    alts = [
        re.search(r'alt="([^"]*)"', tag)
        for path in site.glob("*.html")
        for tag in re.findall(r"<img\b[^>]*>", path.read_text(encoding="utf-8"))
    ]
    assert len(alts) >= len(DRAWN) and all(alts), "a picture without a text in its place"
    texts = [found[1] for found in alts]
    assert all(len(text.split()) >= 3 and "_images" not in text for text in texts), texts
    assert any("axes: x (cells), y (cells)" in text for text in texts)


@pytest.mark.parametrize("path", notebooks.list_notebooks(), ids=lambda path: path.stem)
def test_every_cell_that_draws_has_words(path):
    cells = nbformat.read(path, as_version=4).cells
    drawing = [
        i
        for i, cell in enumerate(cells)
        if cell.cell_type == "code" and "plt.subplot" in cell.source
    ]
    assert drawing
    for number in drawing:
        text = build.alternative_text(cells, number)
        assert len(text.split()) >= 5 and not re.search(r"[`$]|\]\(|\n", text), (
            f"{cells[number].id}: {text}"
        )


# --- pages beside the notebooks ---

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *(BOOK / name for name in build.PAGES),
]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_of_pages_resolve(path):
    links = re.findall(
        r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert links
    for link in map("".join, links):
        assert link.startswith("https://") or (path.parent / link.partition("#")[0]).exists(), (
            f"{path.name} links to {link}"
        )


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_of_pages_exist(path):
    text = path.read_text(encoding="utf-8")
    for command in re.findall(r"(?:^|`)python -m ipr_lib ([^`\n]+)", text, flags=re.MULTILINE):
        assert (
            make_parser().parse_args(shlex.split(command, comments=True)).command
            == command.split()[0]
        )
    targets = set(
        re.findall(
            r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    )
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE)) <= targets


def test_the_plans_for_instructors_name_exercises_that_exist():
    """As "06 Look; 07 Change and predict, Build": the kinds of exercises of these notebooks."""
    text = (BOOK / "instructors.md").read_text(encoding="utf-8")
    named = set()
    for number, kinds in re.findall(r"\b(\d\d) ([A-Z][a-z ]+(?:, [A-Z][a-z ]+)*)", text):
        named |= {(number, kind.strip()) for kind in kinds.split(",")}
    assert len({number for number, _ in named}) > 5
    known = set()
    for path in notebooks.list_notebooks():
        for cell in nbformat.read(path, as_version=4).cells:
            heading = re.match(r"### Exercise \d+ · (.*)", cell.source)
            if heading:
                known.add((path.name[:2], heading[1].strip()))
    assert named <= known


# --- in a browser ---


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A browser that leaves a page drops what it had asked for."""


@contextlib.contextmanager
def served(folder):
    server = Server(("127.0.0.1", 0), functools.partial(Silent, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser_with_the_network_cut_off(site, tmp_path):
    from playwright.sync_api import sync_playwright

    complaints, outside = [], []

    def route(request_route):
        address = request_route.request.url
        if address.startswith(("http://127.0.0.1", "file:", "data:", "blob:")):
            request_route.continue_()
        else:
            outside.append(address)
            request_route.abort()

    (six,) = [path.name for path in site.glob("06_*.html")]
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        window.route("**/*", route)
        window.on(
            "console",
            lambda message: complaints.append(message.text) if message.type == "error" else None,
        )
        window.on("pageerror", lambda error: complaints.append(str(error)))
        for start in (address, site.as_uri()):  # served, and opened from disk
            window.goto(f"{start}/{six}")
            window.locator("div.anywidget canvas").first.wait_for(state="visible", timeout=20_000)
            canvas = max(
                window.locator("div.anywidget canvas").all(),
                key=lambda one: (one.bounding_box() or {"width": 0})["width"],
            )
            assert window.locator("div.anywidget").count() == 1
            canvas.scroll_into_view_if_needed()
            window.wait_for_timeout(300)
            still = canvas.screenshot()
            box = canvas.bounding_box()
            window.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            window.mouse.down()
            window.mouse.move(
                box["x"] + box["width"] / 2 + 80, box["y"] + box["height"] / 2 + 20, steps=4
            )
            window.mouse.up()
            window.wait_for_timeout(300)
            assert canvas.screenshot() != still, "dragging did not turn the skeletons"
            size = window.locator("math").first.bounding_box()
            assert size["width"] > 5 and size["height"] > 5
            line, formula = (
                window.locator(f"div.math{inner}").first.bounding_box() for inner in ("", " math")
            )
            assert abs(line["x"] + line["width"] / 2 - formula["x"] - formula["width"] / 2) < 5, (
                "a formula is not centred"
            )
            assert window.locator("table").count() >= 1
            window.locator(".prev-next-area a.right-next").click()
            assert re.search(r"/0[7-9]_[^/]*\.html$", window.url)
            window.goto(f"{start}/search.html?q=volume")
            window.locator("#search-results li a").first.wait_for(timeout=20_000)
        window.goto(f"{address}/index.html")
        assert window.locator(".toctree-wrapper a").count() == len(
            notebooks.list_notebooks()
        ) + len(build.PAGES)
        window.screenshot(path=tmp_path / "index.png")
        window.goto(f"{address}/{six}")
        window.locator("div.anywidget canvas").first.wait_for(state="visible", timeout=20_000)
        window.wait_for_timeout(300)
        assert window.locator(".bd-sidebar-primary li a").count() == len(
            notebooks.list_notebooks()
        ) + len(build.PAGES)
        window.screenshot(path=tmp_path / "notebook.png", full_page=True)
        browser.close()
    assert not outside, f"asked for {outside}"
    assert not complaints, complaints


# --- around it ---


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem
)
def test_workflows_call_targets_that_exist(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    targets = set(
        re.findall(
            r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    )
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    called = [
        name for step in steps for name in re.findall(r"\bmake ([a-z]+)", step.get("run", ""))
    ]
    assert called and set(called) <= targets
    assert (
        all("uses" in step or "run" in step for step in steps) and workflow[True]
    )  # YAML reads the key `on` as true


def test_the_workflow_of_tests_runs_what_selftest_runs():
    jobs = yaml.safe_load(
        (REPOSITORY / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    )["jobs"]
    lines = {}
    for name, job in jobs.items():
        lines[name] = [step["run"] for step in job["steps"] if "run" in step]
    for command in checkout.PARTS["lint"][:2]:
        assert " ".join(command) in lines["lint"]
    listed = re.search(r"git ls-files (.*) \| xargs codespell", "\n".join(lines["lint"]))
    assert shlex.split(listed[1]) == list(checkout.SPELLED)
    assert "make test" in lines["linux"]
    assert jobs["linux"]["strategy"]["matrix"]["python"] == ["3.11", "3.13"]
    install, run = lines["others"]
    assert install == "pip install -r requirements.lock -e ."
    assert make_parser().parse_args(shlex.split(run)[3:]).parts == ["unit"]


def test_both_workflows_are_there():
    assert {path.name for path in (REPOSITORY / ".github" / "workflows").glob("*.yml")} == {
        "test.yml",
        "site.yml",
    }


def test_lab_settings_keep_the_news_quiet_and_wrap_long_lines():
    import json

    settings = json.loads((BOOK / "overrides.json").read_text(encoding="utf-8"))
    assert settings["@jupyterlab/apputils-extension:notification"] == {
        "fetchNews": "false",
        "checkForUpdates": False,
    }
    assert settings["@jupyterlab/notebook-extension:tracker"] == {
        "codeCellConfig": {"lineWrap": True}
    }
