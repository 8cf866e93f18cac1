"""The 1-D explorer: its numbers by hand and against the library, its traits, its picture; its script through node."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ipr_lib.files import InputError
from ipr_lib.integral import hard_argmax, soft_argmax
from ipr_lib.views import CurveExplorer, curve_explorer

SCRIPT = Path(curve_explorer.__file__).with_suffix(".js")
STATES = [
    {"cells": 32, "position": 20.3, "sharpness": 8.0},
    {"cells": 17, "position": 0.2, "sharpness": 3.0, "noise": 1.5, "draw": 3},
    {
        "cells": 24,
        "position": 18.65,
        "sharpness": 12.5,
        "second": 1.2,
        "noise": 0.4,
        "second_position": 4.25,
        "width": 2.0,
    },
    {"cells": 5, "position": 4.0, "sharpness": 0.0},
    {
        "cells": 40,
        "position": 11.5,
        "sharpness": 40.0,
        "second": 1.0,
        "second_position": 12.5,
        "width": 0.4,
    },
]


def make(**state):
    """A CurveExplorer in a state; what its constructor does not take is set afterwards."""
    later = {}
    for name in ("second_position", "width", "draw"):
        if name in state:
            later[name] = state.pop(name)
    explorer = CurveExplorer(**state)
    for name, value in later.items():
        setattr(explorer, name, value)
    return explorer


def test_logits_by_hand():
    explorer = make(cells=5, position=1, sharpness=2, second=0.5, second_position=3, width=1)
    bump = np.exp([0, -0.5, -2, -4.5])  # at 0, 1, 2 and 3 cells from the peak
    expected = 2 * bump[[1, 0, 1, 2, 3]] + bump[[3, 2, 1, 0, 1]]
    np.testing.assert_allclose(explorer.logits, expected)


def test_a_flat_map_reads_its_middle_and_a_tall_one_its_peak():
    flat = CurveExplorer(cells=6, position=4, sharpness=0).read()
    assert flat == {"argmax": 0, "quarter_shift": 0, "expectation": pytest.approx(2.5)}
    tall = make(cells=31, position=11, sharpness=40, width=1)
    assert tall.read()["expectation"] == pytest.approx(11, abs=1e-6)


def test_quarter_shift_goes_to_the_larger_neighbour():
    for position, expected in ((11.3, 11.25), (10.8, 10.75), (11.0, 11.0)):
        assert CurveExplorer(cells=24, position=position).read()["quarter_shift"] == expected


@pytest.mark.parametrize("state", STATES)
def test_reads_what_the_library_reads(state):
    explorer = make(**state)
    volume = torch.from_numpy(explorer.logits)[None, None, None, None]  # (B, J, D, H, W)
    assert explorer.read()["argmax"] == hard_argmax(volume)[0, 0, 0]
    assert explorer.read()["quarter_shift"] == hard_argmax(volume, quarter_shift=True)[0, 0, 0]
    assert explorer.read()["expectation"] == pytest.approx(soft_argmax(volume)[0, 0, 0].item())


def test_noise_follows_the_draw():
    one, same = (CurveExplorer(32, 20, noise=1) for _ in range(2))
    assert np.array_equal(one.logits, same.logits)
    before = one.logits
    one.draw = 1
    assert not np.array_equal(one.logits, before)
    assert abs(np.std(one.draws) - 1) < 0.1


def test_traits_round_trip():
    explorer = CurveExplorer(cells=16, position=9)
    sent = explorer.get_state()
    assert sent["cells"] == 16 and len(sent["draws"][0]) == 16 and "export default" in sent["_esm"]
    explorer.set_state(
        {"position": 3.25, "second": 0.5, "draw": 2}
    )  # what the browser sends when a slider moves
    assert (explorer.position, explorer.second, explorer.draw) == (3.25, 0.5, 2)
    assert explorer.get_state(["position", "draw"]) == {"position": 3.25, "draw": 2}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("position", 16),
        ("position", -0.1),
        ("sharpness", 41),
        ("second", -1),
        ("noise", float("nan")),
        ("draw", 8),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    explorer = CurveExplorer(cells=16, position=3)
    with pytest.raises(InputError, match=rf"{name}={value}(\.0)?: expected"):
        setattr(explorer, name, value)
    assert getattr(explorer, name) != value


def test_bad_construction_is_refused():
    with pytest.raises(InputError, match="cells=2: expected a number from 3"):
        CurveExplorer(cells=2, position=1)
    with pytest.raises(InputError, match="position=7.5: expected a number from 0 to 7"):
        CurveExplorer(cells=8, position=7.5)


def test_mimebundle_holds_view_and_picture():
    data, _ = CurveExplorer(32, 20)._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"]
    picture = cv2.imdecode(
        np.frombuffer(base64.b64decode(data["image/png"]), np.uint8), cv2.IMREAD_COLOR
    )
    assert picture.shape[1] > 600 and picture.std() > 10


def test_a_saved_page_holds_script_and_state(tmp_path):
    explorer = CurveExplorer(cells=16, position=3.2)
    page = explorer.to_html(tmp_path / "curve.html", "A heat map on a line").read_text(
        encoding="utf-8"
    )
    assert (
        "A heat map on a line" in page and "function quarterShift" in page and len(page) < 100_000
    )
    content = json.loads(
        re.search(r'<script class="state"[^>]*>(.*?)</script>', page, flags=re.DOTALL)[1]
    )
    assert content["values"]["position"] == 3.2 and content["values"]["draws"] == explorer.draws


def test_the_picture_marks_what_is_read():
    explorer = CurveExplorer(cells=32, position=9.4, sharpness=3)
    labels = [text.get_text() for text in explorer.figure().legends[0].get_texts()]
    assert labels == [
        "true place 9.40",
        f"expectation {explorer.read()['expectation']:.2f}",
        "argmax 9",
    ]


# --- the script ---

needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="no node to run the script with"
)


def run_node(*arguments, **kwargs):
    return subprocess.run(
        ["node", *arguments], capture_output=True, text=True, timeout=60, **kwargs
    )


@needs_node
def test_script_in_nodes_own_test_runner(tmp_path):
    # node takes a .js outside of a package for the older kind of module, so the script gets the newer kind's ending.
    shutil.copy(SCRIPT, tmp_path / "curve_explorer.mjs")
    shutil.copy(Path(__file__).with_name("views_curve.test.mjs"), tmp_path)
    done = run_node("--test", "--test-reporter=tap", str(tmp_path / "views_curve.test.mjs"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout and "# pass 0" not in done.stdout


@needs_node
def test_script_and_python_agree(tmp_path):
    shutil.copy(SCRIPT, tmp_path / "curve_explorer.mjs")
    explorers = [make(**state) for state in STATES]
    names = (
        "cells",
        "position",
        "sharpness",
        "width",
        "second",
        "second_position",
        "noise",
        "draw",
        "draws",
    )
    (tmp_path / "states.json").write_text(
        json.dumps([{name: getattr(explorer, name) for name in names} for explorer in explorers]),
        encoding="utf-8",
    )
    (tmp_path / "main.mjs").write_text(
        """
        import fs from "node:fs";
        import { logitsOf, softmax, expectation, argmax, quarterShift, pulls } from "./curve_explorer.mjs";
        console.log(JSON.stringify(JSON.parse(fs.readFileSync("states.json")).map((state) => {
          const logits = logitsOf(state), prob = softmax(logits);
          return { logits, prob, pulls: pulls(prob), argmax: argmax(logits), quarter_shift: quarterShift(logits),
                   expectation: expectation(prob) };
        })));
    """,
        encoding="utf-8",
    )
    done = run_node("main.mjs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for explorer, said in zip(explorers, json.loads(done.stdout), strict=True):
        np.testing.assert_allclose(said.pop("logits"), explorer.logits, atol=1e-12)
        np.testing.assert_allclose(said.pop("prob"), explorer.prob, atol=1e-12)
        x = torch.arange(explorer.cells, dtype=torch.float64)
        logits = torch.from_numpy(explorer.logits).requires_grad_()
        (logits.softmax(0) @ x).backward()  # the pulls are the gradient of the expectation
        np.testing.assert_allclose(said.pop("pulls"), logits.grad, atol=1e-12)
        assert said == pytest.approx(explorer.read(), abs=1e-12)
