"""What stands in for a large module at the start gives the same answers, the rest on demand."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.abc import InspectLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

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

FACADES = ROOT / "layer" / "facades"
NAMES = sorted(
    ".".join(file.relative_to(FACADES).with_suffix("").parts).removesuffix(".__init__")
    for file in FACADES.rglob("*.py")
    if file.stem != "_become" and file != FACADES / "__init__.py"
)
NEWER = sys.version_info >= (3, 13)
"""The facades are of the interpreter in the layer; on an older one asyncio has other names."""

Facade = Callable[[str], ModuleType]
"""Loads a facade by its name."""


@pytest.fixture
def facade(monkeypatch: pytest.MonkeyPatch) -> Facade:
    """Loads a facade beside the module it stands in for; it becomes that as in the layer."""
    become = of_file("_become", FACADES / "_become.py")
    monkeypatch.setitem(sys.modules, "_become", become)
    become.__spec__.loader.exec_module(become)  # type: ignore[union-attr]
    monkeypatch.setitem(sys.modules, "_uvloop_names", Uvloop())
    codes: dict[str, CodeType | None] = {}
    monkeypatch.setattr(become, "code_of", codes.__getitem__)

    def load(name: str) -> ModuleType:
        real = importlib.util.find_spec(name)
        assert real is not None
        assert isinstance(real.loader, InspectLoader)
        codes[f"_full_{name.replace('.', '_')}"] = real.loader.get_code(name)
        place = FACADES.joinpath(*name.split("."))
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        module = of_file(name, path, real.submodule_search_locations)
        monkeypatch.setitem(sys.modules, name, module)
        module.__spec__.loader.exec_module(module)  # type: ignore[union-attr]
        return module

    return load


def of_file(name: str, path: Path, places: list[str] | None = None) -> ModuleType:
    """A module that is not yet executed."""
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=places)
    assert spec is not None
    return importlib.util.module_from_spec(spec)


class Uvloop(ModuleType):
    """Stands in for what has uvloop renew its names."""

    def __init__(self) -> None:
        super().__init__("_uvloop_names")
        self.renewed: list[str] = []

    def renew(self, module: str) -> None:
        """Note it."""
        self.renewed.append(module)


def told() -> list[str]:
    """The modules whose names uvloop was told to renew."""
    uvloop = sys.modules["_uvloop_names"]
    assert isinstance(uvloop, Uvloop)
    return uvloop.renewed


@pytest.mark.parametrize("subject", CALLABLES, ids=repr)
def test_coroutine_functions_are_told_alike(facade: Facade, subject: object) -> None:
    """Whatever the facade decides itself is what `inspect` says."""
    module = facade("inspect")
    assert module.iscoroutinefunction(subject) == inspect.iscoroutinefunction(subject)


def test_a_marked_coroutine_function_is_one(facade: Facade) -> None:
    """`inspect.markcoroutinefunction`, where there is one."""
    module = facade("inspect")
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is None:
        pytest.skip("needs Python 3.12")

    def function() -> None:
        """Marked."""

    assert module.iscoroutinefunction(mark(function))


def test_the_rest_is_the_real_module(facade: Facade) -> None:
    """Loaded when asked for."""
    module = facade("inspect")
    assert str(module.signature(plain)) == "() -> 'None'"
    assert module.isgenerator(number for number in range(0))
    assert not module.isgenerator(plain)


@pytest.mark.parametrize("name", NAMES)
def test_a_facade_becomes_its_module(facade: Facade, name: str) -> None:
    """It then has all of its names, under its own."""
    if name == "asyncio" and not NEWER:
        pytest.skip("needs Python 3.13")
    real = importlib.import_module(name)
    module = facade(name)
    assert "__getattr__" in vars(module)
    wanted = next(n for n in vars(real) if n not in vars(module) and not n.startswith("_"))
    assert type(getattr(module, wanted)) is type(getattr(real, wanted))
    assert "__getattr__" not in vars(module)
    classes = {n for n, value in vars(real).items() if isinstance(value, type)}
    assert classes <= {*vars(module)}
    assert all(vars(module)[n].__module__ == vars(real)[n].__module__ for n in classes)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_nowhere_is_an_attribute_error(facade: Facade, name: str) -> None:
    """As `hasattr` needs it; and that a package is asked for loads nothing."""
    if name == "asyncio" and not NEWER:
        pytest.skip("needs Python 3.13")
    is_package = hasattr(importlib.import_module(name), "__path__")
    module = facade(name)
    assert hasattr(module, "__path__") == is_package
    assert "__getattr__" in vars(module)
    assert not hasattr(module, "no_such_name")


def test_several_threads_need_it_at_once(facade: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits until the module is whole."""
    module = facade("subprocess")
    become = importlib.import_module("_become")
    code = become.code_of("_full_subprocess")
    loads = []

    def slow(_: str) -> CodeType:
        loads.append(1)
        time.sleep(0.05)
        assert isinstance(code, CodeType)
        return code

    monkeypatch.setattr(become, "code_of", slow)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: module.Popen.__name__, range(4)))
    assert found == ["Popen"] * 4
    assert loads == [1]


