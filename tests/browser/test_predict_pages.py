"""Pages of one's own pictures and videos: many views in one, turning, and a video track that leads."""

import io

import numpy as np
import pytest

from ipr_lib.geometry.skeleton import HUMAN36M, add_thorax
from ipr_lib.inference.videos import shrink, track_writer
from ipr_lib.studio import perform
from ipr_lib.views import SkeletonView
from ipr_lib.views.view import write_page

from .test_pages import pixels, settle, until

FRAMES = 60


@pytest.fixture(scope="module")
def walk():
    """Camera axes (F, 18, 3) mm of a walk, the pelvis at the origin."""
    world = add_thorax(perform(subject=9, action=15, take=1, n_frames=FRAMES).joints_world)
    return (world - world[:, :1])[..., [1, 2, 0]] * [1, -1, -1]


def test_of_many_views_those_near_the_window_are_open(open_page, walk, shoot, tmp_path):
    image = np.full((90, 60, 3), 90, np.uint8)
    views = []
    for number in range(12):
        joints_img = walk[number : number + 1, :, :2] / 40 + 45
        choices = {"images": [image], "joints_img": joints_img, "title": f"picture {number}"}
        views.append(SkeletonView(walk[number : number + 1], turning=True, **choices))
    path = write_page(views, tmp_path / "many.html", title="12 pictures")
    page = open_page(path.as_uri())
    until(page, "document.querySelectorAll('.ipr').length > 0")
    settle(page)
    titles = page.locator(".ipr-caption").all_inner_texts()
    assert titles[0] == "picture 0" and "picture 11" not in titles
    shoot(page, "predict-many")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    until(
        page,
        "document.querySelector('.view:last-of-type .ipr') || "
        "[...document.querySelectorAll('.ipr-caption')].some((c) => c.textContent === 'picture 11')",
    )
    until(
        page,
        "![...document.querySelectorAll('.ipr-caption')].some((c) => c.textContent === 'picture 0')",
    )
    height = page.evaluate("document.body.scrollHeight")
    page.evaluate("window.scrollTo(0, 0)")
    until(
        page,
        "[...document.querySelectorAll('.ipr-caption')].some((c) => c.textContent === 'picture 0')",
    )
    assert abs(page.evaluate("document.body.scrollHeight") - height) < 100, "the page jumps"


def test_it_turns_until_it_is_turned_by_hand(open_page, walk, tmp_path):
    page = open_page(SkeletonView(walk[:1], turning=True).to_html(tmp_path / "a.html").as_uri())
    places = (
        "document.querySelector('.ipr-space').joints.map((joint) => Math.round(joint[0])).join()"
    )
    first = page.evaluate(places)
    until(page, f"{places} !== '{first}'")
    button = page.get_by_role("button", name="let the scene turn")
    assert button.get_attribute("aria-pressed") == "true"
    page.locator(".ipr-space").press("Shift+ArrowLeft")
    settle(page)
    assert button.get_attribute("aria-pressed") == "false"
    stopped = page.evaluate(places)
    page.wait_for_timeout(300)
    assert page.evaluate(places) == stopped


def test_whoever_wants_less_motion_gets_none(open_page, walk, tmp_path):
    path = SkeletonView(walk[:1], turning=True).to_html(tmp_path / "a.html")
    page = open_page(path.as_uri(), reduced_motion="reduce")
    settle(page)
    button = page.get_by_role("button", name="let the scene turn")
    assert button.get_attribute("aria-pressed") == "false"


@pytest.fixture(scope="module")
def film_page(walk, tmp_path_factory):
    """A page whose video has a bright square that moves by 8 px a frame, and a joint in it."""
    track = io.BytesIO()
    writer = track_writer(track, 25, FRAMES)
    joints_img = np.full((FRAMES, 18, 2), np.nan)
    for frame in range(FRAMES):
        picture = np.full((360, 640, 3), 60, np.uint8)
        picture[150:210, 8 * frame : 8 * frame + 60] = (230, 200, 40)
        writer.write(shrink(picture), frame / 25)
        joints_img[frame, HUMAN36M.index("R_Ankle")] = (8 * frame + 30, 180)
    writer.close()
    choices = {"video": track.getvalue(), "video_size": (640, 360), "joints_img": joints_img}
    view = SkeletonView(walk, fps=25, **choices)
    return view.to_html(tmp_path_factory.mktemp("film") / "film.html")


def square_at(page, path):
    """Where the square's middle is, px of the video."""
    seen = pixels(page.locator(".ipr-picture"), path)
    yellow = np.argwhere(np.abs(seen - (230, 200, 40)).sum(-1) < 90)
    assert len(yellow), "no picture"
    return (yellow[:, 1].min() + yellow[:, 1].max()) / 2 / seen.shape[1] * 640


def test_a_video_shows_the_frame_that_is_asked_for(open_page, film_page, shoot, tmp_path):
    page = open_page(film_page.as_uri())
    slider = page.locator(".ipr-slider")
    for frame in (45, 7, 8, 0, 59):
        slider.evaluate(
            f"(slider) => {{ slider.value = {frame}; slider.dispatchEvent(new Event('input')); }}"
        )
        page.wait_for_timeout(700)  # it has to be found
        settle(page)
        assert abs(square_at(page, tmp_path / "a.png") - (8 * frame + 30)) < 5, frame
    shoot(page, "predict-film")


def test_a_video_plays_and_the_poses_follow(open_page, film_page, tmp_path):
    page = open_page(film_page.as_uri())
    page.wait_for_timeout(500)
    page.locator(".ipr-play").click()
    until(page, "Number(document.querySelector('.ipr').dataset.frame) > 10")
    page.locator(".ipr-play").click()
    page.wait_for_timeout(700)
    settle(page)
    frame = int(page.locator(".ipr").get_attribute("data-frame"))
    assert 10 < frame < FRAMES
    assert abs(square_at(page, tmp_path / "b.png") - (8 * frame + 30)) < 5
