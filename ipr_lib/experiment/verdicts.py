"""What the runs of `compare` say: paired differences with intervals, and the paper's claims held against them.

Taught in notebooks/08_heatmap_vs_integral.ipynb.
"""

import numpy as np

from ..config import Config
from ..evaluation.tables import markdown_table
from ..files import InputError, read_json, write_json
from ..integral import METHODS
from .plan import ALONE, MAIN, MORE, MOST, WITH_2D

DRAWS = 2000


def pick(results, case, decoder=None):
    """Errors of one case, as one decoder reads it.

    Args:
        results: as `compare.compare` returns.
        case: its name.
        decoder: one of its decoders; the method's own by default.
    Returns:
        (S, T) mean error of each take, mm: seeds in ascending order, takes in the store's order; None where no such run is.
    """
    runs = sorted((run for run in results if run["case"] == case), key=lambda run: run["seed"])
    read = [run["decoders"].get(decoder or METHODS[run["method"]].decoder) for run in runs]
    return None if not read or None in read else np.array([scores["takes"] for scores in read])


def paired_interval(terms, draws=DRAWS, seed=0):
    """Mean of a signed sum of cases, with a 95 % interval by bootstrap over seeds and takes.

    All cases meet the same draws of seeds and takes, so that what is hard about a take, or lucky about a seed, cancels.
    With one seed the interval tells of takes alone: another start of training may well lie outside of it.

    Args:
        terms: [(sign, errors (S, T))], e.g. [(1, a), (-1, b)] for a - b. Only the seeds that all share are used: the first.
        draws: of the bootstrap.
        seed: of the draws.
    Returns:
        mean, low, high, mm.
    """
    seeds = min(len(errors) for _, errors in terms)
    combined = sum(sign * errors[:seeds] for sign, errors in terms)  # (S, T)
    rng = np.random.default_rng(seed)
    by_seed = rng.integers(0, seeds, (draws, seeds))
    by_take = rng.integers(0, combined.shape[1], (draws, combined.shape[1]))
    means = np.array([combined[np.ix_(s, t)].mean() for s, t in zip(by_seed, by_take)])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(combined.mean()), float(low), float(high)


# (claim, whose; [(sign, case, decoder or None for its own)]; the claim is that the signed sum is below 0). Map sizes are named by
# the profile, so {coarse} and {fine} stand for what follows a method's name: nothing for the base's map, or ", map 8".
CLAIMS = (
    (
        "integral from scratch beats heat map + argmax: H1",
        "paper",
        ((1, "I*", None), (-1, "H1", None)),
    ),
    (
        "integral from scratch beats heat map + argmax: H2",
        "paper",
        ((1, "I*", None), (-1, "H2", None)),
    ),
    (
        "integral from scratch beats heat map + argmax: H3",
        "paper",
        ((1, "I*", None), (-1, "H3", None)),
    ),
    ("integral from scratch beats direct regression", "paper", ((1, "I*", None), (-1, "R1", None))),
    (
        "with four times the samples, integral beats direct regression",
        "question",
        ((1, f"I*, {MORE}", None), (-1, f"R1, {MORE}", None)),
    ),
    (
        "with sixteen times the samples, integral beats direct regression",
        "question",
        ((1, f"I*, {MOST}", None), (-1, f"R1, {MOST}", None)),
    ),
    (
        "integral gains more from four times the samples than direct regression",
        "question",
        ((1, f"I*, {MORE}", None), (-1, "I*", None), (-1, f"R1, {MORE}", None), (1, "R1", None)),
    ),
    (
        "integral gains more from sixteen times the samples than direct regression",
        "question",
        ((1, f"I*, {MOST}", None), (-1, "I*", None), (-1, f"R1, {MOST}", None), (1, "R1", None)),
    ),
    (
        "heat map first, then integral, beats the heat map alone: H1",
        "paper",
        ((1, "I1", None), (-1, "H1", None)),
    ),
    (
        "heat map first, then integral, beats the heat map alone: H2",
        "paper",
        ((1, "I2", None), (-1, "H2", None)),
    ),
    (
        "heat map first, then integral, beats the heat map alone: H3",
        "paper",
        ((1, "I3", None), (-1, "H3", None)),
    ),
    (
        "integral suffers less from a coarse map than argmax",
        "paper",
        (
            (1, "I*{coarse}", None),
            (-1, "I*{fine}", None),
            (-1, "H2{coarse}", None),
            (1, "H2{fine}", None),
        ),
    ),
    (
        "2D-only pictures help integral regression",
        "paper",
        ((1, f"I*, {WITH_2D}", None), (-1, f"I*, {ALONE}", None)),
    ),
    (
        "2D-only pictures help integral more than direct regression",
        "question",
        (
            (1, f"I*, {WITH_2D}", None),
            (-1, f"I*, {ALONE}", None),
            (-1, f"R1, {WITH_2D}", None),
            (1, f"R1, {ALONE}", None),
        ),
    ),
    (
        "reading H2 by expectation beats reading it by argmax",
        "question",
        ((1, "H2", "expectation"), (-1, "H2", None)),
    ),
    (
        "a quarter-cell shift helps H2's argmax",
        "question",
        ((1, "H2", "argmax + 1/4"), (-1, "H2", None)),
    ),
    (
        "H2 read by expectation is still worse than I*",
        "question",
        ((1, "I*", None), (-1, "H2", "expectation")),
    ),
    ("a Jensen-Shannon prior helps I*", "Nibali 2018", ((1, "I* + prior", None), (-1, "I*", None))),
    ("de-biasing helps I*", "Gu 2021", ((1, "I* de-biased", None), (-1, "I*", None))),
    (
        "the expected error beats the error of the expectation",
        "Li 2021",
        ((1, "E", None), (-1, "I*", None)),
    ),
)