def test_one_that_cannot_load_is_tried_again(
    facade: Facade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed once, for want of memory, need not fail the next time."""
    module = facade("selectors")
    become = importlib.import_module("_become")
    with monkeypatch.context() as broken:
        broken.setattr(become, "code_of", lambda _: compile("raise MemoryError", "", "exec"))
        with pytest.raises(MemoryError):
            _ = module.PollSelector
    assert module.PollSelector.__name__ == "PollSelector"


def test_a_logger_is_the_real_one_when_it_is_used(
    facade: Facade, caplog: pytest.LogCaptureFixture
) -> None:
    """Taken from the facade, kept by whoever took it."""
    module = facade("logging")
    order = []
    module.when_loaded(lambda: order.append("loaded"))
    kept = module.getLogger("some.library")
    assert "__getattr__" in vars(module)
    handler = module.Handler()
    assert order == ["loaded"]
    module.when_loaded(lambda: order.append("at once"))
    assert order == ["loaded", "at once"]
    records: list[Any] = []
    handler.emit = records.append
    module.getLogger().addHandler(handler)
    kept.error("%d wrong", 3)
    kept.propagate = False
    kept.error("not seen")
    assert [record.getMessage() for record in records] == ["3 wrong"]
    assert module.getLogger("some.library").propagate is False
    assert caplog.records == []  # the test's own `logging` is another module


def test_uvloop_gets_what_it_asks_for_and_later_the_real_names(
    facade: Facade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it loads nothing else does; when the module is real it is told."""
    ssl, processes, tracebacks = map(facade, ("ssl", "subprocess", "traceback"))
    uvloop = ModuleType("uvloop.loop")
    uvloop.__spec__ = importlib.util.spec_from_loader("uvloop.loop", None)
    assert uvloop.__spec__ is not None
    monkeypatch.setitem(sys.modules, "uvloop.loop", uvloop)
    monkeypatch.setattr(uvloop.__spec__, "_initializing", True, raising=False)
    names = ("SSLContext", "MemoryBIO", "SSLError", "SSLWantReadError", "SSLSyscallError")
    held = [getattr(ssl, name) for name in (*names, "SSLZeroReturnError", "CertificateError")]
    assert [ssl.SSL_ERROR_WANT_READ, ssl.SSL_ERROR_WANT_WRITE, ssl.SSL_ERROR_SYSCALL] == [2, 3, 5]
    assert not isinstance(5, tuple(held))
    extract = tracebacks.StackSummary.extract
    make_error = processes.SubprocessError
    assert all("__getattr__" in vars(module) for module in (ssl, processes, tracebacks))
    monkeypatch.setattr(uvloop.__spec__, "_initializing", False)
    assert ssl.SSLContext.__module__ == "ssl"
    assert told() == ["ssl"]
    frames = extract(tracebacks.walk_stack(sys._getframe()), limit=1)
    assert type(frames).__name__ == "StackSummary"
    assert type(make_error("text")) is not Exception


def test_the_caller_of_extract_stack_is_its_end(facade: Facade) -> None:
    """Not the facade's own frame."""
    last = facade("traceback").extract_stack()[-1]
    assert last.name == "test_the_caller_of_extract_stack_is_its_end"
