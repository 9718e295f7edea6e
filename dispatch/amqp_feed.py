"""Collect what all workers say of runs that no connection waits for, as if there were one worker."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from dispatch import ClientGone, FeedItem, WorkerLost, WorkerUnavailable
from dispatch.interrupt import Interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dispatch.amqp_workers import RemoteWorker, WorkerDirectory

log = logging.getLogger(__name__)

#: Seconds after reaching the broker in which all workers that live announce themselves.
SETTLED_S = 10.0
LOOK_S = 0.25
AGAIN_S = 0.5


class MergedFeed:
    """The feeds of all workers. Every worker that is known has a thread that follows it."""

    def __init__(self, directory: WorkerDirectory, connected_s: Callable[[], float]) -> None:
        """Follow the workers of a directory. `connected_s` returns for how long the broker was reached, or 0."""
        self._directory = directory
        self._connected_s = connected_s
        self._items: SimpleQueue[FeedItem] = SimpleQueue()
        self._followed: set[str] = set()
        self._lock = threading.Lock()
        self._interrupt = Interrupt()
        self._stopped = threading.Event()

    def items(self, client_fd: int | None) -> Iterator[FeedItem]:
        """Yield the items of all workers. Raises ClientGone when the peer of `client_fd` goes away.

        `runs` comes when all workers had the time to announce themselves, and again when one of them has gone.
        """
        poller = select.poll()
        if client_fd is not None:
            poller.register(client_fd, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        listed_losses = -1
        try:
            while True:
                if client_fd is not None and poller.poll(0):
                    raise ClientGone
                self._follow_new()
                losses = self._directory.losses
                if losses != listed_losses and self._connected_s() > SETTLED_S:
                    found = self._list_runs()
                    if found is not None:
                        listed_losses = losses
                        yield found
                try:
                    yield self._items.get(timeout=LOOK_S)
                except Empty:
                    continue
        finally:
            self._stopped.set()
            self._interrupt.close()

    def _list_runs(self) -> FeedItem | None:
        """Return all runs of all workers; None if one of them does not answer, and is asked again."""
        asked_at = time.monotonic()
        live: dict[str, object] = {}
        for worker in self._directory.known():
            try:
                found = next(worker.requests.collect(client_fd=self._interrupt.fd))
            except (WorkerUnavailable, WorkerLost, StopIteration):
                return None
            live |= self._noted(worker, found)
        return FeedItem("runs", {"live": live}, asked_at)

    def _follow_new(self) -> None:
        for worker in self._directory.known():
            with self._lock:
                is_new = worker.name not in self._followed
                self._followed.add(worker.name)
            if is_new:
                stop_fd = self._interrupt.another_fd()
                threading.Thread(target=self._follow, args=(worker, stop_fd), name="feed", daemon=True).start()

    def _follow(self, worker: RemoteWorker, stop_fd: int) -> None:
        """Pass on what a worker says, until it or the collector has gone. Closes `stop_fd`."""
        try:
            while not self._stopped.is_set() and self._directory.find(worker.name) is worker:
                try:
                    for item in worker.requests.collect(client_fd=stop_fd):
                        self._pass_on(worker, item)
                except (WorkerUnavailable, WorkerLost):
                    self._stopped.wait(AGAIN_S)
        except ClientGone:
            pass
        except Exception:
            log.exception("following a worker failed")
        finally:
            os.close(stop_fd)
            with self._lock:
                self._followed.discard(worker.name)

    def _pass_on(self, worker: RemoteWorker, item: FeedItem) -> None:
        if item.kind == "runs":  # of one worker alone: `_list_runs` asks all
            self._items.put(FeedItem("found", {"live": self._noted(worker, item)}))
            return
        run_id = item.data.get("id" if item.kind == "status" else "run_id")
        if isinstance(run_id, str):
            self._directory.remember(run_id, worker.name)
        self._items.put(item)

    def _noted(self, worker: RemoteWorker, item: FeedItem) -> dict[str, object]:
        live = item.data.get("live")
        if not isinstance(live, dict):
            return {}
        for run_id in live:
            self._directory.remember(run_id, worker.name)
        return live
