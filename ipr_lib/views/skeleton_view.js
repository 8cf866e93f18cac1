// Skeletons in space on a plain canvas: orbit, play, compare, pick. Python side: skeleton_view.py.
//
// Scene axes are X to the right, Y away, Z up, in mm. The viewer looks along +Y, turned by `yaw` about Z and tilted by
// `pitch`; `depth` grows away from the viewer.
//
// Pure, and tested by themselves: geometry, alignment, colour. Then helpers for pages, and one closure, `render`, whose parts
// share what is shown: poses of a frame (scene, measure, score) · elements · state that Python shares (put, save) · drawing
// (space, picture, bars, time) · playing · looking · hands (mouse, touch, keys) · size, theme, word from Python. Whatever
// changes calls `refresh`, and the next screen refresh draws all panels from the state: so they cannot disagree.

// --- geometry ---

const FAR = 5200; // mm from the viewer to the middle of the scene
const VIEWS = { home: [-0.5, 0.2], front: [0, 0], side: [Math.PI / 2, 0], top: [0, Math.PI / 2] };

/** A point given in camera axes (up "-y": x right, y down, z away) or in a room's (up "z") -> scene axes. */
export function toScene(x, y, z, up) {
  return up === "z" ? [x, y, z] : [x, z, -y];
}

/** Scene point -> [right px, down px, depth mm, px per mm] of a canvas. `view`: yaw, pitch (rad), scale (px/mm), cx, cy. */
export function project([X, Y, Z], view) {
  const { yaw, pitch, scale, cx, cy } = view;
  const right = X * Math.cos(yaw) + Y * Math.sin(yaw);
  const away = Y * Math.cos(yaw) - X * Math.sin(yaw);
  const depth = away * Math.cos(pitch) - Z * Math.sin(pitch);
  const up = Z * Math.cos(pitch) + away * Math.sin(pitch);
  const size = (scale * FAR) / Math.max(FAR + depth, FAR / 20);
  return [cx + right * size, cy - up * size, depth, size];
}

/** Yaw and pitch under which the scene is seen as by a camera with rotation R (9 numbers, world -> camera, rows). */
export function viewOfCamera(R) {
  const [x, y, z] = [R[6], R[7], R[8]]; // the camera's line of sight, in the room's axes
  return [Math.atan2(-x, y), Math.atan2(-z, Math.hypot(x, y))];
}

/** Index of the point nearest to (x, y) within `reach` px, the nearer to the viewer of two as near; -1 if none. */
export function pick(points, x, y, reach) {
  let best = -1, least = reach, depth = Infinity;
  points.forEach((point, index) => {
    if (!point || !Number.isFinite(point[0])) return;
    const distance = Math.hypot(point[0] - x, point[1] - y);
    if (distance < least - 0.5 || (distance <= least + 0.5 && distance <= reach && point[2] < depth)) {
      best = index;
      least = Math.min(least, distance);
      depth = point[2];
    }
  });
  return best;
}

// --- alignment ---

/** Unit eigenvector of the largest eigenvalue of a symmetric 4 x 4 matrix, and that value (Jacobi's rotations). */
function largestEigen(A) {
  const V = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0, whole = 0;
    for (let i = 0; i < 4; i++) for (let j = 0; j < 4; j++) (i === j ? (whole += A[i][i] ** 2) : (off += A[i][j] ** 2));
    if (off <= 1e-28 * whole) break;
    for (let i = 0; i < 3; i++) {
      for (let j = i + 1; j < 4; j++) {
        if (A[i][j] === 0) continue;
        const theta = (A[j][j] - A[i][i]) / (2 * A[i][j]);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const c = 1 / Math.hypot(t, 1), s = t * c;
        for (let k = 0; k < 4; k++) [A[k][i], A[k][j]] = [c * A[k][i] - s * A[k][j], s * A[k][i] + c * A[k][j]];
        for (let k = 0; k < 4; k++) [A[i][k], A[j][k]] = [c * A[i][k] - s * A[j][k], s * A[i][k] + c * A[j][k]];
        for (let k = 0; k < 4; k++) [V[k][i], V[k][j]] = [c * V[k][i] - s * V[k][j], s * V[k][i] + c * V[k][j]];
      }
    }
  }
  let best = 0;
  for (let i = 1; i < 4; i++) if (A[i][i] > A[best][best]) best = i;
  return [V.map((row) => row[best]), A[best][best]];
}

/**
 * The pose moved (kind "root"), also turned ("rigid"), also scaled ("scale") onto a reference; "none" leaves it.
 *
 * Best fit by squared distance, with unit quaternions (Horn 1987); never a mirror. Poses are arrays of [x, y, z];
 * joints not finite in both, and those past `scored`, do not take part.
 */
export function align(pose, reference, kind, root, scored) {
  if (kind === "none") return pose;
  const finite = (p) => Number.isFinite(p[0] + p[1] + p[2]);
  if (kind === "root") {
    const shift = [0, 1, 2].map((a) => reference[root][a] - pose[root][a]);
    return pose.map((p) => p.map((value, a) => value + shift[a]));
  }
  const used = pose.map((p, j) => j).filter((j) => j < scored && finite(pose[j]) && finite(reference[j]));
  if (used.length < 3) return pose;
  const mean = (points) => [0, 1, 2].map((a) => used.reduce((sum, j) => sum + points[j][a], 0) / used.length);
  const from = mean(pose), to = mean(reference);
  const S = [[0, 0, 0], [0, 0, 0], [0, 0, 0]];
  let spread = 0;
  for (const j of used) {
    for (let a = 0; a < 3; a++) {
      spread += (pose[j][a] - from[a]) ** 2;
      for (let b = 0; b < 3; b++) S[a][b] += (pose[j][a] - from[a]) * (reference[j][b] - to[b]);
    }
  }
  const [[w, x, y, z], trace] = largestEigen([
    [S[0][0] + S[1][1] + S[2][2], S[1][2] - S[2][1], S[2][0] - S[0][2], S[0][1] - S[1][0]],
    [S[1][2] - S[2][1], S[0][0] - S[1][1] - S[2][2], S[0][1] + S[1][0], S[2][0] + S[0][2]],
    [S[2][0] - S[0][2], S[0][1] + S[1][0], S[1][1] - S[0][0] - S[2][2], S[1][2] + S[2][1]],
    [S[0][1] - S[1][0], S[2][0] + S[0][2], S[1][2] + S[2][1], S[2][2] - S[0][0] - S[1][1]],
  ]);
  const size = kind === "scale" && spread > 0 ? trace / spread : 1;
  const R = [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
  return pose.map((p) => R.map((row, a) => size * row.reduce((sum, r, b) => sum + r * (p[b] - from[b]), 0) + to[a]));
}

/** Distance of each joint, in the poses' unit; NaN where either is unknown. */
export function jointErrors(pose, reference) {
  return pose.map((p, j) => Math.hypot(p[0] - reference[j][0], p[1] - reference[j][1], p[2] - reference[j][2]));
}

/** Mean over the first `scored` joints that are known. */
export function meanError(errors, scored) {
  const known = errors.slice(0, scored).filter(Number.isFinite);
  return known.length ? known.reduce((sum, e) => sum + e, 0) / known.length : NaN;
}

/** Width of the limbs drawn over somebody in a picture, px: by how large he or she is there. */
export function limbWidth(points) {
  const known = points.filter(([x, y]) => Number.isFinite(x + y));
  const extent = (axis) => Math.max(...known.map((point) => point[axis])) - Math.min(...known.map((point) => point[axis]));
  return known.length ? Math.min(Math.max(Math.max(extent(0), extent(1)) / 60, 1.2), 6) : 1.2;
}

// --- colour ---

/** "#rrggbb" or "rgb(…)" -> [r, g, b]. */
export function parseColour(text) {
  if (text[0] === "#") return [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16));
  return text.match(/[\d.]+/g).slice(0, 3).map(Number);
}

