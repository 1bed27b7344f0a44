"""`egohoi assets`."""


def assets() -> None:
    """Fetch the hand networks (MediaPipe, Apache-2.0) that the embedded model reads as proposals, by pinned hash."""
    from rich import print

    from egohoi.models import assets as source

    folder = source.hand_networks() or source.install()
    print(f"hand networks: {folder}")
