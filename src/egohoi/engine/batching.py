"""Which queries run together: batches in order, pictures told apart by their pixels so that each is encoded once."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from egohoi.images import Picture


def digest(picture: Picture) -> str:
    """A key that two pictures share only if they have the same pixels (BLAKE2b of size and bytes)."""
    state = hashlib.blake2b(repr(picture.pixels.shape).encode(), digest_size=16)
    state.update(picture.pixels.tobytes())
    return state.hexdigest()


def batches(keys: Sequence[Hashable], size: int) -> Iterator[list[int]]:
    """Indices into `keys` in batches of at most `size`, equal keys next to each other, first seen first."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    order = [index for group in groups.values() for index in group]
    for start in range(0, len(order), size):
        yield order[start : start + size]


class Recent:
    """A table that keeps the `capacity` entries used last. Not safe for threads by itself."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._items: OrderedDict[Hashable, Any] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._items

    def __len__(self) -> int:
        return len(self._items)

    def get_many(self, keys: Sequence[Hashable], make: Callable[[list], list]) -> list:
        """The entry of each key; those that are missing are made by one call `make(missing keys) -> entries`.

        All entries asked for are returned even if there are more of them than the capacity.
        """
        wanted = list(dict.fromkeys(keys))
        missing = [key for key in wanted if key not in self._items]
        found = {key: self._items[key] for key in wanted if key in self._items}
        if missing:
            found.update(zip(missing, make(missing), strict=True))
        for key in wanted:
            self._items[key] = found[key]
            self._items.move_to_end(key)
        while len(self._items) > self.capacity:
            self._items.popitem(last=False)
        return [found[key] for key in keys]
