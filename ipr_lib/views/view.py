"""What every view shares: a static picture where scripts do not run, a saved page that stays alive, memory given back."""

import base64
import html
import io
import json
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from ..files import InputError, atomic_path

try:
    import anywidget
except ImportError as error:
    raise InputError(
        "the interactive views need anywidget, which is not installed; run `make env`"
    ) from error

# The policy forbids every request, so the page cannot ask for anything even by mistake.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; padding: 24px 16px; max-width: 1180px; background: #fff; color: #1f2328;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }}
h1 {{ font-size: 20px; font-weight: 600; margin: 0 0 16px; }}
img {{ max-width: 100%; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111418; color: #e6e6e6; }} }}
</style>
</head>
<body>
<h1>{title}</h1>
<div id="view"><noscript><img alt="{title}" src="data:image/webp;base64,{picture}"></noscript></div>
<script id="state" type="application/json">{state}</script>
<script type="module">
{esm}
{{
  // The little that the view asks of a notebook's model: values, and word when one of them changes.
  const {{ values, buffers }} = JSON.parse(document.getElementById("state").textContent);
  for (const [name, text] of Object.entries(buffers)) {{
    values[name] = new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  }}
  const listeners = {{}};
  const model = {{
    get: (name) => values[name],
    set(name, value) {{
      if (values[name] === value) return;
      values[name] = value;
      for (const tell of listeners["change:" + name] ?? []) tell();
    }},
    on: (event, tell) => (listeners[event] ??= []).push(tell),
    off: (event, tell) => (listeners[event] = (listeners[event] ?? []).filter((other) => other !== tell)),
    save_changes() {{}},
  }};
  render({{ model, el: document.getElementById("view") }});
}}
</script>
</body>
</html>
"""


class View(anywidget.AnyWidget):
    """Base of the views. A subclass names its JavaScript file as `_esm`, with a top-level `function render`.

    Its own synchronised traits are all that the JavaScript may ask for; arrays travel as `Bytes`, once.
    """

    def figure(self):
        """The view as a static matplotlib Figure."""
        raise NotImplementedError

    def _as_image(self):
        """The static picture of the view, RGB."""
        figure = self.figure()
        figure.set(dpi=110, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    def to_png(self):
        """The static picture of the view as PNG bytes; of 256 colours, which takes a third of the bytes."""
        few_colours = self._as_image().quantize(256, dither=Image.Dither.NONE)
        packed = io.BytesIO()
        few_colours.save(packed, format="png", optimize=True)
        return packed.getvalue()

    def _to_webp(self):
        """The static picture for a page without scripts, as WebP bytes: less than half of what the PNG takes."""
        packed = io.BytesIO()
        self._as_image().save(packed, format="webp", quality=75, method=4)
        return packed.getvalue()

    def state(self):
        """The view's own synchronised traits, {name: value}; arrays as bytes."""
        inherited = anywidget.AnyWidget.class_trait_names()
        state = {}
        for name in sorted(self.trait_names(sync=True)):
            if name not in inherited and not name.startswith("_"):
                state[name] = getattr(self, name)
        return state

    def to_html(self, path, title="Skeletons"):
        """Save the view as one self-contained page that stays alive and asks the network for nothing.

        Args:
            path: the .html file to write, atomically.
            title: of the page.
        Returns:
            Path of the page.
        Raises:
            InputError: the file cannot be written.
        """
        values, buffers = {}, {}
        for name, value in self.state().items():
            if isinstance(value, bytes):
                buffers[name] = base64.b64encode(value).decode()
            else:
                values[name] = value
        content = {"values": values, "buffers": buffers}
        state = json.dumps(content, allow_nan=False, separators=(",", ":"))
        page = PAGE.format(
            title=html.escape(title),
            picture=base64.b64encode(self._to_webp()).decode(),
            # Neither the state nor the script may end the page's <script> element.
            state=state.replace("<", "\\u003c"),
            esm=str(self._esm).replace("</script", "<\\/script"),
        )
        with atomic_path(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
        return Path(path)

    def close(self):
        """Take the view off every page and give its arrays' memory back."""
        super().close()
        for name, value in self.state().items():
            if isinstance(value, bytes):
                setattr(self, name, b"")

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return {**data, "image/png": base64.b64encode(self.to_png()).decode()}, metadata
