"""A store of the real set's size, and what opening it costs in a process of its own."""

import json
import subprocess
import sys

import numpy as np

from ipr_lib.data.store import write_store

# Runs in a process of its own: memory in MB before and after opening, and at its highest.
PROBE = """
import json, sys, time
import numpy as np
from ipr_lib.data.store import open_store

def memory():
    lines = dict(line.split(":") for line in open("/proc/self/status") if line.startswith(("VmRSS", "VmHWM")))
    return {name: int(value.split()[0]) / 1000 for name, value in lines.items()}

before, start, busy = memory(), time.perf_counter(), time.process_time()
store = open_store(sys.argv[1])
seconds, busy = time.perf_counter() - start, time.process_time() - busy
opened = memory()
items = np.random.default_rng(0).integers(len(store), size=32)
labels = {name: column[items].tolist() for name, column in store.columns.items() if name in ("frame", "joints_img")}
pixels = sum(int(store.image(item).sum()) for item in items)
print(json.dumps({"items": len(store), "seconds": seconds, "busy": busy, "before": before["VmRSS"],
                  "opened": opened["VmRSS"], "highest": opened["VmHWM"], "chosen": items.tolist(),
                  "labels": labels, "pixels": pixels}))
"""


def write_large_store(path, store, n):
    """A store of `n` items that repeats the items of `store`; its columns are written whole, not item by item."""
    source = np.arange(n) % len(store)
    columns = {name: column[source] for name, column in store.labels.items()}
    columns["frame"] = np.arange(n, dtype=np.int32)
    jpegs = [store.jpeg(i).tobytes() for i in range(len(store))]
    write_store(path, store.recipe, [(columns, (jpegs[i] for i in source))])


def probe(path):
    """Open a store in a process of its own and read a few items; what `PROBE` prints, a dict."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE, str(path)], check=True, capture_output=True, text=True
    )
    return json.loads(result.stdout)
