// One joint's volume: planes, marginals and a slice of its softmax, recomputed here as the temperature changes.
// Python side: volume_explorer.py. The functions of the first part are pure and tested by themselves.

// --- the softmax of a volume ---

/**
 * Softmax of logits / temperature over all cells of a (D, H, W) volume, summed down to planes and lines.
 *
 * Returns planes xy (H x W), zy (H x D), lines x, y, z; argmax, expectation and deviation in cells, order x, y, z; the
 * largest probability; and what turns a logit into a probability: exp((logit - top) / temperature) / total.
 */
export function softmaxVolume(logits, D, H, W, temperature) {
  let top = -Infinity, peak = 0;
  for (let i = 0; i < logits.length; i++) if (logits[i] > top) [top, peak] = [logits[i], i];
  const xy = new Float64Array(H * W), zy = new Float64Array(H * D);
  const x = new Float64Array(W), y = new Float64Array(H), z = new Float64Array(D);
  let total = 0;
  for (let d = 0, i = 0; d < D; d++) {
    for (let h = 0; h < H; h++) {
      let row = 0;
      for (let w = 0; w < W; w++, i++) {
        const value = Math.exp((logits[i] - top) / temperature);
        xy[h * W + w] += value;
        row += value;
      }
      zy[h * D + d] += row;
      total += row;
    }
  }
  for (let h = 0; h < H; h++) {
    for (let w = 0; w < W; w++) {
      const value = (xy[h * W + w] /= total);
      x[w] += value;
      y[h] += value;
    }
    for (let d = 0; d < D; d++) z[d] += zy[h * D + d] /= total;
  }
  const lines = [x, y, z];
  const expectation = lines.map((line) => line.reduce((sum, p, i) => sum + p * i, 0));
  const deviation = lines.map((line, a) => Math.sqrt(line.reduce((sum, p, i) => sum + p * (i - expectation[a]) ** 2, 0)));
  const argmax = [peak % W, Math.floor(peak / W) % H, Math.floor(peak / (W * H))];
  return { xy, zy, x, y, z, argmax, expectation, deviation, largest: 1 / total, top, total };
}

/** Cell coordinates -> crop px, px, mm behind the root: THE grid, as in heatmaps.py. */
export function cellsToJoints([x, y, z], [D, H, W], cropPx, depthMm) {
  return [((x + 0.5) / W) * cropPx - 0.5, ((y + 0.5) / H) * cropPx - 0.5, ((z + 0.5) / D - 0.5) * depthMm];
}

/** A depth in whole mm, with a minus sign as long as a plus. */
const millimetres = (value) => value.toFixed(0).replace("-0", "0").replace("-", "−");

/** "#rrggbb" or "rgb(…)" -> [r, g, b]. */
export function parseColour(text) {
  if (text[0] === "#") return [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16));
  return text.match(/[\d.]+/g).slice(0, 3).map(Number);
}

const mix = (from, to, share) => from.map((value, a) => value + (to[a] - value) * share);
const css = (rgb, alpha = 1) => `rgba(${rgb.map(Math.round).join(",")},${alpha})`;

/** Place of a temperature on the slider, and back: equal steps of the slider are equal factors. */
export const toSlider = (temperature) => 100 * Math.log10(temperature);
export const fromSlider = (place) => 10 ** (place / 100);

// --- the page around the canvas ---

const STYLE = `
.iprv { font: 13px/1.35 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--ink);
  border: 1px solid var(--line); border-radius: 10px; overflow: hidden; background: var(--bg); user-select: none;
  -webkit-user-select: none; }
.iprv * { box-sizing: border-box; }
.iprv-row { display: flex; align-items: center; gap: 8px 16px; flex-wrap: wrap; padding: 8px 12px; }
.iprv-head { border-bottom: 1px solid var(--line); }
.iprv-foot { border-top: 1px solid var(--line); }
.iprv label { display: inline-flex; align-items: center; gap: 8px; }
.iprv-long { flex: 1 1 230px; }
.iprv input[type=range] { flex: 1 1 auto; min-width: 90px; accent-color: var(--accent); margin: 0; }
.iprv select, .iprv button { font: inherit; color: var(--ink); background: var(--bg); border: 1px solid var(--line); border-radius: 7px;
  height: 29px; padding: 0 8px; }
.iprv button { cursor: pointer; }
.iprv button:hover { background: var(--hover); }
.iprv-number { min-width: 46px; text-align: right; font-variant-numeric: tabular-nums; color: var(--soft); }
.iprv-legend { display: inline-flex; gap: 16px; flex-wrap: wrap; }
.iprv-legend span { display: inline-flex; gap: 6px; align-items: center; }
.iprv canvas { display: block; }
.iprv-main { outline: none; cursor: crosshair; }
.iprv-main:focus-visible { box-shadow: inset 0 0 0 2px var(--accent); }
.iprv table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.iprv td, .iprv th { white-space: nowrap; padding: 1px 10px 1px 0 !important; text-align: right !important; font-weight: 400; border: 0 !important;
  background: transparent !important; color: var(--ink); }
.iprv th { color: var(--soft); }
.iprv td:first-child, .iprv th:first-child { text-align: left !important; }
`;

