"""What a worker process that prepares data loads, and what the door of the folder gives."""

import subprocess
import sys

import pytest

import ipr_lib.data
from ipr_lib.data import datasets


@pytest.mark.parametrize(
    "module",
    [
        "data",
        "data.h36m_layout",
        "data.images",
        "data.people",
        "data.store",
        "prepare",
        "geometry",
    ],
)
def test_no_torch_is_loaded(module):
    program = f"import sys, ipr_lib.{module}; assert 'torch' not in sys.modules, 'torch was loaded'"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_the_door_gives_what_it_names():
    for name in ipr_lib.data.__all__:
        assert getattr(ipr_lib.data, name) is not None, name
    assert ipr_lib.data.normalise is datasets.normalise
    with pytest.raises(AttributeError, match="no attribute 'normalize'"):
        getattr(ipr_lib.data, "normal" + "ize")
