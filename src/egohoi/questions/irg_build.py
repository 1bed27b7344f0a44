"""Ego-IRG data out of scenes with masks: every frame is whole or not there, a stopped build goes on, the same seed gives the same bytes."""

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from egohoi.errors import BadConfig, BadData, BadRecord, EgohoiError
from egohoi.questions import irg, official
from egohoi.questions.build import Source
from egohoi.records import Scene
from egohoi.scenes import irgbench

#: Options of a build, in its folder: going on under other ones would mix two data sets.
SETTINGS = "build.json"
#: What `Recipe.splits` is if the labels themselves say the split (EgoHOS).
DECLARED = "declared"
KINDS = ("scenes", "visor", "egohos", "coco")


@dataclass(frozen=True)
class Recipe:
    """What is built. splits: "train=0.8,val=0.1,test=0.1" (names and shares; all frames of a video come into one split), or DECLARED.

    seed, per_kind, wordings, min_pixels: as in `irg.build`. Raises BadConfig.
    """

    splits: str = "train=0.8,val=0.1,test=0.1"
    seed: int = 0
    per_kind: int = 2
    wordings: int = 3
    min_pixels: int = 16

    def __post_init__(self):
        self.shares()

    def shares(self) -> list[tuple[str, float]]:
        """[(name, share)], empty if the labels say the split."""
        if self.splits == DECLARED:
            return []
        shares = []
        for part in self.splits.split(","):
            name, _, share = part.partition("=")
            try:
                shares.append((name.strip(), float(share)))
            except ValueError as error:
                raise BadConfig(f"--splits: expected NAME=SHARE,... or {DECLARED}, got '{part}'") from error
        names = [n for n, _ in shares]
        usable = all(_usable(n) and 0 <= s < float("inf") for n, s in shares)
        if not usable or sum(s for _, s in shares) <= 0 or len(set(names)) < len(names):
            raise BadConfig(f"--splits: different names without '/' and shares of at least 0, not all 0, got '{self.splits}'")
        return shares

    def split_of(self, scene: Scene) -> str:
        """The split of a scene: declared, or drawn by its video (where none is known by itself). Raises BadData."""
        shares = self.shares()
        if not shares:
            said = scene.extra.get("split")
            if not isinstance(said, str) or not _usable(said):
                raise BadData(f"scene '{scene.id}' declares no split: give shares, such as --splits train=0.8,val=0.1,test=0.1")
            return said
        group = next((str(scene.extra[k]) for k in ("video", "video_uid", "clip_uid") if scene.extra.get(k)), scene.id)
        return random.Random(f"{self.seed}|split|{group}").choices([n for n, _ in shares], [s for _, s in shares])[0]


def _usable(name: str) -> bool:
    return bool(name) and "/" not in name and not name.startswith(".")