function add(parent, tag, className, properties = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  Object.assign(element, properties);
  parent.append(element);
  return element;
}

function backgroundOf(element) {
  for (let node = element; node; node = node.parentElement ?? node.getRootNode().host) {
    const parts = getComputedStyle(node).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
    if (parts.length < 4 || parts[3] > 0.5) return parts.slice(0, 3);
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? [17, 20, 24] : [255, 255, 255];
}

function fit(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

const FONT = (size, weight = 400) => `${weight} ${size}px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;

// --- the view ---

function render({ model, el }) {
  const meta = model.get("meta");
  const { names, shape, crop_px: cropPx, depth_mm: depthMm, target } = meta;
  const [D, H, W] = shape, cells = D * H * W;
  const buffer = model.get("volume");
  const logits = new Float32Array(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength));
  let theme = {}, result = null, places = {}, dirty = false, request = 0, closed = false, image = null, width = 0;

  const joint = () => Math.min(Math.max(model.get("joint"), 0), names.length - 1);
  const slice = () => Math.min(Math.max(model.get("slice"), 0), D - 1);
  const temperature = () => model.get("temperature");

  const root = add(el, "div", "iprv");
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab leaves the keys to us
  add(root, "style", "", { textContent: STYLE });
  const head = add(root, "div", "iprv-row iprv-head");
  const jointLabel = add(head, "label", "", { textContent: "joint" });
  const jointMenu = add(jointLabel, "select", "iprv-joint");
  names.forEach((name, j) => add(jointMenu, "option", "", { value: j, textContent: name }));
  const heatLabel = add(head, "label", "iprv-long", { textContent: "temperature" });
  const heatSlider = add(heatLabel, "input", "iprv-temperature", { type: "range", min: -150, max: 150, step: 1 });
  const heatNumber = add(heatLabel, "span", "iprv-number");
  const oneButton = add(head, "button", "", { textContent: "1", title: "back to the temperature of training" });
  const sliceLabel = add(head, "label", "iprv-long", { textContent: "slice" });
  const sliceSlider = add(sliceLabel, "input", "iprv-slice", { type: "range", min: 0, max: D - 1, step: 1 });
  const sliceNumber = add(sliceLabel, "span", "iprv-number");
  const canvas = add(root, "canvas", "iprv-main", { tabIndex: 0 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "the joint's probability over the picture, from the side, along each axis, and in one slice of " +
    "depth; up and down change the slice, left and right the temperature, page up and down the joint");
  const foot = add(root, "div", "iprv-row iprv-foot");
  const table = add(foot, "table", "iprv-table");
  const legend = add(foot, "div", "iprv-legend");
  const marks = [["argmax", "argmax"], ["expectation", "expectation"], ...(target ? [["truth", "truth"]] : [])];
  const chips = marks.map(([kind, text]) => {
    const span = add(legend, "span");
    const chip = add(span, "canvas");
    add(span, "span", "", { textContent: text });
    return [kind, chip];
  });

  function put(name, value) {
    model.set(name, value);
    try {
      model.save_changes();
    } catch (error) {
      // A saved notebook has no kernel to save to; the view works without one.
      if (model.comm_live) throw error;
    }
  }

  function readTheme() {
    const bg = backgroundOf(el), dark = 0.299 * bg[0] + 0.587 * bg[1] + 0.114 * bg[2] < 128;
    const ink = dark ? [232, 234, 237] : [31, 35, 40];
    theme = { dark, bg, ink, soft: mix(ink, bg, 0.42), line: mix(ink, bg, 0.86), heat: dark ? [205, 180, 255] : [84, 39, 143] };
    for (const [name, colour] of Object.entries({ bg, ink, soft: theme.soft, line: theme.line, accent: theme.heat, hover: mix(bg, ink, 0.07) })) {
      root.style.setProperty(`--${name}`, css(colour));
    }
    root.dataset.theme = dark ? "dark" : "light";
    for (const [kind, chip] of chips) mark(fit(chip, 18, 18), kind, 9, 9);
  }

  // Square for argmax, disc for expectation, cross for truth: they differ in shape, not in colour alone.
  function mark(context, kind, x, y) {
    const colour = parseColour(meta.colours[kind]);
    for (const rim of [true, false]) {
      context.strokeStyle = css(rim ? [255, 255, 255] : colour);
      context.lineWidth = rim ? 4.5 : 2.2;
      context.beginPath();
      if (kind === "argmax") context.rect(x - 5, y - 5, 10, 10);
      else if (kind === "expectation") context.arc(x, y, 5.5, 0, 7);
      else {
        context.moveTo(x - 5, y - 5);
        context.lineTo(x + 5, y + 5);
        context.moveTo(x + 5, y - 5);
        context.lineTo(x - 5, y + 5);
      }
      context.stroke();
    }
    if (kind === "expectation") {
      context.beginPath();
      context.arc(x, y, 2.2, 0, 7);
      context.fillStyle = css(colour);
      context.fill();
    }
  }

  // A plane of values as a picture of its cells; `share` maps a value to 0 … 1.
  const offscreen = document.createElement("canvas");
  function plane(values, rows, columns, share, overPicture) {
    offscreen.width = columns;
    offscreen.height = rows;
    const context = offscreen.getContext("2d"), pixels = context.createImageData(columns, rows);
    const heat = overPicture ? [118, 42, 200] : theme.heat;
    for (let i = 0; i < rows * columns; i++) {
      const strength = Math.min(Math.max(share(values[i]), 0), 1) ** 0.6;
      pixels.data.set([...heat, 255 * strength * (overPicture ? 0.82 : 1)], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
    return offscreen;
  }

  const largestOf = (values) => values.reduce((a, b) => Math.max(a, b), 0);
  const places3 = () => ({ argmax: result.argmax, expectation: result.expectation, truth: target?.[joint()] });

  function frameBox(context, box, title) {
    context.strokeStyle = css(theme.line);
    context.lineWidth = 1;
    context.strokeRect(box.x - 0.5, box.y - 0.5, box.w + 1, box.h + 1);
    context.font = FONT(12, 600);
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillStyle = css(theme.ink);
    context.fillText(title, box.x, box.y - 8);
  }

  function drawPlane(context, box, values, rows, columns, share, title, axes) {
    context.save();
    context.beginPath();
    context.rect(box.x, box.y, box.w, box.h);
    context.clip();
    const over = axes.picture && image;
    if (over) {
      context.imageSmoothingEnabled = true;
      context.drawImage(image, box.x, box.y, box.w, box.h);
      context.fillStyle = "rgba(255,255,255,0.25)";
      context.fillRect(box.x, box.y, box.w, box.h);
    }
    context.imageSmoothingEnabled = false; // cells are cells
    context.drawImage(plane(values, rows, columns, share, over), box.x, box.y, box.w, box.h);
    if (axes.line !== undefined) {
      const x = box.x + ((axes.line + 0.5) / columns) * box.w;
      context.setLineDash([4, 4]);
      context.strokeStyle = css(theme.soft);
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x, box.y);
      context.lineTo(x, box.y + box.h);
      context.stroke();
      context.setLineDash([]);
    }
    for (const [kind, place] of Object.entries(places3())) {
      if (!place || (axes.only !== undefined && Math.round(place[2]) !== axes.only)) continue;
      mark(context, kind, box.x + ((place[axes.across] + 0.5) / columns) * box.w, box.y + ((place[1] + 0.5) / rows) * box.h);
    }
    context.restore();
    frameBox(context, box, title);
  }

  // A marginal: bars of its cells, and lines where argmax, expectation and truth stand.
  function drawLine(context, box, line, axis, upright) {
    const most = largestOf(line), n = line.length;
    const along = (cell) => ((cell + 0.5) / n) * (upright ? box.h : box.w);
    context.fillStyle = css(theme.heat, theme.dark ? 0.75 : 0.55);
    line.forEach((value, i) => {
      const tall = (value / most) * ((upright ? box.w : box.h) - 6), from = (i / n) * (upright ? box.h : box.w);
      const thick = Math.max((upright ? box.h : box.w) / n - (n > 40 ? 0 : 1), 0.8);
      if (upright) context.fillRect(box.x, box.y + from, tall, thick);
      else context.fillRect(box.x + from, box.y + box.h - tall, thick, tall);
    });
    context.strokeStyle = css(theme.line);
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(box.x, upright ? box.y : box.y + box.h);
    context.lineTo(upright ? box.x : box.x + box.w, box.y + box.h);
    context.stroke();
    for (const [kind, place] of Object.entries(places3())) {
      if (!place) continue;
      const at = along(place[axis]);
      context.strokeStyle = meta.colours[kind];
      context.lineWidth = 2;
      context.setLineDash(kind === "argmax" ? [5, 3] : kind === "truth" ? [2, 2] : []);
      context.beginPath();
      context.moveTo(upright ? box.x : box.x + at, upright ? box.y + at : box.y);
      context.lineTo(upright ? box.x + box.w : box.x + at, upright ? box.y + at : box.y + box.h);
      context.stroke();
    }
    context.setLineDash([]);
    context.font = FONT(11);
    context.fillStyle = css(theme.soft);
    context.textAlign = "left";
    context.textBaseline = upright ? "alphabetic" : "top";
    context.fillText(["along x", "along y", "along z"][axis], box.x, upright ? box.y - 8 : box.y + box.h + 4);
  }

  function layOut() {
    const pad = 14, title = 26, strip = 62, gap = 14;
    const narrow = width < 620;
    const side = narrow ? (width - 2 * pad - strip - 2 * gap) / 2 : Math.min((width - 2 * pad - strip - 3 * gap) / 3, 320);
    const line = Math.max(48, side * 0.26);
    const x0 = pad, x1 = x0 + side + gap, x2 = x1 + side + gap, y0 = title;
    places = {
      xy: { x: x0, y: y0, w: side, h: side }, zy: { x: x1, y: y0, w: side, h: side }, lineY: { x: x2, y: y0, w: strip, h: side },
      lineX: { x: x0, y: y0 + side + gap, w: side, h: line }, lineZ: { x: x1, y: y0 + side + gap, w: side, h: line },
    };
    const below = y0 + side + gap + line + 20;
    const large = narrow ? Math.min(width - 2 * pad, 320) : side;
    places.slice = narrow ? { x: x0, y: below + title, w: large, h: large } : { x: x2 + strip + gap, y: y0, w: large, h: large };
    places.height = narrow ? below + title + large + pad : below + 4;
  }

  function compute() {
    const from = joint() * cells;
    result = softmaxVolume(logits.subarray(from, from + cells), D, H, W, temperature());
  }

  function draw() {
    dirty = false;
    if (!width || closed) return;
    layOut();
    const context = fit(canvas, width, places.height), k = slice(), j = joint();
    const top = largestOf(result.xy), topSide = largestOf(result.zy), from = j * cells + k * H * W;
    drawPlane(context, places.xy, result.xy, H, W, (p) => p / top, "from the front", { across: 0, picture: true });
    drawPlane(context, places.zy, result.zy, H, D, (p) => p / topSide, "from the side", { across: 2, line: k });
    drawPlane(context, places.slice, logits.subarray(from, from + H * W), H, W,
      (logit) => Math.exp((logit - result.top) / temperature()), `slice ${k} of ${D}`, { across: 0, only: k });
    drawLine(context, places.lineX, result.x, 0, false);
    drawLine(context, places.lineZ, result.z, 2, false);
    drawLine(context, places.lineY, result.y, 1, true);
    jointMenu.value = j;
    heatSlider.value = toSlider(temperature());
    heatNumber.textContent = temperature() < 10 ? temperature().toFixed(2) : temperature().toFixed(1);
    sliceSlider.value = k;
    sliceNumber.textContent = `${millimetres(cellsToJoints([0, 0, k], shape, cropPx, depthMm)[2])} mm`;
    const row = (name, cell) => {
      const at = cellsToJoints(cell, shape, cropPx, depthMm);
      return `<tr><td>${name}</td>${cell.map((v) => `<td>${v.toFixed(2)}</td>`).join("")}<td>${at[0].toFixed(1)}, ${at[1].toFixed(1)} px</td>` +
        `<td>${millimetres(at[2])} mm</td></tr>`;
    };
    table.innerHTML = "<tr><th></th><th>x</th><th>y</th><th>z (cells)</th><th>in the crop</th><th>behind the root</th></tr>" +
      row("argmax", result.argmax) + row("expectation", result.expectation) +
      `<tr><td>deviation</td>${result.deviation.map((v) => `<td>${v.toFixed(2)}</td>`).join("")}<td>largest cell</td>` +
      `<td>${(100 * result.largest).toFixed(result.largest < 0.1 ? 2 : 0)} %</td></tr>`;
  }

  function refresh() {
    if (dirty || closed) return;
    dirty = true;
    request = requestAnimationFrame(draw);
  }
  const again = () => {
    compute();
    refresh();
  };

  jointMenu.onchange = () => put("joint", Number(jointMenu.value));
  heatSlider.oninput = () => put("temperature", fromSlider(Number(heatSlider.value)));
  oneButton.onclick = () => put("temperature", 1);
  sliceSlider.oninput = () => put("slice", Number(sliceSlider.value));
  const within = (event, box) => {
    const at = canvas.getBoundingClientRect(), x = event.clientX - at.left - box.x, y = event.clientY - at.top - box.y;
    return x >= 0 && y >= 0 && x < box.w && y < box.h ? [x / box.w, y / box.h] : null;
  };
  // The side view chooses the slice: press and drag along z.
  const chooseSlice = (event) => {
    const at = within(event, places.zy);
    if (at && event.buttons) put("slice", Math.floor(at[0] * D));
  };
  canvas.addEventListener("pointerdown", chooseSlice);
  canvas.addEventListener("pointermove", chooseSlice);
  canvas.addEventListener("wheel", (event) => {
    if (el.getRootNode().activeElement !== canvas || !within(event, places.slice)) return; // else the page scrolls
    event.preventDefault();
    put("slice", Math.min(Math.max(slice() + Math.sign(event.deltaY), 0), D - 1));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const act = {
      ArrowUp: () => put("slice", Math.min(slice() + 1, D - 1)), ArrowDown: () => put("slice", Math.max(slice() - 1, 0)),
      ArrowRight: () => put("temperature", fromSlider(Math.min(toSlider(temperature()) + 5, 150))),
      ArrowLeft: () => put("temperature", fromSlider(Math.max(toSlider(temperature()) - 5, -150))),
      PageDown: () => put("joint", Math.min(joint() + 1, names.length - 1)), PageUp: () => put("joint", Math.max(joint() - 1, 0)),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });

  const heard = { "change:joint": again, "change:temperature": again, "change:slice": refresh };
  for (const [event, act] of Object.entries(heard)) model.on(event, act);
  const newTheme = () => {
    readTheme();
    refresh();
  };
  const watchSize = new ResizeObserver(() => {
    if (!width) readTheme(); // only now is it known what the view lies on
    width = root.clientWidth;
    refresh();
  });
  watchSize.observe(root);
  const watchTheme = new MutationObserver(newTheme);
  for (const node of [document.documentElement, document.body]) watchTheme.observe(node, { attributes: true });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", newTheme);
  // Style sheets of a theme may arrive after its attribute has changed.
  const later = [120, 600].map((delay) => setTimeout(newTheme, delay));
  const packed = model.get("image");
  if (packed.byteLength) {
    const bytes = new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength);
    createImageBitmap(new Blob([bytes], { type: "image/webp" })).then((ready) => {
      if (closed) return ready.close();
      image = ready;
      refresh();
    });
  }
  readTheme();
  again();
  return () => {
    closed = true;
    cancelAnimationFrame(request);
    later.forEach(clearTimeout);
    watchSize.disconnect();
    watchTheme.disconnect();
    system.removeEventListener("change", newTheme);
    for (const [event, act] of Object.entries(heard)) model.off(event, act);
    image?.close();
    root.remove();
  };
}

export default { render };
