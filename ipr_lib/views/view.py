"""What all views share: a static image where scripts do not run, and a saved page that works without a kernel."""

import base64
import html
import io
import json
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ..files import INSTALL, InputError, atomic_path
from . import plots

try:
    import anywidget
except ImportError as error:
    raise InputError(
        f"the interactive views need anywidget, which is not installed; {INSTALL}"
    ) from error

IMAGE_PX = 256  # longer side of the images that a view sends
# Of WebP. With crops of 128 px drawn twice as large, 30 shows blocks and 55 takes a fifth more bytes.
IMAGE_QUALITY = 40

# The policy forbids every request, so the page cannot ask for anything even by mistake.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; media-src blob:">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; padding: 24px 16px; max-width: 1180px; background: #fff; color: #1f2328;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }}
h1 {{ font-size: 20px; font-weight: 600; margin: 0 0 16px; }}
img {{ max-width: 100%; }}
.view {{ margin-bottom: 24px; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111418; color: #e6e6e6; }} }}
</style>
</head>
<body>
<h1>{title}</h1>
{views}
<script type="module">
{esm}
// What a view needs of a notebook's model: the values, and a call when one of them changes.
function modelOf(place) {{
  const {{ values, buffers }} = JSON.parse(place.nextElementSibling.textContent);
  for (const [name, text] of Object.entries(buffers)) {{
    values[name] = new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  }}
  const listeners = {{}};
  return {{
    get: (name) => values[name],
    set(name, value) {{
      if (values[name] === value) return;
      values[name] = value;
      for (const listener of listeners["change:" + name] ?? []) listener();
    }},
    on: (event, listener) => (listeners[event] ??= []).push(listener),
    off(event, listener) {{
      listeners[event] = (listeners[event] ?? []).filter((other) => other !== listener);
    }},
    save_changes() {{}},
  }};
}}
const places = [...document.querySelectorAll(".view")];
if (places.length === 1) render({{ model: modelOf(places[0]), el: places[0] }});
else {{
  // Of many views, those near the window are open; the others keep their place and cost nothing.
  const closers = new Map();
  const watch = new IntersectionObserver((entries) => {{
    for (const {{ target, isIntersecting }} of entries) {{
      if (isIntersecting === closers.has(target)) continue;
      if (isIntersecting) closers.set(target, render({{ model: modelOf(target), el: target }}));
      else {{
        target.style.minHeight = `${{target.offsetHeight}}px`;
        closers.get(target)();
        closers.delete(target);
      }}
    }}
  }}, {{ rootMargin: "400px" }});
  for (const place of places) {{
    place.style.minHeight = "400px";
    watch.observe(place);
  }}
}}
</script>
</body>
</html>
"""
PLACE = """<div class="view">{static}</div>
<script class="state" type="application/json">{state}</script>
"""
# What a browser without scripts shows in place of a view.
STATIC = '<noscript><img alt="{title}" src="data:image/png;base64,{picture}"></noscript>'


class View(anywidget.AnyWidget):
    """Base of the views. A subclass names its JavaScript file as `_esm`, with a top-level `function render`.

    It draws its static form in `_draw(figure)`. Its own synchronised traits are all that the
    JavaScript reads; arrays travel as `Bytes`, once.
    """

    def figure(self):
        """The view as a static matplotlib Figure."""
        with matplotlib.rc_context(plots.STYLE):
            figure = Figure()
            self._draw(figure)
        return figure

    def to_png(self):
        """The static form of the view as PNG bytes."""
        packed = io.BytesIO()
        self.figure().savefig(packed, format="png", dpi=110, bbox_inches="tight")
        return packed.getvalue()

    def to_html(self, path, title="Skeletons"):
        """Save the view as one self-contained page that stays interactive and requests nothing from the network.

        Args:
            path: the .html file to write, atomically.
            title: of the page.
        Returns:
            Path of the page.
        Raises:
            InputError: the file cannot be written.
        """
        return write_page([self], path, title)

    def state(self):
        """The view's own synchronised values as JSON: {"values", "buffers"}, the latter in base64."""
        inherited = anywidget.AnyWidget.class_trait_names()
        values, buffers = {}, {}
        for name in sorted(self.trait_names(sync=True)):
            value = getattr(self, name)
            if name in inherited or name.startswith("_"):
                continue
            if isinstance(value, bytes):
                buffers[name] = base64.b64encode(value).decode()
            else:
                values[name] = value
        content = {"values": values, "buffers": buffers}
        return json.dumps(content, allow_nan=False, separators=(",", ":"))

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return {**data, "image/png": base64.b64encode(self.to_png()).decode()}, metadata


def write_page(views, path, title="Skeletons"):
    """Save views one below the other as one self-contained page that stays interactive and requests nothing from the network.

    Args:
        views: at least one View, all of one kind.
        path: the .html file to write, atomically.
        title: of the page.
    Returns:
        Path of the page.
    Raises:
        InputError: the file cannot be written.
    """
    title = html.escape(title)
    places = []
    for view in views:
        # Neither the state nor the script may end the page's <script> element.
        state = view.state().replace("<", "\\u003c")
        static = ""
        if len(views) == 1:  # drawing one for each of many would take longer than all the rest
            picture = base64.b64encode(view.to_png()).decode()
            static = STATIC.format(title=title, picture=picture)
        places.append(PLACE.format(static=static, state=state))
    esm = str(views[0]._esm).replace("</script", "<\\/script")
    page = PAGE.format(title=title, views="".join(places), esm=esm)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def within_limits(view, proposal):
    """Check a trait's new value for traitlets; `view.limits` holds the least and the largest value of each trait."""
    name, value = proposal["trait"].name, proposal["value"]
    low, high = view.limits[name]
    if not low <= value <= high:
        raise InputError(f"{name}={value}: expected a number from {low} to {high}")
    return value


def pack_image(image, where):
    """Compress an image, its longer side reduced to at most IMAGE_PX.

    Args:
        image: (H, W, 3) uint8 RGB.
        where: what the image is, for the error message.
    Returns:
        WebP bytes.
    Raises:
        InputError: the array is no such image.
    """
    image = np.asarray(image)
    is_rgb = image.ndim == 3 and image.shape[2] == 3
    if not is_rgb or image.dtype != np.uint8 or image.size == 0:
        raise InputError(f"{where}: expected (H, W, 3) uint8 RGB, got {image.dtype} {image.shape}")
    small = Image.fromarray(image)
    small.thumbnail((IMAGE_PX, IMAGE_PX))
    packed = io.BytesIO()
    small.save(packed, format="webp", quality=IMAGE_QUALITY)
    return packed.getvalue()
