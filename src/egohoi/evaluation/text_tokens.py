"""Three ways to cut a sentence into words, each named after the tool whose numbers depend on it.

whitespace   at white space alone, letters as they are: what `pycocoevalcap` does with text that nobody tokenised
treebank     `nltk.word_tokenize`: sentences by Punkt, words by NLTK's Treebank rules, letters as they are
ptb          what `pycocoevalcap.tokenizer` gives out of Stanford's PTBTokenizer (Java): lower case, clitics apart, punctuation
             dropped. Written here as rules, so that no Java is needed. Compared with the Java program on sentences of the field
             and on generated ones (docs/evaluation.md); it differs only where listed there.
"""

import functools
import re

from egohoi.errors import MissingExtra, need

#: Tokens that `pycocoevalcap` drops. Its bracket names are in capitals and the tokens in lower case, so brackets stay: "-lrb-".
_DROPPED = frozenset(("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
_SAID_AS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-",
            "½": "1/2", "¼": "1/4", "¾": "3/4"}  # fmt: skip
#: Also dropped: the program writes them as one of those.
_BARE = _DROPPED | {"\u2018", "\u2026", "\u2013", "\u2014", "\u201c", "\u201d", "\""}
#: Two words that are written as one -> letters of the first.
_TWO = {"cannot": 3, "gonna": 3, "gotta": 3, "lemme": 3, "gimme": 3, "wanna": 3}
#: Abbreviations that keep their full stop.
_ABBREVIATIONS = (
    "jan feb mar apr jun jul aug sep sept oct nov dec mr mrs ms dr drs prof gen sen rep gov lt col maj capt sgt pres rev hon "
    "jr sr bros inc co corp ltd vs etc al st ave blvd rd dept univ assn ft mt ph.d ca calif conn"
)
_TOKEN = re.compile(
    rf"""
    (?<!\w)'t(?=is(?!\w)|was(?!\w))
  | </?[a-z][\w-]*(?:\s[^<>]*)?/?>
  | (?:https?://|www\.)[^\s"<>|(){{}}]*[^\s"<>|.!?(){{}},-]
  | [\w.+-]+@\w+(?:\.\w+)+
  | (?:[^\W\d_]\.){{2,}}
  | (?:{"|".join(re.escape(w) for w in _ABBREVIATIONS.split())})\.(?!\w)
  | no\.(?=\s*\d) | (?<![\w'])[^\W\d_]\.(?!\w|\s+(?-i:[A-Z<])) | (?-i:[A-Z]+(?:&[A-Z]+)+)(?!\w)
  | \d+\ \d+/\d+(?!\w)
  | [-+]?\d+(?:[.,:/-]\d+)+(?!\w)
  | [-+]?\.\d+(?!\w)
  | (?:n't|'(?:s|m|d|re|ve|ll))(?!\w)
  | o'\w+
  | [^\W\d_]+(?:\.[^\W\d_]+)+
  | \w+?(?=n't(?!\w))
  | \w+(?:[-_/]\w+)*
  | \.{{2,}} | -{{2,}} | [?!]+ | '' | ``
  | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


def whitespace(text: str) -> list[str]:
    """Words between white space, unchanged."""
    return text.split()


def treebank(text: str) -> list[str]:
    """Words as `nltk.word_tokenize(text)` gives them, letters as they are. Raises MissingExtra without the extra `eval`."""
    return _treebank()(text)


@functools.lru_cache(maxsize=1)
def _treebank():
    words = need("nltk.tokenize.destructive", "eval").NLTKWordTokenizer()
    sentences = _sentences()

    def cut(text: str) -> list[str]:
        return [w for s in sentences.tokenize(text) for w in words.tokenize(s)]

    return cut


def _sentences():
    """NLTK's sentence tokenizer with its model of English, out of a package that carries it, or of NLTK's own data if that is there."""
    punkt = need("nltk.tokenize.punkt", "eval")
    try:
        model = need("punkt.data.english", "eval")  # the parameters of NLTK's `punkt_tab`, which NLTK would fetch from a server
    except MissingExtra:
        try:
            return punkt.PunktTokenizer("english")
        except LookupError:
            pass
        raise
    parameters = punkt.PunktParameters()
    parameters.abbrev_types = set(model.ABBREV_TYPES)
    parameters.collocations = set(model.COLLOCATIONS)
    parameters.sent_starters = set(model.SENT_STARTERS)
    parameters.ortho_context.update(model.ORTHO_CONTEXT)
    return punkt.PunktSentenceTokenizer(parameters)


def ptb(text: str) -> list[str]:
    """Words as `pycocoevalcap.tokenizer.PTBTokenizer` gives them: lower case, clitics apart, without punctuation."""
    out: list[str] = []
    for token in _TOKEN.findall(text.replace("\u2019", "'")):
        token = token.lower()
        cut = _TWO.get(token)
        if cut:
            out += [token[:cut], token[cut:]]
        elif token not in _BARE and token.strip(".") and token.strip("-"):
            out.append(_SAID_AS.get(token) or token.replace(" ", "\u00a0"))
    return out