/** `share` of the way from one colour to another; both [r, g, b]. */
export function mix(from, to, share) {
  return from.map((value, a) => value + (to[a] - value) * share);
}

const css = (rgb, alpha = 1) => `rgba(${rgb.map(Math.round).join(",")},${alpha})`;

/** Colour of a share 0 … 1 on a list of colours. */
export function onScale(palette, share) {
  const place = Math.min(Math.max(share, 0), 1) * (palette.length - 1), low = Math.min(Math.floor(place), palette.length - 2);
  return mix(palette[low], palette[low + 1], place - low);
}

// Matplotlib's plasma from 0.12 to 0.92, little to much; both ends stand out from a white and from a black page.
const ERROR_COLOURS = ["#4903a0", "#6700a8", "#8305a7", "#9d189d", "#b42e8d", "#c7427c", "#d8576b", "#e76e5b", "#f2844b", "#fa9e3b",
  "#feb82c", "#fbd724"];

/** A round number at or just above `value`: 1, 1.5, 2, 3, 5 or 7.5 times a power of ten. */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 1.5, 2, 3, 5, 7.5, 10].find((step) => step * power >= value * (1 - 1e-9));
}

// --- the page around the canvas ---

const STYLE = `
.ipr { font: 13px/1.35 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--ink);
  border: 1px solid var(--line); border-radius: 10px; overflow: hidden; background: var(--bg); user-select: none;
  -webkit-user-select: none; }
.ipr * { box-sizing: border-box; }
.ipr-row { display: flex; align-items: center; gap: 6px 14px; flex-wrap: wrap; padding: 7px 12px; }
.ipr-head { border-bottom: 1px solid var(--line); min-height: 42px; }
.ipr-foot { border-top: 1px solid var(--line); }
.ipr-grow { flex: 1 1 0; min-width: 0; }
.ipr-caption { font-weight: 600; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.ipr-panels { display: flex; }
.ipr-panel { position: relative; min-width: 0; }
.ipr-panel + .ipr-panel { border-left: 1px solid var(--line); }
.ipr-narrow .ipr-panels { flex-wrap: wrap; }
.ipr-narrow .ipr-panel { border-left: 0 !important; border-top: 1px solid var(--line); margin-top: -1px; }
.ipr canvas { display: block; outline: none; }
.ipr canvas:focus-visible { box-shadow: inset 0 0 0 2px var(--accent); }
.ipr-space { touch-action: none; cursor: grab; }
.ipr-space:active { cursor: grabbing; }
.ipr-group { display: inline-flex; border: 1px solid var(--line); border-radius: 7px; overflow: hidden; }
.ipr button { font: inherit; color: var(--ink); background: transparent; border: 0; padding: 0 9px; height: 27px; cursor: pointer;
  display: inline-flex; align-items: center; justify-content: center; gap: 6px; white-space: nowrap; }
.ipr .ipr-group button + button { border-left: 1px solid var(--line); }
.ipr button:hover { background: var(--hover); }
.ipr button:focus-visible, .ipr select:focus-visible, .ipr input:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px; }
.ipr button[aria-pressed=true] { background: var(--chosen); color: var(--ink); font-weight: 600; }
.ipr-who { opacity: 1; padding: 0 4px !important; }
.ipr-who[aria-pressed=false] { opacity: 0.35; }
.ipr-who[aria-pressed=true] { background: transparent !important; font-weight: 400 !important; }
.ipr-who:hover { background: var(--hover) !important; border-radius: 6px; }
.ipr select { font: inherit; color: var(--ink); background: var(--bg); border: 1px solid var(--line); border-radius: 7px; height: 29px;
  padding: 0 6px; }
.ipr-quiet { color: var(--soft); font-variant-numeric: tabular-nums; white-space: nowrap; }
.ipr-time { position: relative; flex: 1 1 220px; height: 30px; }
.ipr-time canvas { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.ipr-time input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: pointer; }
.ipr-time:focus-within { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.ipr-verdict { flex: 1 1 auto; color: var(--soft); font-variant-numeric: tabular-nums; text-align: right; }
.ipr svg { display: block; }
`;

const ICONS = { // paths on a 16 x 16 field
  play: "M4 2.5v11l9-5.5z", pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z", back: "M3 2.5h2v11H3zM13 2.5v11l-7.5-5.5z",
  forward: "M11 2.5h2v11h-2zM3 2.5v11l7.5-5.5z",
};

function icon(name) {
  return `<svg width="14" height="14" viewBox="0 0 16 16" fill="currentColor" aria-hidden="true"><path d="${ICONS[name]}"/></svg>`;
}

function add(parent, tag, className, properties = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  const { label, ...rest } = properties;
  Object.assign(element, rest);
  if (label) {
    element.setAttribute("aria-label", label);
    element.title = label;
  }
  parent.append(element);
  return element;
}

