"""Put before the function by `wrap`, because a handler is named by its module.

Importing this imports the function as the runtime would. What is wrong with the function is
reported in the runtime's own words. What is wrong with this is one line, and the function runs
without it. The function finds its environment as it is without the wrapper.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, Final

_HERE: Final = os.path.dirname(__file__)  # noqa: PTH120 - as it stands in sys.path


def _restore() -> str:
    """Undo what `wrap` has changed for this process, and return the handler's name."""
    name = os.environ.pop("_TELEMETRYD_HANDLER", "")
    os.environ["_HANDLER"] = name
    path = os.environ.pop("_TELEMETRYD_PYTHONPATH", None)
    if path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = path
    sys.path[:] = [entry for entry in sys.path if entry != _HERE]
    return name


def _find_flush() -> Callable[[], Any] | None:
    """Return `flush_on_return`, of the function's telemetryd or else of ours; None without any."""
    try:
        try:
            from telemetryd.internal import flush_on_return  # noqa: PLC0415 - it may be missing
        except ImportError:  # the function has none of its own, which would be the whole package
            sys.path.append(f"{_HERE}/package")
            from telemetryd.internal import flush_on_return  # noqa: PLC0415
    except Exception as error:  # noqa: BLE001 - it is said, and the function runs
        _say(error)
        return None
    return flush_on_return


def _load(name: str) -> Any:
    """Return what `name` names, by the rules of the runtime. Raises what the runtime reports."""
    runtime: Any = sys.modules.get("awslambdaric.bootstrap")
    if not hasattr(runtime, "_get_handler"):
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module.replace("/", ".")), attribute)
    try:
        return runtime._get_handler(name)  # noqa: SLF001 - so it is what it is without the wrapper
    except runtime.FaultException:
        raise
    except Exception as error:
        raise _as_fault(runtime, error) from error


def _as_fault(runtime: Any, error: Exception) -> Exception:
    """Return what the runtime reports as this error, without the frames of this module."""
    trace = error.__traceback__ and error.__traceback__.tb_next
    told = runtime.build_fault_result((type(error), error, trace), None)
    fault: Exception = runtime.FaultException(
        told["errorType"], told["errorMessage"], told["stackTrace"]
    )
    return fault


def _wrap(flush_on_return: Callable[[], Any] | None, found: Any) -> Any:
    """Return the handler with the flush behind it; as it is if it can't be called, or we fail."""
    if flush_on_return is None or not callable(found):
        return found
    try:
        return flush_on_return()(found)
    except Exception as error:  # noqa: BLE001 - it is said, and the function runs
        _say(error)
        return found


def _say(error: Exception) -> None:
    text = " ".join(str(error).split())[:200]
    sys.stderr.write(
        f"telemetryd wrap: {type(error).__name__}: {text}; the function runs without it\n"
    )


def _make() -> Any:
    name = _restore()
    flush_on_return = _find_flush()
    return _wrap(flush_on_return, _load(name))


handler: Final = _make()
