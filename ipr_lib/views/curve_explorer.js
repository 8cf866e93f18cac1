// A heat map on a line, taken apart: its logits, its probabilities, and the pull of each cell on the expectation.
// Everything is worked out here, so that the figure lives on in exported pages, where no Python answers.

// ---- the mathematics; each function has a twin in curve_explorer.py ----

/** Logits of `cells` cells: a peak at `position`, a second one, noise. Height in logits, lengths in cells. */
export function logitsOf({ cells, position, sharpness, width, second, second_position, noise, draw, draws }) {
  const bump = (x, place) => Math.exp(-((x - place) ** 2) / (2 * width ** 2));
  return Array.from(
    { length: cells },
    (_, x) => sharpness * (bump(x, position) + second * bump(x, second_position)) + noise * draws[draw][x],
  );
}

/** Probabilities; the largest logit is subtracted first, so that none overflows. */
export function softmax(logits) {
  const largest = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp(logit - largest));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

/** Mean cell under the probabilities. */
export function expectation(prob) {
  return prob.reduce((sum, p, x) => sum + p * x, 0);
}

/** Cell of the largest value, the first of equal ones. */
export function argmax(values) {
  return values.reduce((best, value, x) => (value > values[best] ? x : best), 0);
}

/** Argmax moved a quarter of a cell towards its larger neighbour; not at the rim, nor between equal ones. */
export function quarterShift(values) {
  const x = argmax(values);
  if (x === 0 || x === values.length - 1) return x;
  return x + 0.25 * Math.sign(values[x + 1] - values[x - 1]);
}

/** Gradient of the expectation with respect to each logit: p (x - E). */
export function pulls(prob) {
  const mean = expectation(prob);
  return prob.map((p, x) => p * (x - mean));
}

// ---- the figure ----

const SLIDERS = [
  { name: "position", label: "position", unit: "cells", step: 0.05, max: (cells) => cells - 1 },
  { name: "sharpness", label: "sharpness", unit: "logits", step: 0.1, max: () => 40 },
  { name: "second", label: "second peak", unit: "of the first", step: 0.01, max: () => 1.5 },
  { name: "noise", label: "noise", unit: "logits", step: 0.05, max: () => 5 },
];
const TRAITS = [...SLIDERS.map(({ name }) => name), "cells", "width", "second_position", "draw", "draws"];
const FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif";
// The colours of ipr_lib/views/plots.py, and the same hues brighter for dark pages.
const LIGHT = {
  text: "#333333", faint: "#6B6B6B", line: "#E6E6E6", axis: "#9A9A9A", bar: "#9E9AC8", logit: "#6A51A3",
  truth: "#595959", argmax: "#8C8C8C", expectation: "#009E73", left: "#D55E00", right: "#0072B2", ground: "#FFFFFF", accent: "#007A59",
};
const DARK = {
  text: "#E4E4E4", faint: "#A8A8A8", line: "#3A3A3A", axis: "#7A7A7A", bar: "#8079BD", logit: "#B9AEE8",
  truth: "#D0D0D0", argmax: "#A5A5A5", expectation: "#2CC59A", left: "#F28A3C", right: "#58B0E8", ground: "#1B1B1B", accent: "#2CC59A",
};
const CSS = `
.ipr-curve { font: 13px/1.4 ${FONT}; max-width: 860px; color: var(--text); padding: 2px 0 6px; box-sizing: border-box; }
.ipr-curve canvas { display: block; width: 100%; touch-action: pan-y; cursor: ew-resize; }
.ipr-curve .read { display: grid; grid-template-columns: repeat(auto-fit, minmax(176px, 1fr)); gap: 2px 8px; margin: 2px 0 8px 46px; font-variant-numeric: tabular-nums; }
.ipr-curve .read span { white-space: nowrap; }
.ipr-curve .read i { display: inline-block; width: 10px; height: 10px; margin-right: 6px; border-radius: 2px; box-sizing: border-box; }
.ipr-curve .read small { color: var(--faint); font-size: 12px; }
.ipr-curve .sliders { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 4px 28px; margin-left: 46px; }
.ipr-curve label { display: grid; grid-template-columns: 84px 1fr 108px; white-space: nowrap; align-items: center; gap: 8px; }
.ipr-curve input { width: 100%; min-width: 0; margin: 0; accent-color: var(--accent); }
.ipr-curve output { font-variant-numeric: tabular-nums; white-space: nowrap; }
.ipr-curve output small { color: var(--faint); font-size: 12px; }
.ipr-curve .buttons { margin: 8px 0 0 46px; display: flex; gap: 8px; }
.ipr-curve button { font: inherit; color: var(--text); background: transparent; border: 1px solid var(--axis); border-radius: 4px;
  padding: 2px 10px; cursor: pointer; }
.ipr-curve button:disabled { opacity: 0.4; cursor: default; }
.ipr-curve :focus-visible { outline: 2px solid var(--expectation); outline-offset: 2px; }
`;

