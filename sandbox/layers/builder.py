"""Build a layer: a sandbox of the language's image that may reach its registry, and then nothing any more.

The tool downloads and installs, the network is closed, the files are sent and written. Nothing of a package is
executed while there is a network. Crates are compiled, and so executed, before they are sent. A Python package that
the registry has as source alone is built by a sandbox of its own, without a network; only its wheel is taken from
there, to a fresh builder. A builder has no file and no variable of the run, and is always discarded.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from protocol.limits import Limits
from protocol.network import NetworkAccess
from protocol.packages import PackagesFailed
from sandbox.engines import EngineError
from sandbox.frames import ProtocolError
from sandbox.layers.build import MAX_TRAFFIC_BYTES, BuildOrder, BuiltLayer, LayerBuild, SourceBuild
from sandbox.layers.registries import RegistryUnusable
from sandbox.layers.writer import LayerTooLarge
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
#: Source packages of one layer: each takes a builder of its own.
MAX_SOURCES = 8


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
        sources: list[SourceBuild] = []
        while True:
            outcome = self._round(order, memory_mb, place, on_output, deadline, sources)
            if isinstance(outcome, BuiltLayer):
                return outcome
            sources.append(outcome)
            if len(sources) > MAX_SOURCES:
                message = f"more than {MAX_SOURCES} of the packages have no wheel"
                raise PackagesFailed("package_build_failed", message)

    def _round(  # one argument per thing that a builder needs
        self,
        order: BuildOrder,
        memory_mb: int,
        place: Path,
        on_output: Callable[[str], None],
        deadline: float,
        sources: list[SourceBuild],
    ) -> BuiltLayer | SourceBuild:
        """Use one builder: until the layer is complete, or one source package is a wheel."""
        with self._builder(order.language, order.key, memory_mb) as (sandbox, stream):
            try:
                build = LayerBuild(order, stream, self._relay, self._registries, on_output, deadline)
                return build.run(place, sources)
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


def _was_out_of_memory(sandbox: Sandbox) -> bool:
    try:
        return sandbox.stats().oom_kills > 0
    except (OSError, EngineError):
        return False
