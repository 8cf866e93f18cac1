"""The browser that the tests open pages in, and how it is started."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Path of the first that is installed; None where there is none.
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
# What a browser asks of the network by itself is switched off, so that any request seen is the page's own.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
