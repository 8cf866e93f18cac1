"""One way to spread independent tasks over processes."""

import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, connection, get_context, parent_process

import cv2

from .files import InputError
from .progress import hide_progress


def parallel_map(function, tasks, workers):
    """Yield function(task) for each task, in order.

    Args:
        function: importable by name, for its arguments travel to other processes.
        tasks: list of picklable arguments.
        workers: number of processes; 1 works in this process.
    Raises:
        InputError: a worker was killed from outside. Errors of `function` come through as they are; what has not
            started by then is dropped, and so is what is under way. So it is after Ctrl-C.
    """
    if workers <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    others = set(active_children())
    # Forked workers would inherit the threads of torch and OpenCV in an unknown state.
    pool = ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn"), _start_worker)
    try:
        with _interrupts_ignored():
            results = pool.map(function, tasks)  # starts the workers
        yield from results
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(active_children()) - others:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise InputError(
                "a worker process ended early: killed, perhaps for lack of memory (run again with fewer workers), or it could "
                'not start, as where a script of yours calls this outside of `if __name__ == "__main__":` (put the call there)'
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_ignored():
    """Processes that are started in the block ignore Ctrl-C from their first moment on, while modules load, too."""
    if threading.current_thread() is not threading.main_thread():  # only that one may change this
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker():
    """One thread a process, and no bar; Ctrl-C is the parent's business, and without a parent there is nothing left to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    hide_progress()
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent():
    connection.wait([parent_process().sentinel])
    os._exit(1)
