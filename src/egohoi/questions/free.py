"""Freely worded questions about a Scene, with answers that point at its hands and objects: what the embedded model learns from.

An answer is a list of segments: plain text, `("box", k)` where the box of thing k is to be written, `("ref", k)` where
thing k is meant without writing it, `("name", k)` its name and `("a", k)` its name with the indefinite article. Things are
numbered hands first, then objects, as in the scene.
"""

import random
import re
from dataclasses import dataclass

from egohoi.records import Scene

Segment = str | tuple[str, int]

#: Words that people use for the nouns of the synthetic scenes; the answer keeps the scene's own noun.
SYNONYMS = {
    "mug": ("cup", "coffee mug", "coffee cup"), "cup": ("mug", "coffee cup"), "phone": ("mobile phone", "smartphone", "cell phone", "mobile"),
    "remote control": ("remote", "tv remote"), "knife": ("kitchen knife", "blade"), "glass": ("drinking glass", "tumbler"),
    "bottle": ("flask", "wine bottle"), "bin": ("trash can", "dustbin", "rubbish bin"), "sofa": ("couch",), "television": ("tv", "screen"),
    "fridge": ("refrigerator",), "plank": ("board", "piece of wood", "wooden plank"), "box": ("carton", "package"), "cloth": ("rag", "towel", "fabric"),
    "pot": ("saucepan", "cooking pot"), "pan": ("frying pan", "skillet"), "stick": ("rod", "branch"), "ball": ("sphere",),
    "glasses": ("spectacles", "sunglasses"), "tape": ("sticky tape", "roll of tape"), "pencil": ("pen",), "marker": ("felt pen", "pen"),
    "flashlight": ("torch",), "spray bottle": ("sprayer",), "laptop": ("notebook", "computer"), "paper": ("sheet of paper", "sheet"),
    "rope": ("cord", "string"), "bag": ("sack", "pouch"), "hammer": ("mallet",), "screwdriver": ("driver",), "book": ("volume",),
    "bowl": ("dish",), "plate": ("dish",), "brush": ("paintbrush",), "brick": ("block",), "jug": ("pitcher",), "tray": ("platter",),
}  # fmt: skip
#: Nouns that the synthetic scenes never show, for questions whose answer is "not there".
NEVER = (
    "garlic", "elephant", "guitar", "umbrella", "chicken", "bicycle", "dog", "cat", "onion", "lawn mower", "piano", "needle", "shovel", "ladder", "spatula",
    "broom", "wrench", "saw", "carrot", "tomato", "horse", "car", "violin", "tongs", "kettle", "whisk", "colander", "pizza", "stapler gun", "key",
)  # fmt: skip

