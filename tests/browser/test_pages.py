"""Saved pages, opened from disk: they draw, turn, play, pick and recompute without kernel or network."""

import numpy as np
import pytest
from PIL import Image

from ipr_lib import integral
from ipr_lib.geometry.skeleton import HUMAN36M, add_thorax
from ipr_lib.studio import perform, studio_cameras
from ipr_lib.views import SkeletonView, VolumeExplorer, plots

FRAMES = 120


@pytest.fixture(scope="module")
def walk():
    """World poses of a walk (F, 18, 3) mm, and the same seen wrongly: turned, too large, trembling."""
    truth = add_thorax(perform(subject=9, action=15, take=1, n_frames=FRAMES).joints_world)
    rng = np.random.default_rng(0)
    cos, sin = np.cos(0.15), np.sin(0.15)
    root = truth[:, :1]
    pred = (
        root
        + 1.04 * (truth - root) @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        + rng.normal(0, 9, truth.shape)
    )
    return truth, pred


@pytest.fixture(scope="module")
def pictures():
    """A picture per frame with a bright square that moves, so that the right one can be told."""
    shown = np.full((FRAMES, 90, 90, 3), 60, np.uint8)
    for frame, picture in enumerate(shown):
        picture[30:60, frame % 60 : frame % 60 + 20] = (230, 200, 40)
    return shown


@pytest.fixture(scope="module")
def skeleton_page(walk, pictures, tmp_path_factory):
    truth, pred = walk
    view = SkeletonView({"truth": truth, "prediction": pred}, up="z", fps=50, title="S9 Walking")
    path = view.to_html(tmp_path_factory.mktemp("page") / "skeletons.html", title="Skeletons")
    assert path.stat().st_size < 400_000
    return path.as_uri()


def pixels(element, path):
    element.screenshot(path=path)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def count(picture, colour):
    """Pixels of a colour's hue: limbs are drawn paler the further away they are."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], float)
    chroma, wanted = picture - picture.mean(-1, keepdims=True), rgb - rgb.mean()
    strength = np.linalg.norm(chroma, axis=-1)
    return ((chroma @ wanted > 0.96 * strength * np.linalg.norm(wanted)) & (strength > 50)).sum()


def settle(page):
    """Wait for two screen refreshes, so that what was changed is drawn."""
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def until(page, condition):
    """Wait for a condition in the page, which forbids `eval` and so playwright's own waiting."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


def test_it_draws_in_the_colours_of_the_figures(open_page, skeleton_page, shoot, tmp_path):
    page = open_page(skeleton_page)
    space = page.locator(".ipr-space")
    settle(page)
    picture = pixels(space, tmp_path / "space.png")
    for colour in (plots.RIGHT, plots.LEFT):
        assert count(picture, colour) > 20, f"no {colour}"
    assert page.locator(".ipr").get_attribute("data-theme") == "light"
    assert page.locator(".ipr-caption").inner_text() == "S9 Walking"
    shoot(page, "page-light")


def test_dark_follows_the_system(open_page, skeleton_page, shoot, tmp_path):
    page = open_page(skeleton_page, color_scheme="dark")
    settle(page)
    assert page.locator(".ipr").get_attribute("data-theme") == "dark"
    assert np.median(pixels(page.locator(".ipr-space"), tmp_path / "space.png")) < 60
    page.get_by_role("button", name="colour by error").click()
    settle(page)
    shoot(page, "page-dark-errors")
    page.emulate_media(color_scheme="light")
    until(page, "document.querySelector('.ipr').dataset.theme === 'light'")


def test_orbit_zoom_and_reset_by_mouse(open_page, skeleton_page, shoot, tmp_path):
    page = open_page(skeleton_page)
    space = page.locator(".ipr-space")
    box = space.bounding_box()
    x, y = box["x"] + 60, box["y"] + 60
    first = pixels(space, tmp_path / "a.png")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 150, y + 30, steps=4)
    page.mouse.up()
    page.mouse.move(2, 2)
    settle(page)
    turned = pixels(space, tmp_path / "b.png")
    assert (np.abs(turned - first).sum(-1) > 60).mean() > 0.01
    shoot(page, "page-turned")
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    settle(page)
    zoomed = pixels(space, tmp_path / "c.png")
    assert count(zoomed, plots.LEFT) > 1.2 * count(turned, plots.LEFT)
    space.press("0")
    page.wait_for_timeout(500)
    page.mouse.move(2, 2)
    page.evaluate("document.activeElement.blur()")  # without the ring round what has the keys
    settle(page)
    assert (np.abs(pixels(space, tmp_path / "d.png") - first).sum(-1) > 60).mean() < 0.002


