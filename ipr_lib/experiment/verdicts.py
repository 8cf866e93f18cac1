"""What the runs of `compare` say: paired differences with intervals, and the paper's claims.

Taught in notebooks/08_heatmap_vs_integral.ipynb. `results` are those of `run.compare`, one dict a
run, as `result.json` holds it. A reading is "CASE", read by its method's own decoder, or
"CASE: DECODER".
"""

from pathlib import Path

import numpy as np
from scipy import stats

from ..config import config_from_record
from ..evaluation.report import markdown_table
from ..files import InputError, read_json, write_json
from ..integral import METHODS
from .plan import ALONE, COARSE, MAIN, MORE, SWEEP, TARGETS, WITH_2D

# The axes that have levels, and what a level of each is.
AXIS_LABELS = {
    "map": "cells across",
    "2D": "training sequences",
    "budget": "pictures seen",
    "depth": "cells in depth",
    "trunk": "backbone",
    "crop": "side of the crop (px)",
}
VARIED = tuple(AXIS_LABELS)
FEWEST_SEEDS = 3  # one seed has no interval, and that of two is too wide to decide anything
LEARNED = (
    0.75  # of the mean pose's error: above it, a network has not learned enough to be compared
)


def own_error(run: dict) -> float:
    """MPJPE of a run as its method's own decoder reads it, mm."""
    return run["decoders"][METHODS[run["method"]].decoder]["mpjpe"]


def errors_by_seed(results: list[dict], reading: str) -> dict[int, np.ndarray]:
    """Errors of one reading.

    Args:
        results, reading: see the module.
    Returns:
        {seed: (sequences,) mean error in mm, in the store's order}; empty where no such run is.
    """
    case, _, decoder = reading.partition(": ")
    errors = {}
    for run in results:
        scores = run["decoders"].get(decoder or METHODS[run["method"]].decoder)
        if run["case"] == case and scores is not None:
            errors[run["seed"]] = np.array(scores["takes"])
    return errors


def signed_sum(results: list[dict], plus: tuple, minus: tuple = ()) -> np.ndarray:
    """Errors of some readings less those of others, seed by seed and sequence by sequence.

    What is hard about a sequence, or lucky about a seed, cancels.

    Args:
        results: see the module.
        plus, minus: readings.
    Returns:
        (S, T) mm, one row for each seed that all readings share, in ascending order.
    """
    added = [errors_by_seed(results, reading) for reading in plus]
    subtracted = [errors_by_seed(results, reading) for reading in minus]
    shared = set(added[0])
    for errors in added + subtracted:
        shared &= set(errors)
    rows = []
    for seed in sorted(shared):
        row = sum(errors[seed] for errors in added)
        rows.append(row - sum(errors[seed] for errors in subtracted))
    return np.array(rows)


def has_learned(results: list[dict], case: str) -> bool:
    """Whether a case beats the mean training pose by a quarter, in the mean over its seeds.

    Its best reading counts, because a network may know the place and be read badly: in the coarse
    map of the laptop's comparison, perfect cells alone err by more than half of the mean pose's error.
    """
    runs = [run for run in results if run["case"] == case]
    best = [min(scores["mpjpe"] for scores in run["decoders"].values()) for run in runs]
    return bool(np.mean(best) <= LEARNED * np.mean([run["mean_pose"] for run in runs]))