def build(
    sources: list[Source], out, recipe: Recipe = Recipe(), *, frames=None, skip_broken: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Build into the folder `out`, in the layout of Ego-IRGBench, and return a report.

    frames: folder below which pictures are looked for (None: as the scenes name them). skip_broken: list broken scenes in the
    report instead of stopping. progress: called with (scenes done, scenes in all). Report: frames (by split), already_there,
    entries (by kind), no_question (scenes that support none), dropped (reason -> count), broken (lines).
    Raises BadData (no input, a picture that is missing or of another size, `out` was built otherwise) and what the readers raise.
    """
    if not sources:
        raise BadData("nothing to build from: name a folder with scenes.jsonl, or --visor, --egohos, --coco")
    out, places = Path(out), None if frames is None else official.Frames(frames)
    total, nouns = _names(sources)
    _settle(out, recipe)
    problems: list[str] = []
    on_error = (lambda error: problems.append(str(error))) if skip_broken else None
    done, counts, dropped = {n: 0 for n, _ in recipe.shares()}, dict.fromkeys(irgbench.KINDS, 0), {}
    seen, kept, empty, number = set(), 0, 0, 0
    for source in sources:
        for scene in scenes(source, on_error=on_error):
            number += 1
            try:
                name = scene.id.replace("/", "_").replace("\\", "_")
                if name in seen:
                    raise BadData(f"{source.path}: a second scene with the id '{scene.id}'")
                seen.add(name)
                split = recipe.split_of(scene)
                done.setdefault(split, 0)
                if (out / "dataset_split" / split / f"{name}.json").is_file():  # written last, so the frame is whole: go on here
                    kept, done[split] = kept + 1, done[split] + 1
                    continue
                built = irg.build(
                    scene, seed=recipe.seed, per_kind=recipe.per_kind, wordings=recipe.wordings, nouns=nouns, min_pixels=recipe.min_pixels
                )
                for reason, count in built.dropped.items():
                    dropped[reason] = dropped.get(reason, 0) + count
                if not built.entries:
                    empty += 1
                    continue
                image, depth = _files(scene, source, places)
                irgbench.write_frame(out, split, name, image, built.index, list(built.entries), depth)
                done[split] += 1
                for entry in built.entries:
                    counts[irgbench.kind_of(sum(v > 0 for v in entry["masks_idx"]))] += 1
            except EgohoiError as error:
                if not skip_broken:
                    raise
                problems.append(str(error))
            finally:
                if progress is not None:
                    progress(number, max(total, number))
    return {"frames": done, "already_there": kept, "entries": counts, "no_question": empty, "dropped": dropped, "broken": problems}


def scenes(source: Source, *, masks: bool = True, on_error=None) -> Iterator[Scene]:
    """Scenes of a source, streaming. masks: whether hands and objects are wanted with them. Raises as the readers."""
    from egohoi.scenes import coco, egohos, jsonl, visor

    if source.kind == "scenes":
        return jsonl.read(source.path, on_error=on_error)
    if source.kind == "egohos":
        return egohos.read(source.path, on_error=on_error, **source.options)
    read = {"visor": visor.read, "coco": coco.read}[source.kind]
    return read(source.path, masks=masks, on_error=on_error, **source.options)


def _names(sources: list[Source]) -> tuple[int, list[str]]:
    """(number of scenes, names to ask for in vain): what is absent in one scene is a name of another."""
    count, nouns = 0, set()
    for source in sources:
        if source.kind == "egohos":  # its objects have no names, and its pictures would all be opened for nothing
            continue
        for scene in scenes(source, masks=False, on_error=lambda error: None):  # reported by the second reading, in order
            count += 1
            nouns.update(o.name.strip().lower() for o in scene.objects if o.name.strip())
    return count, sorted(nouns) if len(nouns) >= 5 else list(irg.NOUNS)


def _files(scene: Scene, source: Source, places) -> tuple[str, str | None]:
    """(picture, depth image or None) of a scene. Raises BadData."""
    named = f"but scene '{scene.id}' of {source.path} names it"
    if places is None:
        if not Path(scene.image).is_file():
            raise BadData(f"{scene.image}: no such picture, {named} (--frames says below which folder pictures lie)")
        image = scene.image
    else:
        found = places.find(scene.image)
        if found is None:
            raise BadData(f"{scene.image}: no such picture below {places.root}, {named}")
        image = str(found)
    if scene.depth and not Path(scene.depth).is_file():
        raise BadData(f"{scene.depth}: no such depth image, {named}")
    return image, scene.depth


def _settle(out: Path, recipe: Recipe) -> None:
    """Keep the options of a build in its folder. Raises BadData if the folder holds another data set."""
    path, wanted = out / SETTINGS, {k: getattr(recipe, k) for k in ("splits", "seed", "per_kind", "wordings", "min_pixels")}
    begun = (out / "dataset_split").exists()  # before the first frame nothing could be mixed
    if begun and path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            changed = [f"{k} {known[k]!r}, now {v!r}" for k, v in wanted.items() if known[k] != v]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadRecord(f"{path}: does not say how {out} was built: remove the folder, or name another one") from error
        if changed:
            raise BadData(f"{out}: was built with {'; '.join(changed)}: give the same options to go on, or name another folder")
        return
    if begun:
        raise BadData(f"{out}: holds a data set that was not built here: name another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise BadData(f"{out}: cannot be written ({error.strerror}): name another folder") from error


__all__ = ["DECLARED", "KINDS", "Recipe", "Source", "build", "scenes"]
