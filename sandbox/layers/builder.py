"""Build a layer: a sandbox of the language's image that may reach its registries, and then nothing any more.

Steps (`runners/agent/packages`): the tool names its registry; the network is opened to that; the tool downloads and
installs; the network is closed; the packages are listed; the files are sent and written. A builder has no file and
no variable of the run, and is discarded whatever happens.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protocol.limits import MIB, Limits
from protocol.network import NetworkAccess, proxy_environment
from sandbox.engines import EngineError
from sandbox.frames import ProtocolError
from sandbox.layers.errors import PackagesFailed
from sandbox.layers.facts import LockedPackage
from sandbox.layers.parser import LayerParser
from sandbox.layers.registries import RegistryUnusable, certificates, parse_hosts, patterns_of
from sandbox.layers.steps import StepOutput, read_packages, run_step
from sandbox.layers.writer import LayerTooLarge, LayerWriter, WrittenLayer
from sandbox.network.relay import NetworkRelay
from sandbox.sessions.channel import ChannelEnded
from sandbox.sessions.entry import enter_session
from sandbox.sessions.memory import NoMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sandbox.engines import Sandbox
    from sandbox.languages import Language
    from sandbox.layers.registries import Registries
    from sandbox.lock_watch import LockWatch
    from sandbox.pool.warm_pool import WarmPool
    from sandbox.sessions.hub import SessionHub
    from sandbox.sessions.memory import SessionMemory
    from sandbox.sessions.stream import SessionStream

log = logging.getLogger(__name__)

#: A builder's limits. Its files lie in memory: the packages, and the downloads they are made of.
BUILD_MEMORY_MB = 2_048
LEAST_MEMORY_MB = 512
DISK_SHARE = 0.75
BUILD_CPUS = 2.0
BUILD_PIDS = 256
#: The most that one build may download and upload.
MAX_TRAFFIC_BYTES = 2 << 30
#: The status of `install` for a package that is not in the registry.
NOT_FOUND_STATUS = 3


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """A layer to be built. `locked` are the packages that an earlier build of the same request resolved to."""

    layer_id: str
    key: str
    language: Language
    ecosystem: str
    packages: tuple[str, ...]
    locked: tuple[LockedPackage, ...] = ()


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """The outcome of a build: the files in their place, and the packages. `is_pure`: nothing was executed."""

    written: WrittenLayer
    packages: tuple[LockedPackage, ...]
    is_pure: bool


class LayerBuilder:
    """Builds layers, each in a sandbox of its own. Safe for threads."""

    def __init__(
        self,
        pool: WarmPool,
        memory: SessionMemory,
        hub: SessionHub,
        locks: LockWatch,
        egress: Path,
        registries: Registries,
    ) -> None:
        """`egress` is the socket of the egress process."""
        self._pool = pool
        self._memory = memory
        self._hub = hub
        self._locks = locks
        self._egress = egress
        self._registries = registries

    def build(
        self, order: BuildOrder, place: Path, on_output: Callable[[str], None], deadline: float
    ) -> BuiltLayer:
        """Build a layer, and write its files to the new directory `place`, before a monotonic time.

        Raises PackagesFailed, EngineError, OSError.
        """
        memory_mb = min(BUILD_MEMORY_MB, max(LEAST_MEMORY_MB, self._memory.most_mb // 2))
        try:
            self._memory.take(memory_mb, max(0.0, deadline - time.monotonic()))
        except NoMemory as e:
            message = f"a build of packages needs {memory_mb} MiB, which are in use; try again later"
            raise PackagesFailed("package_build_failed", message) from e
        try:
            return self._build(order, memory_mb, place, on_output, deadline)
        finally:
            self._memory.give(memory_mb)

    def _build(
        self,
        order: BuildOrder,
        memory_mb: int,
        place: Path,
        on_output: Callable[[str], None],
        deadline: float,
    ) -> BuiltLayer:
        with self._builder(order.language, order.key, memory_mb) as (sandbox, stream):
            try:
                return _Build(order, stream, self._relay, self._registries, on_output, deadline).run(place)
            except ChannelEnded as e:
                if _was_out_of_memory(sandbox):
                    message = f"the packages need more than the {memory_mb} MiB that a build may use"
                    raise PackagesFailed("package_build_failed", message) from e
                raise EngineError("the sandbox of a build has ended") from e
            except LayerTooLarge as e:
                raise PackagesFailed("package_build_failed", str(e)) from e
            except ProtocolError as e:
                log.info("a builder sent what is not allowed", extra={"reason": str(e)})
                message = f"the packages cannot be stored: {e}"
                raise PackagesFailed("package_build_failed", message) from e
            except RegistryUnusable as e:
                log.warning("a registry cannot be used: %s", e)
                raise PackagesFailed("package_build_failed", str(e)) from e

    def _relay(self, order: BuildOrder, allow: tuple[str, ...]) -> NetworkRelay:
        access = NetworkAccess(allow, most_bytes=MAX_TRAFFIC_BYTES)
        return NetworkRelay(self._egress, order.layer_id, order.key, access, for_build=True)

    @contextmanager
    def _builder(self, language: Language, key: str, memory_mb: int) -> Iterator[tuple[Sandbox, SessionStream]]:
        """Yield a sandbox and its stream, both gone at the end. Raises EngineError."""
        with ExitStack() as resources:
            sandbox, _ = self._pool.take(language, "", key)
            resources.callback(self._pool.discard, sandbox)
            limits = Limits.resolve({"memory_mb": memory_mb, "cpus": BUILD_CPUS, "pids": BUILD_PIDS})
            if not sandbox.apply(limits, round(memory_mb * DISK_SHARE)):
                raise EngineError(f"a builder does not fit into {memory_mb} MiB")
            resources.enter_context(self._locks.over(sandbox))
            stream = enter_session(sandbox, {b"HOME": b"/work"}, self._hub, lambda _why: None)
            resources.callback(self._hub.remove, stream)
            resources.callback(stream.lose, "the build has ended")
            yield sandbox, stream


class _Build:
    """One build in its sandbox, step by step."""

    def __init__(
        self,
        order: BuildOrder,
        stream: SessionStream,
        relay: Callable[[BuildOrder, tuple[str, ...]], NetworkRelay],
        registries: Registries,
        on_output: Callable[[str], None],
        deadline: float,
    ) -> None:
        self._order = order
        self._stream = stream
        self._relay = relay
        self._index = registries.of(order.ecosystem)
        self._output = StepOutput(on_output)
        self._deadline = deadline

    def run(self, place: Path) -> BuiltLayer:
        """Run every step. Raises PackagesFailed, and what ends a sandbox or breaks its protocol."""
        hosts = self._text("hosts", {"index": self._index})
        index, others = parse_hosts(hosts)
        self._open_network(patterns_of(index, others))
        try:
            self._install(index)
        finally:
            self._close_network()
        packages = read_packages(self._text("report", {}))
        self._verify(packages)
        with LayerWriter(place.with_name(f"{place.name}.new")) as writer:
            parser = LayerParser(writer)
            self._check("pack", self._run("pack", {}, parser.feed))
            if not parser.is_complete:
                raise ProtocolError("a layer without its end")
            return BuiltLayer(writer.keep(place), packages, is_pure=True)

    def _install(self, index: str) -> None:
        order = self._order
        request: dict[str, Any] = {
            "index": index,
            "packages": order.packages,
            "locked": [[one.name, one.version, one.sha256] for one in order.locked],
            "certificates": certificates(),
        }
        status, printed = self._printed("install", request)
        self._output.end()
        if status == 0:
            return
        entry = printed.decode("utf-8", "replace").strip()
        if status == NOT_FOUND_STATUS and entry in order.packages:
            message = f"{entry} is not in the registry, or has no version for this language's image"
            raise PackagesFailed("package_not_found", message, order.packages.index(entry))
        message = f"the packages cannot be installed: {self._output.tail()}"
        raise PackagesFailed("package_build_failed", message)

    def _verify(self, packages: tuple[LockedPackage, ...]) -> None:
        """Check that what was recorded for a version of a package is what the registry has sent now."""
        recorded = {(one.name, one.version): one.sha256 for one in self._order.locked}
        for one in packages:
            if recorded.get((one.name, one.version), one.sha256) != one.sha256:
                message = f"{one.name} {one.version} is another file than when it was first installed"
                raise PackagesFailed("package_build_failed", message)

    def _open_network(self, allow: tuple[str, ...]) -> None:
        channel = self._stream.start_network(self._relay(self._order, allow), proxy_environment())
        try:
            end = run_step(channel, b"", lambda _data: None, lambda _data: None, self._deadline)
        finally:
            channel.close()
        if end is None or end.exit_code != 0:
            raise EngineError("the proxy of a builder cannot be started")

    def _close_network(self) -> None:
        self._stream.withdraw_network()

    def _text(self, step: str, request: dict[str, Any]) -> bytes:
        """Return what a step prints that does not fail. Raises PackagesFailed if it does."""
        status, text = self._printed(step, request)
        self._check(step, status)
        return text

    def _printed(self, step: str, request: dict[str, Any]) -> tuple[int | None, bytes]:
        """Return a step's exit status and what it prints, at most a MiB. Raises ProtocolError for more."""
        found = bytearray()

        def take(data: bytes) -> None:
            if len(found) + len(data) > MIB:
                raise ProtocolError("a step of a build prints too much")
            found.extend(data)

        status = self._run(step, request, take)
        return status, bytes(found)

    def _check(self, step: str, status: int | None) -> None:
        if status != 0:
            self._output.end()
            raise PackagesFailed("package_build_failed", f"{step}: {self._output.tail()}")

    def _run(self, step: str, request: dict[str, Any], on_stdout: Callable[[bytes], None]) -> int | None:
        argv = [b"python3", b"-I", b"/opt/runyard/agent/packages/main.py", step.encode()]
        channel = self._stream.start_process([*argv, self._order.ecosystem.encode()], {}, b"/work")
        try:
            text = json.dumps(request).encode()
            end = run_step(channel, text, on_stdout, self._output.take, self._deadline)
        finally:
            channel.close()
        if end is None:
            raise PackagesFailed("package_build_failed", "the packages were not ready in time (PACKAGES_TIMEOUT_S)")
        return end.exit_code


def _was_out_of_memory(sandbox: Sandbox) -> bool:
    try:
        return sandbox.stats().oom_kills > 0
    except (OSError, EngineError):
        return False
