"""What the choreography hands to the renderer: one actor's motion over time, and the things around it."""

from dataclasses import dataclass, field

import numpy as np

# The body parts whose orientation the joints alone do not tell.
FRAME_NAMES = ("pelvis", "chest", "head", "r_hand", "l_hand", "r_foot", "l_foot")


@dataclass(frozen=True)
class Actor:
    """Proportions of one actor; left and right share each length.

    Attributes:
        subject: Human3.6M subject number.
        bone_mm: length of the bone that ends in each joint, mm, by side-free joint name: Hip (pelvis to hip), Knee,
            Ankle, Torso, Neck, Nose, Head, Shoulder (neck to shoulder), Elbow, Wrist.
        hand_mm: wrist to the tip of the fingers, mm.
        foot_mm: (ankle height over the sole, ankle to tip of the toes, ankle to back of the heel), mm, along the floor
            for the last two.
        girth: thickness of limbs and trunk against an average build, about 0.85 to 1.25.
    """

    subject: int
    bone_mm: dict
    hand_mm: float
    foot_mm: tuple
    girth: float


@dataclass(frozen=True)
class Prop:
    """A thing in the room: furniture, or something carried or led.

    Attributes:
        kind: "chair", "stool", "table", "phone", "cigarette", "camera", "bag", "cup", "plate", "dog", "leash", ...
        origin_world: (n, 3) mm. Furniture: middle of its footprint on the floor. Carried things: the middle of the grip.
            Dog: the point on the floor below its chest. Leash: its end in the hand.
        rotation_world: (n, 3, 3); columns are the prop's own x (right), y (forward) and z (up) axes in the world.
        size_mm: (width x, depth y, height z), mm. A chair's height is that of its seat.
        extra: further arrays by name, (n, ...), e.g. the dog's gait "phase" (n,) in turns, a leash's far "end" (n, 3).
    """

    kind: str
    origin_world: np.ndarray
    rotation_world: np.ndarray
    size_mm: tuple
    extra: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Performance:
    """One take of one actor at 50 Hz.

    World axes: z up, floor at z = 0, room |x| <= 2000 mm, |y| <= 2500 mm.

    Attributes:
        actor: whose take it is.
        joints_world: (n, 17, 3) float64, mm, Human3.6M order; bone lengths are the actor's, constant.
        frames_world: by each of FRAME_NAMES, (n, 3, 3) rotation; columns are the part's x (to the actor's right), y (forward) and
            z (up) axes in the world, as they lie when the actor stands upright, arms hanging, palms towards the thighs.
            A hand's -z axis runs from wrist to fingertips; its palm looks along -x (right hand) or +x (left hand).
            A foot's y axis runs from heel to toes.
        props: things around the actor.
        companion: another actor's Performance in the same take (walking together), or None. It is not labelled.
    """

    actor: Actor
    joints_world: np.ndarray
    frames_world: dict
    props: tuple = ()
    companion: "Performance | None" = None
