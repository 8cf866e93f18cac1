"""What the runs of `compare` say: paired differences with intervals, and the paper's claims.

Taught in notebooks/08_heatmap_vs_integral.ipynb. `results` are those of `run.compare`, one dict a
run, as `result.json` holds it.
"""

from pathlib import Path

import numpy as np

from ..config import config_from_record
from ..evaluation.tables import markdown_table
from ..files import InputError, read_json, write_json
from ..integral import METHODS
from .plan import ALONE, AXES, MAIN, MORE, MOST, WITH_2D

DRAWS = 2000
VARIED = AXES[1:]  # the axes that have levels; methods have none


def pick(results: list[dict], case: str, decoder: str | None = None) -> np.ndarray | None:
    """Errors of one case, as one decoder reads it.

    Args:
        results: see the module.
        case: its name.
        decoder: one of its decoders; the method's own by default.
    Returns:
        (seeds, sequences) mean error in mm: seeds in ascending order, sequences in the store's
        order; None where no such run is.
    """
    runs = [run for run in results if run["case"] == case]
    runs.sort(key=lambda run: run["seed"])
    errors = []
    for run in runs:
        scores = run["decoders"].get(decoder or METHODS[run["method"]].decoder)
        if scores is None:
            return None
        errors.append(scores["takes"])
    return np.array(errors) if errors else None