_WHERE = (
    "where is {x}", "where's {x}", "where is {x} in (this|the) (picture|photo|image)", "(locate|find|show me|point to|point at|mark|detect|box|spot) {x}",
    "(please |)(find|locate|show|point out|indicate) {x}( in the (picture|image|photo)|)( for me|)", "(can you |could you |)(find|show me|point to|locate) {x}",
    "give (me |)the (box|bounding box|location|position|coordinates) of {x}", "show me the box of {x}", "{x}", "in which (place|part of the image) is {x}",
    "draw a box around {x}", "i (want|need) to (see|find|know) where {x} is", "tell me where {x} is", "which region shows {x}", "[refer] where is {x}",
)
_SEGMENT = (
    "(segment|mask|outline|cut out|highlight|ground) {x}", "(give|show) me (the|a) (mask|segmentation|outline|silhouette|pixels) of {x}",
    "mask of {x}", "segmentation (mask |)of {x}", "which pixels (belong to|are|show) {x}", "(please |)segment {x}( in this photo| in the picture|)",
    "(produce|create|return) a (pixel |segmentation |)mask (for|of) {x}", "pixel mask (for|of) {x}", "(can you |)segment {x}", "colour the pixels of {x}",
)
_HAND = ("(my|the) {s} hand", "(my|the) {s} hand", "the {s} hand of the (person|wearer|camera wearer|user)", "my own {s} hand", "{s} hand", "the person's {s} hand", "the (hand|palm) on my {s} arm")
_HANDS = ("(my|the|both|both my|my two|the two) hands", "hands", "the hands of the (person|wearer)", "all( the|) hands", "my left and( my|) right hand", "every hand", "each hand")
_THING = ("object", "thing", "item", "object", "tool", "stuff")
_DOING = ("holding", "holding", "touching", "gripping", "grasping", "carrying", "using", "manipulating", "handling", "grabbing", "clutching")
_HELD = (
    "the {t} in {h}", "the {t} (that |which |){h} is {d}", "what {h} is {d}", "what is in {h}", "the {t} being {e} by {h}", "the {t} {e} by {h}",
    "whatever is in {h}", "what {h} holds", "the {t} {h} (holds|touches|grips|has)", "the {t} inside {h}", "what i have in my {s} hand", "what i am {d} (with|in) my {s} hand",
    "what i'm {d} in my {s} hand", "the {t} i am {d} with {h}", "the {t} i have in {h}",
)
_DONE = ("manipulated", "held", "touched", "gripped", "grasped", "used", "carried", "handled")
_ANY = (
    "the {t} (that |)i'm {d}", "the {t} (that |)i am {d}", "what i am {d}", "what i'm {d}", "the {t} in my hands", "the {t} in my hand", "everything i( am|'m) {d}",
    "the {t}s (that |)i( am|'m) {d}", "whatever i( am|'m) {d}", "what is in my hands", "the active object", "the active objects", "the {t} the person is {d}",
    "what the person is {d}", "the {t} being {e}", "the {e} {t}", "the {t} that is being {e}", "all the {t}s (being |){e}",
)
_WHAT_SIDE = (
    "what am i {d} (in|with) my {s} hand", "what is( the object|) in {h}", "what('s| is) in {h}", "what is {h} {d}", "which object is in {h}", "what object is in {h}",
    "name the (thing|object|item) in {h}", "what does {h} (hold|touch|have)", "what do i have in my {s} hand", "tell me what {h} is {d}", "what kind of (object|thing) is in {h}",
    "what('s| is) the (thing|object|item) (in|held by|touched by) {h}", "which (thing|item|object) (is {h} {d}|do i hold in my {s} hand)", "what did i (take|grab|pick up) with my {s} hand",
    "[vqa] what is the object in {h}", "identify the object in {h}", "what is the person {d} (in|with) their {s} hand",
)
_WHAT_ANY = (
    "what am i {d}", "what('s| is) in my (hands|hand)", "what do i (hold|have in my hands|touch)", "what (object|thing|item)s? am i {d}", "what is the thing (that |)i( am|'m) {d}",
    "name what i( am|'m) {d}", "what is the person {d}", "which (things|objects|object) (am i|is the person) {d}", "tell me what i( am|'m) {d}", "what have i got in my hands", "what are my hands {d}",
)
_WHICH = (
    "which hand (has|holds|is holding|is touching|touches|is using|carries) (the|a|my) {n}", "what hand is (holding|touching|using) the {n}", "in which hand is (the|my) {n}",
    "which hand is the {n} in", "who holds the {n}", "with which hand (do|am) i (hold|holding|touch) the {n}", "do i hold the {n} with (the left or the right|which) hand",
    "is the {n} in my left or( my|) right hand", "which of my hands has the {n}", "[vqa] what hand is holding the {n}", "[refer] which hand has the {n}",
)
_TOUCH_SIDE = (
    "is {h} (touching|holding|gripping|using) (anything|something|an object)", "is {h} holding or touching (something|an object|anything)", "is {h} (empty|free)", "does {h} (touch|hold|have) (anything|something|an object)",
    "(is there|do i have) (something|anything|an object) in (my|the) {s} hand", "am i (holding|touching) (something|anything) (with|in) my {s} hand", "is {h} in contact with (something|anything|an object)",
)
_TOUCH_ANY = (
    "am i (touching|holding|gripping|using|carrying) (anything|something|an object)", "are my hands (empty|free)", "do i (hold|touch|have) (anything|something)( in my hands|)", "is (there|) (something|anything) in my hands",
    "is the person (holding|touching) (anything|something)", "do my hands (touch|hold) (anything|something)",
)
_HOLD_NOUN = ("am i (holding|touching|using|carrying) (a|the) {n}", "do i (have|hold) (a|the) {n}( in my hands| in my hand|)", "is there a {n} in my (hands|hand)", "is the person holding (a|the) {n}")
_SEE_NOUN = ("is there (a|any) {n}( here| in the picture| on the table|)", "do you see (a|the) {n}", "can you see (a|the) {n}", "does the (picture|image|photo) show a {n}")
_SEE_HAND = ("(is|do you see|can you see) {h}( visible| in the picture|)", "is {h} (visible|shown|there|in view)", "do you see {h}")
_BOTH = ("{x} and {y}", "{x} and {y}", "both {x} and {y}", "{x}, {y}", "{x} as well as {y}", "{x} together with {y}")
_WITH = (
    "(my|the) {s} hand and (what it (holds|touches|is {d})|the {t} (in it|it holds|it is {d}|that it holds))", "(my|the) {s} hand (with|and) (its|the held) {t}",
    "(my|the) {s} hand together with (what|the {t}) it (holds|touches|is {d})",
)
_OTHER = ("the other person's hand", "another person's hand", "someone else's hand", "the hand of the other person", "the hand of (somebody|someone) else", "hands of other people")
_SEE_OTHER = ("is (anyone|anybody|somebody|someone) else('s hand|) (in the picture|here|visible)", "is there another person", "do you see another person's hand")
_ANALYZE = (
    "what is happening( here| in the (picture|photo|image)|)", "describe (the (picture|image|scene|interaction|action|hands)|what you see|this|what is going on)", "what am i doing( now| here|)", "what('s| is) going on( here|)",
    "what is the person doing", "explain (the|this) (scene|picture|interaction)", "describe the ongoing action in this image", "what are my hands doing", "what are the hands doing", "what do you see",
    "(give|write) (me |)(a|an) (description|caption|analysis)( of the interaction| of the picture|)", "caption( this| the image|)", "analyse the (hand-object |)interaction", "summarize the scene", "what do my hands do", "what is happening in the photo",
)
_IDENTIFY = (
    "what is this", "", "", "what is in (this|the) box", "name this", "what (is|do you see) here", "which (object|thing|hand) is this", "identify (this|the object|the thing in the box)", "what('s| is) at this (place|position|location)",
    "what is inside the (box|region|rectangle)", "what did i (mark|click|select)", "who or what is this", "what is it", "what am i pointing at", "[identify]", "is this a left or a right hand", "what object is this",
)
_HOWMANY = ("how many hands (are there|do you see|are visible)( in the picture|)", "count the hands")


