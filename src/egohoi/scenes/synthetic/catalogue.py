"""From catalogue entries of the furniture libraries to plain nouns, and which of them a hand can hold.

The keys are `library/model file` stems. Models without a line here keep their catalogue name in lower case and only stand
about. `handle` is the end of the model (axis sign and letter, model at rest, z up) that a person holds.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """noun: clean name; hold: may be held or touched; handle: end to hold, or None; verbs: what one does with it."""

    noun: str
    hold: bool = True
    handle: str | None = None
    verbs: tuple[str, ...] = ("hold",)


_POUR, _CUT, _EAT, _READ, _WRITE, _CARRY = ("hold", "pour from"), ("cut with", "hold"), ("eat", "hold"), ("read", "hold"), ("write with", "hold"), ("carry", "hold")

HELD: dict[str, Entry] = {
    "BlendSwap-CC-0/ruler": Entry("ruler"),
    "BlendSwap-CC-0/textMarker": Entry("marker", verbs=_WRITE),
    "BlendSwap-CC-0/kalender": Entry("calendar"),
    "BlendSwap-CC-0/cartoon_biplane": Entry("toy plane"),
    "BlendSwap-CC-0/teddyBear": Entry("teddy bear"),
    "BlendSwap-CC-0/slippers": Entry("slippers"),
    "BlendSwap-CC-0/handbag": Entry("handbag", verbs=_CARRY),
    "BlendSwap-CC-0/bootie": Entry("boot"),
    "BlendSwap-CC-0/woodToy": Entry("toy"),
    "BlendSwap-CC-0/cactus": Entry("cactus"),
    "BlendSwap-CC-0/butter": Entry("butter"),
    "BlendSwap-CC-0/caffe_final": Entry("cup", verbs=("drink from", "hold")),
    "BlendSwap-CC-0/mamadeira": Entry("baby bottle"),
    "BlendSwap-CC-0/plasticCup": Entry("cup", verbs=("drink from", "hold")),
    "BlendSwap-CC-0/tetrapak": Entry("milk carton", verbs=_POUR),
    "BlendSwap-CC-0/yogurtBottle": Entry("bottle", verbs=_POUR),
    "BlendSwap-CC-0/beerGlass": Entry("glass", verbs=("drink from", "hold")),
    "BlendSwap-CC-0/bread": Entry("bread", verbs=("cut", "hold")),
    "BlendSwap-CC-0/cupcake": Entry("cupcake", verbs=_EAT),
    "BlendSwap-CC-0/hotDog": Entry("hot dog", verbs=_EAT),
    "BlendSwap-CC-0/comb": Entry("comb"),
    "BlendSwap-CC-0/cosmeticsPot": Entry("jar", verbs=("open", "hold")),
    "BlendSwap-CC-0/flacon": Entry("perfume bottle"),
    "BlendSwap-CC-0/headphones": Entry("headphones"),
    "BlendSwap-CC-0/iphone": Entry("phone", verbs=("use", "hold")),
    "BlendSwap-CC-0/basketball": Entry("ball"),
    "BlendSwap-CC-0/box": Entry("box", verbs=_CARRY),
    "BlendSwap-CC-0/tennisRacket": Entry("racket", handle="-y"),
    "BlendSwap-CC-0/rock2": Entry("rock", hold=False),
    "BlendSwap-CC-BY/wirelessOfficePhone3": Entry("telephone"),
    "BlendSwap-CC-BY/succulentPlant": Entry("plant"),
    "BlendSwap-CC-BY/book": Entry("book", verbs=_READ),
    "BlendSwap-CC-BY/gift": Entry("gift"),
    "BlendSwap-CC-BY/mobile": Entry("phone", verbs=("use", "hold")),
    "BlendSwap-CC-BY/radio": Entry("radio"),
    "BlendSwap-CC-BY/ballonFoot": Entry("ball"),
    "BlendSwap-CC-BY/sunglasses": Entry("glasses"),
    "BlendSwap-CC-BY/lipStick": Entry("lipstick"),
    "BlendSwap-CC-BY/carrito-de-madera": Entry("toy car"),
    "BlendSwap-CC-BY/clock": Entry("clock"),
    "BlendSwap-CC-BY/rubix2": Entry("cube", verbs=("turn", "hold")),
    "BlendSwap-CC-BY/toyTrain": Entry("toy train"),
    "BlendSwap-CC-BY/beer_bottle": Entry("bottle", verbs=_POUR),
    "BlendSwap-CC-BY/choppingBoard": Entry("cutting board"),
    "BlendSwap-CC-BY/coffee_cup": Entry("cup", verbs=("drink from", "hold")),
    "BlendSwap-CC-BY/glass": Entry("glass", verbs=("drink from", "hold")),
    "BlendSwap-CC-BY/cocktailGlass": Entry("glass", verbs=("drink from", "hold")),
    "BlendSwap-CC-BY/hamburger": Entry("hamburger", verbs=_EAT),
    "BlendSwap-CC-BY/saltShaker": Entry("salt shaker"),
    "BlendSwap-CC-BY/laptop": Entry("laptop", verbs=("use", "hold")),
    "KatorLegaz/spray-bottle": Entry("spray bottle"),
    "KatorLegaz/ashtray": Entry("ashtray"),
    "KatorLegaz/bowl": Entry("bowl"),
    "KatorLegaz/coffee-mug": Entry("mug", verbs=("drink from", "hold")),
    "KatorLegaz/12-oz-glass": Entry("glass", verbs=("drink from", "hold")),
    "KatorLegaz/highball-glass": Entry("glass", verbs=("drink from", "hold")),
    "KatorLegaz/dinner-plate": Entry("plate"),
    "KatorLegaz/bread-plate": Entry("plate"),
    "KatorLegaz/red-wine-bottle-01": Entry("bottle", verbs=_POUR),
    "KatorLegaz/flashlight": Entry("flashlight"),
    "KatorLegaz/tape-measure": Entry("tape measure"),
    "KatorLegaz/newspaper": Entry("newspaper", verbs=_READ),
    "Scopia/bowl": Entry("bowl"),
    "Scopia/pottery": Entry("pot"),
    "Scopia/tray": Entry("tray", verbs=_CARRY),
    "Scopia/wine_bottle": Entry("bottle", verbs=_POUR),
    "Scopia/creamer": Entry("jug", verbs=_POUR),
    "Scopia/cup": Entry("cup", verbs=("drink from", "hold")),
    "Scopia/squeezer": Entry("squeezer"),
    "Scopia/sandwichMaker": Entry("sandwich maker"),
    "Scopia/glasses": Entry("glasses"),
    "Scopia/basic_camera": Entry("camera", verbs=("use", "hold")),
    "Scopia/reflex_camera": Entry("camera", verbs=("use", "hold")),
    "Scopia/tv-remote-control": Entry("remote control", verbs=("use", "hold")),
    "Scopia/ps4-joystick": Entry("game controller", verbs=("use", "hold")),
    "Scopia/cardboard-box": Entry("cardboard box", verbs=_CARRY),
    "Scopia/tablet": Entry("tablet", verbs=("use", "hold")),
    "Scopia/rouleau-de-ruban-adhesif": Entry("tape"),
    "Scopia/tournevis": Entry("screwdriver", handle="-x"),
    "Scopia/billet-10-euros": Entry("banknote"),
    "Scopia/billet-50-euros": Entry("banknote"),
    "Scopia/pencil1": Entry("pencil", verbs=_WRITE),
    "Scopia/pencil2": Entry("pencil", verbs=_WRITE),
    "Scopia/electronicScale": Entry("kitchen scale"),
    "Scopia/toaster": Entry("toaster"),
    "Scopia/doormat": Entry("mat"),
}

_RENAME = {
    "apple imac 2004": "computer", "apple iphone": "phone", "tv 16:9": "television", "tv": "television", "wall flat tv": "television",
    "refrigerator": "fridge", "large fridge": "fridge", "led tv": "television", "dustbin": "bin", "bullet trash can": "bin",
    "residential trashcan": "bin", "park trashcan": "bin", "recycling bin": "bin", "winchester sofa": "sofa", "couch": "sofa",
    "coffee brewer": "coffee machine", "coffee maker": "coffee machine", "kitchen tools": "utensils", "sugar": "sugar bowl",
    "augalas": "plant", "potty": "potty", "washbasin": "sink", "hashtray": "ashtray", "playstation": "game console",
    "cutting pliers": "pliers", "billet 10": "banknote", "text marker": "marker", "perceuse": "drill", "hot dog": "hot dog",
}


def noun(name: str) -> str:
    """A catalogue name as a clean lower-case noun."""
    text = name.lower().replace("\\u20ac", "").strip()
    text = _RENAME.get(text, text)
    text = re.sub(r"[^a-z0-9 '\-]", " ", text)
    text = re.sub(r"\b\d+\S*\b", " ", text)
    return re.sub(r"\s+", " ", text).strip() or "thing"


def share(key: str) -> float:
    """A number in [0, 1) that depends on the text only; splits are made with it."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


def split_models(nouns: dict[str, str]) -> dict[str, str]:
    """Instance -> 'train' or 'test'. About 15 % of each noun's models are test, at least one where a noun has several."""
    groups: dict[str, list[str]] = {}
    for instance, name in nouns.items():
        groups.setdefault(name, []).append(instance)
    result = {}
    for name, members in groups.items():
        members = sorted(members, key=lambda m: share("split:" + m))
        held_out = max(1, round(0.15 * len(members))) if len(members) > 1 else int(share("noun:" + name) < 0.12)
        for k, member in enumerate(members):
            result[member] = "test" if k < held_out else "train"
    return result
