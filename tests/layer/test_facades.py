"""What stands in for a large module at the start gives the same answers, the rest on demand."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from helpers.layer_kit import ROOT


async def coroutine() -> None:
    """A coroutine function."""


def plain() -> None:
    """A plain one."""


def wrapped() -> None:
    """One that has attributes."""


setattr(wrapped, "__wrapped__", coroutine)  # noqa: B010 - no type has it


class Thing:
    """Methods, of all kinds."""

    async def coroutine(self) -> None:
        """Bound or not."""

    def plain(self) -> None:
        """Bound or not."""

    @staticmethod
    async def static() -> None:
        """A function in the end."""

    @classmethod
    async def of_class(cls) -> None:
        """A method of the class."""

    async def __call__(self) -> None:
        """An instance is no coroutine function."""


CALLABLES = [
    *(coroutine, plain, wrapped, print, len, Thing, Thing(), 7, None, functools.partial(coroutine)),
    *(functools.partial(plain), Thing.coroutine, Thing().coroutine, Thing.plain, Thing().plain),
    *(Thing.static, Thing.of_class, functools.partial(Thing().coroutine), lambda: None),
    functools.wraps(coroutine)(plain),
]

Facade = Callable[[str, ModuleType], ModuleType]
"""Loads a facade by its name, and the module it stands in for."""


@pytest.fixture
def facade(monkeypatch: pytest.MonkeyPatch) -> Facade:
    """Loads a facade beside the module it stands in for."""

    def load(name: str, real: ModuleType) -> ModuleType:
        monkeypatch.setitem(sys.modules, f"_full_{name}", real)
        path = ROOT / "layer" / "facades" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"facade_{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize("subject", CALLABLES, ids=repr)
def test_coroutine_functions_are_told_alike(facade: Facade, subject: object) -> None:
    """Whatever the facade decides itself is what `inspect` says."""
    module = facade("inspect", inspect)
    assert module.iscoroutinefunction(subject) == inspect.iscoroutinefunction(subject)


def test_a_marked_coroutine_function_is_one(facade: Facade) -> None:
    """`inspect.markcoroutinefunction`, where there is one."""
    module = facade("inspect", inspect)
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is None:
        pytest.skip("needs Python 3.12")

    def function() -> None:
        """Marked."""

    assert module.iscoroutinefunction(mark(function))


def test_the_rest_is_the_real_module(facade: Facade) -> None:
    """Loaded when asked for."""
    module = facade("inspect", inspect)
    assert module.signature is inspect.signature
    assert module.isgenerator(number for number in range(0))
    assert not module.isgenerator(plain)


def test_a_name_that_is_nowhere_is_an_attribute_error(facade: Facade) -> None:
    """As `hasattr` needs it."""
    assert not hasattr(facade("inspect", inspect), "no_such_name")
