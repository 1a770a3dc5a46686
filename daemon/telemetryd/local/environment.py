"""The local Lambda itself: its server, its generations, and the invocations between them."""

from __future__ import annotations

import asyncio
import math
import re
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import msgspec
from aiohttp import web

from telemetryd.local.clock import monotonic
from telemetryd.local.config import ConfigError
from telemetryd.local.events import LineCounts, PlatformEvent, ProcessExit
from telemetryd.local.generation import Generation
from telemetryd.local.guard import guard_app
from telemetryd.local.http_bodies import error_answer
from telemetryd.local.invocation import Invocation, InvokeResult, milliseconds
from telemetryd.local.losses import Losses, LossPlan
from telemetryd.local.routes.extensions import ExtensionsApi
from telemetryd.local.routes.runtime import RuntimeApi
from telemetryd.local.routes.telemetry import TelemetryApi
from telemetryd.local.runs import ManagedRun, OnDemandRun
from telemetryd.local.sandbox import NoNamespaceError, SandboxHosts, hosts_line

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from telemetryd.local.config import LocalConfig
    from telemetryd.local.generation import Phase
    from telemetryd.local.subscriber import SubscriptionStats

_HEADER_LIMIT = 2 * 1024 * 1024
_BODY_LIMIT = 64 * 1024 * 1024
_KEEPALIVE = 1e6
_TENANT = re.compile(r"[a-zA-Z0-9._:/=+\-@ ]{1,256}")


def _check_address(address: str) -> None:
    """Raise `OSError` unless this machine can listen at `address`."""
    with socket.create_server((address, 0)):
        pass


class TenantError(ValueError):
    """An invocation names no tenant and has to, or names one and may not."""


class EnvironmentClosedError(RuntimeError):
    """The local Lambda was used outside of its `async with` block."""