@dataclass(frozen=True)
class FreeQuestion:
    """question: lower-case text, `<box>` where the query's box stands. task: see records.TASKS. found: whether there is a target.
    answer: segments. box: the thing whose box the question names, or None."""

    question: str
    task: str
    found: bool
    answer: tuple[Segment, ...]
    box: int | None = None


def expand(template: str, rng: random.Random, **values: str) -> str:
    """One wording: `(a|b|)` becomes one of its alternatives, `{x}` its value; spaces are tidied."""
    for _ in range(4):
        for key, value in values.items():
            template = template.replace("{" + key + "}", value)
        while True:
            match = re.search(r"\(([^()]*\|[^()]*)\)", template)
            if match is None:
                break
            template = template[: match.start()] + rng.choice(match.group(1).split("|")) + template[match.end() :]
    template = re.sub(r"s\?(?=\s|$)", lambda _: rng.choice(("s", "")), template)
    return re.sub(r"\s+", " ", template).strip()


def article(noun: str) -> str:
    """The noun with its indefinite article; plurals stay bare."""
    if noun.endswith("s") and not noun.endswith("ss"):
        return noun
    return ("an " if noun[:1] in "aeiou" else "a ") + noun


class FreeQuestions:
    """All kinds of questions about one scene. `draw` picks one kind at random by `rng`, and a wording of it."""

    def __init__(self, scene: Scene, nouns: list[str], rng: random.Random):
        self.scene, self.nouns, self.rng = scene, nouns, rng
        self.count = len(scene.hands)
        self.own = {side: [k for k, h in enumerate(scene.hands) if h.side == side] for side in ("left", "right", "other")}
        self.held = {side: [self.count + k for k, o in enumerate(scene.objects) if side in o.hands] for side in ("left", "right", "other")}

    def name(self, thing: int) -> str:
        """Spoken name of thing number `thing`."""
        if thing < self.count:
            side = self.scene.hands[thing].side
            return "other person's hand" if side == "other" else f"{side} hand"
        return self.scene.objects[thing - self.count].name

    def say(self, text: str, **values: str) -> str:
        text = expand(text, self.rng, **values)
        if self.rng.random() < 0.4 and not text.endswith("?"):
            text += "?" if re.match(r"(what|where|which|who|is|am|do|does|can|are|in which|how)\b", text) else self.rng.choice((".", ""))
        return text

    def hand_words(self, side: str) -> str:
        return expand(self.rng.choice(_HAND), self.rng, s=side)

    def doing(self) -> dict[str, str]:
        return {"d": self.rng.choice(_DOING), "e": self.rng.choice(_DONE), "t": self.rng.choice(_THING)}

    def listed(self, things: list[int], mark: str) -> list[Segment]:
        """`a <1> and b <2>`: names, each followed by its box or reference."""
        out: list[Segment] = []
        for k, thing in enumerate(things):
            if k:
                out.append(" and ")
            out += [("name", thing), (mark, thing)]
        return out

    def wearers(self) -> list[int]:
        return sorted(self.own["left"] + self.own["right"], key=lambda k: self.scene.hands[k].side)

    def all_held(self) -> list[int]:
        return sorted(set(self.held["left"] + self.held["right"]))

    def draw(self) -> FreeQuestion:
        kinds = (
            ("hand", 14), ("hands", 5), ("other", 2), ("held", 16), ("held_any", 8), ("what", 14), ("what_any", 7), ("which", 9), ("object", 12),
            ("touch", 7), ("touch_any", 3), ("hold_noun", 4), ("see", 4), ("identify", 12), ("analyze", 4), ("count", 1), ("joined", 8),
        )  # fmt: skip
        kind = self.rng.choices([k for k, _ in kinds], [w for _, w in kinds])[0]
        return getattr(self, f"_{kind}")()

    def locate(self, words: str, things: list[int], none: str) -> FreeQuestion:
        """A referral or a grounding of `things`, worded around `words`."""
        ground = self.rng.random() < 0.35
        question = self.say(self.rng.choice(_SEGMENT if ground else _WHERE), x=words)
        if not things:
            return FreeQuestion(question, "ground" if ground else "refer", False, (none,))
        return FreeQuestion(question, "ground" if ground else "refer", True, tuple(self.listed(things, "ref" if ground else "box")))

    def _side(self) -> str:
        return self.rng.choice(("left", "right"))

    def _hand(self) -> FreeQuestion:
        side = self._side()
        return self.locate(self.hand_words(side), self.own[side], f"there is no {side} hand in the picture")

    def _hands(self) -> FreeQuestion:
        return self.locate(expand(self.rng.choice(_HANDS), self.rng), self.wearers(), "there are no hands in the picture")

    def _other(self) -> FreeQuestion:
        if self.rng.random() < 0.5:
            question = self.say(self.rng.choice(_SEE_OTHER))
            found = self.own["other"]
            answer = ("yes", *(("ref", k) for k in found)) if found else ("no, I see nobody else",)
            return FreeQuestion(question, "answer", bool(found), answer)
        return self.locate(self.rng.choice(_OTHER), self.own["other"], "I see no hand of another person")

    def _empty(self, side: str) -> str:
        return f"the {side} hand is empty" if self.own[side] else f"there is no {side} hand in the picture"

    def _held(self) -> FreeQuestion:
        side = self._side()
        words = expand(self.rng.choice(_HELD), self.rng, h=self.hand_words(side), s=side, **self.doing())
        return self.locate(words, self.held[side], self._empty(side))

    def _held_any(self) -> FreeQuestion:
        words = expand(self.rng.choice(_ANY), self.rng, **self.doing())
        return self.locate(words, self.all_held(), "you are not holding anything" if self.wearers() else "there are no hands in the picture")

    def _names(self, things: list[int]) -> list[Segment]:
        out: list[Segment] = []
        for k, thing in enumerate(things):
            out += [*([" and "] if k else []), ("a", thing), ("ref", thing)]
        return out

    def _what(self) -> FreeQuestion:
        side = self._side()
        question = self.say(self.rng.choice(_WHAT_SIDE), h=self.hand_words(side), s=side, **self.doing())
        things = self.held[side]
        return FreeQuestion(question, "answer", bool(things), tuple(self._names(things)) if things else (self._empty(side),))

    def _what_any(self) -> FreeQuestion:
        question, things = self.say(self.rng.choice(_WHAT_ANY), **self.doing()), self.all_held()
        none = "you are not holding anything" if self.wearers() else "there are no hands in the picture"
        return FreeQuestion(question, "answer", bool(things), tuple(self._names(things)) if things else (none,))

    def _noun(self, held: bool) -> tuple[str, str, list[int]]:
        """(word said, noun, things of that noun): half of the time something that is there."""
        here = sorted({o.name for o in self.scene.objects if not held or {"left", "right"} & set(o.hands)})
        if here and self.rng.random() < 0.6:
            noun = self.rng.choice(here)
        else:
            taken = {o.name for o in self.scene.objects}
            taken |= {s for t in taken for s in SYNONYMS.get(t, ())} | {t for t in SYNONYMS if taken & set(SYNONYMS[t])}
            pool = [n for n in self.nouns if n not in taken]
            noun = self.rng.choice(NEVER) if not pool or self.rng.random() < 0.15 else self.rng.choice(pool)
        word = self.rng.choice(SYNONYMS[noun]) if noun in SYNONYMS and self.rng.random() < 0.25 else noun
        return word, noun, [self.count + k for k, o in enumerate(self.scene.objects) if o.name == noun]

    def _which(self) -> FreeQuestion:
        word, _, things = self._noun(held=self.rng.random() < 0.8)
        question = self.say(self.rng.choice(_WHICH), n=word)
        sides = [s for s in ("left", "right") if any(s in self.scene.objects[t - self.count].hands for t in things)]
        hands = [k for s in sides for k in self.own[s]]
        if not sides:
            return FreeQuestion(question, "answer", False, ("neither hand holds it" if things else "I do not see it in the picture",))
        words = "both hands" if len(sides) == 2 else f"the {sides[0]} hand"
        return FreeQuestion(question, "answer", True, (words, *(("ref", k) for k in hands)))

    def _object(self) -> FreeQuestion:
        word, _, things = self._noun(held=self.rng.random() < 0.5)
        words = expand(self.rng.choice(("the {n}", "the {n}", "a {n}", "{n}", "my {n}", "the {n} i am holding", "the {n} in my hands", "the {n} i am touching")), self.rng, n=word)
        if "i am" in words or "in my" in words:
            things = [t for t in things if {"left", "right"} & set(self.scene.objects[t - self.count].hands)]
        return self.locate(words, things, "I do not see it in the picture")

    def _joined(self) -> FreeQuestion:
        """Two targets in one query; what is not there of them is left out of the answer."""
        if self.rng.random() < 0.4:
            side = self._side()
            words = expand(self.rng.choice(_WITH), self.rng, s=side, **self.doing())
            return self.locate(words, [*self.own[side], *self.held[side]], f"there is no {side} hand in the picture")
        named: list[tuple[str, list[int]]] = []
        side = self._side()
        for kind in self.rng.sample(("this hand", "other hand", "held", "noun", "noun"), 2):
            if kind == "held":
                named.append((expand(self.rng.choice(_HELD), self.rng, h=self.hand_words(side), s=side, **self.doing()), self.held[side]))
            elif kind == "noun":
                word, _, things = self._noun(held=self.rng.random() < 0.5)
                named.append((f"the {word}", things))
            else:
                which = side if kind == "this hand" else "right" if side == "left" else "left"
                named.append((self.hand_words(which), self.own[which]))
        words = self.rng.choice(_BOTH).replace("{x}", named[0][0]).replace("{y}", named[1][0])
        things = list(dict.fromkeys(named[0][1] + named[1][1]))
        return self.locate(words, things, "I do not see it in the picture")

    def _touch(self) -> FreeQuestion:
        side = self._side()
        template = self.rng.choice(_TOUCH_SIDE)
        question = self.say(template, h=self.hand_words(side), s=side)
        negated = bool(re.search(r"\b(empty|free)\b", question))
        if not self.own[side]:
            return FreeQuestion(question, "answer", False, (f"there is no {side} hand in the picture",))
        hand = self.scene.hands[self.own[side][0]]
        things = self.held[side]
        touching = bool(things) or bool(hand.contact)
        start = "no" if touching == negated else "yes"
        answer: list[Segment] = [f"{start}, the {side} hand", ("ref", self.own[side][0])]
        if things:
            answer += [" touches ", *self._names(things)]
        else:
            answer += [" touches something" if touching else " touches nothing"]
        return FreeQuestion(question, "answer", True, tuple(answer))

    def _touch_any(self) -> FreeQuestion:
        question, things = self.say(self.rng.choice(_TOUCH_ANY)), self.all_held()
        if not self.wearers():
            return FreeQuestion(question, "answer", False, ("there are no hands in the picture",))
        touching = bool(things) or any(self.scene.hands[k].contact for k in self.wearers())
        start = "no" if touching == bool(re.search(r"\b(empty|free)\b", question)) else "yes"
        if things:
            return FreeQuestion(question, "answer", True, (f"{start}, you touch ", *self._names(things)))
        return FreeQuestion(question, "answer", touching, (f"{start}, you touch " + ("something" if touching else "nothing"),))

    def _hold_noun(self) -> FreeQuestion:
        word, _, things = self._noun(held=True)
        things = [t for t in things if {"left", "right"} & set(self.scene.objects[t - self.count].hands)]
        question = self.say(self.rng.choice(_HOLD_NOUN), n=word)
        answer = ("yes, ", *self._names(things)) if things else ("no, I do not see it in your hands",)
        return FreeQuestion(question, "answer", bool(things), answer)

    def _see(self) -> FreeQuestion:
        if self.rng.random() < 0.4:
            side = self._side()
            question = self.say(self.rng.choice(_SEE_HAND), h=self.hand_words(side))
            found = self.own[side]
            answer = ("yes, the ", f"{side} hand", ("ref", found[0])) if found else (f"no, there is no {side} hand in the picture",)
            return FreeQuestion(question, "answer", bool(found), answer)
        word, _, things = self._noun(held=False)
        question = self.say(self.rng.choice(_SEE_NOUN), n=word)
        return FreeQuestion(question, "answer", bool(things), ("yes, ", *self._names(things)) if things else ("no, I do not see it in the picture",))

    def _identify(self) -> FreeQuestion:
        total = self.count + len(self.scene.objects)
        if not total:
            return self._analyze()
        weights = [3.0] * self.count + [2.0 if o.hands else 1.0 for o in self.scene.objects]
        thing = self.rng.choices(range(total), weights)[0]
        words = self.say(self.rng.choice(_IDENTIFY))
        question = self.rng.choice((f"{words} <box>", f"<box> {words}", f"{words} <box>")).strip()
        return FreeQuestion(question, "identify", True, (("name", thing), ("ref", thing)), box=thing)

    def analysis(self) -> tuple[Segment, ...]:
        """One sentence a hand: what it holds or touches."""
        out: list[Segment] = []
        for side in ("left", "right"):
            for k in self.own[side][:1]:
                things, hand = self.held[side], self.scene.hands[k]
                out += [(" " if out else "") + f"the {side} hand", ("ref", k)]
                if things:
                    out += [" holds ", *self._names(things), "."]
                else:
                    out += [" touches something." if hand.contact else " touches nothing."]
        if self.own["other"]:
            out += [(" " if out else "") + "another person's hand", *(("ref", k) for k in self.own["other"]), " is in the picture."]
        return tuple(out) or ("there are no hands in the picture.",)

    def _analyze(self) -> FreeQuestion:
        question = self.say(self.rng.choice(_ANALYZE))
        return FreeQuestion(question, "analyze", bool(self.scene.hands), self.analysis())

    def _count(self) -> FreeQuestion:
        number = len(self.scene.hands)
        words = ("no hands", "one hand", "two hands", "three hands", "four hands")[min(number, 4)]
        return FreeQuestion(self.say(self.rng.choice(_HOWMANY)), "answer", number > 0, (words, *(("ref", k) for k in range(min(number, 4)))))
