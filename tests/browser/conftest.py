"""A browser, a JupyterLab on this machine alone, and an eye on what a page asks for and complains of.

Screenshots of each state are kept in results/browser/ (ignored by git) to be looked at.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from ipr_lib.files import REPOSITORY
from tests.chromium import CHROMIUM, FLAGS

SHOTS = REPOSITORY / "results" / "browser"


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (on Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Call with an address and a browser context's options; afterwards the page must have had no error and no outside request."""
    opened = []

    def opens(address, wait="load", **options):
        context = chromium.new_context(**({"viewport": {"width": 1100, "height": 760}} | options))
        page = context.new_page()
        seen = SimpleNamespace(page=page, errors=[], requests=[])
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on(
            "console",
            lambda message: seen.errors.append(message.text) if message.type == "error" else None,
        )
        page.on("request", lambda request: seen.requests.append(request.url))
        page.goto(address, wait_until=wait, timeout=90_000)
        page.errors = seen.errors  # for a test that provokes some on purpose
        opened.append((context, seen))
        return page

    yield opens
    for context, seen in opened:
        context.close()
        outside = [
            url
            for url in seen.requests
            if not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:"))
        ]
        assert not outside, f"requests off this machine: {outside}"
        assert not seen.errors, f"errors in the console: {seen.errors}"


@pytest.fixture
def shoot():
    """Keep a screenshot of a page or of an element of it under a name."""

    def shoots(what, name):
        SHOTS.mkdir(parents=True, exist_ok=True)
        what.screenshot(path=SHOTS / f"{name}.png")

    return shoots


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A quiet JupyterLab on loopback: `home` shows its file browser, `address` opens a file of `folder` in it."""
    folder, home = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("home")
    shutil.copytree(REPOSITORY / "notebooks" / "figures", folder / "figures")
    settings = home / "app-settings"
    settings.mkdir()
    shutil.copy(REPOSITORY / "book" / "overrides.json", settings)  # as `make lab` does
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "OMP_NUM_THREADS": "1",
    }
    # A kernel of the same name that the user once installed, of another Python: the environment's own must win.
    stray = home / "data" / "kernels" / "python3"
    stray.mkdir(parents=True)
    (stray / "kernel.json").write_text(
        json.dumps(
            {"argv": ["/bin/false"], "display_name": "of another Python", "language": "python"}
        ),
        encoding="utf-8",
    )
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.app_settings_dir={settings}",
        "--LabApp.extension_manager=readonly",
        "--LabApp.expose_app_in_browser=True",
        "--allow-root",
    ]
    with open(home / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        deadline = time.monotonic() + 240  # a busy machine
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None and time.monotonic() < deadline, (
                    home / "log"
                ).read_text(encoding="utf-8")
                time.sleep(0.3)
        start = f"http://127.0.0.1:{port}/lab"
        yield SimpleNamespace(
            folder=folder,
            home=f"{start}?reset&token={token}",
            address=lambda name: f"{start}/tree/{name}?reset&token={token}",
        )
    finally:
        server.terminate()
        server.wait(20)
