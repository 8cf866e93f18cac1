// The parts of the views' JavaScript that need no page: run by node's own test runner, see tests/test_views.py.
// Numbers to compare with come from Python, in the file that IPR_CASES names.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const load = (name) => import("data:text/javascript;base64," + readFileSync(new URL(`../../ipr_lib/views/${name}`, import.meta.url)).toString("base64"));
const skeleton = await load("skeleton_view.js");
const explorer = await load("volume_explorer.js");
const cases = JSON.parse(readFileSync(process.env.IPR_CASES, "utf8"));

function close(actual, expected, tolerance, what) {
  const [a, b] = [actual, expected].map((value) => [value].flat(9));
  assert.equal(a.length, b.length, what);
  a.forEach((value, i) => assert.ok(Math.abs(value - b[i]) <= tolerance, `${what}: ${value} against ${b[i]}`));
}

test("projection agrees with Python's, point by point", () => {
  assert.ok(cases.project.length > 3);
  for (const { points, yaw, pitch, flat, depth } of cases.project) {
    points.forEach((point, i) => {
      const [x, y, d] = skeleton.project(point, { yaw, pitch, scale: 1, cx: 100, cy: 50 });
      close([x - 100, 50 - y, d], [...flat[i], depth[i]], 1e-9, "project");
    });
  }
});

test("a point of the middle keeps its size, a nearer one grows", () => {
  const view = { yaw: 0, pitch: 0, scale: 0.25, cx: 0, cy: 0 };
  close(skeleton.project([100, 0, 40], view), [25, -10, 0, 0.25], 1e-12, "middle");
  assert.ok(skeleton.project([100, -500, 0], view)[0] > 25 && skeleton.project([100, 500, 0], view)[0] < 25);
});

test("camera axes stand upright in the scene: y down becomes Z up, z away becomes Y", () => {
  assert.deepEqual(skeleton.toScene(1, 2, 3, "-y"), [1, 3, -2]);
  assert.deepEqual(skeleton.toScene(1, 2, 3, "z"), [1, 2, 3]);
});

test("the view of a camera puts its line of sight into the depth", () => {
  for (const { R, point } of cases.cameras) {
    const [yaw, pitch] = skeleton.viewOfCamera(R.flat());
    const seen = R.map((row) => row.reduce((sum, r, a) => sum + r * point[a], 0)); // x right, y down, z away
    const [x, y, depth, size] = skeleton.project(point, { yaw, pitch, scale: 1, cx: 0, cy: 0 });
    close([x / size, y / size, depth], seen, 1e-6, "camera");
  }
});

test("alignment agrees with metrics.align, mirrored and flat poses included", () => {
  assert.ok(cases.align.length >= 4);
  for (const { pose, target, rigid, scale, root } of cases.align) {
    close(skeleton.align(pose, target, "rigid", 0, pose.length), rigid, 1e-6, "rigid");
    close(skeleton.align(pose, target, "scale", 0, pose.length), scale, 1e-6, "scale");
    close(skeleton.align(pose, target, "root", 1, pose.length), root, 1e-9, "root");
    assert.equal(skeleton.align(pose, target, "none", 0, pose.length), pose);
  }
});

test("joints past the scored ones and unknown joints are moved but do not pull", () => {
  const { pose, target } = cases.align[0];
  const n = pose.length - 1;
  const spoiled = target.map((p, j) => (j === n ? [9e3, 9e3, 9e3] : p));
  close(skeleton.align(pose, spoiled, "rigid", 0, n), skeleton.align(pose, target, "rigid", 0, n), 1e-9, "scored");
  const holed = target.map((p, j) => (j === n ? [NaN, NaN, NaN] : p));
  close(skeleton.align(pose, holed, "rigid", 0, n + 1), skeleton.align(pose, target, "rigid", 0, n), 1e-9, "unknown");
});

test("errors and their mean, by hand", () => {
  const errors = skeleton.jointErrors([[3, 4, 0], [0, 0, 0], [1, 1, 1]], [[0, 0, 0], [0, 0, 2], [NaN, 0, 0]]);
  close(errors.slice(0, 2), [5, 2], 0, "errors");
  assert.ok(Number.isNaN(errors[2]));
  assert.equal(skeleton.meanError(errors, 3), 3.5);
  assert.equal(skeleton.meanError(errors, 1), 5);
  assert.ok(Number.isNaN(skeleton.meanError([NaN], 1)));
});

