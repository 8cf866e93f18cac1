"""One way to spread independent tasks over processes."""

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from .files import InputError


def parallel_map(function, tasks, workers):
    """Yield function(task) for each task, in order.

    Args:
        function: importable by name, for its arguments travel to other processes.
        tasks: list of picklable arguments.
        workers: number of processes; 1 works in this process.
    Raises:
        InputError: a worker was killed from outside. Errors of `function` come through as they are; what has not
            started by then is dropped.
    """
    if workers <= 1:
        yield from map(function, tasks)
        return
    # Forked workers would inherit the threads of torch and OpenCV in an unknown state.
    pool = ProcessPoolExecutor(min(workers, max(1, len(tasks))), mp_context=get_context("spawn"))
    try:
        yield from pool.map(function, tasks)
    except BrokenProcessPool as error:
        raise InputError("a worker process was killed; out of memory? Run again with fewer workers") from error
    finally:
        pool.shutdown(cancel_futures=True)