def crossed_interval(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of errors over seeds and sequences, with a 95 % interval for other seeds and sequences.

    Seeds and sequences are crossed random effects: errors = mean + seed + sequence + rest. With V
    for variances,

        SE^2 = V(seed means) / S + V(sequence means) / T - V(rest) / (S T)

    because the rest is counted in each of the first two parts. SE^2 is never below the larger
    of them, the degrees of freedom are Satterthwaite's (1946), and the interval is Student's t. It
    is also never narrower than the t-interval of the seed means, or of the sequence means, alone.
    The tests simulate how often it covers the truth: 93 to 97 times of 100.

    Args:
        errors: (..., S, T) mm, at least two seeds and two sequences.
    Returns:
        mean, low, high, each of shape (...).
    """
    S, T = errors.shape[-2:]
    mean = errors.mean(axis=(-2, -1))
    seed_means = errors.mean(axis=-1)  # (..., S)
    sequence_means = errors.mean(axis=-2)  # (..., T)
    rest = errors - seed_means[..., :, None] - sequence_means[..., None, :] + mean[..., None, None]
    rest_freedom = (S - 1) * (T - 1)

    by_seed = seed_means.var(axis=-1, ddof=1) / S
    by_sequence = sequence_means.var(axis=-1, ddof=1) / T
    by_rest = (rest**2).sum(axis=(-2, -1)) / rest_freedom / (S * T)
    square = np.maximum(by_seed + by_sequence - by_rest, np.maximum(by_seed, by_sequence))

    parts = by_seed**2 / (S - 1) + by_sequence**2 / (T - 1) + by_rest**2 / rest_freedom
    freedom = square**2 / np.maximum(parts, np.finfo(float).tiny)
    half = _half_width(square, np.maximum(freedom, 1))
    half = np.maximum(half, _half_width(by_seed, S - 1))
    half = np.maximum(half, _half_width(by_sequence, T - 1))
    return mean, mean - half, mean + half


def _half_width(square, freedom):
    """Half of a 95 % t-interval of squared standard error `square`."""
    return stats.t.ppf(0.975, freedom) * np.sqrt(square)


# --- claims ---

# Claim, whose it is, and two lists of readings: the sum of the first, less that of the second,
# should be below 0.
CLAIMS = (
    (
        "integral from scratch beats heat map + argmax: H1",
        "paper",
        ["I*"],
        ["H1"],
    ),
    (
        "integral from scratch beats heat map + argmax: H2",
        "paper",
        ["I*"],
        ["H2"],
    ),
    (
        "integral from scratch beats heat map + argmax: H3",
        "paper",
        ["I*"],
        ["H3"],
    ),
    (
        "integral from scratch beats direct regression",
        "paper",
        ["I*"],
        ["R1"],
    ),
    (
        "with three times the samples, integral beats direct regression",
        "question",
        [f"I*, {MORE}"],
        [f"R1, {MORE}"],
    ),
    (
        "integral gains more from three times the samples than direct regression",
        "question",
        [f"I*, {MORE}", "R1"],
        ["I*", f"R1, {MORE}"],
    ),
    (
        "heat map first, then integral, beats the heat map alone: H1",
        "paper",
        ["I1"],
        ["H1"],
    ),
    (
        "heat map first, then integral, beats the heat map alone: H2",
        "paper",
        ["I2"],
        ["H2"],
    ),
    (
        "heat map first, then integral, beats the heat map alone: H3",
        "paper",
        ["I3"],
        ["H3"],
    ),
    (
        "heat map first, then integral, beats the integral from scratch: H1",
        "question",
        ["I1"],
        ["I*"],
    ),
    (
        "heat map first, then integral, beats the integral from scratch: H2",
        "question",
        ["I2"],
        ["I*"],
    ),
    (
        "heat map first, then integral, beats the integral from scratch: H3",
        "question",
        ["I3"],
        ["I*"],
    ),
    (
        "integral suffers less from a coarse map than argmax",
        "paper",
        [f"I*, {COARSE}", "H2"],
        ["I*", f"H2, {COARSE}"],
    ),
    (
        "2D-only pictures help integral regression",
        "paper",
        [f"I*, {WITH_2D}"],
        [f"I*, {ALONE}"],
    ),
    (
        "2D-only pictures help integral more than direct regression",
        "question",
        [f"I*, {WITH_2D}", f"R1, {ALONE}"],
        [f"I*, {ALONE}", f"R1, {WITH_2D}"],
    ),
    (
        "reading H2 by expectation beats reading it by argmax",
        "question",
        ["H2: expectation"],
        ["H2"],
    ),
    (
        "a quarter-cell shift helps H2's argmax",
        "question",
        ["H2: argmax + 1/4"],
        ["H2"],
    ),
    (
        "H2 read by expectation is still worse than I*",
        "question",
        ["I*"],
        ["H2: expectation"],
    ),
    (
        "reading H3 by expectation beats reading it by argmax",
        "question",
        ["H3: expectation"],
        ["H3"],
    ),
    (
        "H3 read by expectation is still worse than I*",
        "question",
        ["I*"],
        ["H3: expectation"],
    ),
    (
        "three lines beat the integral's volume: SimCC",
        "Li 2022",
        ["SimCC"],
        ["I*"],
    ),
    (
        "reading SimCC by expectation beats reading it by argmax",
        "question",
        ["SimCC: expectation"],
        ["SimCC"],
    ),
    (
        "a Jensen-Shannon prior helps I*",
        "Nibali 2018",
        ["I* + prior"],
        ["I*"],
    ),
    (
        "de-biasing helps I*",
        "Gu 2021",
        ["I* de-biased"],
        ["I*"],
    ),
    (
        "the expected error beats the error of the expectation",
        "Li 2021",
        ["E"],
        ["I*"],
    ),
)


def judge(results: list[dict]) -> list[dict]:
    """Hold every claim against the runs.

    Args:
        results: see the module.
    Returns:
        for each claim: claim, whose, measured (mean, low, high in mm; negative speaks for the
        claim; None where a run is missing), seeds, holds: "yes" or "no" where the interval leaves 0
        out, else "cannot tell"; "not judged" where a network has not learned enough, see
        `has_learned`; "not run". Below FEWEST_SEEDS, or with one sequence, there is a mean and no
        interval.
    """
    rows = []
    for claim, whose, plus, minus in CLAIMS:
        errors = signed_sum(results, plus, minus)
        seeds = len(errors)
        row = {"claim": claim, "whose": whose, "measured": None, "seeds": seeds, "holds": "not run"}
        if seeds and (seeds < FEWEST_SEEDS or errors.shape[1] < 2):
            row["measured"] = [float(errors.mean()), None, None]
            row["holds"] = "cannot tell"
        elif seeds:
            row["measured"] = [float(value) for value in crossed_interval(errors)]
            row["holds"] = _verdict(*row["measured"])
        cases = [reading.partition(": ")[0] for reading in [*plus, *minus]]
        if seeds and not all(has_learned(results, case) for case in cases):
            row["holds"] = "not judged"
        rows.append(row)
    return rows


def _verdict(mean, low, high):
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
        return config_from_record(run["config"]).map_side
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
        {method: {level: errors (seeds, sequences), mm}}: numbers ascending, words by how
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
            effect[method] = {name: signed_sum(results, [cases[name]]) for name in names}
    return effect


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
    contest = [run for run in results if run["axis"] != SWEEP]
    rows = []
    for case in dict.fromkeys(run["case"] for run in contest):
        runs = [run for run in contest if run["case"] == case]
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
        rounding = runs[0]["cells"]["mpjpe"]
        perfect = f"{rounding:.1f} ({100 * np.mean(rounding / np.array(mpjpe)):.0f} %)"
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


def sweep_table(results: list[dict]) -> str:
    """Markdown: what the sweep tried for each method, and the MPJPE on the actor held out, mm.

    Args:
        results: see the module.
    """
    rows = []
    swept = [run for run in results if run["axis"] == SWEEP]
    for method in dict.fromkeys(run["method"] for run in swept):
        runs = [run for run in swept if run["method"] == method]
        best = min(own_error(run) for run in runs)
        for run in runs:
            target = "–"
            if method in TARGETS:
                field = TARGETS[method][0]
                target = f"{field} {run['config'][field]:g}"
            error = f"{own_error(run):.1f}"
            if own_error(run) == best:
                error = f"**{error}**"
            row = [method, f"{run['config']['learning_rate']:g}", target, error]
            if row not in rows:  # the second step tries one value of the first again
                rows.append(row)
    return markdown_table(["method", "learning rate", "target", "MPJPE, held out"], rows)


def claim_table(claims: list[dict]) -> str:
    """Markdown: claim, whose, what was measured, does it hold; claims as `judge` gives them.

    The interval speaks of other seeds and other sequences of the same actors; the test actors are
    two, and two say nothing about others.
    """
    rows = []
    for row in claims:
        measured = "–"
        if row["measured"] is not None:
            mean, low, high = row["measured"]
            measured = f"{mean:+.1f}"
            if low is not None:
                measured += f" ({low:+.1f} … {high:+.1f})"
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
    own = [own_error(run) for run in results]
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
