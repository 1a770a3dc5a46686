"""One life of the environment's processes: from init to shutdown or reset.

A reset ends a generation; the next invocation begins another in the same environment (suppressed
init). Everything an extension did in one is void in the next: it registers and subscribes again.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from telemetryd.local import processes
from telemetryd.local.api.server import ExtensionsServer, Function
from telemetryd.local.clock import epoch_ms, monotonic
from telemetryd.local.env_vars import extension_environment, runtime_environment
from telemetryd.local.events import ProcessExit, platform_event
from telemetryd.local.hub import TelemetryHub
from telemetryd.local.invocation import Failure, milliseconds
from telemetryd.local.polls import HeldPolls
from telemetryd.local.processes import ChildProcess, LaunchError
from telemetryd.local.runtime_slot import RuntimeSlot
from telemetryd.local.signalling import Changes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from telemetryd.local.config import LocalConfig
    from telemetryd.local.events import Kind, LineCounts, PlatformEvent
    from telemetryd.local.invocation import Invocation
    from telemetryd.local.losses import LossPlan

Phase = Literal["init", "invoke"]

_EXIT_LIMIT = 1.0
_OUTPUT_LIMIT = 0.25
_FLUSH_SHARE = 0.5
"""Part of the time of a shutdown for sending the buffered telemetry."""
_INTERNAL_BUDGET = 0.5


class Generation:
    """Extensions, runtimes and telemetry of one init."""

    def __init__(
        self,
        config: LocalConfig,
        number: int,
        phase: Phase,
        *,
        addresses: Sequence[str],
        instance_id: str,
        counts: LineCounts,
        on_event: Callable[[PlatformEvent], None],
        on_exit: Callable[[ProcessExit], None],
        losses: LossPlan,
        on_warning: Callable[[str], None],
        enter: Callable[[Path], None] | None,
    ) -> None:
        self.config = config
        self.number = number
        self.phase: Phase = phase
        self.changes = Changes()
        self.hub = TelemetryHub(
            config,
            generation=number,
            on_event=on_event,
            on_pressure=self._apply_pressure,
            losses=losses,
        )
        self.server = ExtensionsServer(
            Function(
                config.function_name,
                config.function_version,
                config.handler or "",
                config.account_id,
            ),
            lambda: str(uuid4()),
            external=[path.name for path in config.extension_paths()],
            managed=config.is_managed,
        )
        """The registrations of extensions, and the next calls that each may make."""
        self.extensions = self.server.extensions
        self.polls = HeldPolls(self.server)
        self.extension_processes: dict[str, ChildProcess] = {}
        """The external extensions that could be started, by name."""
        self.slots = [RuntimeSlot(index, address) for index, address in enumerate(addresses)]
        self.failure: Failure | None = None
        self.timed_out = False
        self.init_ms = 0.0
        self.restored = asyncio.Event()
        """Set unless the processes are to wait in a snapshot."""
        self.restoring = False
        self.restore_ms: float | None = None
        self._init_report: PlatformEvent | None = None
        self.invocations = 0
        self.request_id: str | None = None
        """On-demand: the invocation that is running."""
        self._instance_id = instance_id
        self._counts = counts
        self._on_exit = on_exit
        self._enter = enter
        self.warn = on_warning
        """Warn the user of something that Lambda would not report."""
        self._stopping = False
        self._stopped: list[int] = []
        self._descendants = processes.Descendants()
        self.frozen = False

    # -- what the APIs need ---------------------------------------------------------------

    def note_asked(self, slot: RuntimeSlot) -> None:
        """Note that a runtime has finished its init. Further internal extensions are too late."""
        slot.asked = True
        self.server.close_registration()

    def fail(self, error_type: str, message: str) -> None:
        """Note a fatal error. The first one counts."""
        if self.failure is None and not self._stopping:
            self.failure = Failure(error_type, message)
        self.changes.notify()

    def running(self, request_id: str) -> tuple[RuntimeSlot, Invocation] | None:
        """Return the invocation with this id that a runtime is working on."""
        for slot in self.slots:
            if slot.current is not None and slot.current.request_id == request_id:
                return slot, slot.current
        return None

    async def runtime_next(self, slot: RuntimeSlot) -> None:
        """Note that a runtime asks for its next invocation, which ends the last one."""
        asked = monotonic()
        self.note_asked(slot)
        process = slot.process
        if process is not None:
            # The runtime wrote everything before it asked, so it is in the pipe now, and belongs
            # to the invocation that ends here. A blocked consumer delays this, at most until it
            # is declared stalled.
            await self.changes.wait_until(process.drain, asked + self.config.stall_timeout + 0.5)
        if slot.current is not None:
            slot.current.runtime_done = asked
            slot.current = None

    # -- init -----------------------------------------------------------------------------

    async def init(self, deadline: float) -> None:
        """Run the init phase until `deadline`; afterwards `failure` says whether it failed."""
        begun = monotonic()
        config = self.config
        if not self.snapshot:
            self.restored.set()
        self._publish("platform.initStart", **self._instance())
        self._start_extensions()
        reached = await self._reach(
            lambda: all(item.is_registered for item in self.extensions.values()), deadline
        )
        runtime_started = reached
        if reached:
            self._start_runtimes()
            reached = await self._reach(lambda: all(slot.asked for slot in self.slots), deadline)
        if config.is_managed and runtime_started:
            self._runtime_init_done()
        if reached:
            reached = await self._reach(
                lambda: all(item.state == "Ready" for item in self.extensions.values()), deadline
            )
        self.hub.close_window()
        if not reached and self.failure is None:
            self.timed_out = True
            self.failure = Failure("Sandbox.Timedout", self._late(begun))
        self.init_ms = milliseconds(monotonic() - begun)
        if not config.is_managed and runtime_started and not self.timed_out:
            self._runtime_init_done()
        for extension in self.extensions.values():
            self.hub.platform(
                platform_event(
                    "platform.extension",
                    {
                        "name": extension.name,
                        "state": extension.state,
                        "events": list(extension.events),
                        "errorType": extension.error_type,
                    },
                )
            )
        self._init_report = self._phase_event(
            "platform.initReport", metrics={"durationMs": self.init_ms}, **self._outcome()
        )
        if not self.snapshot or self.failure is not None:
            self._tell_init_report()

    @property
    def snapshot(self) -> bool:
        """True if the processes are stopped after init, and an invocation restores them."""
        return self.config.mode == "snap-start" and self.phase == "init"

    async def restore(self, instance_id: str) -> None:
        """Restore the snapshot; afterwards `failure` says whether that failed."""
        begun = monotonic()
        self._instance_id = instance_id
        self.restoring = True
        self._tell("platform.restoreStart", **self._instance())
        self.thaw()
        self.restored.set()
        reached = await self._reach(
            lambda: all(slot.waiting for slot in self.slots), begun + self.config.restore_timeout
        )
        self.restoring = False
        if not reached and self.failure is None:
            self.timed_out = True
            self.failure = Failure(
                "Sandbox.Timedout",
                f"the hooks after the restore took longer than {monotonic() - begun:.1f} s",
            )
        self.restore_ms = milliseconds(monotonic() - begun)
        outcome = self._outcome()
        self._tell("platform.restoreRuntimeDone", **outcome)
        self._tell("platform.restoreReport", metrics={"durationMs": self.restore_ms}, **outcome)
        # As on Lambda: the report of the init phase, of its own time, follows the restore.
        self._tell_init_report()

    def _tell_init_report(self) -> None:
        if self._init_report is not None:
            self.hub.platform(self._init_report)
            self._init_report = None

    def _instance(self) -> dict[str, Any]:
        """Return the members about the environment in the start of an init and of a restore."""
        return {
            "runtimeVersion": "local",
            "functionName": self.config.function_name,
            "functionVersion": self.config.function_version,
            "instanceId": self._instance_id,
            "instanceMaxMemory": self.config.memory_mb * 1024 * 1024,
        }

    def _outcome(self) -> dict[str, Any]:
        if self.timed_out:
            return {"status": "timeout", "errorType": None}
        return {"status": self._status(), "errorType": self._error_type()}

    def _late(self, begun: float) -> str:
        missing = [item.name for item in self.extensions.values() if not item.is_registered]
        if missing:
            what = f"not registered: {', '.join(missing)} (the name must be the file's base name)"
        elif not any(slot.asked for slot in self.slots):
            what = "the runtime did not ask for an invocation"
        else:
            waiting = [item.name for item in self.extensions.values() if item.state != "Ready"]
            what = f"no call of next from: {', '.join(waiting)}"
        return f"init took longer than {monotonic() - begun:.1f} s; {what}"

    async def _reach(self, condition: Callable[[], bool], deadline: float) -> bool:
        await self.changes.wait_until(lambda: self.failure or condition(), deadline)
        return self.failure is None and condition()

    def _phase_event(self, event_type: str, **record: Any) -> PlatformEvent:
        common = {
            "initializationType": self.config.initialization_type,
            "phase": self.phase,
        }
        return platform_event(event_type, common | record)

    def _publish(self, event_type: str, **record: Any) -> None:
        self.hub.platform(self._phase_event(event_type, **record))

    def _tell(self, event_type: str, **record: Any) -> None:
        self.hub.platform(platform_event(event_type, record))

    def _runtime_init_done(self) -> None:
        self._publish(
            "platform.initRuntimeDone", status=self._status(), errorType=self._error_type()
        )

    def _status(self) -> str:
        return self.failure.status if self.failure else "success"

    def _error_type(self) -> str | None:
        return self.failure.error_type if self.failure else None

    def _start_extensions(self) -> None:
        environment = extension_environment(self.config, self.slots[0].address)
        for path in self.config.extension_paths():
            try:
                self.extension_processes[path.name] = self._launch(
                    "extension", path.name, [str(path)], environment
                )
            except LaunchError as error:
                denied = isinstance(error.__cause__, PermissionError)
                error_type = "PermissionDenied" if denied else "Extension.LaunchError"
                self.extensions[path.name].fail_launch(error_type)
                self.fail(error_type, f"extension could not be started: {error}")

    def _start_runtimes(self) -> None:
        command = self.config.runtime_command()
        for slot in self.slots:
            environment = runtime_environment(self.config, slot.address, self._instance_id)
            try:
                slot.process = self._launch(
                    "runtime", f"runtime-{slot.index}", command, environment
                )
            except LaunchError as error:
                self.fail("Runtime.InvalidEntrypoint", f"runtime could not be started: {error}")

    def _launch(
        self,
        role: processes.Role,
        name: str,
        command: list[str],
        environment: dict[str, str],
    ) -> ChildProcess:
        return ChildProcess(
            role,
            name,
            command,
            env=environment,
            cwd=self.config.task_root,
            max_line=self.config.max_line_bytes,
            enter=self._enter,
            on_output=self._output,
            on_exit=self._note_exit,
        )

    # -- processes ------------------------------------------------------------------------

    def processes(self) -> list[ChildProcess]:
        """Return every process, extensions first."""
        runtimes = [slot.process for slot in self.slots]
        return [
            *self.extension_processes.values(),
            *(process for process in runtimes if process is not None),
        ]

    def _output(self, process: ChildProcess, stream: str, block: bytes) -> None:
        kind: Kind = "extension" if process.role == "extension" else "function"
        request_id = self.request_id
        if process.role == "runtime" and self.config.is_managed:
            current = next((slot.current for slot in self.slots if slot.process is process), None)
            request_id = current.request_id if current is not None else None
        count = block.count(b"\n") + (not block.endswith(b"\n"))
        self._counts.add(kind, process.name, stream, request_id, count)
        if self.config.echo is not None:
            for line in block.removesuffix(b"\n").split(b"\n"):
                self.config.echo(kind, process.name, line)
        for slot in self.slots:
            # On demand everything that is printed belongs to the one invocation there is.
            mine = slot.process is process or not self.config.is_managed
            if slot.invocation is not None and slot.invocation.log is not None and mine:
                slot.invocation.log.add(block)
        self.hub.lines(kind, block)

    def _apply_pressure(self) -> None:
        blocked = self.hub.is_blocked
        for slot in self.slots:
            if slot.process is not None:
                if blocked:
                    slot.process.pause_reading()
                else:
                    slot.process.resume_reading()
        if not blocked:
            self.changes.notify()

    def _note_exit(self, process: ChildProcess) -> None:
        code = process.returncode or 0
        self._on_exit(
            ProcessExit(process.role, process.name, self.number, code, process.at_deadline)
        )
        how = f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        extension = self.extensions.get(process.name)
        if process.role == "extension" and extension is not None:
            if extension.shutdown_sent or self._stopping:
                extension.end(clean=code == 0)
            self.fail("Extension.Crash", f"extension {process.name} ended: {how}")
        else:
            self.fail("Runtime.ExitError", f"Runtime exited with error: {how}")

    def peak_memory_mb(self) -> int:
        """Return the peak memory of all processes, in MiB, at most the function's memory."""
        return min(processes.peak_memory_mb(self.processes()), self.config.memory_mb)

    # -- invocations ----------------------------------------------------------------------

    def dispatch(self, invocation: Invocation, slot: RuntimeSlot) -> None:
        """Give the invocation to the runtime and INVOKE to the extensions, at the same time."""
        event: dict[str, Any] = {
            "eventType": "INVOKE",
            "deadlineMs": invocation.deadline_ms,
            "requestId": invocation.request_id,
            "invokedFunctionArn": self.config.function_arn,
        }
        tracing = invocation.trace_context(span=False)
        if tracing is not None:
            event["tracing"] = tracing
        slot.assign(invocation)
        for extension in self.extensions.values():
            if "INVOKE" in extension.events:
                self.polls.send(extension, event)

    @property
    def extensions_at_rest(self) -> bool:
        """True if every INVOKE extension has asked for its next event."""
        return all(item.at_rest for item in self.extensions.values() if "INVOKE" in item.events)

    # -- freeze and thaw ------------------------------------------------------------------

    async def freeze(self) -> None:
        """Stop delivery, then every process."""
        if self.frozen:
            return
        self.frozen = True
        self.hub.freeze()
        self._stopped = processes.stop_all(self.processes())
        await processes.wait_stopped(self._stopped)

    def thaw(self) -> None:
        """Let every process and the delivery continue."""
        if self.frozen:
            self.frozen = False
            processes.continue_all(self.processes(), self._stopped)
            self._stopped = []
            self.hub.thaw()

    # -- the end --------------------------------------------------------------------------

    def abort_running(self) -> None:
        """Fail what a managed instance still works on when it is shut down."""
        if any(slot.current and not slot.current.answered.done() for slot in self.slots):
            self.fail("Client.ExecutionEnvironmentShutDown", "the environment was shut down")

    async def kill_runtimes(self) -> None:
        """SIGKILL the runtimes and take the rest of their output."""
        self._stopping = True
        self._descendants.hold(self.processes())
        for slot in self.slots:
            if slot.process is not None:
                slot.process.signal(signal.SIGKILL)
        await self._end_runtimes()

    async def _end_runtimes(self) -> None:
        for slot in self.slots:
            if slot.process is not None:
                await slot.process.wait(_EXIT_LIMIT)
                await slot.process.finish(_OUTPUT_LIMIT)

    def _budget(self) -> float:
        if self.extension_processes:
            return self.config.shutdown_budget
        return _INTERNAL_BUDGET if self.extensions else 0.0

    async def stop(
        self, reason: str, *, after_shutdown_sent: Callable[[], object] | None = None
    ) -> None:
        """Shut down: runtimes first, SHUTDOWN to the extensions, SIGKILL at the deadline.

        `after_shutdown_sent` is called when the extensions have been told, while they still run.
        """
        begun = monotonic()
        self._stopping = True
        budget = self._budget()
        deadline = begun + budget
        deadline_ms = epoch_ms(budget)
        self.thaw()
        self._descendants.hold(self.processes())
        await self._stop_runtimes(budget * self.config.runtime_share)
        if self.config.flushes_at_shutdown:
            limit = min(budget * _FLUSH_SHARE, deadline - monotonic())
            await self.hub.flush(max(limit, 0.0))
        event = {"eventType": "SHUTDOWN", "deadlineMs": deadline_ms, "shutdownReason": reason}
        for name, process in self.extension_processes.items():
            extension = self.extensions[name]
            if not process.alive:
                continue
            if "SHUTDOWN" in extension.events and extension.may_poll:
                self.polls.send(extension, event)
            else:
                process.signal(signal.SIGKILL)
        if after_shutdown_sent is not None:
            after_shutdown_sent()
            if self.config.flushes_at_shutdown:
                self.hub.hurry()
        await self._end_extensions(deadline)
        await self.close()

    async def _end_extensions(self, deadline: float) -> None:
        running = [
            (self.extensions[name], process) for name, process in self.extension_processes.items()
        ]
        # An extension is done when its process has ended. Asking for another event after SHUTDOWN
        # says the same: AWS's Rust library does that, and the service is known to accept it.
        await self.changes.wait_until(
            lambda: all(
                not process.alive or (item.shutdown_sent and item.at_rest)
                for item, process in running
            ),
            deadline,
        )
        for item, process in running:
            if process.alive:
                process.at_deadline = not item.at_rest
                process.signal(signal.SIGKILL)
        for _, process in running:
            await process.wait(_EXIT_LIMIT)
            await process.finish(_OUTPUT_LIMIT)

    async def _stop_runtimes(self, grace: float) -> None:
        living = [
            slot.process for slot in self.slots if slot.process is not None and slot.process.alive
        ]
        for process in living:
            process.signal(signal.SIGTERM if grace > 0 else signal.SIGKILL)
        await self.changes.wait_until(
            lambda: not any(process.alive for process in living), monotonic() + grace
        )
        for process in living:
            if process.alive:
                process.at_deadline = grace > 0
                process.signal(signal.SIGKILL)
        await self._end_runtimes()

    async def close(self) -> None:
        """Release everything; harmless when done already."""
        self._stopping = True
        self._descendants.hold(self.processes())
        for process in self.processes():
            process.kill_now()
        self._descendants.kill()
        self.polls.abandon()
        for slot in self.slots:
            slot.abandon()
        await self.hub.close()
        self.changes.notify()
