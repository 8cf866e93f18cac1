"""The choreography of the built-in capture: fifteen actions, seven actors, two takes each."""

from ..acting.performance import Performance
from ..acting.staging import cut, make_scene
from . import handling as actions_handling
from . import seated as actions_seated
from . import standing as actions_standing
from . import walking as actions_walking

# By action number: what take 1 and take 2 play.
_PLAYS = {
    2: (actions_standing.directions, actions_standing.directions),
    3: (actions_standing.discussion, actions_standing.discussion),
    4: (actions_handling.eating, actions_seated.eating_at_table),
    5: (actions_standing.greeting, actions_standing.greeting),
    6: (actions_handling.phoning, actions_handling.phoning),
    7: (actions_standing.posing, actions_standing.posing),
    8: (actions_handling.purchases, actions_handling.purchases),
    9: (actions_seated.sitting, actions_seated.sitting),
    10: (actions_seated.sitting_down, actions_seated.sitting_down),
    11: (actions_handling.smoking, actions_seated.smoking_on_stool),
    12: (actions_handling.photo, actions_handling.photo),
    13: (actions_standing.waiting, actions_standing.waiting),
    14: (actions_walking.walking, actions_walking.walking),
    15: (actions_walking.walk_dog, actions_walking.walk_dog),
    16: (actions_walking.walk_together, actions_walking.walk_together),
}


def perform(subject: int, action: int, take: int, n_frames: int, seed: int = 0) -> Performance:
    """One take, the same for the same numbers; a longer take begins like a shorter one.

    Args:
        subject: Human3.6M subject number, a key of `actors.ACTORS`.
        action: action number, 2 (Directions) to 16 (WalkTogether).
        take: 1 or 2.
        n_frames: length at 50 Hz, at least 1.
        seed: of the whole capture.
    Returns:
        Performance of n_frames frames.
    """
    scene = make_scene(subject, action, take, n_frames, seed)
    return cut(_PLAYS[action][take - 1](scene, take), n_frames)
