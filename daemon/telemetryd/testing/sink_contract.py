"""The Sink contract as tests."""

from __future__ import annotations

from telemetryd.testing.deliveries import DeliveryContract
from telemetryd.testing.failures import FailureContract
from telemetryd.testing.life_cycle import LifeCycleContract
from telemetryd.testing.outages import OutageContract
from telemetryd.testing.packing import PackingContract
from telemetryd.testing.verdicts import VerdictContract


class SinkContract(
    PackingContract,
    DeliveryContract,
    VerdictContract,
    FailureContract,
    LifeCycleContract,
    OutageContract,
):
    """Everything a sink has to prove.

    A subclass (its name begins with `Test`) sets `sink_class` and writes `config`. What it says
    besides adds proof: `destination` lets the tests read back what arrived; `outage` and `stall`
    break the real destination; `refused_bytes` names its limit. Each is described in `Subject`.

    The members of `Subject`, and the promise that a sink which passes works under the worker, are
    stable; tests may be added in any minor version.
    """