test("picking takes the nearest in reach, the nearer to the viewer of two as near", () => {
  const points = [[10, 10, 5], [14, 10, 0], [14, 10, -7], [NaN, 0, 0], [90, 90, 0]];
  assert.equal(skeleton.pick(points, 10.4, 10, 14), 0);
  assert.equal(skeleton.pick(points, 14, 10, 14), 2);
  assert.equal(skeleton.pick([...points].reverse(), 14, 10, 14), 2);
  assert.equal(skeleton.pick(points, 50, 50, 14), -1);
  assert.equal(skeleton.pick(points, 103.9, 90, 14), 4);
  assert.equal(skeleton.pick(points, 104.1, 90, 14), -1);
});

test("colours: read, mixed, found on a scale", () => {
  assert.deepEqual(skeleton.parseColour("#D55E00"), [213, 94, 0]);
  assert.deepEqual(skeleton.parseColour("rgb(1, 2, 3)"), [1, 2, 3]);
  assert.deepEqual(skeleton.mix([0, 100, 200], [100, 0, 200], 0.25), [25, 75, 200]);
  const scale = [[0, 0, 0], [100, 0, 0], [100, 200, 0]];
  assert.deepEqual([-1, 0.25, 0.75, 2].map((share) => skeleton.onScale(scale, share)),
    [[0, 0, 0], [50, 0, 0], [100, 100, 0], [100, 200, 0]]);
});

test("round numbers are at or above, and no more than double", () => {
  for (const value of [0.4, 1, 1.01, 7.5, 42, 99.9, 100, 613]) {
    const round = skeleton.roundUp(value);
    assert.ok(round >= value * (1 - 1e-9) && round < value * 2, `${value} -> ${round}`);
  }
  assert.equal(skeleton.roundUp(613), 750);
});

test("softmax, planes, marginals, argmax and expectation agree with Python's", () => {
  assert.ok(cases.volumes.length > 3);
  for (const { logits, shape, temperature, xy, zy, lines, expectation, argmax, largest, joint } of cases.volumes) {
    const result = explorer.softmaxVolume(Float32Array.from(logits), ...shape, temperature);
    close([...result.xy], xy, 1e-6, "xy");
    close([...result.zy], zy, 1e-6, "zy");
    ["x", "y", "z"].forEach((name, a) => close([...result[name]], lines[a], 1e-6, name));
    close(result.expectation, expectation, 1e-5, "expectation");
    assert.deepEqual(result.argmax, argmax);
    close(result.largest, largest, 1e-6, "largest");
    close(explorer.cellsToJoints(expectation, shape, 24, 2000), joint, 1e-9, "grid");
  }
});

test("cold turns the expectation into the argmax, heat into the middle", () => {
  const { logits, shape: [D, H, W] } = cases.volumes[0];
  const cold = explorer.softmaxVolume(logits, D, H, W, 1e-3);
  close(cold.expectation, cold.argmax, 1e-9, "cold");
  close(cold.deviation, [0, 0, 0], 1e-4, "cold");
  close(explorer.softmaxVolume(logits, D, H, W, 1e9).expectation, [(W - 1) / 2, (H - 1) / 2, (D - 1) / 2], 1e-6, "hot");
});

test("the temperature slider goes there and back", () => {
  for (const temperature of [0.05, 1, 3.2, 30]) close(explorer.fromSlider(explorer.toSlider(temperature)), temperature, 1e-9, "slider");
  assert.equal(explorer.toSlider(1), 0);
});

test("limbs over a picture are as wide as suits the person there", () => {
  const person = (height) => [[10, 20, 0], [30, 20 + height, 0], [NaN, NaN, 0]];
  assert.equal(skeleton.limbWidth(person(300)), 5);
  assert.equal(skeleton.limbWidth(person(3000)), 6);
  assert.equal(skeleton.limbWidth(person(30)), 1.2);
  assert.equal(skeleton.limbWidth([[NaN, NaN, 0]]), 1.2);
});