def test_keys_step_select_and_look(open_page, skeleton_page):
    page = open_page(skeleton_page)
    space, clock = page.locator(".ipr-space"), page.locator(".ipr-quiet").first
    space.focus()
    assert clock.inner_text() == f"1 / {FRAMES} · 0.00 s"
    for key, shown in (
        ("ArrowRight", "2"),
        ("ArrowRight", "3"),
        ("ArrowLeft", "2"),
        ("End", f"{FRAMES}"),
        ("Home", "1"),
    ):
        space.press(key)
        settle(page)
        assert clock.inner_text().split(" ")[0] == shown
    space.press("l")
    settle(page)
    assert (
        page.get_by_role("button", name="name the joints").get_attribute("aria-pressed") == "true"
    )


def test_alignment_lowers_the_error_as_the_metrics_say(open_page, skeleton_page, walk):
    from ipr_lib.evaluation import metrics

    truth, pred = (pose[:1, :17] for pose in walk)
    page = open_page(skeleton_page)
    expected = {
        "root": metrics.mpjpe(pred, truth),
        "rigid": metrics.pa_mpjpe(pred, truth),
        "scale": metrics.pa_mpjpe(pred, truth, scale=True),
    }
    for kind, value in expected.items():
        page.get_by_text(kind, exact=True).click()
        settle(page)
        shown = float(page.locator(".ipr-verdict").inner_text().split()[-2])
        assert abs(shown - value) < 0.06
    assert expected["scale"] < expected["rigid"] < expected["root"]


