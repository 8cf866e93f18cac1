// Run by tests/test_views_curve.py, beside a copy of ipr_lib/views/curve_explorer.js.
import assert from "node:assert/strict";
import test from "node:test";
import explorer, { argmax, expectation, logitsOf, pulls, quarterShift, softmax } from "./curve_explorer.mjs";

const close = (found, wanted) => {
  assert.equal(found.length, wanted.length);
  found.forEach((value, i) => assert.ok(Math.abs(value - wanted[i]) < 1e-12, `${found} is not ${wanted}`));
};
const logs = [1, 2, 4, 1].map(Math.log); // p = (1, 2, 4, 1) / 8, E = 13 / 8

test("softmax, expectation and pulls of four cells, by hand", () => {
  close(softmax(logs), [1 / 8, 2 / 8, 4 / 8, 1 / 8]);
  close([expectation(softmax(logs))], [13 / 8]);
  close(pulls(softmax(logs)), [-13 / 64, -10 / 64, 12 / 64, 11 / 64]);
});

test("logits of any size do not overflow, and a constant changes nothing", () => {
  close(softmax([1e4, -1e4, 1e4]), [0.5, 0, 0.5]);
  close(softmax(logs.map((logit) => logit + 300)), [1 / 8, 2 / 8, 4 / 8, 1 / 8]);
});

test("argmax takes the first of equal cells", () => {
  assert.equal(argmax([0, 3, 3, 1]), 1);
  assert.equal(argmax([-2, -2]), 0);
});

test("the quarter shift goes to the larger neighbour and stays inside", () => {
  assert.equal(quarterShift([0, 5, 9, 7, 0]), 2.25);
  assert.equal(quarterShift([0, 7, 9, 5, 0]), 1.75);
  assert.equal(quarterShift([0, 5, 9, 5, 0]), 2);
  assert.equal(quarterShift([9, 5, 0]), 0);
  assert.equal(quarterShift([0, 5, 9]), 2);
});

test("logits: two bumps and a draw of noise", () => {
  const found = logitsOf({
    cells: 3, position: 0, sharpness: 2, width: 1, second: 0.5, second_position: 2, noise: 10, draw: 1,
    draws: [[9, 9, 9], [0.1, 0.2, -0.3]],
  });
  const near = Math.exp(-0.5), far = Math.exp(-2);
  close(found, [2 + far + 1, 3 * near + 2, 2 * far + 1 - 3]);
});

test("the module offers a widget", () => assert.equal(typeof explorer.render, "function"));