def map_levels(results):
    """What to add to a method's name for a coarse and for a fine map: the base and the map farthest below it, or next above.

    Args:
        results: as `compare.compare` returns.
    Returns:
        {"coarse": , "fine": }: "" for the base. Where no other map was run, names that no case has.
    """
    maps = {
        run["config"]["deconvolutions"]: f", {run['case'].partition(', ')[2]}"
        for run in results
        if run["axis"] == "map"
    }
    base = [run["config"]["deconvolutions"] for run in results if run["axis"] == "method"]
    if not maps or not base:
        return {"coarse": ", no map", "fine": ", no map"}
    other = min(maps)
    return (
        {"coarse": maps[other], "fine": ""}
        if other < base[0]
        else {"coarse": "", "fine": maps[other]}
    )


def judge(results):
    """Hold every claim against the runs.

    Args:
        results: as `compare.compare` returns.
    Returns:
        list of dicts: claim, whose, measured (mean, low, high, mm; negative speaks for the claim; None where a run is missing),
        seeds, holds: "yes" or "no" where the interval leaves 0 out, else "cannot tell"; "not run".
    """
    levels = map_levels(results)
    rows = []
    for claim, whose, terms in CLAIMS:
        found = [
            (sign, pick(results, case.format(**levels), decoder)) for sign, case, decoder in terms
        ]
        if any(errors is None for _, errors in found):
            rows.append(
                {"claim": claim, "whose": whose, "measured": None, "seeds": 0, "holds": "not run"}
            )
            continue
        mean, low, high = paired_interval(found)
        holds = "yes" if high < 0 else "no" if low > 0 else "cannot tell"
        seeds = min(len(errors) for _, errors in found)
        rows.append(
            {
                "claim": claim,
                "whose": whose,
                "measured": [mean, low, high],
                "seeds": seeds,
                "holds": holds,
            }
        )
    return rows


# Where a run stands on an axis: a number, or words.
LEVELS = {
    "budget": lambda run: run["samples_seen"],
    "map": lambda run: Config(**run["config"]).volume_shape[2],
    "depth": lambda run: Config(**run["config"]).volume_shape[0],
    "2D": lambda run: run["case"].partition(", ")[2] or "all with depth",
    "trunk": lambda run: run["network"].partition(",")[0],
    "crop": lambda run: run["config"]["crop_px"],
}


