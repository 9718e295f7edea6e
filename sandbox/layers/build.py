"""One builder's work, step by step (`runners/agent/packages/main.py`). All that it sends is a sandbox's word."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protocol.limits import MIB
from protocol.network import NetworkAccess, proxy_environment
from protocol.packages import PackagesFailed
from sandbox.engines import EngineError
from sandbox.frames import ProtocolError
from sandbox.layers.credentials import Credentials
from sandbox.layers.facts import LockedPackage
from sandbox.layers.parser import LayerParser
from sandbox.layers.places import PLACES
from sandbox.layers.registries import certificates, parse_hosts, patterns_of, refuse_password
from sandbox.layers.steps import StepOutput, read_installed, read_packages, run_step
from sandbox.layers.writer import LayerWriter, WrittenLayer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sandbox.languages import Language
    from sandbox.layers.registries import Registries
    from sandbox.network.relay import NetworkRelay
    from sandbox.sessions.stream import SessionStream

MAIN = b"/opt/runyard/agent/packages/main.py"
#: The most that a step prints, and the largest wheel that is built from source.
MAX_ANSWER_BYTES = MIB
MAX_WHEEL_BYTES = 64 * MIB
#: The most that one build may download and upload.
MAX_TRAFFIC_BYTES = 2 << 30
#: Ecosystems whose packages are compiled, which executes them. Their registry alone knows the host of its files.
COMPILED = frozenset({"cargo"})
_WHEEL = re.compile(rb"([A-Za-z0-9][A-Za-z0-9_.+!-]{0,250}\.whl)\n")


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


@dataclass(frozen=True, slots=True)
class SourceBuild:
    """A wheel that was built from a source package, and that package as the registry has it."""

    package: LockedPackage
    file_name: str
    wheel: bytes


class LayerBuild:
    """The work of one builder."""

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
        self._output = StepOutput(on_output, Credentials(self._index))
        self._deadline = deadline

    def run(self, place: Path, sources: list[SourceBuild]) -> BuiltLayer | SourceBuild:
        """Make the layer of what the registry has as it is used, and of wheels that were built before (`sources`).

        If one more package has to be built from its source, that is done instead. Raises PackagesFailed, and what
        ends a sandbox or breaks its protocol.
        """
        is_compiled = self._order.ecosystem in COMPILED
        if is_compiled:
            refuse_password(self._index)
        index, others = parse_hosts(self._text("hosts", {"index": self._index}))
        for built in sources:
            self._check("put", self._run("put", built.file_name.encode() + b"\n" + built.wheel, _nothing))
        self._open_network(patterns_of(index, others))
        if is_compiled:
            self._widen_network(index)
        source = self._install(index)
        if source is not None:
            return self._build_source(index, source)
        self._close_network()
        found = {built.package.name.lower(): built.package for built in sources}
        packages = tuple(found.get(one.name.lower(), one) for one in read_packages(self._text("report", {})))
        self._verify(packages)
        if is_compiled:
            # From here on this sandbox is hostile. The packages have been reported before.
            self._check("build", self._run("build", b"", _nothing))
        with LayerWriter(place.with_name(f"{place.name}.new")) as writer:
            parser = LayerParser(writer, PLACES[self._order.ecosystem])
            self._check("pack", self._run("pack", b"", parser.feed))
            if not parser.is_complete:
                raise ProtocolError("a layer without its end")
            return BuiltLayer(writer.keep(place), packages, is_pure=not sources and not is_compiled)

    def _install(self, index: str) -> str | None:
        """Install what has a wheel. Returns the requirement of a package that has only a source, or None."""
        order = self._order
        locked = [[one.name, one.version, one.sha256] for one in order.locked]
        request = self._request(index, packages=order.packages, locked=locked)
        text = self._text("install", request)
        self._output.end()
        status, missing, source = read_installed(text)
        if status == 0:
            return None
        if source is not None:
            return source
        if missing in order.packages:
            message = f"{missing} is not in the registry, or has no version for this language's image"
            raise PackagesFailed("package_not_found", message, order.packages.index(missing))
        message = f"the packages cannot be installed: {self._output.tail()}"
        raise PackagesFailed("package_build_failed", message)

    def _build_source(self, index: str, source: str) -> SourceBuild:
        """Download a source package, close the network, and build it: from then on this sandbox is hostile."""
        packages = read_packages(b"[%b]" % self._text("fetch", self._request(index, source=source)))
        self._close_network()
        self._verify(packages)
        self._check("build", self._run("build", b"", _nothing))
        data = self._bytes("take", MAX_WHEEL_BYTES)
        named = _WHEEL.match(data)
        if named is None or len(packages) != 1:
            raise ProtocolError("a builder sends what is no wheel")
        return SourceBuild(packages[0], named[1].decode(), data[named.end() :])

    def _request(self, index: str, **more: object) -> dict[str, Any]:
        # `own`: the registry is the operator's choice, and not the one that the tool has built in.
        return {"index": index, "own": bool(self._index), "certificates": certificates(), **more}

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

    def _widen_network(self, index: str) -> None:
        """Permit the hosts that the registry names for its files, too. Nothing was downloaded until now."""
        _, hosts = parse_hosts(self._text("downloads", self._request(index)))
        network = self._stream.network
        if network is not None:
            network.change(NetworkAccess(patterns_of(index, hosts), most_bytes=MAX_TRAFFIC_BYTES))

    def _close_network(self) -> None:
        """Break off every connection, and permit no other: not to the registry either."""
        network = self._stream.network
        if network is not None:
            network.change(NetworkAccess(()))
            network.drop()

    def _text(self, step: str, request: dict[str, Any]) -> bytes:
        """Return what a step prints that does not fail. Raises PackagesFailed if it does."""
        return self._bytes(step, MAX_ANSWER_BYTES, json.dumps(request).encode())

    def _bytes(self, step: str, most: int, text: bytes = b"") -> bytes:
        """Return what a step prints that does not fail. Raises ProtocolError for more than `most` bytes."""
        found = bytearray()

        def take(data: bytes) -> None:
            if len(found) + len(data) > most:
                raise ProtocolError("a step of a build sends too much")
            found.extend(data)

        self._check(step, self._run(step, text, take))
        return bytes(found)

    def _check(self, step: str, status: int | None) -> None:
        if status != 0:
            self._output.end()
            raise PackagesFailed("package_build_failed", f"{step}: {self._output.tail()}")

    def _run(self, step: str, text: bytes, on_stdout: Callable[[bytes], None]) -> int | None:
        argv = [b"python3", b"-I", MAIN, step.encode(), self._order.ecosystem.encode()]
        channel = self._stream.start_process(argv, {}, b"/work")
        try:
            end = run_step(channel, text, on_stdout, self._output.take, self._deadline)
        finally:
            channel.close()
        if end is None:
            raise PackagesFailed("package_build_failed", "the packages were not ready in time (PACKAGES_TIMEOUT_S)")
        return end.exit_code


def _nothing(_data: bytes) -> None:
    """Pass over what a step prints."""