/** Background behind an element: the first colour up the tree that covers; where there is none, the system's theme. */
function backgroundOf(element) {
  for (let node = element; node; node = node.parentElement ?? node.getRootNode().host) {
    const colour = getComputedStyle(node).backgroundColor;
    const parts = colour.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
    if (parts.length < 4 || parts[3] > 0.5) return parts.slice(0, 3);
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? [17, 20, 24] : [255, 255, 255];
}

/** Floats of a buffer that came as a DataView. */
function floats(view) {
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** Make a canvas as large as `width` x `height` CSS px on this screen; its context, in CSS px, cleared. */
function fit(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  const w = Math.max(1, Math.round(width * ratio)), h = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** A straight line in the context's present stroke. */
function line(context, from, to) {
  context.beginPath();
  context.moveTo(from[0], from[1]);
  context.lineTo(to[0], to[1]);
  context.stroke();
}

/** A number with a minus sign as long as a plus. */
const signed = (value) => String(value).replace("-", "−");

const FONT = (size, weight = 400) => `${weight} ${size}px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;

// --- the view ---

function render({ model, el }) {
  const meta = model.get("meta");
  const { names, parents, people, frames: F, joints: J, reference, root, scored, up, fps } = meta;
  const sides = names.map((name) => ["R_", "L_"].indexOf(name.slice(0, 2)) + 1); // 1 right, 2 left, 0 neither
  const P = people.length, compared = reference >= 0;
  const others = people.map((_, p) => p).filter((p) => compared && p !== reference);
  const palette = ERROR_COLOURS.map(parseColour);
  const raw = floats(model.get("poses"));
  const overlay = model.get("overlay").byteLength ? floats(model.get("overlay")) : null;
  const packed = model.get("images");
  const film = model.get("video"); // in place of pictures: one track, a frame of it for each frame here
  const cameras = meta.cameras;

  const state = {
    playing: false, turning: meta.turning && !matchMedia("(prefers-reduced-motion: reduce)").matches, speed: 1, clock: 0, labels: false, heat: false, hovered: -1, camera: 0,
    yaw: VIEWS.home[0], pitch: VIEWS.home[1], zoom: 1, panX: 0, panY: 0, visible: people.map(() => true),
  };
  let theme = {}, size = {}, points = [], flatPoints = [], barRows = [], dirty = false, request = 0, savedAt = 0, drawn = 0;
  const clampFrame = (frame) => Math.min(Math.max(Math.round(frame) || 0, 0), F - 1);
  const frameNow = () => clampFrame(model.get("frame"));
  const selectedNow = () => model.get("selected");
  const alignmentNow = () => (compared ? model.get("alignment") : "none");

  // Poses as [joint][x, y, z] in scene axes; in a timeline, between two frames too.
  function poseAt(p, frame, part = 0) {
    const pose = [];
    const next = Math.min(frame + 1, F - 1);
    for (let j = 0; j < J; j++) {
      const a = ((p * F + frame) * J + j) * 3, b = ((p * F + next) * J + j) * 3;
      const at = (i) => (part ? raw[a + i] * (1 - part) + raw[b + i] * part : raw[a + i]);
      pose.push(toScene(at(0), at(1), at(2), up));
    }
    return pose;
  }

  // All people of a frame, aligned; in all alignments but "none" about the reference's root.
  function scene(frame, part = 0) {
    const poses = people.map((_, p) => poseAt(p, frame, part));
    const kind = alignmentNow();
    if (kind === "none") return poses.map((pose) => pose.map((q) => q.map((value, a) => value - extent.middle[a])));
    const target = poses[reference], origin = target[root];
    return poses.map((pose, p) =>
      (p === reference ? pose : align(pose, target, kind, root, scored)).map((q) => q.map((value, a) => value - origin[a])));
  }

  let extent = { middle: [0, 0, 0], floor: 0, reach: 1000 };
  function measure() {
    const kind = alignmentNow();
    extent.middle = [0, 0, 0];
    let floor = Infinity, low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    const stride = Math.max(1, Math.floor(F / 400));
    for (let frame = 0; frame < F; frame += stride) {
      for (const [p, pose] of scene(frame).entries()) {
        if (kind !== "none" && p !== reference) continue;
        for (const q of pose) {
          if (!Number.isFinite(q[0] + q[1] + q[2])) continue;
          for (let a = 0; a < 3; a++) {
            low[a] = Math.min(low[a], q[a]);
            high[a] = Math.max(high[a], q[a]);
          }
          floor = Math.min(floor, q[2]);
        }
      }
    }
    if (!Number.isFinite(floor)) return;
    const centre = low.map((value, a) => (value + high[a]) / 2);
    for (const a of [0, 1]) if (kind === "none") centre[a] = 500 * Math.round(centre[a] / 500); // for round ticks
    const reach = Math.max(Math.hypot(high[0] - low[0], high[1] - low[1]) * 0.42, (high[2] - low[2]) * 0.56, 300);
    if (kind === "none") extent = { middle: centre, floor: (up === "z" ? Math.min(0, floor) : floor) - centre[2], reach, lift: 0 };
    else extent = { middle: [0, 0, 0], floor, reach: Math.max(reach, -floor * 0.95, high[2] * 0.95), lift: centre[2] };
  }

  // Mean errors of all frames, for the line above the slider and a common length of the bars.
  let track = [], longest = 1;
  function score() {
    track = others.map(() => new Float32Array(F));
    const all = [];
    for (let frame = 0; frame < F && compared; frame++) {
      const poses = scene(frame);
      others.forEach((p, o) => {
        const errors = jointErrors(poses[p], poses[reference]);
        track[o][frame] = meanError(errors, scored);
        if (frame % Math.max(1, Math.floor(F / 200)) === 0) all.push(...errors.filter(Number.isFinite));
      });
    }
    all.sort((a, b) => a - b);
    longest = roundUp(Math.max(all[Math.floor(all.length * 0.98)] ?? 1, 1));
  }

  // --- elements ---
  const rootElement = add(el, "div", "ipr");
  add(rootElement, "style", "", { textContent: STYLE });
  rootElement.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab leaves the keys to us
  const head = add(rootElement, "div", "ipr-row ipr-head");
  const caption = add(head, "div", "ipr-caption ipr-grow");
  const who = add(head, "div", "ipr-row");
  who.style.padding = "0";
  const chips = people.map((name, p) => {
    const button = add(who, "button", "ipr-who", { label: `show or hide ${name}` });
    add(button, "canvas", "");
    add(button, "span", "", { textContent: name });
    button.onclick = () => {
      state.visible[p] = !state.visible[p];
      refresh();
    };
    return button;
  });
  const panels = add(rootElement, "div", "ipr-panels");
  const picturePanel = packed.byteLength || film.byteLength ? add(panels, "div", "ipr-panel") : null;
  const pictureCanvas = picturePanel && add(picturePanel, "canvas", "ipr-picture", { label: "" });
  pictureCanvas?.setAttribute("aria-label", "picture with the skeletons over it");
  const spacePanel = add(panels, "div", "ipr-panel");
  const canvas = add(spacePanel, "canvas", "ipr-space", { tabIndex: 0 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label",
    "skeletons in space; drag to turn, shift-drag to move, wheel or plus and minus to zoom, arrows to step, space to play, " +
    "1 2 3 for front, side and top, 0 to reset, T to turn, L for labels, E for error colours");
  const barPanel = compared ? add(panels, "div", "ipr-panel") : null;
  const barCanvas = barPanel && add(barPanel, "canvas", "ipr-bars");
  barCanvas?.setAttribute("aria-label", "error of each joint, mm");

  const foot = add(rootElement, "div", "ipr-row ipr-foot");
  const playGroup = F > 1 ? add(foot, "div", "ipr-group") : null;
  const backButton = playGroup && add(playGroup, "button", "", { innerHTML: icon("back"), label: "one frame back" });
  const playButton = playGroup && add(playGroup, "button", "ipr-play", { innerHTML: icon("play"), label: "play" });
  const forwardButton = playGroup && add(playGroup, "button", "", { innerHTML: icon("forward"), label: "one frame on" });
  const timeBox = F > 1 ? add(foot, "div", "ipr-time") : null;
  const timeCanvas = timeBox && add(timeBox, "canvas");
  const slider = timeBox && add(timeBox, "input", "ipr-slider", { type: "range", min: 0, max: F - 1, step: 1, ariaLabel: "frame" });
  const clock = F > 1 ? add(foot, "span", "ipr-quiet") : null;
  const speedMenu = F > 1 ? add(foot, "select", "ipr-speed", { label: "speed" }) : null;
  for (const speed of F > 1 ? [0.25, 0.5, 1, 2, 4] : []) {
    add(speedMenu, "option", "", { value: speed, textContent: `${speed}×`, selected: speed === 1 });
  }

  const tools = add(rootElement, "div", "ipr-row");
  tools.style.paddingTop = F > 1 ? "0" : "7px";
  const viewGroup = add(tools, "div", "ipr-group");
  for (const name of ["front", "side", "top"]) {
    add(viewGroup, "button", "", { textContent: name, label: `look from the ${name}` }).onclick = () => look(...VIEWS[name]);
  }
  add(viewGroup, "button", "", { textContent: "reset", label: "first view again" }).onclick = () => reset();
  const cameraMenu = cameras.length > 1 ? add(tools, "select", "ipr-camera", { label: "camera" }) : null;
  cameras.forEach((camera, c) => cameraMenu && add(cameraMenu, "option", "", { value: c, textContent: camera.name }));
  const toggles = add(tools, "div", "ipr-group");
  const turnButton = add(toggles, "button", "", { textContent: "turn", label: "let the scene turn" });
  const labelButton = add(toggles, "button", "", { textContent: "labels", label: "name the joints" });
  const heatButton = compared ? add(toggles, "button", "", { textContent: "errors", label: "colour by error" }) : null;
  const alignGroup = compared ? add(tools, "div", "ipr-group") : null;
  const KINDS = { none: "as they are", root: "roots together", rigid: "moved and turned", scale: "moved, turned and scaled" };
  const alignButtons = Object.entries(compared ? KINDS : {}).map(([kind, meaning]) => {
    const button = add(alignGroup, "button", "", { textContent: kind, label: `compare ${meaning}` });
    button.onclick = () => put("alignment", kind);
    return [kind, button];
  });
  const verdict = add(tools, "span", "ipr-verdict");

  // --- state that Python shares ---
  function put(name, value) {
    model.set(name, value);
    save();
  }
  function save() {
    try {
      model.save_changes();
    } catch (error) {
      // A saved notebook has no kernel to save to; the view works without one.
      if (model.comm_live) throw error;
    }
    savedAt = performance.now();
  }
  function setFrame(frame, quietly = false) {
    model.set("frame", clampFrame(frame));
    if (!quietly) {
      state.clock = frameNow();
      save();
    }
    refresh();
  }
  const select = (joint) => put("selected", joint);

  // --- drawing ---
  function readTheme() {
    const bg = backgroundOf(el);
    const dark = 0.299 * bg[0] + 0.587 * bg[1] + 0.114 * bg[2] < 128;
    const ink = dark ? [232, 234, 237] : [31, 35, 40];
    const side = ["middle", "right", "left"].map((name) => parseColour(meta.colours[name]));
    if (dark) side[0] = mix(side[0], [255, 255, 255], 0.55); // grey must stand out from black too
    theme = { dark, bg, ink, soft: mix(ink, bg, 0.42), line: mix(ink, bg, 0.86), grid: mix(ink, bg, 0.72), side,
      accent: dark ? [240, 200, 70] : [150, 90, 0] };
    for (const [name, colour] of Object.entries({ bg, ink, soft: theme.soft, line: theme.line, accent: theme.accent,
      hover: mix(bg, ink, 0.07), chosen: mix(bg, ink, 0.13) })) {
      rootElement.style.setProperty(`--${name}`, css(colour));
    }
    rootElement.dataset.theme = dark ? "dark" : "light";
    drawChips();
  }

  function drawChips() {
    chips.forEach((button, p) => {
      const context = fit(button.firstChild, 34, 14);
      for (const [side, x] of [[1, 3], [2, 19]]) stroke(context, [x, 7], [x + 12, 7], 6, theme.side[side], styleOf(p), theme.bg);
    });
  }

  const styleOf = (p) => (p === reference ? "hollow" : compared ? ["solid", "striped", "dotted"][others.indexOf(p) % 3] : "solid");

  // One limb: solid with a light upper edge; hollow for the reference; striped and dotted for further people.
  function stroke(context, from, to, width, colour, style, bg) {
    const draws = (w, rgb, dash = []) => {
      context.lineWidth = w;
      context.strokeStyle = css(rgb);
      context.setLineDash(dash);
      line(context, from, to);
    };
    context.lineCap = "round";
    if (style === "rim") draws(width, colour);
    else if (style === "hollow") {
      draws(width, mix(colour, bg, theme.dark ? 0.08 : 0.3));
      draws(Math.max(width - 2.6, 0.6), mix(colour, bg, theme.dark ? 0.72 : 0.86));
    } else {
      draws(width, colour);
      if (style === "solid") draws(width * 0.3, mix(colour, [255, 255, 255], 0.33));
      else {
        context.lineCap = "butt";
        draws(width * 0.45, bg, style === "striped" ? [5, 4] : [2, 3]);
      }
    }
    context.setLineDash([]);
  }

  const paint = (shared, error) => (state.heat && Number.isFinite(error) ? onScale(palette, error / longest) : theme.side[shared]);

  function viewNow() {
    const { width, height } = size.space;
    return { yaw: state.yaw, pitch: state.pitch, scale: (state.zoom * Math.min(width, height * 0.97)) / (2.15 * extent.reach),
      cx: width / 2 + state.panX, cy: height * 0.485 + state.panY };
  }

  // The ground with its mm: a grid, numbers along two of its edges, and an upright at the back.
  function drawGround(context, view, lift) {
    const half = extent.reach > 1600 ? Math.ceil(Math.min(extent.reach, 4000) / 1000) * 1000 : 1000;
    const near = Math.cos(state.yaw) >= 0 ? -1 : 1, right = -near; // the sides next to the viewer and to the right of it
    const ground = (X, Y) => [X, Y, extent.floor - lift];
    drawGrid(context, view, half, ground);
    const [across, away] = up === "z" ? ["x", "y"] : ["x", "z"]; // the poses' own names for right and away
    context.font = FONT(10.5);
    context.textBaseline = "middle";
    if (Math.abs(state.pitch) < 1.1) drawUpright(context, view, half, (along) => ground(right * along, -near * half));
    drawTicks(context, view, half, `${across} (mm)`, extent.middle[0],
      [[(at) => ground(at, near * half * 1.12), right], [(at) => ground(at, -near * half * 1.12), -right]]);
    drawTicks(context, view, half, `${away} (mm)`, extent.middle[1],
      [[(at) => ground(right * half * 1.12, at), -near], [(at) => ground(-right * half * 1.12, at), near]]);
  }

  function drawGrid(context, view, half, ground) {
    context.lineCap = "butt";
    for (let at = -half; at <= half; at += half / 4) {
      for (const [a, b] of [[[at, -half], [at, half]], [[-half, at], [half, at]]]) {
        const strong = at % (half / 2) === 0, edge = 1 - 0.75 * (Math.abs(at) / half);
        const p = project(ground(...a), view), q = project(ground(...b), view);
        const fade = context.createLinearGradient(p[0], p[1], q[0], q[1]);
        fade.addColorStop(0, css(theme.grid, 0.05));
        fade.addColorStop(0.5, css(theme.grid, (strong ? 1 : 0.6) * edge));
        fade.addColorStop(1, css(theme.grid, 0.05));
        context.strokeStyle = fade;
        context.lineWidth = strong ? 1.3 : 0.8;
        line(context, p, q);
      }
    }
  }

  // Numbers and name of one axis. `edges`: place of a number on an edge, and at which end of it the name stands; the first
  // edge on which as many as possible of them lie within the canvas is taken.
  function drawTicks(context, view, half, name, middle, edges) {
    const { width, height } = size.space;
    const [best] = edges.map(([place, end]) => [[-half / 2, place], [0, place], [half / 2, place], [end * half * 0.92, place]]
      .map(([at], i) => {
        const [x, y] = project(place(at), view), text = i === 3 ? name : signed(at + middle);
        return { x, y, text, room: context.measureText(text).width / 2 + 2, colour: i === 3 ? theme.ink : theme.soft };
      })
      .filter(({ x, y, room }) => x >= room && x <= width - room && y >= 8 && y <= height - 6))
      .sort((a, b) => b.length - a.length);
    context.textAlign = "center";
    for (const { x, y, text, colour } of best) haloed(context, text, x, y, colour);
  }

  // Heights, on a post at the back; as far to the left as its numbers are not cut off.
  function drawUpright(context, view, half, ground) {
    const tall = half * 1.5, most = `${tall} mm up`, room = context.measureText(most).width + 12;
    const raised = ([X, Y, Z], by) => project([X, Y, Z + by], view);
    for (let along = -half; along <= half; along += half / 40) {
      const place = ground(along), foot = raised(place, 0), top = raised(place, tall);
      if (Math.min(foot[0], top[0]) < room || Math.max(foot[0], top[0]) > size.space.width - 6) continue;
      context.strokeStyle = css(theme.grid);
      context.fillStyle = css(theme.soft);
      context.lineWidth = 1;
      context.textAlign = "right";
      line(context, foot, top);
      for (let at = half / 2; at <= tall; at += half / 2) {
        const [x, y] = raised(place, at);
        line(context, [x - 3, y], [x + 3, y]);
        context.fillText(at === tall ? most : at, x - 7, y);
      }
      return;
    }
  }

  function drawShadow(context, view, poses, lift) {
    context.lineCap = "round";
    poses.forEach((pose, p) => {
      if (!state.visible[p]) return;
      const flat = pose.map((q) => project([q[0], q[1], extent.floor - lift], view));
      context.strokeStyle = css(theme.dark ? [0, 0, 0] : theme.ink, theme.dark ? 0.45 : p === reference ? 0.06 : 0.1);
      for (let j = 0; j < J; j++) {
        if (parents[j] < 0 || !Number.isFinite(flat[j][0] + flat[parents[j]][0])) continue;
        context.lineWidth = Math.max(26 * flat[j][3], 2);
        line(context, flat[j], flat[parents[j]]);
      }
    });
  }

  function drawSpace(poses, errors) {
    const { width, height } = size.space;
    const context = fit(canvas, width, height);
    const view = viewNow(), lift = extent.lift ?? 0;
    drawGround(context, view, lift);
    drawShadow(context, view, poses, lift);
    points = poses.map((pose) => pose.map((q) => project([q[0], q[1], q[2] - lift], view)));
    const parts = [];
    points.forEach((at, p) => {
      if (!state.visible[p]) return;
      const style = styleOf(p);
      for (let j = 0; j < J; j++) {
        if (!Number.isFinite(at[j][0])) continue;
        const error = p === reference ? NaN : errors[p]?.[j];
        const parent = parents[j];
        if (parent >= 0 && Number.isFinite(at[parent][0])) {
          parts.push({ depth: (at[j][2] + at[parent][2]) / 2, kind: "limb", from: at[parent], to: at[j], style, error, side: sides[j] });
        }
        parts.push({ depth: at[j][2] - 12, kind: "joint", to: at[j], style, error, side: sides[j], joint: j });
      }
    });
    if (state.heat && state.visible[reference]) {
      for (const p of others.filter((o) => state.visible[o])) {
        points[p].forEach((to, j) => parts.push({ depth: to[2], kind: "gap", from: points[reference][j], to }));
      }
    }
    parts.sort((a, b) => b.depth - a.depth);
    for (const part of parts) {
      const { to, style } = part;
      // What lies further back is drawn nearer to the background's colour.
      const haze = Math.min(Math.max(0.22 + part.depth / (4.5 * extent.reach), 0), 0.5);
      const colour = part.kind === "gap" ? theme.ink : mix(paint(part.side, part.error), theme.bg, haze);
      const wide = Math.min(Math.max((style === "hollow" ? 46 : 38) * to[3], 3), 22);
      if (part.kind === "gap") {
        context.setLineDash([3, 3]);
        context.lineWidth = 1;
        context.strokeStyle = css(theme.ink, 0.55);
        line(context, part.from, to);
        context.setLineDash([]);
      } else if (part.kind === "limb") {
        context.lineCap = "round";
        context.lineWidth = wide + 2.4;
        context.strokeStyle = css(theme.bg, 0.85); // a rim keeps crossing limbs apart
        line(context, part.from, to);
        stroke(context, part.from, to, wide, colour, style, theme.bg);
      } else {
        context.beginPath();
        context.arc(to[0], to[1], wide * 0.62, 0, 7);
        context.fillStyle = css(style === "hollow" ? mix(colour, theme.bg, 0.86) : mix(colour, theme.bg, 0.06));
        context.fill();
        context.lineWidth = 1.3;
        context.strokeStyle = css(style === "hollow" ? mix(colour, theme.bg, 0.3) : mix(colour, theme.bg, 0.75));
        context.stroke();
      }
    }
    drawPeople(context, points, size.space);
    drawMarks(context, points, errors, size.space);
    if (state.heat) drawScale(context, width, height);
    drawn += 1;
    Object.assign(canvas, { drawn, joints: points[points.length - 1] }); // for tests: pictures so far, where joints lie
  }

  function drawScale(context, width, height) {
    const w = Math.min(150, width * 0.35), x = width - w - 16, y = 14;
    const fade = context.createLinearGradient(x, 0, x + w, 0);
    palette.forEach((colour, i) => fade.addColorStop(i / (palette.length - 1), css(colour)));
    context.fillStyle = fade;
    context.fillRect(x, y, w, 7);
    context.font = FONT(10.5);
    context.fillStyle = css(theme.soft);
    context.textBaseline = "top";
    for (const [share, align_] of [[0, "left"], [0.5, "center"], [1, "right"]]) {
      context.textAlign = align_;
      context.fillText(share === 1 ? `${longest} mm` : longest * share, x + w * share, y + 11);
    }
  }

  // Text with a seam of the background's colour, to be read on anything.
  function haloed(context, text, x, y, colour) {
    context.lineWidth = 3;
    context.lineJoin = "round";
    context.strokeStyle = css(theme.bg, 0.9);
    context.strokeText(text, x, y);
    context.fillStyle = css(colour);
    context.fillText(text, x, y);
  }

  // Several people who are not compared look alike: their names stand above their heads.
  function drawPeople(context, at, box) {
    if (compared || P < 2) return;
    context.font = FONT(11, 600);
    context.textAlign = "center";
    context.textBaseline = "middle";
    at.forEach((joints, p) => {
      const highest = joints.filter((point) => Number.isFinite(point[0])).sort((a, b) => a[1] - b[1])[0];
      if (!highest || !state.visible[p]) return;
      const room = context.measureText(people[p]).width / 2 + 4;
      haloed(context, people[p], Math.min(Math.max(highest[0], room), box.width - room), Math.max(highest[1] - 16, 9), theme.ink);
    });
  }

  // Ring round the selected and the hovered joint, names, and the note beside the hovered one.
  function drawMarks(context, at, errors, box) {
    const shownPeople = at.map((_, p) => p).filter((p) => state.visible[p]);
    if (!shownPeople.length) return;
    const last = shownPeople[shownPeople.length - 1];
    if (state.labels) {
      context.font = FONT(10.5, 500);
      context.textBaseline = "middle";
      const middle = at[last][root]?.[0] ?? box.width / 2;
      const placed = { left: [], right: [] };
      at[last].forEach((point, j) => {
        if (!Number.isFinite(point?.[0])) return;
        placed[(sides[j] ? point[0] < middle : j % 2 === 0) ? "left" : "right"].push([point[1], j]);
      });
      for (const [aside, list] of Object.entries(placed)) {
        let lowest = -Infinity;
        for (const [y, j] of list.sort((a, b) => a[0] - b[0])) { // no name lies over another
          lowest = Math.max(y, lowest + 11.5);
          context.textAlign = aside === "left" ? "right" : "left";
          const x = at[last][j][0] + (aside === "left" ? -10 : 10);
          haloed(context, names[j], x, lowest, theme.ink);
        }
      }
    }
    for (const [joint, dashed] of [[selectedNow(), false], [state.hovered, true]]) {
      if (joint < 0 || joint >= J || (dashed && joint === selectedNow())) continue;
      for (const p of shownPeople) {
        const point = at[p][joint];
        if (!point || !Number.isFinite(point[0])) continue;
        context.beginPath();
        context.arc(point[0], point[1], 10, 0, 7);
        for (const [w, colour] of [[4.5, theme.bg], [2.2, theme.accent]]) {
          context.lineWidth = w;
          context.strokeStyle = css(colour);
          context.stroke();
        }
      }
    }
    const noted = state.hovered >= 0 ? state.hovered : selectedNow();
    const anchor = noted >= 0 && noted < J ? at[last][noted] : null;
    if (!anchor || !Number.isFinite(anchor[0])) return;
    const lines = [names[noted], ...others.filter((p) => state.visible[p]).map((p) =>
      `${others.length > 1 ? people[p] + " " : ""}${errors[p][noted].toFixed(0)} mm off`)];
    context.font = FONT(12, 600);
    const w = Math.max(...lines.map((line) => context.measureText(line).width)) + 18, h = 16 * lines.length + 9;
    const x = Math.min(Math.max(anchor[0] + 16, 4), box.width - w - 4), y = Math.min(Math.max(anchor[1] - h - 10, 4), box.height - h - 4);
    context.beginPath();
    context.roundRect(x, y, w, h, 6);
    context.fillStyle = css(theme.ink, 0.93);
    context.fill();
    context.fillStyle = css(theme.bg);
    context.textAlign = "left";
    context.textBaseline = "middle";
    lines.forEach((line, i) => {
      context.font = FONT(12, i ? 400 : 600);
      context.fillText(line, x + 9, y + 13 + 16 * i);
    });
  }

  // A video shows the frame that is asked for once it has been found; while it plays, it leads and the poses follow.
  const video = film.byteLength ? document.createElement("video") : null;
  if (video) {
    const bytes = new Uint8Array(film.buffer, film.byteOffset, film.byteLength);
    Object.assign(video, { muted: true, playsInline: true, src: URL.createObjectURL(new Blob([bytes], { type: "video/webm" })) });
    for (const event of ["loadeddata", "seeked"]) video.addEventListener(event, () => refresh());
  }
  const filmReady = () => video && video.readyState >= 2;
  function seek(frame) {
    const wanted = (frame + 0.5) / fps; // the middle of the frame's time, so that rounding does not matter
    if (filmReady() && !video.seeking && Math.abs(video.currentTime - wanted) > 0.4 / fps) video.currentTime = wanted;
  }

  // Pictures are decoded when they are first seen; the last few dozen are kept.
  const decoded = new Map();
  let closed = false;
  function bitmap(c, frame) {
    const index = c * F + frame;
    if (!decoded.has(index)) {
      const [start, end] = [meta.offsets[index], meta.offsets[index + 1]];
      if (end <= start) return null;
      decoded.set(index, null);
      const bytes = new Uint8Array(packed.buffer, packed.byteOffset + start, end - start);
      createImageBitmap(new Blob([bytes], { type: "image/webp" })).then((ready) => {
        if (closed) return ready.close();
        decoded.set(index, ready);
        refresh();
      });
      if (decoded.size > 96) {
        const [oldest, old] = decoded.entries().next().value;
        old?.close();
        decoded.delete(oldest);
      }
    }
    return decoded.get(index);
  }

  let lastPicture = null;
  function drawPicture(frame, errors) {
    const { width, height } = size.picture;
    const context = fit(pictureCanvas, width, height);
    if (video && !state.playing) seek(frame);
    const image = video ? filmReady() && video : bitmap(state.camera, frame) ?? lastPicture;
    lastPicture = image;
    const [w, h] = video ? meta.video_size : meta.image_sizes[state.camera * F + frame] ?? [1, 1];
    const scale = Math.min(width / w, height / h), left = (width - w * scale) / 2, top = (height - h * scale) / 2;
    context.fillStyle = css(mix(theme.bg, theme.ink, 0.05));
    context.fillRect(0, 0, width, height);
    if (image) context.drawImage(image, left, top, w * scale, h * scale);
    flatPoints = [];
    if (!overlay) return;
    flatPoints = people.map((_, p) => names.map((_, j) => {
      const at = (((state.camera * P + p) * F + frame) * J + j) * 2;
      return [left + (overlay[at] + 0.5) * scale, top + (overlay[at + 1] + 0.5) * scale, 0];
    }));
    flatPoints.forEach((at, p) => {
      if (!state.visible[p]) return;
      const wide = limbWidth(at) + (p === reference ? 1.5 : 0);
      for (const rim of [true, false]) {
        for (let j = 0; j < J; j++) {
          const from = at[parents[j]];
          if (!from || !Number.isFinite(from[0] + at[j][0])) continue;
          if (!rim) stroke(context, from, at[j], wide, paint(sides[j], p === reference ? NaN : errors[p]?.[j]), styleOf(p), [255, 255, 255]);
          else stroke(context, from, at[j], wide + 2, [255, 255, 255], "rim");
        }
      }
    });
    drawPeople(context, flatPoints, size.picture);
    drawMarks(context, flatPoints, errors, size.picture);
  }

  function drawBars(errors) {
    const { width, height } = size.bars;
    const context = fit(barCanvas, width, height);
    const left = 84, right = width - 34, top = 26, row = (height - top - 8) / scored;
    const sizeOf = (mm) => (right - left) * Math.min(mm / longest, 1);
    context.font = FONT(11, 600);
    context.fillStyle = css(theme.ink);
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText("error (mm)", 10, 13);
    context.textAlign = "right";
    context.font = FONT(10.5);
    context.fillStyle = css(theme.soft);
    context.fillText(longest, right, 13);
    context.strokeStyle = css(theme.line);
    context.lineWidth = 1;
    for (const share of [0, 0.5, 1]) {
      line(context, [left + (right - left) * share, top - 3], [left + (right - left) * share, height - 8]);
    }
    barRows = [];
    for (let j = 0; j < scored; j++) {
      const y = top + row * j, chosen = j === selectedNow() || j === state.hovered;
      if (chosen) {
        context.fillStyle = css(mix(theme.bg, theme.ink, 0.1));
        context.fillRect(4, y, width - 8, row);
      }
      context.font = FONT(Math.min(11, row * 0.82), chosen ? 600 : 400);
      context.fillStyle = css(chosen ? theme.ink : mix(theme.ink, theme.bg, 0.25));
      context.textAlign = "right";
      context.fillText(names[j], left - 7, y + row / 2);
      others.forEach((p, o) => {
        const error = errors[p][j], thick = (row * 0.62) / others.length;
        if (!Number.isFinite(error)) return;
        context.globalAlpha = state.visible[p] ? 1 / (1 + 0.45 * o) : 0.15;
        context.fillStyle = css(paint(sides[j], error));
        context.fillRect(left, y + row * 0.19 + thick * o, Math.max(sizeOf(error), 1), Math.max(thick - (others.length > 1 ? 0.8 : 0), 1.5));
        context.globalAlpha = 1;
        if (others.length === 1) {
          context.textAlign = "left";
          context.font = FONT(Math.min(10, row * 0.75));
          haloed(context, error.toFixed(0), left + sizeOf(error) + 4, y + row / 2, theme.soft);
        }
      });
      barRows.push([y, y + row]);
    }
  }

  function drawTime(frame) {
    const { width, height } = size.time;
    const context = fit(timeCanvas, width, height);
    const pad = 7, x = (f) => pad + (F > 1 ? f / (F - 1) : 0) * (width - 2 * pad), base = height - 6;
    const most = Math.max(...track.map((line) => line.reduce((a, b) => (b > a ? b : a), 0)), 1);
    track.forEach((line, o) => {
      context.beginPath();
      context.moveTo(x(0), base);
      line.forEach((value, f) => context.lineTo(x(f), base - ((Number.isFinite(value) ? value : 0) / most) * (height - 10)));
      context.lineTo(x(F - 1), base);
      context.fillStyle = css(theme.ink, 0.13 / (o + 1));
      context.fill();
    });
    context.lineCap = "round";
    for (const [to, w, colour] of [[x(F - 1), 3, theme.line], [x(frame), 3, theme.ink]]) {
      context.lineWidth = w;
      context.strokeStyle = css(colour);
      line(context, [x(0), base], [to, base]);
    }
    context.beginPath();
    context.arc(x(frame), base, 6, 0, 7);
    context.fillStyle = css(theme.ink);
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = css(theme.bg);
    context.stroke();
  }

  function draw() {
    dirty = false;
    if (!size.space) return;
    const frame = frameNow();
    const part = state.playing && fps ? Math.min(Math.max(state.clock - frame, 0), 1) : 0;
    const poses = scene(frame);
    const errors = people.map((_, p) => (compared && p !== reference ? jointErrors(poses[p], poses[reference]) : []));
    drawSpace(part ? scene(frame, part) : poses, errors);
    if (picturePanel) drawPicture(frame, errors);
    if (barPanel) drawBars(errors);
    if (timeBox) drawTime(frame);
    const means = others.map((p) => `${people[p]} ${meanError(errors[p], scored).toFixed(1)} mm`);
    verdict.textContent = means.length ? `mean error: ${means.join(", ")}` : "";
    caption.textContent = meta.labels[frame] ?? meta.title;
    caption.title = caption.textContent;
    Object.assign(rootElement.dataset, { frame, selected: selectedNow() });
    if (slider) slider.value = frame;
    if (clock) clock.textContent = `${frame + 1} / ${F}` + (fps ? ` · ${(frame / fps).toFixed(2)} s` : "");
    turnButton.setAttribute("aria-pressed", state.turning);
    labelButton.setAttribute("aria-pressed", state.labels);
    heatButton?.setAttribute("aria-pressed", state.heat);
    alignButtons.forEach(([kind, button]) => button.setAttribute("aria-pressed", kind === alignmentNow()));
    chips.forEach((button, p) => button.setAttribute("aria-pressed", state.visible[p]));
  }

  // Drawing waits for the next screen refresh, however many things have changed by then.
  function refresh() {
    if (dirty || closed) return;
    dirty = true;
    request = requestAnimationFrame(draw);
  }

  // --- playing ---
  let before = 0;
  function tick(now) {
    if (!state.playing || closed) return;
    state.clock += ((now - before) / 1000) * state.speed * (fps || 2);
    before = now;
    if (video && !video.paused) state.clock = Math.min(video.currentTime * fps, F - 1);
    if (state.clock > F - 1 + (fps ? 0 : 0.999) || video?.ended) {
      state.clock = 0;
      if (video) startFilm();
    }
    model.set("frame", clampFrame(Math.floor(state.clock)));
    if (performance.now() - savedAt > 150) save(); // the kernel need not know every frame
    cancelAnimationFrame(request);
    draw();
    requestAnimationFrame(tick);
  }
  function play(on) {
    if (F < 2 || on === state.playing) return;
    state.playing = on;
    playButton.innerHTML = icon(on ? "pause" : "play");
    playButton.setAttribute("aria-label", on ? "pause" : "play");
    playButton.title = on ? "pause" : "play";
    state.clock = frameNow() >= F - 1 && on ? 0 : frameNow();
    before = performance.now();
    if (on) {
      if (video) startFilm();
      requestAnimationFrame(tick);
    } else {
      video?.pause();
      save();
      refresh();
    }
  }
  function startFilm() {
    video.currentTime = state.clock / fps;
    video.playbackRate = state.speed;
    video.play().catch(() => {}); // where the browser forbids it, the poses play alone
  }
  const step = (by) => {
    play(false);
    setFrame((frameNow() + by + F) % F);
  };

  // --- looking ---
  let flight = 0, turnedAt = 0;
  function spin(now) {
    if (!state.turning || closed) return;
    state.yaw += turnedAt ? Math.min(now - turnedAt, 100) * 0.0005 : 0; // half a radian a second
    turnedAt = now;
    refresh();
    requestAnimationFrame(spin);
  }
  function letTurn(on) {
    state.turning = on;
    turnedAt = 0;
    if (on) requestAnimationFrame(spin);
    refresh();
  }
  function look(yaw, pitch) {
    cancelAnimationFrame(flight);
    letTurn(false);
    const start = performance.now(), from = [state.yaw, state.pitch];
    const turn = ((yaw - from[0] + Math.PI) % (2 * Math.PI) + 2 * Math.PI) % (2 * Math.PI) - Math.PI; // the shorter way
    const fly = (now) => {
      const t = Math.min((now - start) / 260, 1), ease = t * t * (3 - 2 * t);
      state.yaw = from[0] + turn * ease;
      state.pitch = from[1] + (pitch - from[1]) * ease;
      refresh();
      if (t < 1 && !closed) flight = requestAnimationFrame(fly);
    };
    flight = requestAnimationFrame(fly);
  }
  function reset() {
    Object.assign(state, { zoom: 1, panX: 0, panY: 0 });
    look(...VIEWS.home);
  }
  const turnBy = (dx, dy) => {
    cancelAnimationFrame(flight);
    letTurn(false);
    state.yaw -= dx;
    state.pitch = Math.min(Math.max(state.pitch + dy, -Math.PI / 2), Math.PI / 2);
    refresh();
  };
  const zoomBy = (factor) => {
    state.zoom = Math.min(Math.max(state.zoom * factor, 0.3), 8);
    refresh();
  };

  // --- hands ---
  const inside = (event, element) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  function jointAt(event, element, sets) {
    const [x, y] = inside(event, element), reach = event.pointerType === "touch" ? 24 : 14;
    const shown = sets.filter((_, p) => state.visible[p]);
    const found = pick(shown.flat(), x, y, reach);
    return found < 0 ? -1 : found % J;
  }
  const hover = (joint) => {
    if (joint === state.hovered) return;
    state.hovered = joint;
    refresh();
  };
  const fingers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const was = fingers.get(event.pointerId);
    if (!was) return hover(jointAt(event, canvas, points));
    const dx = event.clientX - was[0], dy = event.clientY - was[1];
    moved += Math.abs(dx) + Math.abs(dy);
    if (fingers.size > 1) {
      const spread = () => {
        const [a, b] = [...fingers.values()];
        return Math.hypot(a[0] - b[0], a[1] - b[1]);
      };
      const old = spread();
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      zoomBy(spread() / Math.max(old, 1));
      state.panX += dx / 2;
      state.panY += dy / 2;
    } else {
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (event.shiftKey || event.buttons === 2 || event.buttons === 4) {
        state.panX += dx;
        state.panY += dy;
        refresh();
      } else turnBy(dx * 0.009, dy * 0.009);
    }
  });
  const release = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    if (event.type === "pointerup" && moved < 5) select(jointAt(event, canvas, points));
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => hover(-1));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", () => reset());
  // Until the view has been clicked, the wheel belongs to the page.
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && el.getRootNode().activeElement !== canvas) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.008 : 0.0015)));
  }, { passive: false });
  if (pictureCanvas) {
    pictureCanvas.addEventListener("pointermove", (event) => hover(jointAt(event, pictureCanvas, flatPoints)));
    pictureCanvas.addEventListener("pointerleave", () => hover(-1));
    pictureCanvas.addEventListener("click", (event) => select(jointAt(event, pictureCanvas, flatPoints)));
  }
  if (barCanvas) {
    const rowAt = (event) => {
      const y = inside(event, barCanvas)[1];
      return barRows.findIndex(([from, to]) => y >= from && y < to);
    };
    barCanvas.addEventListener("pointermove", (event) => hover(rowAt(event)));
    barCanvas.addEventListener("pointerleave", () => hover(-1));
    barCanvas.addEventListener("click", (event) => select(rowAt(event)));
  }
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const turn = 0.12, act = {
      " ": () => play(!state.playing), Home: () => setFrame(0), End: () => setFrame(F - 1),
      ArrowLeft: () => (event.shiftKey ? turnBy(-turn, 0) : step(-1)), ArrowRight: () => (event.shiftKey ? turnBy(turn, 0) : step(1)),
      ArrowUp: () => turnBy(0, -turn), ArrowDown: () => turnBy(0, turn),
      "+": () => zoomBy(1.15), "=": () => zoomBy(1.15), "-": () => zoomBy(1 / 1.15), 0: reset, r: reset,
      1: () => look(...VIEWS.front), 2: () => look(...VIEWS.side), 3: () => look(...VIEWS.top),
      t: () => turnButton.click(), l: () => labelButton.click(), e: () => heatButton?.click(), Escape: () => select(-1),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });
  turnButton.onclick = () => letTurn(!state.turning);
  labelButton.onclick = () => {
    state.labels = !state.labels;
    refresh();
  };
  if (heatButton) {
    heatButton.onclick = () => {
      state.heat = !state.heat;
      refresh();
    };
  }
  if (F > 1) {
    backButton.onclick = () => step(-1);
    forwardButton.onclick = () => step(1);
    playButton.onclick = () => play(!state.playing);
    slider.oninput = () => {
      play(false);
      setFrame(Number(slider.value));
    };
    speedMenu.onchange = () => {
      state.speed = Number(speedMenu.value);
      if (video) video.playbackRate = state.speed;
    };
  }
  if (cameraMenu) {
    cameraMenu.onchange = () => {
      state.camera = Number(cameraMenu.value);
      lastPicture = null;
      if (cameras[state.camera].R) look(...viewOfCamera(cameras[state.camera].R));
      refresh();
    };
  }

  // --- size, theme, word from Python ---
  function resize() {
    const width = rootElement.clientWidth;
    if (!width) return;
    if (!size.space) readTheme(); // only now is it known what the view lies on
    const narrow = width < 600, count = (picturePanel ? 1 : 0) + (barPanel ? 1 : 0);
    rootElement.classList.toggle("ipr-narrow", narrow);
    const height = narrow ? Math.min(Math.max(width * 0.9, 240), 420) : Math.min(Math.max(width * 0.44, 300), 460);
    const barWidth = barPanel ? (narrow ? (picturePanel ? width / 2 : width) : Math.min(Math.max(width * 0.23, 190), 240)) : 0;
    const pictureWidth = picturePanel ? (narrow ? width - (barPanel ? barWidth : 0) : Math.min(height * 0.86, width * 0.32)) : 0;
    const lower = narrow && count ? Math.min(width * (picturePanel && barPanel ? 0.62 : 0.8), 300) : height;
    size = {
      space: { width: narrow ? width : width - barWidth - pictureWidth - count, height },
      picture: { width: pictureWidth, height: lower }, bars: { width: barWidth, height: lower },
      time: timeBox ? { width: timeBox.clientWidth, height: timeBox.clientHeight } : null,
    };
    spacePanel.style.order = narrow ? -1 : 0;
    refresh();
  }
  const watchSize = new ResizeObserver(resize);
  watchSize.observe(rootElement);
  if (timeBox) watchSize.observe(timeBox);
  const newTheme = () => {
    readTheme();
    refresh();
  };
  const watchTheme = new MutationObserver(newTheme);
  for (const node of [document.documentElement, document.body]) watchTheme.observe(node, { attributes: true });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", newTheme);
  // Style sheets of a theme may arrive after its attribute has changed.
  const later = [120, 600].map((delay) => setTimeout(newTheme, delay));
  const heard = {
    "change:frame": () => {
      if (!state.playing) state.clock = frameNow();
      refresh();
    },
    "change:selected": refresh,
    "change:alignment": () => {
      measure();
      score();
      refresh();
    },
  };
  for (const [event, act] of Object.entries(heard)) model.on(event, act);

  measure();
  score();
  readTheme();
  resize();
  if (state.turning) letTurn(true);
  return () => {
    closed = true;
    state.playing = false;
    cancelAnimationFrame(request);
    cancelAnimationFrame(flight);
    later.forEach(clearTimeout);
    watchSize.disconnect();
    watchTheme.disconnect();
    system.removeEventListener("change", newTheme);
    for (const [event, act] of Object.entries(heard)) model.off(event, act);
    decoded.forEach((image) => image?.close());
    decoded.clear();
    if (video) {
      video.pause();
      URL.revokeObjectURL(video.src);
    }
    rootElement.remove();
  };
}

export default { render };
