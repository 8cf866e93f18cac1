import pytest

from ipr_lib.experiment import plan as compare_plan
from ipr_lib.experiment.plan import Case, case_config, planned_cases
from ipr_lib.files import InputError
from ipr_lib.integral import METHODS


@pytest.mark.parametrize("profile", compare_plan.BASES)
def test_plan_covers_the_methods_and_names_each_case_once(profile):
    cases = planned_cases(profile)
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    assert [case.name for case in cases if case.axis == "method"] == list(METHODS)
    assert {case.axis for case in cases} == set(compare_plan.AXES)
    configs = {
        (case_config(profile, case, 0).hash(), case.depth_share, case.only_depth) for case in cases
    }
    assert len(configs) == len(cases), "each case is a run of its own"


def test_levels_change_what_their_names_say():
    base = case_config("laptop", Case("I*", "method", {"method": "I*"}), 0)
    assert base.volume_shape == (16, 16, 16) and base.crop_px == 64
    shapes = {case.name: case_config("laptop", case, 0) for case in planned_cases("laptop")}
    assert shapes["H2, map 32"].volume_shape == (16, 32, 32) and shapes[
        "I*, map 8"
    ].volume_shape == (16, 8, 8)
    assert shapes["I*, depth 32"].volume_shape == (32, 16, 16)
    for name in ("I*, crop 128", "I*, crop 32"):
        assert shapes[name].volume_shape == (16, 16, 16), "another crop, the same map"
    assert case_config(
        "gpu", next(c for c in planned_cases("gpu") if c.name == "H2, map 64"), 0
    ).volume_shape == (32, 64, 64)
    assert not any(
        case.axis in ("map", "depth") for case in planned_cases("gpu") if case.name.startswith("R1")
    )


def test_a_quarter_of_the_pictures_is_seen_four_times_as_often():
    whole, alone = (
        next(c for c in planned_cases("laptop") if c.name == name)
        for name in ("R1", "R1, a quarter alone")
    )
    assert case_config("laptop", alone, 0).epochs == 4 * case_config("laptop", whole, 0).epochs
    assert case_config("laptop", alone, 1, {"epochs": 2}).epochs == 8


def test_a_larger_budget_keeps_its_ratio_and_its_schedules_shape():
    base, more = (
        case_config(
            "laptop",
            next(c for c in planned_cases("laptop") if c.name == name),
            0,
            {"epochs": 3, "lr_drops": [1, 2]},
        )
        for name in ("I*", "I*, 4 x the samples")
    )
    assert (base.epochs, base.lr_drops, more.epochs, more.lr_drops) == (3, (1, 2), 12, (4, 8))
    assert {case.name for case in planned_cases("gpu") if case.axis == "budget"} == {
        f"{m}, {n} x the samples" for m in compare_plan.MAIN for n in (4, 16)
    }


def test_seeds_and_methods_share_everything_else():
    one, other = (
        case_config("smoke", Case(name, "method", {"method": name}), 3) for name in ("R1", "H3")
    )
    assert one.seed == other.seed == 3
    assert {name for name in vars(one) if vars(one)[name] != vars(other)[name]} == {"method"}


def test_a_profile_without_a_comparison_is_refused():
    with pytest.raises(
        InputError, match="profile 'full' has no comparison; choose one of smoke, laptop, gpu"
    ):
        planned_cases("full")
