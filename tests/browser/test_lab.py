"""The views in a real JupyterLab: clicks reach Python, Python moves the view, themes change, stale outputs live on."""

import shutil
import sys

import nbformat
import numpy as np
import pytest
from playwright.sync_api import TimeoutError as Late

from ipr_lib.config import load_config
from ipr_lib.course import pipeline
from ipr_lib.files import REPOSITORY
from ipr_lib.geometry import skeleton

KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel"
VIEWS = """import numpy as np
from ipr_lib.studio import perform
from ipr_lib.geometry.skeleton import add_thorax
from ipr_lib.views import SkeletonView, VolumeExplorer

truth = add_thorax(perform(subject=9, action=15, take=1, n_frames=60).joints_world)
pred = truth + np.random.default_rng(0).normal(0, 15, truth.shape)
view = SkeletonView({"truth": truth, "prediction": pred}, up="z", fps=50, title="walk")
view"""
VOLUME = """logits = np.random.default_rng(0).normal(0, 0.3, (18, 8, 16, 12))
logits[:, 6, 3, 9] += 9
explorer = VolumeExplorer(logits)
explorer"""


def until(page, condition, seconds=90):
    page.wait_for_function(condition, timeout=1000 * seconds)


def ask(page, code):
    """What the notebook's own kernel prints for a line of code."""
    return page.evaluate(
        """async ([code]) => {
      let text = "";
      const future = (KERNEL).requestExecute({ code, silent: false, store_history: false });
      future.onIOPub = (message) => (text += message.content.text ?? message.content.evalue ?? "");
      await future.done;
      return text;
    }""".replace("KERNEL", KERNEL),
        [code],
    ).strip()


def settled(page, code, expected):
    """Wait until the kernel prints what is expected: while it is busy, the page keeps back all but the latest change."""
    for _ in range(50):
        if (printed := ask(page, code)) == expected:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{code} gives {printed}, expected {expected}")


def run_all(page):
    """Run every cell; the first call after a kernel's start can be lost, so it is repeated until a cell has a number."""
    until(
        page,
        f"window.jupyterapp?.shell?.currentWidget?.sessionContext && {KERNEL}?.status === 'idle'",
    )
    for _ in range(5):
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        try:
            until(
                page,
                r"[...document.querySelectorAll('.jp-InputPrompt')].some((p) => /\[[\d*]+\]/.test(p.textContent))",
                10,
            )
            return
        except Late:
            continue
    raise AssertionError("the notebook does not start to run")


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def play_with(page, frames):
    """Drag the slider, orbit, select a joint, all by mouse: the kernel's `view` follows."""
    ask(page, "pass")  # all cells have run: nothing moves the view any more
    page.locator(".ipr").evaluate("(view) => view.scrollIntoView({ block: 'center' })")
    page.wait_for_timeout(500)
    slider = page.locator(".ipr-slider").bounding_box()
    at = [
        (slider["x"] + slider["width"] * share, slider["y"] + slider["height"] / 2)
        for share in (1 / 3, 2 / 3)
    ]
    drag(page, *at)
    until(
        page,
        f"Math.abs(document.querySelector('.ipr').dataset.frame - {frames * 2 / 3}) < {frames / 20}",
    )
    settled(page, "print(view.frame)", page.locator(".ipr").get_attribute("data-frame"))
    space, ankle = page.locator(".ipr-space"), skeleton.HUMAN36M.index("L_Ankle")
    box = space.bounding_box()
    before, old = space.evaluate("(canvas) => canvas.joints"), ask(page, "print(view.selected)")
    drag(page, (box["x"] + 40, box["y"] + 40), (box["x"] + 140, box["y"] + 60))
    page.wait_for_timeout(300)
    moved = np.abs(np.subtract(space.evaluate("(canvas) => canvas.joints"), before)).max()
    assert moved > 5, (
        "it did not turn"
    )  # px, or mm of depth: of a network's pose as narrow as a pole, depth moves; at rest nothing
    assert ask(page, "print(view.selected)") == old, "turning is no click"
    x, y = space.evaluate(f"(canvas) => canvas.joints[{ankle}].slice(0, 2)")
    page.mouse.click(box["x"] + x, box["y"] + y)
    until(page, f"document.querySelector('.ipr').dataset.selected === '{ankle}'")
    settled(page, "print(view.selected)", str(ankle))


@pytest.fixture
def notebook(lab, open_page):
    """Open a notebook made of code cells, or one that is there, and run all of it."""

    def opens(name, cells):
        book = cells
        if isinstance(cells, list):
            book = nbformat.v4.new_notebook(
                cells=[nbformat.v4.new_code_cell(source) for source in cells]
            )
        book.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(book, lab.folder / name)
        page = open_page(lab.address(name), viewport={"width": 1400, "height": 1000})
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
        run_all(page)
        return page

    return opens


