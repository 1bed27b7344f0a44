"""`egohoi assets`."""


def assets() -> None:
    """Fetch by pinned hash what is not carried: the hand networks (MediaPipe, Apache-2.0) that the embedded model reads as
    proposals, and the word data (WordNet 3.0) that evaluation takes synonyms from."""
    from rich import print

    from egohoi.evaluation import wordnet
    from egohoi.models import assets as source

    folder = source.hand_networks() or source.install()
    print(f"hand networks: {folder}")
    print(f"word data: {wordnet.install()}")