/** Whether the page behind an element is dark: the first ancestor with a background decides. */
function onDark(element) {
  for (let node = element; node; node = node.parentElement) {
    const [r, g, b, alpha = 1] = (getComputedStyle(node).backgroundColor.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
    if (alpha > 0.5) return 0.299 * r + 0.587 * g + 0.114 * b < 128;
  }
  return false; // browsers paint white behind a page without a background
}

function make(tag, className, parent, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  parent.append(element);
  return element;
}

const signed = (value, digits = 2) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

function render({ model, el }) {
  const root = make("div", "ipr-curve", el);
  make("style", "", root, CSS);
  const canvas = make("canvas", "", root);
  canvas.setAttribute("role", "img");
  const read = make("div", "read", root);
  const sliders = make("div", "sliders", root);
  const start = Object.fromEntries(SLIDERS.map(({ name }) => [name, model.get(name)]));
  const controls = SLIDERS.map((slider) => {
    const label = make("label", "", sliders);
    make("span", "", label, slider.label);
    const input = make("input", "", label);
    Object.assign(input, { type: "range", min: 0, max: slider.max(model.get("cells")), step: slider.step });
    input.dataset.trait = slider.name;
    const output = make("output", "", label);
    input.addEventListener("input", () => put({ [slider.name]: Number(input.value) }));
    return { ...slider, input, output };
  });
  const buttons = make("div", "buttons", root);
  const again = make("button", "", buttons, "other noise");
  const reset = make("button", "", buttons, "reset");
  again.addEventListener("click", () => put({ draw: (model.get("draw") + 1) % model.get("draws").length }));
  reset.addEventListener("click", () => put({ ...start, draw: 0 }));

  function put(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    schedule();
  }

  let frame = 0;
  function schedule() {
    if (!frame) frame = requestAnimationFrame(paint);
  }

  let plot = { left: 46, right: 1, cells: 1 }; // where the cells lie on the canvas, for the mouse
  function paint() {
    frame = 0;
    const state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
    const colours = onDark(el) ? DARK : LIGHT;
    root.style.colorScheme = colours === DARK ? "dark" : "light";
    for (const [name, colour] of Object.entries(colours)) root.style.setProperty(`--${name}`, colour);
    const logits = logitsOf(state);
    const prob = softmax(logits);
    const answers = { truth: state.position, argmax: argmax(logits), shifted: quarterShift(logits), mean: expectation(prob) };
    for (const { name, input, output, step, unit } of controls) {
      input.value = state[name];
      output.innerHTML = `${state[name].toFixed(step < 0.1 ? 2 : 1)} <small>${unit}</small>`;
    }
    again.disabled = state.noise === 0;
    const rows = [
      ["true place", "truth", answers.truth], ["argmax", "argmax", answers.argmax],
      ["argmax ± ¼", "argmax", answers.shifted], ["expectation", "expectation", answers.mean],
    ];
    read.innerHTML = rows.map(([name, colour, value], i) => {
      const mark = [
        `border: 2px dotted ${colours[colour]}`, `border: 2px solid ${colours[colour]}`,
        `width: 3px; margin-left: 4px; background: ${colours[colour]}`, `border-radius: 5px; background: ${colours[colour]}`,
      ][i];
      const error = i ? ` <small title="error">(${signed(value - answers.truth)})</small>` : "";
      return `<span><i style="${mark}"></i>${name} <b>${value.toFixed(2)}</b>${error}</span>`;
    }).join("");
    canvas.setAttribute("aria-label", `Heat map of ${state.cells} cells. ` + rows.map(([name, , value]) =>
      `${name} ${value.toFixed(2)}`).join(", "));
    drawPanels(logits, prob, answers, colours, state.cells);
  }

  function drawPanels(logits, prob, answers, colours, cells) {
    const width = Math.max(280, root.clientWidth || 640);
    const height = 344;
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    plot = { left: 46, right: width - 8, cells };
    const cell = (plot.right - plot.left) / cells;
    const across = (x) => plot.left + (x + 0.5) * cell;
    const bar = (x, from, to, colour) => {
      context.fillStyle = colour;
      context.fillRect(across(x) - 0.42 * cell, Math.min(from, to), 0.84 * cell, Math.abs(to - from));
    };
    const text = (string, x, y, colour, align = "left", size = 12) => {
      context.font = `${size}px ${FONT}`;
      context.fillStyle = colour;
      context.textAlign = align;
      context.fillText(string, x, y);
    };
    /** A panel from `top` to `bottom` px: its title, its scale from `low` to `high`, the map value -> px. */
    const panel = (title, top, bottom, low, high, digits) => {
      const up = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
      text(title, plot.left, top - 7, colours.text);
      context.lineWidth = 1;
      for (const value of new Set([low, Math.min(high, Math.max(low, 0)), high])) {
        context.strokeStyle = value === 0 ? colours.axis : colours.line;
        context.beginPath();
        context.moveTo(plot.left, up(value));
        context.lineTo(plot.right, up(value));
        context.stroke();
        text(value.toFixed(digits).replace("-", "−"), plot.left - 6, up(value) + 4, colours.faint, "right", 11);
      }
      return up;
    };

    const highest = Math.max(4, Math.ceil(Math.max(...logits)));
    const lowest = Math.min(0, Math.floor(Math.min(...logits)));
    const upLogit = panel("logits H", 24, 98, lowest, highest, 0);
    context.strokeStyle = context.fillStyle = colours.logit;
    context.lineWidth = 1.5;
    context.beginPath();
    logits.forEach((logit, x) => context.lineTo(across(x), upLogit(logit)));
    context.stroke();
    logits.forEach((logit, x) => {
      context.beginPath();
      context.arc(across(x), upLogit(logit), 2.4, 0, 2 * Math.PI);
      context.fill();
    });

    const most = Math.max(0.1, Math.ceil(Math.max(...prob) * 10) / 10);
    const upProb = panel("p = softmax(H)", 136, 226, 0, most, 1);
    prob.forEach((p, x) => bar(x, upProb(0), upProb(p), colours.bar));

    const pull = pulls(prob);
    const span = Math.max(0.05, ...pull.map(Math.abs));
    const upPull = panel("pull of each logit on the expectation, p (x − E)", 264, 318, -span, span, 2);
    pull.forEach((value, x) => bar(x, upPull(0), upPull(value), value < 0 ? colours.left : colours.right));

    // Dotted the truth, a square on the highest bar, a tick below it after the quarter shift, a line with a dot the mean.
    const vertical = (x, from, to, colour, dash, weight) => {
      context.strokeStyle = colour;
      context.setLineDash(dash);
      context.lineWidth = weight;
      context.beginPath();
      context.moveTo(across(x), from);
      context.lineTo(across(x), to);
      context.stroke();
      context.setLineDash([]);
    };
    vertical(answers.truth, 24, 318, colours.truth, [2, 3], 1.5);
    vertical(answers.mean, 136, 318, colours.expectation, [], 2);
    context.strokeStyle = colours.argmax;
    context.lineWidth = 2.5;
    context.strokeRect(across(answers.argmax) - 6, upProb(prob[answers.argmax]) - 6, 12, 12);
    vertical(answers.shifted, upProb(0), upProb(0) + 12, colours.argmax, [], 3);
    context.fillStyle = colours.expectation;
    context.strokeStyle = colours.ground;
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(across(answers.mean), upProb(0), 5, 0, 2 * Math.PI);
    context.fill();
    context.stroke();

    const every = [1, 2, 4, 8, 16, 32].find((step) => step * cell >= 26) ?? 64;
    for (let x = 0; x < cells; x += every) text(String(x), across(x), 334, colours.faint, "center", 11);
    text("cell x", plot.left - 6, 334, colours.faint, "right", 11);
  }

  // The peak follows the mouse, the pen or a finger.
  function drag(event) {
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left - plot.left) / (plot.right - plot.left)) * plot.cells - 0.5;
    put({ position: Math.round(Math.min(plot.cells - 1, Math.max(0, x)) * 20) / 20 });
  }
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    drag(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) drag(event);
  });

  for (const name of TRAITS) model.on(`change:${name}`, schedule);
  const resized = new ResizeObserver(schedule);
  resized.observe(root);
  // A theme arrives some time after the page has announced it.
  let late = 0;
  const themed = () => {
    schedule();
    clearTimeout(late);
    late = setTimeout(schedule, 400);
  };
  const watcher = new MutationObserver(themed);
  for (const node of [document.documentElement, document.body]) watcher.observe(node, { attributes: true });
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", themed);
  themed();
  return () => {
    for (const name of TRAITS) model.off(`change:${name}`, schedule);
    resized.disconnect();
    watcher.disconnect();
    scheme.removeEventListener("change", themed);
    clearTimeout(late);
    cancelAnimationFrame(frame);
  };
}

export default { render };
