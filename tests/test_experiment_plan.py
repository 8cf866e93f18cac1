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
    assert {case.name for case in cases if case.axis in ("method", "variant")} == set(METHODS)
    assert list(dict.fromkeys(case.axis for case in cases)) == list(compare_plan.AXES)
    configs = {
        (case_config(profile, case, 0).hash(), case.depth_share, case.only_depth) for case in cases
    }
    assert len(configs) == len(cases), "each case is a run of its own"


def named(profile, name):
    (case,) = [case for case in planned_cases(profile) if case.name == name]
    return case


def test_levels_change_what_their_names_say():
    base = case_config("laptop", named("laptop", "I*"), 0)
    assert base.volume_shape == (24, 24, 24) and base.crop_px == 96
    assert base.precision == "float32"
    shapes = {case.name: case_config("laptop", case, 0) for case in planned_cases("laptop")}
    assert shapes["I*, coarse map"].volume_shape == (24, 12, 12)
    assert shapes["SimCC, coarse map"].map_side == 12
    assert shapes["I*, depth 12"].volume_shape == (12, 24, 24)
    assert shapes["I*, crop 48"].volume_shape == (24, 24, 24), "another crop, the same map"
    assert case_config("gpu", named("gpu", "H2, fine map"), 0).volume_shape == (32, 64, 64)
    for case in planned_cases("gpu"):
        assert case.axis not in ("map", "depth") or not case.name.startswith("R1")
        assert case.axis != "depth" or not case.name.startswith("SimCC")


def test_a_quarter_of_the_pictures_is_seen_four_times_as_often():
    whole, alone = named("laptop", "R1"), named("laptop", "R1, a quarter alone")
    assert case_config("laptop", alone, 0).epochs == 4 * case_config("laptop", whole, 0).epochs
    assert case_config("laptop", alone, 1, {"epochs": 2}).epochs == 8


def test_another_budget_keeps_its_ratio_and_its_schedules_shape():
    settings = {"epochs": 8, "lr_drops": [4, 8]}
    found = {}
    for name in ("I*", "I*, a quarter of the samples", "I*, three times the samples"):
        cfg = case_config("laptop", named("laptop", name), 0, settings)
        found[name] = (cfg.epochs, cfg.lr_drops)
    assert list(found.values()) == [(8, (4, 8)), (2, (1, 2)), (24, (12, 24))]


def test_the_sweep_tries_three_values_of_what_each_method_has():
    assert compare_plan.sweep_steps("laptop", "R1") == [("learning_rate", (0.002, 0.006, 0.018))]
    assert compare_plan.sweep_steps("laptop", "I1")[1] == ("target_height", (1.0, 4.0, 16.0))
    assert compare_plan.sweep_steps("laptop", "H3")[1] == ("ball_radius", (1.0, 1.5, 2.5))
    assert compare_plan.sweep_steps("smoke", "H2") == [("learning_rate", (0.001, 0.003, 0.009))]


def test_the_sweep_never_sees_the_test_actors():
    case = Case("a try", compare_plan.SWEEP, {"method": "H2"}, budget=1 / 4, held_out=8)
    cfg = case_config("laptop", case, 0)
    assert (cfg.train_subjects, cfg.test_subjects) == ((1, 5, 6, 7), (8,))
    assert cfg.epochs == 1


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