@pytest.mark.parametrize(
    ("button", "across", "up"),
    [
        ("front", (1, 0, 0), (0, 0, 1)),
        ("side", (0, 1, 0), (0, 0, 1)),
        ("top", (1, 0, 0), (0, 1, 0)),
    ],
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_buttons_look_along_the_axes(
    open_page, skeleton_page, walk, shoot, button, across, up, scheme
):
    page = open_page(skeleton_page, color_scheme=scheme)
    page.get_by_text(button, exact=True).click()
    page.get_by_text("labels", exact=True).click()
    page.wait_for_timeout(500)  # it flies there
    x, y, _, _ = np.array(page.locator(".ipr-space").evaluate("(canvas) => canvas.joints")).T
    pose = walk[1][0]
    assert np.corrcoef(x, pose @ across)[0, 1] > 0.99 and np.corrcoef(-y, pose @ up)[0, 1] > 0.99
    shoot(page, f"page-{button}-{scheme}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_two_models_and_two_people_are_told_apart(open_page, walk, shoot, tmp_path, scheme):
    truth, pred = walk
    models = SkeletonView(
        {"truth": truth, "ours": pred, "theirs": 2 * pred - truth},
        up="z",
        fps=50,
        title="two models",
    )
    page = open_page(models.to_html(tmp_path / "models.html").as_uri(), color_scheme=scheme)
    box, (x, y) = (
        page.locator(".ipr-space").bounding_box(),
        page.locator(".ipr-space").evaluate("c => c.joints[3].slice(0, 2)"),
    )
    page.mouse.move(box["x"] + x, box["y"] + y)
    settle(page)
    assert page.locator(".ipr-verdict").inner_text().count("mm") == 2
    shoot(page, f"page-models-{scheme}")
    people = SkeletonView(
        np.stack([truth, truth[::-1] + [900, 400, 0]]), up="z", fps=50, title="two people"
    )
    page = open_page(people.to_html(tmp_path / "people.html").as_uri(), color_scheme=scheme)
    settle(page)
    assert page.locator(".ipr-bars").count() == 0, "different people have no errors"
    shoot(page, f"page-people-{scheme}")
    both = count(pixels(page.locator(".ipr-space"), tmp_path / "both.png"), plots.LEFT)
    page.get_by_role("button", name="show or hide person 2").click()
    settle(page)
    assert (
        0
        < count(pixels(page.locator(".ipr-space"), tmp_path / "one.png"), plots.LEFT)
        < 0.85 * both
    )


@pytest.mark.parametrize("width", [340, 500, 700, 1100])
def test_no_number_of_the_ground_is_cut_off(open_page, walk, pictures, tmp_path, width):
    truth, pred = walk
    path = SkeletonView({"truth": truth, "prediction": pred}, up="z", images=pictures).to_html(
        tmp_path / "page.html"
    )
    page = open_page(path.as_uri(), viewport={"width": width, "height": 900})
    page.evaluate("""() => {
      window.texts = [];
      const plain = CanvasRenderingContext2D.prototype.fillText;
      CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
        const wide = this.measureText(text).width, left = x - { left: 0, start: 0, center: 0.5, right: 1 }[this.textAlign] * wide;
        window.texts.push([String(text), left, left + wide, this.canvas.clientWidth]);
        plain.call(this, text, x, y);
      };
    }""")
    for key in ("Shift+ArrowLeft", "Shift+ArrowRight", *["Shift+ArrowRight"] * 5):
        page.locator(".ipr-space").press(key)
        settle(page)
    texts = page.evaluate("window.texts")
    assert {"error (mm)", "1500 mm up"} <= {text for text, *_ in texts}
    cut = [text for text, left, right, room in texts if left < -0.5 or right > room + 0.5]
    assert not cut, cut


def test_playing_costs_less_than_a_screen_refresh(open_page, skeleton_page):
    """18 joints x 2 at 60 pictures/s: their script must need less than 16.7 ms of processor time, busy machine or not."""
    page = open_page(skeleton_page)
    metrics = page.context.new_cdp_session(page)
    metrics.send("Performance.enable", {"timeDomain": "threadTicks"})

    def now():
        values = {
            entry["name"]: entry["value"]
            for entry in metrics.send("Performance.getMetrics")["metrics"]
        }
        return page.evaluate(
            "[document.querySelector('.ipr-space').drawn, performance.now()]"
        ), values["ScriptDuration"]

    page.locator(".ipr-play").click()
    page.wait_for_timeout(300)
    (first, start), script = now()
    page.wait_for_timeout(2000)
    (last, end), script_end = now()
    page.locator(".ipr-play").click()
    assert last > first, "it does not play"
    cost, rate = (
        1000 * (script_end - script) / (last - first),
        1000 * (last - first) / (end - start),
    )
    print(f"\n{rate:.0f} pictures/s while playing, {cost:.1f} ms of script each")
    assert 0 < cost < 16.7
    settle(page)
    stopped = page.evaluate("document.querySelector('.ipr-space').drawn")
    page.wait_for_timeout(300)
    assert page.evaluate("document.querySelector('.ipr-space').drawn") == stopped, (
        "it draws although nothing moves"
    )


def test_slider_pictures_bars_and_picking_hang_together(open_page, walk, pictures, shoot, tmp_path):
    truth, pred = walk
    joints_img = np.full((2, FRAMES, 18, 2), np.nan)
    joints_img[:, :, 3] = (70, 20)  # the right ankle alone is in the picture
    joints_img[:, :, 2] = (20, 20)
    path = SkeletonView(
        {"truth": truth, "prediction": pred},
        up="z",
        images=pictures,
        joints_img=joints_img,
        labels=[f"item {i}" for i in range(FRAMES)],
    ).to_html(tmp_path / "pictures.html")
    page = open_page(path.as_uri())
    page.locator(".ipr-slider").evaluate(
        "(slider) => { slider.value = 45; slider.dispatchEvent(new Event('input')); }"
    )
    until(page, "document.querySelector('.ipr-caption').textContent === 'item 45'")
    page.wait_for_timeout(500)  # the picture is decoded when it is first seen
    seen = pixels(page.locator(".ipr-picture"), tmp_path / "picture.png")
    yellow = np.argwhere(np.abs(seen - (230, 200, 40)).sum(-1) < 60)
    assert len(yellow) and abs(yellow[:, 1].mean() / seen.shape[1] * 90 - 55) < 3, (
        "no picture, or that of another frame"
    )
    box = page.locator(".ipr-picture").bounding_box()
    scale, top = box["width"] / 90, (box["height"] - box["width"]) / 2
    page.mouse.click(box["x"] + 70.5 * scale, box["y"] + top + 20.5 * scale)
    settle(page)
    shoot(page, "page-pictures-selected")
    ankle = HUMAN36M.index("R_Ankle")
    assert page.locator(".ipr").get_attribute("data-selected") == str(ankle), (
        "the click on the picture missed"
    )
    bars = page.locator(".ipr-bars").bounding_box()
    row = (bars["height"] - 34) / 17
    page.mouse.click(bars["x"] + 40, bars["y"] + 26 + row * 8.5)
    settle(page)
    assert page.locator(".ipr").get_attribute("data-selected") == "8"
    page.locator(".ipr-space").press("Escape")
    settle(page)
    assert page.locator(".ipr").get_attribute("data-selected") == "-1"
    box, (x, y) = (
        page.locator(".ipr-space").bounding_box(),
        page.locator(".ipr-space").evaluate(f"c => c.joints[{ankle}].slice(0, 2)"),
    )
    page.mouse.click(box["x"] + x, box["y"] + y)
    settle(page)
    assert page.locator(".ipr").get_attribute("data-selected") == str(ankle)


def test_a_camera_of_the_picker_turns_the_view_and_changes_the_picture(
    open_page, walk, shoot, tmp_path
):
    cameras = {
        f"camera {number}": camera for number, camera in studio_cameras(picture_px=90).items()
    }
    grey = {
        name: [np.full((90, 90, 3), 50 * number, np.uint8)] * FRAMES
        for number, name in enumerate(cameras, 1)
    }
    path = SkeletonView(
        walk[0], up="z", cameras=cameras, images=grey, title="four cameras"
    ).to_html(tmp_path / "cameras.html")
    page = open_page(path.as_uri())
    first = pixels(page.locator(".ipr-space"), tmp_path / "space.png")
    page.locator(".ipr-camera").select_option(label="camera 4")
    page.wait_for_timeout(600)
    assert (
        np.abs(pixels(page.locator(".ipr-space"), tmp_path / "space.png") - first).sum(-1) > 60
    ).mean() > 0.01
    assert abs(np.median(pixels(page.locator(".ipr-picture"), tmp_path / "picture.png")) - 200) < 8
    shoot(page, "page-camera-4")


@pytest.mark.parametrize(("width", "scale"), [(360, 3), (700, 1), (1500, 2)])
def test_it_fits_its_page(open_page, walk, pictures, shoot, tmp_path, width, scale):
    truth, pred = walk
    path = SkeletonView(
        {"truth": truth, "prediction": pred}, up="z", fps=50, images=pictures
    ).to_html(tmp_path / "page.html")
    page = open_page(
        path.as_uri(), viewport={"width": width, "height": 900}, device_scale_factor=scale
    )
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.locator(".ipr-space").evaluate("(canvas) => [canvas.width, canvas.clientWidth]")
    assert abs(sizes[0] - scale * sizes[1]) <= scale, "blurred on this screen"
    shoot(page, f"page-{width}px")
    page.set_viewport_size({"width": max(int(0.75 * width), 320), "height": 900})
    until(page, f"document.querySelector('.ipr-space').clientWidth !== {sizes[1]}")


def test_touch_turns_and_selects(open_page, skeleton_page, tmp_path):
    page = open_page(skeleton_page, has_touch=True, viewport={"width": 400, "height": 800})
    space = page.locator(".ipr-space")
    first = pixels(space, tmp_path / "a.png")
    space.evaluate("""(canvas) => {
      const box = canvas.getBoundingClientRect();
      const send = (type, id, x, y) => canvas.dispatchEvent(new PointerEvent(type,
        {pointerId: id, pointerType: "touch", clientX: box.x + x, clientY: box.y + y, bubbles: true, buttons: 1}));
      canvas.setPointerCapture = () => {};
      send("pointerdown", 1, 100, 100); send("pointerdown", 2, 200, 200);
      send("pointermove", 2, 300, 300); send("pointerup", 1, 100, 100); send("pointerup", 2, 300, 300);
    }""")
    settle(page)
    assert count(pixels(space, tmp_path / "b.png"), plots.LEFT) > 1.3 * count(first, plots.LEFT), (
        "two fingers did not zoom"
    )


# --- volumes ---


def test_temperature_moves_the_expectation_in_the_page(open_page, shoot, tmp_path):
    import torch

    rng = np.random.default_rng(0)
    logits = rng.normal(0, 0.3, (18, 8, 16, 12)).astype(np.float32)
    logits[:, 6, 3, 9] += 9
    view = VolumeExplorer(
        logits, np.full((96, 96, 3), 120, np.uint8), target=np.tile([20.0, 40, 100], (18, 1))
    )
    page = open_page(view.to_html(tmp_path / "volume.html", title="A volume").as_uri())

    def expectation():
        settle(page)
        cells = page.locator(".iprv-table tr").nth(2).locator("td").all_inner_texts()
        assert cells[0] == "expectation"
        return np.array(cells[1:4], float)

    for place, temperature in ((0, 1.0), (60, 10**0.6), (-100, 0.1)):
        page.locator(".iprv-temperature").evaluate(
            "(slider, place) => { slider.value = place; slider.dispatchEvent(new Event('input')); }",
            place,
        )
        expected = integral.soft_argmax(torch.from_numpy(logits[:1]).double()[None] / temperature)[
            0, 0
        ].numpy()
        np.testing.assert_allclose(expectation(), expected, atol=0.006)
        shoot(page, f"volume-{temperature:.1f}")
    np.testing.assert_allclose(expectation(), [9, 3, 6], atol=0.01)
    page.locator(".iprv-joint").select_option(label="Head")
    settle(page)
    assert page.locator(".iprv-joint").input_value() == str(HUMAN36M.index("Head"))
    page.emulate_media(color_scheme="dark")
    until(page, "document.querySelector('.iprv').dataset.theme === 'dark'")
    settle(page)
    shoot(page, "volume-dark")
