"""What the tests of notebooks share: `path` is each test file's own, a notebook of the course or of its solutions."""

import nbformat
import pytest


@pytest.fixture
def notebook(path):
    """The notebook at `path`."""
    return nbformat.read(path, as_version=4)
