"""Invents scenes: who is there, what they hold and how, where the camera looks, what lies about, how it is lit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from . import backdrop, grasp, objects, people
from .assets import Assets
from .body import FingerPose, PosedArm, pose_arm, two_bones
from .meshes import cross, rigid, rotation, unit
from .scene import Camera, Labelled, Look, Part, SceneDescription
from .things import ObjectModel

SIDES = ("left", "right")


@dataclass(frozen=True, eq=False)
class Holding:
    """A hand in the world and what it holds. matrix [4, 4] places the object; model None: an empty hand."""

    side: str
    wrist: np.ndarray
    frame: np.ndarray
    fingers: FingerPose
    contact: bool
    model: ObjectModel | None = None
    matrix: np.ndarray | None = None
    group: int = 0


@dataclass(frozen=True)
class Stage:
    """place: table, kitchen, ground, wall; height: camera above the supporting plane z = 0; floor: z of the floor;
    edge: y of the near edge of the table; reach: z range of mid-air work."""

    place: str
    height: float
    floor: float
    edge: float
    standing: bool


def random_stage(rng: np.random.Generator) -> Stage:
    """The kind of place and how high the head is above the working plane."""
    kind = rng.choice(["table", "kitchen", "crouch", "standing", "wall"], p=[0.4, 0.17, 0.2, 0.16, 0.07])
    if kind in ("table", "kitchen"):
        height = float(rng.uniform(0.38, 0.72))
        return Stage(str(kind), height, -float(rng.uniform(0.7, 0.95)), float(rng.uniform(-0.02, 0.22)), height > 0.52)
    if kind == "crouch":
        return Stage("ground", float(rng.uniform(0.55, 1.0)), 0.0, -9.0, False)
    return Stage("wall" if kind == "wall" else "ground", float(rng.uniform(1.3, 1.7)), 0.0, -9.0, True)


# ------------------------------------------------------------------------------------------------------------ choosing


class Library:
    """Draws object models of one split: procedural nouns and catalogue models."""

    def __init__(self, assets: Assets, split: str):
        self.assets = assets
        self.split = split
        names = list(objects.NOUNS)
        weights = np.array([objects.NOUNS[n][1] for n in names])
        self.names, self.weights = names, weights / weights.sum()
        self.variants = [v for v in range(objects.VARIANTS) if split == "all" or objects.variant_split(v) == split]
        from .catalogue import HELD

        rows = [r for r in assets.models if split == "all" or r["split"] == split]
        self.held = [r for r in rows if r["instance"] in HELD and HELD[r["instance"]].hold and max(r["size"]) < 0.7]
        self.small = [r for r in rows if max(r["size"]) < 0.5 and r["category"] not in ("Doors and windows",)]
        self.large = [r for r in rows if 0.5 <= max(r["size"]) < 2.6 and r["category"] not in ("Doors and windows", "Staircases")]
        self._built: dict[tuple[str, int], ObjectModel] = {}

    def procedural(self, rng) -> ObjectModel:
        name = self.names[int(rng.choice(len(self.names), p=self.weights))]
        return self.get(name, self.variants[int(rng.integers(len(self.variants)))])

    def get(self, name: str, variant: int) -> ObjectModel:
        if (name, variant) not in self._built:
            self._built[name, variant] = objects.build(name, variant, self.assets.texture)
        return self._built[name, variant]

    def holdable(self, rng) -> ObjectModel:
        """Something for a hand; it has at least one site."""
        for _ in range(6):
            if self.held and rng.random() < 0.2:
                model = self.assets.model(self.held[int(rng.integers(len(self.held)))])
            else:
                model = self.procedural(rng)
            if model.sites:
                return model
        return self.get("mug", self.variants[0])

    def clutter(self, rng) -> ObjectModel:
        if self.small and rng.random() < 0.45:
            return self.assets.model(self.small[int(rng.integers(len(self.small)))])
        return self.procedural(rng)

    def furniture(self, rng) -> ObjectModel | None:
        return self.assets.model(self.large[int(rng.integers(len(self.large)))]) if self.large else None


# ----------------------------------------------------------------------------------------------------------- the hands


@dataclass(frozen=True, eq=False)
class Actor:
    """A person with shoulders and arm shapes, in person coordinates (looking along +y, camera above the origin)."""

    person: people.Person
    shapes: dict
    shoulders: dict[str, np.ndarray]
    skins: dict[str, grasp.HandPoints]


_skin_cache: dict = {}


def make_actor(person, assets: Assets, stage: Stage, rng) -> Actor:
    drop = float(rng.uniform(0.19, 0.29))
    back = float(rng.uniform(-0.02, 0.14))
    shapes = {s: assets.arms[s][person.number] for s in SIDES}
    shoulders = {s: np.array([(-1 if s == "left" else 1) * person.shoulder_width, -back, stage.height - drop]) for s in SIDES}
    skins = {}
    for s in SIDES:
        key = (id(assets), s, person.number)
        if key not in _skin_cache:
            _skin_cache[key] = grasp.hand_points(shapes[s], assets.topology[s])
        skins[s] = _skin_cache[key]
    return Actor(person, shapes, shoulders, skins)


def pole(side: str, rng) -> np.ndarray:
    """Where the elbow points: down, outwards, a little back."""
    return unit([(-1 if side == "left" else 1) * rng.uniform(0.35, 1.1), rng.uniform(-0.5, 0.1), -1.0])


def strain(actor: Actor, side: str, wrist, frame, floor: float) -> float:
    """How unnatural a hand pose is; below 1 is fine."""
    shape, scale = actor.shapes[side], actor.person.scale
    upper, lower = (scale * length for length in shape.lengths)
    out = -1.0 if side == "left" else 1.0
    shoulder = actor.shoulders[side]
    reach = np.linalg.norm(wrist - shoulder)
    _, elbow = two_bones(shoulder, wrist, upper, lower, np.array([out * 0.6, -0.2, -1.0]))
    fore = unit(wrist - elbow)
    bend = np.arccos(np.clip(frame[:, 0] @ fore, -1, 1))
    cost = max(0.0, (bend - 0.85) * 2.2) + max(0.0, bend - 0.5) * 0.5
    cost += max(0.0, reach / (upper + lower) - 0.97) * 6 + max(0.0, 0.42 - reach / (upper + lower)) * 5
    u = frame[:, 1]
    # Turning the thumb down or far outwards is hard; thumb in (palm down) to thumb up and half out is easy.
    side_axis = unit(cross(fore, [0, 0, 1.0])) * out  # outwards
    thumb_out, thumb_up = u @ side_axis, u @ unit(cross(side_axis * out, fore))
    angle = np.arctan2(thumb_up, -thumb_out)  # 0: thumb inwards (palm down), 90 degrees: up, 180: outwards (palm up)
    cost += max(0.0, -angle - 0.5) * 1.6 + max(0.0, angle - 2.5) * 1.6
    tips = wrist + frame[:, 0] * 0.12
    lowest = min(wrist[2] - 0.02, tips[2])
    cost += max(0.0, floor - lowest) * 8 + max(0.0, 0.10 - wrist[1]) * 4
    if side == "left":
        cost += max(0.0, wrist[0] - 0.22) * 4
    else:
        cost += max(0.0, -wrist[0] - 0.22) * 4
    return float(cost)


def spot(stage: Stage, side: str | None, rng) -> np.ndarray:
    """Where something held is: person coordinates."""
    x = rng.normal() * 0.09 + {"left": -0.13, "right": 0.13, None: 0.0}[side]
    y = rng.uniform(0.24, 0.5)
    near_plane = stage.height - 0.22 < 0.75
    if stage.place in ("table", "kitchen") or near_plane:
        y = max(y, stage.edge + 0.06) if stage.edge > -1 else y
        z = 0.0 if rng.random() < 0.35 else rng.uniform(0.0, 0.22)
    else:
        z = stage.height - rng.uniform(0.25, 0.68)
    return np.array([x, y, z])


def orientation(model: ObjectModel, stage: Stage, lifted: bool, two: bool, rng) -> np.ndarray:
    """A likely rotation [3, 3] of a held object."""
    if model.pose == "upright":
        yaw = rng.normal() * 0.35 if two else rng.uniform(-np.pi, np.pi)
        tilt = rng.normal() * (0.12 if lifted else 0.0)
        if lifted and not two and rng.random() < 0.2:
            tilt = rng.uniform(0.5, 1.6)
        return rotation((0, 0, 1), rng.uniform(-np.pi, np.pi)) @ rotation((1, 0, 0), tilt) @ rotation((0, 0, 1), rng.uniform(-np.pi, np.pi)) if not two else rotation((1, 0, 0), tilt) @ rotation((0, 0, 1), yaw)
    if model.pose == "flat":
        yaw = rng.normal() * 0.35 + (np.pi if rng.random() < 0.15 else 0) if two else rng.uniform(-np.pi, np.pi)
        tilt = 0.0
        if lifted:
            tilt = rng.uniform(0.1, 1.1) if rng.random() < 0.6 else rng.normal() * 0.3
        return rotation((1, 0, 0), tilt) @ rotation((0, 1, 0), rng.normal() * (0.12 if lifted else 0)) @ rotation((0, 0, 1), yaw)
    if two:
        return rotation((0, 0, 1), rng.normal() * 0.7) @ rotation((0, 1, 0), rng.normal() * 0.45) @ rotation((1, 0, 0), rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else 0)
    return rotation((0, 0, 1), rng.uniform(-np.pi, np.pi)) @ rotation((0, 1, 0), rng.normal() * 0.5) @ rotation((1, 0, 0), rng.uniform(-np.pi, np.pi))


def hold(actor: Actor, model: ObjectModel, sides: tuple[str, ...], stage: Stage, rng, tries: int = 26) -> list[Holding] | None:
    """One or two hands on an object, as natural as chance finds; None if nothing acceptable is found."""
    best, best_cost = None, 1.15
    two = len(sides) == 2
    if two and not model.pairs:
        return None
    for _ in range(tries):
        target = spot(stage, None if two else sides[0], rng)
        lifted = target[2] > 0.001
        turn = orientation(model, stage, lifted, two, rng)
        if two:
            numbers = model.pairs[int(rng.integers(len(model.pairs)))]
            if model.pose == "any" and rng.random() < 0.5:
                numbers = numbers[::-1]
        else:
            numbers = (min(int(rng.exponential(0.9)), len(model.sites) - 1),)
        anchor = np.mean([model.sites[n].origin for n in numbers], 0)
        offset = target - turn @ anchor
        low = (model.points @ turn.T)[:, 2].min() + offset[2]
        if not lifted or low < 0:
            offset = offset - [0, 0, low - 0.001] if not (lifted and low >= 0) else offset
        poses, cost = [], 0.0
        for side, number in zip(sides, numbers, strict=True):
            wrist, frame, start = grasp.place(model.sites[number], model, actor.shapes[side], side, rng)
            # A scaled arm keeps its wrist; the hand grows about it.
            world_wrist, world_frame = turn @ wrist + offset, turn @ frame
            cost += strain(actor, side, world_wrist, world_frame, 0.012)
            poses.append((side, number, wrist, frame, start, world_wrist, world_frame))
            if cost > best_cost:
                break
        if cost < best_cost and len(poses) == len(sides):
            best, best_cost = (turn, offset, poses), cost
            if cost < 0.25:
                break
    if best is None:
        return None
    turn, offset, poses = best
    result = []
    for side, number, wrist, frame, start, world_wrist, world_frame in poses:
        grip = grasp.close(model, wrist, frame, start, actor.shapes[side], actor.skins[side], model.sites[number].kind, rng)
        if not grip.contact:
            return None  # a thing that hangs in the air beside a hand is seen nowhere
        result.append(Holding(side, world_wrist, world_frame, grip.fingers, True, model, rigid(turn, offset)))
    return result


def free_hand(actor: Actor, side: str, stage: Stage, rng) -> Holding:
    """An empty hand in a natural pose above the plane."""
    out = -1.0 if side == "left" else 1.0
    best, best_cost = None, np.inf
    for _ in range(14):
        wrist = spot(stage, side, rng) + [out * 0.05, -0.08, 0.06]
        wrist[2] = max(wrist[2], 0.05)
        fore = unit([-out * rng.uniform(-0.1, 0.9), 1.0, rng.uniform(-0.8, 0.4)])
        roll = rng.uniform(-0.3, 2.2)  # 0 palm down, 90 degrees thumb up
        inward = unit(cross([0, 0, 1.0], fore)) * (-1.0 if side == "left" else 1.0)
        up = cross(unit(cross(fore, [0, 0, 1.0])), fore)
        thumb = inward * np.cos(roll) + up * np.sin(roll)
        frame = grasp._frame_from_normal(fore, cross(fore, thumb) if side == "left" else cross(thumb, fore), side)
        cost = strain(actor, side, wrist, frame, 0.04)
        if cost < best_cost:
            best, best_cost = (wrist, frame), cost
        if cost < 0.3:
            break
    return Holding(side, *best, grasp.relaxed(rng), False)


def arms_of(actor: Actor, holdings: list[Holding], assets: Assets, poles: dict) -> list[PosedArm]:
    return [pose_arm(actor.shapes[h.side], assets.topology[h.side], h.fingers, h.wrist, h.frame, actor.shoulders[h.side], poles[h.side],
                     actor.person.scale) for h in holdings]


def lift_clear(holdings: list[Holding], arms: list[PosedArm], assets: Assets) -> float:
    """How far everything must rise so that nothing sinks into the supporting plane."""
    lowest = np.inf
    for h, arm in zip(holdings, arms, strict=True):
        lowest = min(lowest, float(arm.vertices[assets.topology[h.side].along < 0.3, 2].min()))
        if h.model is not None:
            points = h.model.points @ h.matrix[:3, :3].T + h.matrix[:3, 3]
            lowest = min(lowest, float(points[:, 2].min()))
    return max(0.0, 0.002 - lowest)


def perform(actor: Actor, library: Library, stage: Stage, rng, empty: float = 0.14) -> list[Holding]:
    """What both hands (or one) do."""
    kind = rng.random()
    if kind < 0.34:
        for _ in range(4):
            model = library.holdable(rng)
            held = hold(actor, model, SIDES, stage, rng)
            if held:
                return held
    sides = SIDES if kind < 0.8 else (str(rng.choice(["left", "right"], p=[0.38, 0.62])),)
    result: list[Holding] = []
    for side in sides:
        chosen = None
        if rng.random() > empty:
            for _ in range(4):
                found = hold(actor, library.holdable(rng), (side,), stage, rng)
                if found and not _collide(found[0], result):
                    chosen = found[0]
                    break
        if chosen is None:
            for _ in range(4):
                chosen = free_hand(actor, side, stage, rng)
                if not _collide(chosen, result):
                    break
        result.append(replace(chosen, group=len(result)))
    return result


def _cloud(h: Holding) -> np.ndarray:
    hand = h.wrist + np.array([0.02, 0.06, 0.1, 0.14])[:, None] * h.frame[:, 0]
    if h.model is None:
        return hand
    return np.concatenate([hand, (h.model.points[::4] @ h.matrix[:3, :3].T) + h.matrix[:3, 3]])


def _collide(new: Holding, others: list[Holding]) -> bool:
    if not others:
        return False
    cloud = np.concatenate([_cloud(o) for o in others])
    return bool(cKDTree(cloud).query(_cloud(new))[0].min() < 0.03)


# ------------------------------------------------------------------------------------------------------------- the scene


def compose(assets: Assets, library: Library, rng: np.random.Generator, size: tuple[int, int] | None = None) -> SceneDescription:
    """One random scene. The same generator state gives the same scene."""
    stage = random_stage(rng)
    parts: list[Part] = []
    things: list[Labelled] = []
    next_label = iter(range(1, 250))
    person = people.random_person(rng, assets)
    actor = make_actor(person, assets, stage, rng)
    holdings = [] if rng.random() < 0.10 else perform(actor, library, stage, rng)
    obstacles = []
    action = None
    if holdings:
        poles = {s: pole(s, rng) for s in SIDES}
        arms = arms_of(actor, holdings, assets, poles)
        rise = lift_clear(holdings, arms, assets)
        if rise > 0:
            up = np.array([0, 0, rise])
            holdings = [replace(h, wrist=h.wrist + up, matrix=None if h.matrix is None else rigid(h.matrix[:3, :3], h.matrix[:3, 3] + up)) for h in holdings]
            arms = arms_of(actor, holdings, assets, poles)
        action = add_hands(parts, things, next_label, holdings, arms, actor, assets, rng, obstacles, np.eye(4), other=False)
    focus = np.mean([h.wrist + h.frame[:, 0] * 0.08 for h in holdings], 0) if holdings else np.array([rng.normal() * 0.2, rng.uniform(0.3, 1.2), rng.uniform(0, 0.3)])

    if rng.random() < 0.11:
        add_other_person(parts, things, next_label, assets, library, stage, rng, obstacles)

    camera = random_camera(stage, focus, bool(holdings), rng, size)
    if rng.random() < 0.75:
        lean = float(rng.uniform(0.0, 0.6))
        neck = np.mean([actor.shoulders[s] for s in SIDES], 0) + [0, 0, -0.01]
        hip, knee = (0.0, 0.05) if stage.standing else (1.45, 1.45) if stage.place in ("table", "kitchen") else (2.0, 2.3)
        body = people.torso_parts(person, assets, rng, neck, lean, hip + lean, knee, False)
        parts += body
        obstacles += [p.mesh.vertices[::25] for p in body]
    backdrop.furnish(parts, things, next_label, assets, library, stage, camera, obstacles, focus, rng)
    light = backdrop.random_light(stage, focus, rng)
    verb, noun, narration = action or ("", "", "")
    return SceneDescription(tuple(parts), tuple(things), camera, light, random_look(rng), action=f"{verb} {noun}".strip(), narration=narration,
                            verb=verb, noun=noun, place=stage.place)


def add_hands(parts, things, labels, holdings, arms, actor, assets, rng, obstacles, matrix, other: bool):
    """Adds arms, hands and held objects; returns (verb, noun, narration) of the main action or None."""
    placed: dict[int, int] = {}
    by_model: dict[int, list[Holding]] = {}
    for h in holdings:
        if h.model is not None:
            by_model.setdefault(hash(h.matrix.tobytes()), []).append(h)
    for key, users in by_model.items():
        label = next(labels)
        placed[key] = label
        model = users[0].model
        sides = tuple("other" if other else u.side for u in users if u.contact)
        things.append(Labelled(label, "object", model.name, model.instance, hands=tuple(dict.fromkeys(sides))))
        world = matrix @ users[0].matrix
        parts += [Part(mesh, material, world, label, True) for mesh, material in model.parts]
        obstacles.append(model.points[::6] @ world[:3, :3].T + world[:3, 3])
    action = None
    for h, arm in zip(holdings, arms, strict=True):
        label = next(labels)
        key = hash(h.matrix.tobytes()) if h.matrix is not None else None
        target = placed.get(key, 0) if h.contact else 0
        side = "other" if other else h.side
        things.append(Labelled(label, "hand", "hand", "", side, h.contact, target, actor.person.gloves[h.side] is not None))
        shape, topology = actor.shapes[h.side], assets.topology[h.side]
        colours = _colours(assets, actor.person, h.side, shape, topology)
        made = people.arm_parts(actor.person, h.side, shape, topology, arm, label, rng, colours)
        if not np.array_equal(matrix, np.eye(4)):
            made = [replace(p, matrix=matrix @ p.matrix) for p in made]
        parts += made
        obstacles.append(arm.vertices[::12] @ matrix[:3, :3].T + matrix[:3, 3])
        if h.model is not None and h.contact and not other:
            users = [u for u in by_model[key] if u.contact]
            which = "both hands" if len(users) > 1 else f"the {h.side} hand"
            verb = str(h.model.verbs[int(rng.integers(len(h.model.verbs)))])
            if action is None or h.side == "right":
                action = verb, h.model.name, f"The person holds the {h.model.name} in {which}."
    return action


def _colours(assets, person, side, shape, topology) -> np.ndarray:
    seed = np.random.default_rng(int(person.tone.sum() * 1e6) % 2**31)
    return people.skin_colours(shape, topology, person.tone, seed)


def add_other_person(parts, things, labels, assets, library, stage, rng, obstacles) -> None:
    """Somebody opposite or beside, with their own hands; labelled `other`."""
    person = people.random_person(rng, assets)
    height = stage.height + float(rng.uniform(-0.15, 0.25))
    there = replace(stage, height=max(height, 0.45), edge=-9.0)
    actor = make_actor(person, assets, there, rng)
    holdings = perform(actor, library, there, rng, empty=0.45)
    angle = rng.normal() * 0.7
    distance = float(rng.uniform(0.75, 1.9))
    turn = rotation((0, 0, 1), np.pi - angle)
    matrix = rigid(turn, (np.sin(angle) * distance, np.cos(angle) * distance, 0))
    poles = {s: pole(s, rng) for s in SIDES}
    arms = arms_of(actor, holdings, assets, poles)
    # Their hands must not run into the wearer's things.
    if obstacles:
        tree = cKDTree(np.concatenate(obstacles))
        for h in holdings:
            cloud = _cloud(h) @ turn.T + matrix[:3, 3]
            if tree.query(cloud)[0].min() < 0.04:
                return
    add_hands(parts, things, labels, holdings, arms, actor, assets, rng, obstacles, matrix, other=True)
    neck = np.mean([actor.shoulders[s] for s in SIDES], 0)
    body = people.torso_parts(person, assets, rng, turn @ neck + matrix[:3, 3], float(rng.uniform(0, 0.3)), 0.0 if stage.standing else 1.4,
                              0.0 if stage.standing else 1.4, True, turn)
    parts += body
    obstacles += [p.mesh.vertices[::40] for p in body]


ASPECTS = ((4, 3), (16, 9), (1, 1), (3, 2))


def random_camera(stage: Stage, focus, hands: bool, rng, size) -> Camera:
    """A head-mounted camera that looks near the hands."""
    if size is None:
        long = int(rng.integers(352, 449))
        w, h = ASPECTS[int(rng.choice(4, p=[0.5, 0.36, 0.07, 0.07]))]
        size = (long // 8 * 8, max(8, round(long * h / w / 8) * 8))
    position = np.array([rng.normal() * 0.03, rng.uniform(-0.02, 0.1), stage.height])
    wide = rng.random()
    angle = np.radians(rng.uniform(58, 80) if wide < 0.25 else rng.uniform(78, 105) if wide < 0.75 else rng.uniform(100, 125))
    bend = 0.98 if wide < 0.3 else float(rng.uniform(0.35, 0.95))
    if hands:
        target = focus + [rng.normal() * 0.12, rng.normal() * 0.08 + 0.05, rng.normal() * 0.08 + 0.04]
    else:
        target = focus + [rng.normal() * 0.4, rng.uniform(0, 1.5), rng.normal() * 0.4]
    back = unit(position - target)
    right = unit(cross([0, 0, 1.0], back) + 1e-6 * np.array([1.0, 0, 0]))
    roll = rng.normal() * 0.1
    axes = np.stack([right, cross(back, right), back])
    axes = rotation((0, 0, 1), roll) @ axes
    return Camera(position, axes, float(np.tan(angle / 2)), bend, size)


def random_look(rng) -> Look:
    """Camera faults: exposure, colour, blur, noise, compression."""
    def motion(chance, strength):
        if rng.random() > chance:
            return (0.0, 0.0)
        length, angle = rng.exponential(strength), rng.uniform(0, np.pi)
        return (float(min(length, 12) * np.cos(angle)), float(min(length, 12) * np.sin(angle)))

    white = np.exp(np.array([1, 0, -1]) * rng.normal() * 0.12 + rng.normal(size=3) * 0.03)
    return Look(exposure=float(np.exp(rng.normal() * 0.28)), white=tuple((white / white.mean()).tolist()), contrast=float(rng.uniform(0.8, 1.3)),
                saturation=float(rng.uniform(0.55, 1.3)), vignette=float(rng.choice([0, rng.uniform(0, 0.5)])), noise=float(rng.exponential(0.012)),
                blur=float(rng.choice([0, rng.uniform(0.3, 1.3)], p=[0.55, 0.45])), motion=motion(0.3, 2.5), hand_motion=motion(0.3, 4.0),
                quality=int(rng.integers(55, 96)), seed=int(rng.integers(2**31)), sharpen=float(rng.choice([0, rng.uniform(0, 0.8)])))