def axis_effect(results, axis):
    """How the main methods move along an axis; the base is one of its levels.

    Args:
        results: as `compare.compare` returns.
        axis: of LEVELS.
    Returns:
        {method: {level: errors (S, T), see `pick`}}: numbers ascending, words by how many pictures, how many of them with
        depth, and how many parameters there are. A method without runs on the axis has the base alone.
    """
    effect = {}
    for method in MAIN:
        on_axis = [
            run
            for run in results
            if run["method"] == method and (run["axis"] == axis or run["case"] == method)
        ]
        on_axis.sort(key=lambda run: (run["train_items"], run["with_depth"], run["parameters"]))
        levels = {LEVELS[axis](run): run["case"] for run in on_axis}
        if not any(isinstance(level, str) for level in levels):
            levels = dict(sorted(levels.items()))
        if levels:
            effect[method] = {level: pick(results, case) for level, case in levels.items()}
    return effect


def rounding_share(run):
    """How much of an argmax network's error a perfect network on the same cells would make too, 0 … 1 (or more).

    The error of the true cells' centres over the network's own, both MPJPE. None without cells.
    """
    return run["cells"]["mpjpe"] / run["decoders"]["argmax"]["mpjpe"] if run["cells"] else None


def case_table(results, decoders=False):
    """Markdown: one row a case, means over its seeds.

    Args:
        results: as `compare.compare` returns.
        decoders: one row for each decoder instead of the method's own alone.
    """
    rows = []
    for case in dict.fromkeys(run["case"] for run in results):
        runs = [run for run in results if run["case"] == case]
        own = METHODS[runs[0]["method"]].decoder
        for decoder in runs[0]["decoders"] if decoders else [own]:
            values = {
                name: [run["decoders"][decoder][name] for run in runs]
                for name in ("mpjpe", "pa_mpjpe", "xy_px", "z_mm")
            }
            spread = f" ± {np.ptp(values['mpjpe']) / 2:.1f}" if len(runs) > 1 else ""
            share = np.mean([rounding_share(run) for run in runs]) if decoder == "argmax" else None
            rows.append(
                [
                    case,
                    decoder,
                    f"{np.mean(values['mpjpe']):.1f}{spread}",
                    f"{np.mean(values['pa_mpjpe']):.1f}",
                    f"{np.mean(values['xy_px']):.2f}",
                    f"{np.mean(values['z_mm']):.1f}",
                    "–"
                    if share is None
                    else f"{runs[0]['cells']['mpjpe']:.1f} ({100 * share:.0f} %)",
                    f"{runs[0]['samples_seen']:,}",
                    len(runs),
                    f"{np.mean([run['minutes'] for run in runs]):.1f}",
                ]
            )
    header = [
        "case",
        "read by",
        "MPJPE",
        "PA-MPJPE",
        "x-y, px",
        "z, mm",
        "perfect cells (share)",
        "samples",
        "seeds",
        "minutes",
    ]
    return markdown_table(header, rows)


def claim_table(claims):
    """Markdown: claim, whose, what was measured, does it hold. `claims` as `judge` returns."""
    rows = []
    for row in claims:
        measured = (
            "–"
            if row["measured"] is None
            else "{:+.1f} ({:+.1f} … {:+.1f})".format(*row["measured"])
        )
        rows.append([row["claim"], row["whose"], measured, row["seeds"] or "–", row["holds"]])
    return markdown_table(["claim", "of", "measured, mm (95 %)", "seeds", "holds?"], rows)


def write_summary(results, path):
    """Everything that the comparison found as one JSON, fit for results/reference/.

    Args:
        results: as `compare.compare` returns; not empty.
        path: the JSON to write.
    Returns:
        its content: headline (the smallest MPJPE of all runs by their own decoders, mm), claims (see `judge`), runs, commit, device, minutes.
    """
    if not results:
        raise InputError(f"{path}: no run to summarise; choose at least one case")
    content = {
        "profile": results[0]["config"]["profile"],
        "seeds": sorted({run["seed"] for run in results}),
        "samples_seen": sorted({run["samples_seen"] for run in results}),
        "headline": min(
            run["decoders"][METHODS[run["method"]].decoder]["mpjpe"] for run in results
        ),
        "commit": sorted({run["commit"] for run in results}),
        "device": sorted({run["device"] for run in results}),
        "minutes": round(sum(run["minutes"] for run in results), 2),
        "claims": judge(results),
        "runs": results,
    }
    write_json(path, content)
    return read_json(path)
