"""Runs condensed into one file of `results/reference/`, and the README's table made from it.

Read in notebooks/11_reproduction.ipynb.
"""

from pathlib import Path

from ..files import InputError, atomic_path, read_json, write_json
from ..minutes import run_minutes, times_table
from .results import METRICS, reference_note
from .tables import markdown_table

README_MARKS = (
    "<!-- table: made by `python -m ipr_lib report --readme` -->",
    "<!-- end of table -->",
)


def write_reference(run_dirs, path):
    """Condense runs that differ in their seed alone into one file of `results/reference/`.

    Args:
        run_dirs: folders of finished runs.
        path: the JSON to write.
    Returns:
        its content: mpjpe, pa_mpjpe, pa_mpjpe_scale (one look), the same under flip_test, each with mean, spread (largest
        minus smallest) and the value of each seed; mean_pose; per action; minutes of each run, see `run_minutes`; what all runs have in common.
    Raises:
        InputError: the runs differ in more than the seed.
    """
    runs = [read_json(Path(run_dir) / "metrics.json") for run_dir in run_dirs]
    common = (
        "profile",
        "data",
        "split",
        "test_step",
        "train_items",
        "samples_seen",
        "oracle",
        "network",
        "parameters",
    )
    for run in runs[1:]:
        different = [name for name in common if run[name] != runs[0][name]]
        different += [
            name
            for name in run["config"]
            if name not in ("seed", "workers") and run["config"][name] != runs[0]["config"][name]
        ]
        if different:
            raise InputError(
                f"{run['run']} and {runs[0]['run']} differ in {', '.join(different)}, not only in the seed"
            )

    def spread(values):
        return {
            "mean": sum(values) / len(values),
            "spread": max(values) - min(values),
            "seeds": values,
        }

    content = {name: runs[0][name] for name in common}
    content |= {
        "test_items": runs[0]["scores"]["n"],
        "seeds": [run["seed"] for run in runs],
        "mean_pose": runs[0]["mean_pose"]["mpjpe"]["frame_mean"],
        **{
            metric: spread([run["scores"][metric]["frame_mean"] for run in runs])
            for metric in METRICS
        },
        "flip_test": {
            metric: spread([run["scores_flip"][metric]["frame_mean"] for run in runs])
            for metric in METRICS
        },
        "action_mean": spread([run["scores"]["mpjpe"]["action_mean"] for run in runs]),
        "per_action": {
            metric: {
                action: spread([run["scores"][metric]["per_action"][action] for run in runs])
                for action in runs[0]["scores"][metric]["per_action"]
            }
            for metric in METRICS
        },
        "minutes": [run_minutes(run_dir) for run_dir in run_dirs],
        "commit": sorted({run["commit"] for run in runs}),
        "device": sorted({run["device"] for run in runs}),
    }
    write_json(path, content)
    return content


def readme_table(reference):
    """The README's table for one reference file's content."""
    r = reference

    def cell(value):
        return f"{value['mean']:.1f} ± {value['spread'] / 2:.1f}"

    columns = {name: cell(r[metric]) for metric, name in METRICS.items()}
    if "flip_test" in r:  # references made before it was scored have none
        after = list(columns).index(METRICS["mpjpe"]) + 1
        pairs = list(columns.items())
        columns = dict(
            [
                *pairs[:after],
                (f"{METRICS['mpjpe']}, flip test", cell(r["flip_test"]["mpjpe"])),
                *pairs[after:],
            ]
        )
    # The run with the most parts did all that `make reproduce` does; of such, the longest.
    whole = max(r["minutes"], key=lambda minutes: (len(minutes), sum(minutes.values())))
    table = markdown_table(
        ["profile", "network", "mean pose", *columns, "minutes"],
        [
            [
                f"`{r['profile']}`",
                r["network"],
                f"{r['mean_pose']:.0f}",
                *columns.values(),
                f"{sum(whole.values()):.0f}",
            ]
        ],
    )
    return "\n\n".join([table, reference_note(r), times_table(whole)])


def update_readme(readme, reference):
    """Write the table of `reference` (a JSON path) between the marks of `readme`, atomically."""
    readme = Path(readme)
    text = readme.read_text()
    start, end = README_MARKS
    head, _, rest = text.partition(start)
    if end not in rest:
        raise InputError(f"{readme} lacks the marks {start} and, after it, {end}")
    tail = rest.partition(end)[2]
    with atomic_path(readme) as temporary:
        temporary.write_text(f"{head}{start}\n{readme_table(read_json(reference))}\n{end}{tail}")