def test_views_and_python_move_each_other(notebook, shoot):
    page = notebook("views.ipynb", [VIEWS, VOLUME])
    until(
        page,
        "document.querySelector('.ipr-space')?.drawn > 0 && document.querySelector('.iprv-table td')",
    )
    page.locator(".ipr").scroll_into_view_if_needed()
    shoot(page, "lab-light")

    assert ask(page, "import sys; print(sys.executable)") == sys.executable, (
        "the kernel is not the environment's"
    )
    play_with(page, 60)
    space = page.locator(".ipr-space")
    shoot(page, "lab-selected")

    # and the other way
    ask(page, "view.frame, view.selected, view.alignment = 7, 3, 'rigid'")
    until(
        page,
        "(({ frame, selected }) => frame === '7' && selected === '3')(document.querySelector('.ipr').dataset)",
    )
    assert page.get_by_text("rigid", exact=True).get_attribute("aria-pressed") == "true"

    # temperature
    page.locator(".iprv-temperature").evaluate(
        "(s) => { s.value = 60; s.dispatchEvent(new Event('input')); }"
    )
    page.wait_for_timeout(500)
    assert abs(float(ask(page, "print(explorer.temperature)")) - 10**0.6) < 1e-6
    shown = page.locator(".iprv-table tr").nth(2).locator("td").all_inner_texts()[1:4]
    np.testing.assert_allclose(
        np.array(shown, float),
        np.array(ask(page, "print(*explorer.expectation())").split(), float),
        atol=0.006,
    )

    # the dark theme, there and back
    for theme, name in (("dark", "JupyterLab Dark"), ("light", "JupyterLab Light")):
        page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
            name,
        )
        for view in (".ipr", ".iprv"):
            until(page, f"document.querySelector('{view}').dataset.theme === '{theme}'")
        until(
            page, "!document.getElementById('jupyterlab-splash')"
        )  # JupyterLab veils a change of theme
        shoot(page, f"lab-{theme}-theme")

    # no kernel any more: it still turns and plays; the notebook's own complaint about the lost kernel is all
    assert not page.errors
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    until(page, f"!({KERNEL})")
    drawn = space.evaluate("(canvas) => canvas.drawn")
    page.locator(".ipr-play").click()
    until(page, f"document.querySelector('.ipr-space').drawn > {drawn + 5}")
    until(page, "document.querySelector('.ipr').dataset.frame > 9")
    page.locator(".ipr-play").click()
    page.wait_for_timeout(200)
    assert all(
        error.startswith("Could not send widget sync message Error: Cannot send")
        for error in page.errors
    )
    page.errors.clear()


def test_notebook_00_runs_and_can_be_played_with(notebook, shoot):
    """The first notebook as a reader meets it, with the smoke profile: the reference model, and no run made for it."""
    book = nbformat.read(REPOSITORY / "notebooks" / "00_start_here.ipynb", as_version=4)
    (parameters,) = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source = f"profile = 'smoke'\nseed = 0\noverrides = {{}}\nresults_dir = {str(REPOSITORY / 'results')!r}"
    page = notebook("00_start_here.ipynb", book)
    # Cells far from the screen are not drawn until they come near: walk down to the views.
    for view in (".ipr-space", ".iprv-table td"):
        for _ in range(120):
            if page.locator(view).count():
                break
            page.evaluate(
                "() => { window.jupyterapp.shell.currentWidget.content.node.querySelector('.jp-WindowedPanel-outer').scrollBy(0, 500); }"
            )
            page.wait_for_timeout(400)
        page.locator(view).first.scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        if view == ".ipr-space":
            play_with(page, int(ask(page, "print(view.meta['frames'])")))
        shoot(page, f"lab-00-{view[1:5].strip('-')}")
    assert (
        ask(page, "print(view.meta['people'], explorer.meta['names'][0])")
        == "['truth', 'prediction'] Pelvis"
    )


def test_a_notebook_opened_by_clicks_runs_to_its_end(lab, open_page, shoot):
    """As a reader: by the file browser, profile typed into its cell, Run All. No error, no warning, no code cut off."""
    cfg = load_config("smoke")
    pipeline.stores(cfg)
    book = nbformat.read(REPOSITORY / "notebooks" / "01_skeletons_and_cameras.ipynb", as_version=4)
    (place,) = [
        i for i, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", [])
    ]
    asked = (
        book.cells[place]
        .source.replace('"laptop"', '"smoke"')
        .replace("results_dir = None", "results_dir = " + repr(str(REPOSITORY / "results")))
    )
    shutil.copytree(REPOSITORY / "notebooks" / "figures", lab.folder / "course" / "figures")
    nbformat.write(book, lab.folder / "course" / "01_skeletons_and_cameras.ipynb")
    page = open_page(lab.home, viewport={"width": 1240, "height": 900})
    for name in ("course", "01_skeletons"):
        page.locator(".jp-DirListing-item", has_text=name).dblclick(timeout=90_000)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
    content = "window.jupyterapp.shell.currentWidget.content"
    page.evaluate(
        f"async (i) => {{ {content}.activeCellIndex = i; await {content}.scrollToItem(i, 'center'); }}",
        place,
    )
    page.locator(f'.jp-Cell[data-windowed-list-index="{place}"] .cm-content').click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(asked)
    page.keyboard.press("Escape")
    run_all(page)
    cells = f"{content}.widgets.filter((cell) => cell.model.type === 'code' && cell.model.sharedModel.getSource().trim())"
    until(
        page,
        f"{cells}.every((cell) => cell.model.executionCount) && {KERNEL}.status === 'idle'",
        120,
    )
    outputs = page.evaluate(f"() => {cells}.flatMap((cell) => cell.model.outputs.toJSON())")
    wrong = [
        output
        for output in outputs
        if output["output_type"] == "error" or output.get("name") == "stderr"
    ]
    assert not wrong and any(output.get("text") == "all good\n" for output in outputs)
    cut = page.evaluate(
        "() => [...document.querySelectorAll('.jp-Cell .cm-scroller')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert cut == 0, "code runs out of its cell"
    shoot(page, "lab-01-run")
