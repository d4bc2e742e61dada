"""A bounded memory of what was found out about some content, by the content's hash.

Only what can never change about the content is kept (who signed it, what it says). Whether it is in force is asked
anew each time, so a remembered answer cannot outlive a validity.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Found = TypeVar("Found")


class ContentCache(Generic[Found]):
    """The last `size` answers by key; safe between threads. A size of 0 remembers nothing."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: OrderedDict[Hashable, Found] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> Found | None:
        if not self._found:
            return None
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
            return found

    def put(self, key: Hashable, found: Found) -> None:
        if self._size == 0:
            return
        with self._lock:
            self._found[key] = found
            self._found.move_to_end(key)
            if len(self._found) > self._size:
                self._found.popitem(last=False)

    def __len__(self) -> int:
        return len(self._found)
