"""Keeps a package's import from loading modules that it uses only in functions nobody calls.

A stand-in takes the place of such a module, and loads it once anything of it is used after all.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class StandIn(ModuleType):
    """Has no attribute of its own but those of every module: others are the real module's."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Let what is imported in the body bind stand-ins for these modules; others see none later.

    A module that is loaded already, or cannot be found, is left as it is.
    """
    standing_in = {}
    for name in names:
        if name not in sys.modules and (spec := _spec(name)) is not None:
            standing_in[name] = sys.modules[name] = StandIn(name)
            standing_in[name].__spec__ = spec
    try:
        yield
    finally:
        for name, module in standing_in.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _spec(name: str) -> Any:
    try:
        return find_spec(name)
    except ImportError:  # of the package that the module is in
        return None
