"""Assemble the worker's parts in order, and close them in reverse."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from config.failpoints import spare
from config.ids import new_id
from config.settings import Settings
from protocol.job import Job
from protocol.packages import ECOSYSTEMS
from protocol.result import Refusal
from sandbox.admission.control import Admission
from sandbox.availability import Availability, language_of
from sandbox.blobs import RunStorage
from sandbox.engines import EngineUnusable, NotConfined
from sandbox.engines.apparmor import ProfileWatch, profiles_in_use
from sandbox.engines.machine import raise_limits
from sandbox.engines.remedies import remedy_for
from sandbox.executor import Executor
from sandbox.languages import Catalogue, Language, kernels_of
from sandbox.lock_watch import LockWatch
from sandbox.metrics import Metrics
from sandbox.pool.sizes import MAX_READY_CONTAINERS, MAX_READY_FORKED, flavour_sizes, pool_sizes
from sandbox.pool.warm_pool import WarmPool
from sandbox.posture.canary import Posture
from sandbox.run.live import LiveRun
from sandbox.sessions.hub import SessionHub
from sandbox.sessions.memory import SessionMemory
from sandbox.sessions.runs import SessionExecutor
from sandbox.sessions.single_use import SingleUseCells
from sandbox.sessions.table import SessionTable
from sandbox.sessions.watch import FrozenWatch
from storage import areas
from storage.errors import StorageUnavailable
from worker.egress_counters import EgressCounters, ask_status
from worker.engines import open_engine, try_given
from worker.gvisor import RUNSC, GvisorPool, gvisor_engine
from worker.layers import WorkerLayers
from worker.telemetry import Observer, register_gauges

log = logging.getLogger(__name__)

#: Sandboxes that are being taken apart still hold their slot.
TEARDOWN_SLOTS = 32
IMAGE_CHECK_S = 1.0
#: Between two looks at the AppArmor profiles in use: an administrator or a package may replace them at any time.
PROFILE_CHECK_S = 5.0
#: Seconds between two removals of unfinished artifacts of killed writers.
CLEAN_S = 3600.0


class Service:
    """Catalogue, engine, pool, admission and executor of one worker."""

    def __init__(self, settings: Settings) -> None:
        """Assemble the worker without starting a thread. Raises EngineUnusable, StorageError or ValueError."""
        self.watch = FrozenWatch()
        self.blobs = areas.for_worker(settings)
        self.catalogue = Catalogue.load(only=settings.languages)
        machine_mb = _machine_memory_mb()
        sizes = _pool_sizes(settings, self.catalogue, machine_mb, MAX_READY_CONTAINERS)
        pooled = sum(sizes.values()) + sum(flavour_sizes(sizes).values())
        warm_layers = _warm_layers(settings)
        slots = pooled + warm_layers + settings.max_runs + settings.max_sessions + TEARDOWN_SLOTS
        budget_mb = settings.memory_budget_mb or machine_mb * 3 // 4
        raise_limits(settings.max_runs, budget_mb)
        self.engine, self.images = open_engine(settings, self.catalogue, slots=slots)
        if self.engine.has_templates:
            sizes = _pool_sizes(settings, self.catalogue, machine_mb, MAX_READY_FORKED)
        self.admission = Admission(
            max_runs=settings.max_runs,
            memory_mb=budget_mb,
            queue_max=settings.queue_max,
            queue_wait_s=settings.queue_wait_s,
        )
        self.metrics = Metrics()
        self.availability = Availability()
        self.posture = Posture(
            self.engine,
            self.catalogue,
            apparmor=settings.apparmor_profile,
            relaxed=settings.disable_sandbox_security,
            availability=self.availability,
        )
        self.pool = WarmPool(
            self.engine,
            self.images,
            sizes,
            self.metrics,
            inspect=self.posture.inspect,
            availability=self.availability,
            layers=warm_layers,
        )
        register_gauges(self.metrics.registry, self.admission, self.pool)
        if settings.has_egress:
            self.metrics.registry.register(EgressCounters(functools.partial(ask_status, settings.egress_socket)))
        self.gvisor = self._open_gvisor(settings, slots)
        self.locks = LockWatch()
        egress = settings.egress_socket if settings.egress == "on" else None
        memory = SessionMemory(self.admission, settings.sessions_memory_mb or budget_mb // 2)
        hub = SessionHub()
        self._worker_layers = (
            None
            if settings.package_mode == "off"
            else WorkerLayers(
                settings, self.catalogue, self.images, self.pool, memory, hub, self.locks, self.blobs.layers
            )
        )
        #: Provides packages; None where no builder could reach a registry.
        self.layers = None if self._worker_layers is None else self._worker_layers.supply
        self.sessions = SessionTable(
            self.catalogue,
            self.pool,
            self.admission,
            self.pool if self.engine.runtime.startswith(RUNSC) else self.gvisor,
            locks=self.locks,
            memory=memory,
            hub=hub,
            most=settings.max_sessions,
            output_mb=settings.process_output_mb,
            watch=self.watch,
            egress=egress,
            layers=self.layers,
        )
        self.executor = Executor(
            self.catalogue,
            self.pool,
            self.admission,
            RunStorage(self.blobs),
            self.pool if self.engine.runtime.startswith(RUNSC) else self.gvisor,
            cells=SingleUseCells(self.sessions.hub, self.sessions.memory, RunStorage(self.blobs)),
            locks=self.locks,
            compile_timeout_ms=settings.compile_timeout_ms,
            egress=egress,
            layers=self.layers,
        )
        self.session_executor = SessionExecutor(
            self.catalogue, self.sessions, RunStorage(self.blobs), queue_wait_s=settings.queue_wait_s
        )
        self.observer = Observer(self.metrics)
        #: Returns whether the broker can be used now; None where there is none.
        self.is_broker_connected: Callable[[], bool] | None = None
        relaxed = settings.disable_sandbox_security
        self._profiles = ProfileWatch([] if relaxed else profiles_in_use(settings.apparmor_profile))
        #: Called once, with a description, when an AppArmor profile has changed since the start.
        self.on_profile_change: Callable[[str], None] | None = None
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch_for_images, name="images", daemon=True)

    def _open_gvisor(self, settings: Settings, slots: int) -> GvisorPool | None:
        engine = gvisor_engine(settings, self.catalogue, self.engine, slots_before=slots)
        if engine is None:
            return None
        return GvisorPool(settings, self.catalogue, engine, self.images, self.metrics)

    def start(self) -> None:
        """Reap, try the given images, send the canaries, then begin to fill the pool.

        Raises EngineUnusable naming an image or a missing layer.
        """
        left = self.engine.cleanup_stale()
        if left:
            log.warning("removed the remains of a killed worker", extra={"sandboxes": left})
        try:
            try_given(self.engine, self.images)
            self._measure()
        except EngineUnusable:
            self.engine.close()
            raise
        self.pool.start()
        if self.gvisor is not None:
            self.gvisor.start()
        self.locks.start()
        self.sessions.start()
        if self._worker_layers is not None:
            self._worker_layers.open(self._closing)
        self._watcher.start()
        if self._profiles.watches:
            threading.Thread(target=self._watch_profiles, name="profiles", daemon=True).start()
        threading.Thread(target=self._clean_storage, name="clean", daemon=True).start()

    def _measure(self) -> None:
        """Measure the confinement of each image before any run. Images built later are measured then."""
        began = time.monotonic()
        built = [image for language in self.catalogue if (image := self.images.get(language.id)) is not None]
        try:
            self.posture.send_canaries(built)
        except NotConfined as e:
            raise EngineUnusable(
                f"the service does not start, because sandboxes lack required confinement: {e}"
            ) from e
        log.info("measured", extra={"images": len(built), "seconds": round(time.monotonic() - began, 3)})

    def _watch_for_images(self) -> None:
        """Look for new images now and then until every language is built."""
        missing = {language.id for language in self.catalogue}
        while missing and not self._closing.wait(IMAGE_CHECK_S):
            built = {name for name in missing if self.images.get(name)}
            if built:
                missing -= built
                log.info("languages became ready", extra={"languages": sorted(built)})
                self.pool.images_changed()

    def _watch_profiles(self) -> None:
        """Report the first change of an AppArmor profile in use."""
        while not self._closing.wait(PROFILE_CHECK_S):
            problem = self._profiles.problem()
            if problem is not None:
                if self.on_profile_change is not None:
                    self.on_profile_change(problem)
                return

    def _clean_storage(self) -> None:
        """Remove what a killed worker had begun to store, at the start and now and then."""
        while True:
            try:
                self.blobs.artifacts.clean()
            except StorageUnavailable as e:
                log.warning("unfinished artifacts cannot be looked for: %s", e)
            if self._closing.wait(CLEAN_S):
                return

    def status(self) -> dict[str, Any]:
        """Return the status for api: languages, engine, pool and queue; and of the broker, where there is one."""
        load = self.admission.load()
        broker = self.is_broker_connected
        return {
            **({} if broker is None else {"broker": "ok" if broker() else "fail"}),
            "engine": self.engine.name,
            "runtime": self.engine.runtime,
            "languages": [self._describe(language) for language in self.catalogue],
            "pool": self.pool.counts(),
            "gvisor_pool": self.gvisor.counts() if self.gvisor is not None else {},
            "queue": {"waiting": load.waiting, "running": load.running},
            "confined": self.pool.confined,
            "landlock": self.pool.landlock,
            "posture": self._summary(),
            "isolations": self.isolations(),
            "sandboxes": {"usable": self.availability.is_usable(), "failing": sorted(self.availability.failing())},
        }

    def _summary(self) -> dict[str, str]:
        """Return the required layers; under `gvisor`, once it was used, its own in one entry."""
        summary = self.posture.summary()
        if self.gvisor is not None and self.gvisor.posture.report():
            own = self.gvisor.posture.summary()
            summary["gvisor"] = "ok" if set(own.values()) == {"ok"} else "fail"
        return summary

    def ready_languages(self) -> list[str]:
        """Return the ids of the languages that have an image."""
        return [language.id for language in self.catalogue if self.images.get(language.id) is not None]

    def isolations(self) -> list[str]:
        """Return the values of a job's `isolation` that can be had here."""
        has_gvisor = self.gvisor is not None or self.engine.runtime.startswith(RUNSC)
        return ["default", "container", *(["gvisor"] if has_gvisor else [])]

    def postures(self) -> list[dict[str, Any]]:
        """Return the state of every layer, with measurements and remedies: for the machine's owner."""
        every = [self.posture, *([self.gvisor.posture] if self.gvisor is not None else [])]
        told = [{"name": one.name, "layers": [asdict(found) for found in one.report()]} for one in every]
        return [one for one in told if one["layers"]]

    def sandboxes(self) -> dict[str, Any]:
        """Return the languages whose sandboxes cannot be made, with the engine's messages, for the operator."""
        return {
            name: {**asdict(found), "remedy": remedy_for(found.words)}
            for name, found in self.availability.failing().items()
        }

    def canary(self, name: str) -> dict[str, Any]:
        """Run the example of a language as any job. Returns `ok`, or the failure and a remedy, for the
        operator.
        """
        language = self.catalogue.get(name)
        if language is None:
            return _canary(f"unknown language {name}; supported: {self.catalogue.ids}")
        job = Job(run_id=new_id("run"), language=language.id, code=language.example, key="canary")
        accepted = self.executor.accept(job)
        if isinstance(accepted, Refusal):
            return _canary(accepted.message)
        with spare():
            outcome = self.executor.run(accepted, LiveRun(job.run_id, language.id))
        if isinstance(outcome, Refusal):
            return _canary(outcome.message)
        if outcome.status == "succeeded":
            return _canary("")
        failing = self.availability.failing()
        failure = next((found for name, found in failing.items() if language_of(name) == language.id), None)
        reason = outcome.error.message if outcome.error is not None else outcome.stderr.strip()[-300:]
        return _canary(failure.words if failure is not None else f"its run ended {outcome.status}: {reason}")

    def _describe(self, language: Language) -> dict[str, Any]:
        image = self.images.get(language.id)
        return {
            "id": language.id,
            "aliases": list(language.aliases),
            "version": image.version if image else None,
            "entry_file": language.entry_file,
            "packages": list(image.packages) if image else [],
            "ready": image is not None,
            "example": language.example,
            "keeps": "variables" if language.keeps_variables else "files",
            "kernels": sorted(kernels_of(language, self.catalogue)),
            "results": language.has_results,
            "package_ecosystem": ECOSYSTEMS.get(language.id),
            "pids_default": language.pids_default,
        }

    def close(self) -> None:
        """Take the pool and the engine apart; no run is under way any more."""
        self._closing.set()
        self.sessions.close()
        self.watch.close()
        self.locks.stop()
        self.pool.close()
        if self.gvisor is not None:
            self.gvisor.close()
        self.engine.close()


def _canary(words: str) -> dict[str, Any]:
    """Return a canary's answer: it succeeded if there is no reason of a failure."""
    return {"ok": not words, "words": words, "remedy": remedy_for(words) if words else ""}


def _pool_sizes(settings: Settings, catalogue: Catalogue, machine_mb: int, most: int) -> dict[Language, int]:
    memory_mb = settings.pool_memory_mb
    if memory_mb is None:
        memory_mb = min(1024, machine_mb // 16)
    return pool_sizes(list(catalogue), memory_mb=memory_mb, wanted=settings.warm_pool, most=most)


def _warm_layers(settings: Settings) -> int:
    """Return the number of layers of packages of which a sandbox waits.

    None do if each key has its own templates: what waits would have to be forked from that of one key.
    """
    if settings.package_mode == "off" or settings.template_scope == "key":
        return 0
    return settings.warm_layers


def _machine_memory_mb() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1024 * 1024)
