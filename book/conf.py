"""Sphinx's configuration of the site; `book/build.py` hands it a folder with the executed notebooks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "Integral human pose"
author = "the maintainers of this repository"
copyright = "MIT licence"
extensions = ["myst_nb", "mathml"]
root_doc = "index"

# Notebooks are shown as they were executed; nothing runs here.
nb_execution_mode = "off"
nb_output_stderr = "remove"
nb_render_markdown_format = "myst"
nb_merge_streams = True
nb_ipywidgets_js = {}  # widgets are brought to life by static/widgets.js, not by scripts from elsewhere
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("widgets.js", {"defer": "defer"})]
html_show_sourcelink = False
html_copy_source = False
html_use_index = False  # nothing is indexed: the search finds words
html_show_search_summary = False  # browsers refuse to fetch them where the site is opened from disk
html_context = {"default_mode": "auto"}
html_sidebars = {"index": [], "search": [], "**": ["globaltoc.html"]}
html_theme_options = {
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
    "navbar_center": [],
    "footer_start": [],
    "footer_end": [],
}