class LocalLambda:
    """A Lambda execution environment at two addresses of this machine.

    Use it as an asynchronous context manager: entering runs the init phase (a failed init is
    retried by the first invocation, as on Lambda), leaving shuts down by the clock and ends every
    process. Needs Linux.
    """

    def __init__(self, config: LocalConfig) -> None:
        self.config = config
        self.events: list[PlatformEvent] = []
        """Every platform event, in the order of their making, of all generations."""
        self.lines = LineCounts()
        """Counts of the lines that the processes printed."""
        self.exits: list[ProcessExit] = []
        """The ends of the processes."""
        self.warnings: list[str] = []
        """Reasons why something does not work, which Lambda would not report."""
        self._hosts = SandboxHosts(config.sandbox_address)
        self._subscriptions: list[SubscriptionStats] = []
        self._generation: Generation | None = None
        self._number = 0
        self._phase: Phase = "init"
        self._instance_id = ""
        self._tenant: str | None = None
        self._runner: web.AppRunner | None = None
        self._addresses: list[str] = []
        self._turn = asyncio.Lock()
        self._places = asyncio.Semaphore(config.concurrency)
        self._calls = 0
        self._tasks: set[asyncio.Task[InvokeResult]] = set()
        self._late_report: PlatformEvent | None = None
        self._losses = LossPlan(Losses.parse(config.lose))

    # -- life -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._serve()
            await self._name_sandbox()
            await self._begin()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc_type is not None:
                await self._cancel_tasks()
            elif self._tasks:
                # Each is bounded by the function timeout.
                await asyncio.wait(self._tasks)
            await self.shutdown()
        finally:
            await self._end()

    async def _serve(self) -> None:
        app = guard_app(error_answer, _BODY_LIMIT)
        current = self._current
        for api in (RuntimeApi(current), ExtensionsApi(current), TelemetryApi(current)):
            app.add_routes(api.routes())
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            keepalive_timeout=_KEEPALIVE,
            max_line_size=_HEADER_LIMIT,
            max_field_size=_HEADER_LIMIT,
            shutdown_timeout=0.1,
        )
        await self._runner.setup()
        count = self.config.concurrency if self.config.is_managed else 1
        own = self.config.platform_address
        try:
            for _ in range(count):
                await web.TCPSite(self._runner, own, 0).start()
            _check_address(self.config.sandbox_address)
        except OSError as error:
            raise ConfigError(
                f"platform_address {own}, sandbox_address {self.config.sandbox_address}: not both "
                f"are addresses of this machine ({error.strerror}); those in 127.0.0.0/8 are"
            ) from None
        self._addresses = [f"{own}:{address[1]}" for address in self._runner.addresses]

    async def _name_sandbox(self) -> None:
        """Make `sandbox.localdomain` resolve for the processes, or say what to do."""
        try:
            if not self.config.private_hosts:
                raise NoNamespaceError("private_hosts is off")  # noqa: TRY301 - one way to say it
            await self._hosts.open()
        except NoNamespaceError as error:
            if not self._hosts.is_named:
                self._warn(
                    f"sandbox.localdomain does not resolve to {self.config.sandbox_address} for "
                    f"extensions, which may need it to listen ({error}); add to /etc/hosts: "
                    f"{hosts_line(self.config.sandbox_address)}"
                )

    def _warn(self, text: str) -> None:
        """Say something once."""
        if text not in self.warnings:
            self.warnings.append(text)
            self._tell("warning", text=text)

    async def _end(self) -> None:
        """End every process, task and socket, whatever has happened."""
        await self._cancel_tasks()
        generation, self._generation = self._generation, None
        if generation is not None:
            await generation.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        self._hosts.close()

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _current(self) -> Generation | None:
        return self._generation

    @property
    def address(self) -> str:
        """`host:port` of the APIs, the value of `AWS_LAMBDA_RUNTIME_API` for extensions."""
        if not self._addresses:
            raise EnvironmentClosedError("use `async with LocalLambda(...)` first")
        return self._addresses[0]

    @property
    def stats(self) -> list[SubscriptionStats]:
        """One account for each telemetry subscription there was, oldest first."""
        return list(self._subscriptions)

    @property
    def generation(self) -> int:
        """The number of times that processes were started so far."""
        return self._number

    @property
    def frozen(self) -> bool:
        """True if the processes are stopped."""
        return self._generation is not None and self._generation.frozen

    @property
    def pids(self) -> dict[str, int]:
        """The living processes by name."""
        if self._generation is None:
            return {}
        return {item.name: item.pid for item in self._generation.processes() if item.alive}

    # -- init, shutdown, reset ------------------------------------------------------------

    async def _begin(self, deadline: float = math.inf) -> Generation:
        """Start a generation and run its init phase; a failed one is ended again."""
        self._number += 1
        if self._phase == "init":
            self._instance_id = self._new_instance()
        generation = Generation(
            self.config,
            self._number,
            self._phase,
            addresses=self._addresses,
            instance_id=self._instance_id,
            counts=self.lines,
            on_event=self.events.append,
            on_exit=self._note_exit,
            losses=self._losses,
            on_warning=self._warn,
            enter=self._hosts.enter,
        )
        self._generation = generation
        if self._late_report is not None:
            generation.hub.replay(self._late_report)
            self._late_report = None
        await generation.init(min(deadline, monotonic() + self.config.init_limit))
        self._subscriptions += generation.hub.stats
        self._tell(
            "init",
            phase=generation.phase,
            duration_ms=generation.init_ms,
            failure=generation.failure,
            extensions=[item.name for item in generation.extensions.values()],
        )
        if generation.failure is not None:
            await self._reset("failure", generation)
        elif generation.snapshot:
            await self.freeze()
        return generation

    def _new_instance(self) -> str:
        day = time.strftime("%Y/%m/%d", time.gmtime())
        return f"{day}/[{self.config.function_version}]{uuid4().hex}"

    async def _restore(self, generation: Generation) -> None:
        """Restore the processes from the snapshot. If that fails, end them."""
        await generation.restore(self._new_instance())
        self._tell("restore", duration_ms=generation.restore_ms, failure=generation.failure)
        if generation.failure is not None:
            await self._reset("failure", generation)

    async def _reset(
        self,
        reason: str,
        generation: Generation,
        after_shutdown_sent: Callable[[], object] | None = None,
    ) -> None:
        """End the generation's processes; the next invocation starts others."""
        self._tell("reset", reason=reason)
        await generation.kill_runtimes()
        await generation.stop(reason, after_shutdown_sent=after_shutdown_sent)
        if self._generation is generation:
            self._generation = None
        self._phase = "init" if self.config.is_managed else "invoke"

    async def shutdown(self, reason: str = "spindown") -> None:
        """End the environment by the clock; a later invocation starts a new one, cold."""
        async with self._turn:
            await self._shut_down(reason)

    async def _shut_down(self, reason: str) -> None:
        generation = self._generation
        if generation is not None:
            self._tell("shutdown", reason=reason)
            begun = monotonic()
            generation.abort_running()
            await generation.stop(reason)
            self._generation = None
            self._tell("stopped", duration_ms=milliseconds(monotonic() - begun))
        self._phase = "init"
        self._tenant = None

    def _note_exit(self, ended: ProcessExit) -> None:
        self.exits.append(ended)
        self._tell("exit", exit=ended)

    def _tell(self, what: str, **details: Any) -> None:
        if self.config.on_event is not None:
            self.config.on_event(what, details)

    def lose(self, *losses: str) -> None:
        """Lose telemetry so from now on, instead of as before; without arguments: nothing.

        The form is that of `LocalConfig.lose`. Raises `LossError`.
        """
        self._losses.losses = Losses.parse(losses)

    # -- freeze, thaw, kill ---------------------------------------------------------------

    async def freeze(self) -> None:
        """Stop every process, telemetry delivery and its timers."""
        if self._generation is not None and not self._generation.frozen:
            await self._generation.freeze()
            self._tell("freeze")

    async def thaw(self) -> None:
        """Let everything continue where `freeze` stopped it."""
        if self._generation is not None and self._generation.frozen:
            self._generation.thaw()
            self._tell("thaw")

    def kill_extension(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to an extension's process group. Raises `KeyError` for unknown names."""
        generation = self._generation
        process = generation.extension_processes.get(name) if generation is not None else None
        if process is None:
            raise KeyError(f"no extension named {name!r} is running")
        process.signal(number)

    # -- invocations ----------------------------------------------------------------------

    async def invoke(
        self,
        payload: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the function's timeout, not the call's
        client_context: str | None = None,
        trace_header: str | None = None,
        request_id: str | None = None,
        tenant_id: str | None = None,
    ) -> InvokeResult:
        """Invoke the function; returns when the environment is at rest again.

        `payload` is bytes, or anything that goes into JSON. On-demand environments take one
        invocation after the other. Raises `EnvironmentClosedError` outside of `async with`.
        """
        invocation = self.prepare(
            payload,
            timeout=timeout,
            client_context=client_context,
            trace_header=trace_header,
            request_id=request_id,
            tenant_id=tenant_id,
        )
        # A caller who gives up does not end the invocation: it does not on Lambda either.
        return await asyncio.shield(self.run(invocation))

    def prepare(
        self,
        payload: Any = None,
        *,
        timeout: float | None = None,
        client_context: str | None = None,
        trace_header: str | None = None,
        request_id: str | None = None,
        tenant_id: str | None = None,
    ) -> Invocation:
        """Return an invocation for `run`; its `answered` is done when the caller has its response.

        Raises `TenantError` if there is no tenant where `tenants` is on, or one where it is off.
        """
        if (tenant_id is None) == self.config.tenants:
            raise TenantError(
                "the function has tenant isolation: name a tenant"
                if self.config.tenants
                else "the function has no tenant isolation: name no tenant"
            )
        if tenant_id is not None and _TENANT.fullmatch(tenant_id) is None:
            raise TenantError(f"{tenant_id!r} is not a tenant id")
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        invocation = Invocation(
            body,
            self.config.timeout if timeout is None else timeout,
            self.config.tracing,
            client_context=client_context,
            trace_header=trace_header,
            tenant_id=tenant_id,
        )
        if request_id is not None:
            invocation.request_id = request_id
        return invocation

    def run(self, invocation: Invocation) -> asyncio.Task[InvokeResult]:
        """Start an invocation; the task belongs to the environment and ends with it."""
        if self._runner is None:
            raise EnvironmentClosedError("use `async with LocalLambda(...)` first")
        work = self._invoke_managed if self.config.is_managed else self._on_demand
        task = asyncio.get_running_loop().create_task(self._count(work(invocation)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _count(self, work: Coroutine[Any, Any, InvokeResult]) -> InvokeResult:
        self._calls += 1
        try:
            result = await work
        finally:
            self._calls -= 1
        return result

    async def _on_demand(self, invocation: Invocation) -> InvokeResult:
        async with self._turn:
            generation = await self._environment_for(invocation)
            run = OnDemandRun(self.config, self.lines, generation, invocation)
            await self.thaw()
            await run.execute()
            if run.reason is not None:
                await self._reset_after(run, run.reason)
            else:
                run.report()
            result = run.result()
            self._tell("invoke", result=result)
            if run.reason is None:
                await self._rest(generation)
        return result

    async def _environment_for(self, invocation: Invocation) -> Generation:
        if self._tenant not in (None, invocation.tenant_id):
            # Lambda would have another environment for another tenant; here one follows the other.
            await self._shut_down("spindown")
        self._tenant = invocation.tenant_id
        generation = self._generation
        if generation is None and self._phase == "init":
            generation = await self._begin()
        if generation is not None:
            if generation.failure is None and not generation.restored.is_set():
                await self._restore(generation)
            invocation.begin()
            return generation
        # Suppressed init: under the function timeout, and part of its duration.
        invocation.begin()
        return await self._begin(invocation.deadline)

    async def _reset_after(self, run: OnDemandRun, reason: str) -> None:
        how = self.config.report_after_reset
        if self._generation is not run.generation:
            run.report()  # its init failed: everything is gone already
        elif how == "during":
            await self._reset(reason, run.generation, run.report)
        else:
            await self._reset(reason, run.generation)
            report = run.report()
            if how == "next":
                self._late_report = report

    async def _rest(self, generation: Generation) -> None:
        if not self.config.freeze:
            return
        awake = self.config.freeze_after
        if awake > 0 and await generation.changes.wait_until(
            lambda: generation.failure or self._calls > 1, monotonic() + awake
        ):
            return
        await self.freeze()

    async def _invoke_managed(self, invocation: Invocation) -> InvokeResult:
        async with self._places:
            async with self._turn:
                generation = self._generation
                if generation is None:
                    generation = await self._begin()
            invocation.begin()
            run = ManagedRun(self.config, self.lines, generation, invocation)
            await run.execute()
            run.report()
            await run.settle()
            result = run.result()
            self._tell("invoke", result=result)
            if run.broken:
                async with self._turn:
                    if self._generation is generation:
                        await self._reset("failure", generation)
        return result
