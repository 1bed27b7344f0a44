"""Synonyms of nouns in Princeton WordNet."""


def available() -> bool:
    """Whether the word data is installed."""
    return False


def same_noun(a: str, b: str) -> bool:
    """Whether two lower-case nouns (words joined by a space) share a meaning."""
    raise NotImplementedError