def paired_interval(
    terms: list[tuple[int, np.ndarray]], draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of a signed sum of cases, with a 95 % interval by bootstrap over seeds and sequences.

    All cases share the draws of seeds and sequences, so that what is hard about a sequence, or
    lucky about a seed, cancels. With one seed the interval speaks of sequences alone: a training
    from another start may well lie outside of it.

    Args:
        terms: (sign, errors (seeds, sequences)), e.g. [(1, a), (-1, b)] for a - b. Only the first
            seeds, which all share, are used.
        draws: of the bootstrap.
        seed: of the draws.
    Returns:
        mean, low, high, mm.
    """
    n_seeds = min(len(errors) for _, errors in terms)
    combined = 0
    for sign, errors in terms:
        combined = combined + sign * errors[:n_seeds]  # (seeds, sequences)
    n_sequences = combined.shape[1]
    rng = np.random.default_rng(seed)
    seeds_drawn = rng.integers(0, n_seeds, (draws, n_seeds))
    sequences_drawn = rng.integers(0, n_sequences, (draws, n_sequences))
    means = np.empty(draws)
    for i in range(draws):
        means[i] = combined[np.ix_(seeds_drawn[i], sequences_drawn[i])].mean()
    low, high = np.percentile(means, [2.5, 97.5])
    return float(combined.mean()), float(low), float(high)


# --- claims ---


def plus(case, decoder=None):
    """A case of a claim's sum, read by its own decoder or by another one."""
    return 1, case, decoder


def minus(case, decoder=None):
    """A case that is subtracted; see `plus`."""
    return -1, case, decoder


# Claim, whose it is, and the terms of a signed sum that should be below 0. Profiles have maps of
# different sizes, so {coarse} and {fine} stand for what follows a method's name; see `map_levels`.
CLAIMS = (
    (
        "integral from scratch beats heat map + argmax: H1",
        "paper",
        [plus("I*"), minus("H1")],
    ),
    (
        "integral from scratch beats heat map + argmax: H2",
        "paper",
        [plus("I*"), minus("H2")],
    ),
    (
        "integral from scratch beats heat map + argmax: H3",
        "paper",
        [plus("I*"), minus("H3")],
    ),
    (
        "integral from scratch beats direct regression",
        "paper",
        [plus("I*"), minus("R1")],
    ),
    (
        "with four times the samples, integral beats direct regression",
        "question",
        [plus(f"I*, {MORE}"), minus(f"R1, {MORE}")],
    ),
    (
        "with sixteen times the samples, integral beats direct regression",
        "question",
        [plus(f"I*, {MOST}"), minus(f"R1, {MOST}")],
    ),
    (
        "integral gains more from four times the samples than direct regression",
        "question",
        [plus(f"I*, {MORE}"), minus("I*"), minus(f"R1, {MORE}"), plus("R1")],
    ),
    (
        "integral gains more from sixteen times the samples than direct regression",
        "question",
        [plus(f"I*, {MOST}"), minus("I*"), minus(f"R1, {MOST}"), plus("R1")],
    ),
    (
        "heat map first, then integral, beats the heat map alone: H1",
        "paper",
        [plus("I1"), minus("H1")],
    ),
    (
        "heat map first, then integral, beats the heat map alone: H2",
        "paper",
        [plus("I2"), minus("H2")],
    ),
    (
        "heat map first, then integral, beats the heat map alone: H3",
        "paper",
        [plus("I3"), minus("H3")],
    ),
    (
        "integral suffers less from a coarse map than argmax",
        "paper",
        [plus("I*{coarse}"), minus("I*{fine}"), minus("H2{coarse}"), plus("H2{fine}")],
    ),
    (
        "2D-only pictures help integral regression",
        "paper",
        [plus(f"I*, {WITH_2D}"), minus(f"I*, {ALONE}")],
    ),
    (
        "2D-only pictures help integral more than direct regression",
        "question",
        [
            plus(f"I*, {WITH_2D}"),
            minus(f"I*, {ALONE}"),
            minus(f"R1, {WITH_2D}"),
            plus(f"R1, {ALONE}"),
        ],
    ),
    (
        "reading H2 by expectation beats reading it by argmax",
        "question",
        [plus("H2", "expectation"), minus("H2")],
    ),
    (
        "a quarter-cell shift helps H2's argmax",
        "question",
        [plus("H2", "argmax + 1/4"), minus("H2")],
    ),
    (
        "H2 read by expectation is still worse than I*",
        "question",
        [plus("I*"), minus("H2", "expectation")],
    ),
    (
        "a Jensen-Shannon prior helps I*",
        "Nibali 2018",
        [plus("I* + prior"), minus("I*")],
    ),
    (
        "de-biasing helps I*",
        "Gu 2021",
        [plus("I* de-biased"), minus("I*")],
    ),
    (
        "the expected error beats the error of the expectation",
        "Li 2021",
        [plus("E"), minus("I*")],
    ),
)


def map_levels(results: list[dict]) -> dict[str, str]:
    """What follows a method's name for a coarse and for a fine map.

    One of the two is the base's map; the other is the one farthest below it, or else the next
    above it.

    Args:
        results: see the module.
    Returns:
        {"coarse": , "fine": }: "" for the base. Where no other map was run, names that no case has.
    """
    maps = {}
    base = None
    for run in results:
        deconvolutions = run["config"]["deconvolutions"]  # each doubles the map's side
        if run["axis"] == "map":
            maps[deconvolutions] = f", {run['case'].partition(', ')[2]}"
        elif run["axis"] == "method" and base is None:
            base = deconvolutions
    if not maps or base is None:
        return {"coarse": ", no map", "fine": ", no map"}
    other = min(maps)
    if other < base:
        return {"coarse": maps[other], "fine": ""}
    return {"coarse": "", "fine": maps[other]}


def judge(results: list[dict]) -> list[dict]:
    """Hold every claim against the runs.

    Args:
        results: see the module.
    Returns:
        for each claim: claim, whose, measured (mean, low, high in mm; negative speaks for the
        claim; None where a run is missing), seeds, holds: "yes" or "no" where the interval leaves 0
        out, else "cannot tell"; "not run".
    """
    levels = map_levels(results)
    rows = []
    for claim, whose, terms in CLAIMS:
        row = {"claim": claim, "whose": whose, "measured": None, "seeds": 0, "holds": "not run"}
        found = []
        for sign, case, decoder in terms:
            found.append((sign, pick(results, case.format(**levels), decoder)))
        if all(errors is not None for _, errors in found):
            mean, low, high = paired_interval(found)
            row["measured"] = [mean, low, high]
            row["seeds"] = min(len(errors) for _, errors in found)
            row["holds"] = _verdict(low, high)
        rows.append(row)
    return rows


def _verdict(low, high):
    if high < 0:
        return "yes"
    if low > 0:
        return "no"
    return "cannot tell"


# --- axes ---


def level(run: dict, axis: str) -> int | str:
    """Where a run stands on an axis of VARIED: a number, or words."""
    if axis == "budget":
        return run["samples_seen"]
    if axis == "map":
        return config_from_record(run["config"]).volume_shape[2]
    if axis == "depth":
        return config_from_record(run["config"]).volume_shape[0]
    if axis == "2D":
        return run["case"].partition(", ")[2] or "all with depth"
    if axis == "trunk":
        return run["network"].partition(",")[0]
    return run["config"]["crop_px"]


def axis_effect(results: list[dict], axis: str) -> dict[str, dict]:
    """How the main methods move along an axis; the base is one of its levels.

    Args:
        results: see the module.
        axis: of VARIED.
    Returns:
        {method: {level: errors (seeds, sequences), see `pick`}}: numbers ascending, words by how
        many images, how many of them with depth, and how many parameters there are. A method
        without runs on the axis has the base alone.
    """
    effect = {}
    for method in MAIN:
        runs = [
            run
            for run in results
            if run["method"] == method and (run["axis"] == axis or run["case"] == method)
        ]
        runs.sort(key=lambda run: (run["train_items"], run["with_depth"], run["parameters"]))
        cases = {level(run, axis): run["case"] for run in runs}
        names = list(cases)
        if all(isinstance(name, int) for name in names):
            names.sort()
        if names:
            effect[method] = {name: pick(results, cases[name]) for name in names}
    return effect


def rounding_share(run: dict) -> float | None:
    """How much of an argmax network's error a perfect network on the same cells would make too.

    The error of the true cells' centres over the network's own, both MPJPE: 0 … 1, or more. None
    without cells.
    """
    if run["cells"] is None:
        return None
    return run["cells"]["mpjpe"] / run["decoders"]["argmax"]["mpjpe"]


# --- tables ---

CASE_HEADER = [
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


def case_table(results: list[dict], decoders: bool = False) -> str:
    """Markdown: one row a case, means over its seeds.

    Args:
        results: see the module.
        decoders: one row for each decoder instead of the method's own alone.
    """
    rows = []
    for case in dict.fromkeys(run["case"] for run in results):
        runs = [run for run in results if run["case"] == case]
        names = [METHODS[runs[0]["method"]].decoder]
        if decoders:
            names = list(runs[0]["decoders"])
        for name in names:
            rows.append(_case_row(case, runs, name))
    return markdown_table(CASE_HEADER, rows)


def _case_row(case, runs, decoder):
    """Row of one case as one decoder reads it; `runs` are its seeds."""
    scores = [run["decoders"][decoder] for run in runs]
    mpjpe = [values["mpjpe"] for values in scores]
    spread = f" ± {np.ptp(mpjpe) / 2:.1f}" if len(runs) > 1 else ""
    perfect = "–"
    if decoder == "argmax":
        share = np.mean([rounding_share(run) for run in runs])
        perfect = f"{runs[0]['cells']['mpjpe']:.1f} ({100 * share:.0f} %)"
    return [
        case,
        decoder,
        f"{np.mean(mpjpe):.1f}{spread}",
        f"{np.mean([values['pa_mpjpe'] for values in scores]):.1f}",
        f"{np.mean([values['xy_px'] for values in scores]):.2f}",
        f"{np.mean([values['z_mm'] for values in scores]):.1f}",
        perfect,
        f"{runs[0]['samples_seen']:,}",
        len(runs),
        f"{np.mean([run['minutes'] for run in runs]):.1f}",
    ]


def claim_table(claims: list[dict]) -> str:
    """Markdown: claim, whose, what was measured, does it hold; claims as `judge` gives them."""
    rows = []
    for row in claims:
        measured = "–"
        if row["measured"] is not None:
            mean, low, high = row["measured"]
            measured = f"{mean:+.1f} ({low:+.1f} … {high:+.1f})"
        rows.append([row["claim"], row["whose"], measured, row["seeds"] or "–", row["holds"]])
    return markdown_table(["claim", "of", "measured, mm (95 %)", "seeds", "holds?"], rows)


def write_summary(results: list[dict], path: Path) -> dict:
    """Write everything that the comparison found as one JSON, fit for results/reference/.

    Args:
        results: see the module; not empty.
        path: the JSON to write.
    Returns:
        its content: headline (the smallest MPJPE of all runs by their own decoders, mm), claims
        (see `judge`), runs, commit, device, minutes.
    """
    if not results:
        raise InputError(f"{path}: no run to summarise; choose at least one case")
    own = [run["decoders"][METHODS[run["method"]].decoder]["mpjpe"] for run in results]
    content = {
        "profile": results[0]["config"]["profile"],
        "seeds": sorted({run["seed"] for run in results}),
        "samples_seen": sorted({run["samples_seen"] for run in results}),
        "headline": min(own),
        "commit": sorted({run["commit"] for run in results}),
        "device": sorted({run["device"] for run in results}),
        "minutes": round(sum(run["minutes"] for run in results), 2),
        "claims": judge(results),
        "runs": results,
    }
    write_json(path, content)
    return read_json(path)
