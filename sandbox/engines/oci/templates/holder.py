"""One place for a template: which one is in use, when it is replaced, and when another may be tried."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass

from config.repeats import RepeatedLog
from sandbox.engines import EngineError
from sandbox.engines.oci.templates.boot import TemplateBooter
from sandbox.engines.oci.templates.container import HELLO_TIMEOUT_S, Template
from sandbox.images import Image
from sandbox.languages import Language

log = logging.getLogger(__name__)
repeated = RepeatedLog(log)

#: After a template that could not be made, or did not make a sandbox: containers meanwhile.
RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """When a template is replaced: at this age, or after so many forks.

    `most_alive` bounds its generations, the present one and those of which a sandbox lives: while there are so
    many, a template is used beyond its age. None is no bound.
    """

    most_runs: float
    most_seconds: float
    most_alive: int | None = None


def kernel_rotation(most_seconds: float) -> RotationPolicy:
    """Return the policy of the templates of kernels.

    Sessions live for a day and share the memory of their template, so it is replaced by its age alone, and each
    generation is memory that is there once more.
    """
    return RotationPolicy(math.inf, most_seconds, most_alive=3)


class TemplateHolder:
    """The template of one image, flavour and owner. Safe to use from several threads."""

    def __init__(
        self, booter: TemplateBooter, image: Image, language: Language, flavour: str, wear: RotationPolicy
    ) -> None:
        self._booter = booter
        self._image, self._language, self._flavour = image, language, flavour
        self._wear = wear
        self._template: Template | None = None
        #: Templates that fork no more, of which a sandbox may live.
        self._former: list[Template] = []
        self._booting = False
        self._closed = False
        self._not_before = 0.0
        self._change = threading.Condition()

    def in_backoff(self) -> bool:
        """Return whether its templates failed a moment ago."""
        return time.monotonic() < self._not_before

    def is_booted(self) -> bool:
        """Return whether a template is ready to fork."""
        with self._change:
            return self._template is not None and self._template.is_alive()

    def generations(self) -> int:
        """Return the number of templates in memory: the present one, and those of which a sandbox lives."""
        with self._change:
            return self._living_former() + (self._template is not None)

    def is_bounding_generations(self) -> bool:
        """Return whether sandboxes of templates live whose number is bounded: no other holder would count them."""
        with self._change:
            current = self._template
            used = self._living_former() + (current is not None and current.has_children())
            return self._wear.most_alive is not None and used > 0

    def _living_former(self) -> int:
        """Return the number of former templates of which a sandbox lives."""
        self._former = [template for template in self._former if template.has_children()]
        return len(self._former)

    def _may_serve(self, template: Template) -> bool:
        """Return whether a template is forked from on: it is fit, or it lives and must not be replaced yet."""
        if template.is_fit(most=self._wear.most_runs, seconds=self._wear.most_seconds):
            return True
        if self._wear.most_alive is None or not template.is_alive():
            return False
        # It counts without a child too: it may be forked while its successor boots.
        return self._living_former() + 1 >= self._wear.most_alive

    def get(self) -> Template:
        """Return the template, booting one if there is none; an old one serves until its successor is ready.

        It may be closed by the time it is used, if it is replaced just then. Raises EngineError.
        """
        with self._change:
            if self._closed or self.in_backoff():
                raise EngineError("templates rest")
            current = self._template
            if current is not None and self._may_serve(current):
                return current
            if self._booting:
                if current is not None and current.is_alive():
                    return current
                if not self._change.wait_for(lambda: not self._booting, HELLO_TIMEOUT_S):
                    raise EngineError("a template is still booting")
                if self._template is None:
                    raise EngineError("a template could not be booted")
                return self._template
            self._booting = True
        if current is not None and current.is_alive():
            threading.Thread(target=self._replace_in_background, name="template").start()
            return current
        return self._replace()

    def boot_in_background(self, turns: threading.Semaphore) -> None:
        """Have it booted on a thread of its own, if it may be and there is a turn for it."""
        with self._change:
            if self._closed or self._booting or self.in_backoff() or not turns.acquire(blocking=False):
                return
            self._booting = True

        def boot() -> None:
            try:
                self._replace_in_background()
            finally:
                turns.release()

        threading.Thread(target=boot, name="template").start()

    def _replace_in_background(self) -> None:
        try:
            self._replace()
        except EngineError as e:
            if self._booter.is_stopped:
                return
            message = "containers serve instead of templates: %s"
            repeated.log(logging.WARNING, message, e, key=self._language.id, language=self._language.id)

    def _replace(self) -> Template:
        """Boot a template and replace the present one, if any. Raises EngineError."""
        fresh: Template | None = None
        began = time.monotonic()
        try:
            fresh = self._booter.boot(self._image, self._language, self._flavour)
            seconds = round(time.monotonic() - began, 3)
            extra = {"language": self._language.id, "flavour": self._flavour, "seconds": seconds}
            log.info("a template is ready", extra=extra)
        except (EngineError, OSError) as e:
            raise EngineError(f"a template could not be booted: {e}") from e
        finally:
            with self._change:
                old, self._template, self._booting = self._template, fresh, False
                if old is not None:
                    self._former.append(old)
                if fresh is None:
                    self._not_before = max(self._not_before, time.monotonic() + RETRY_S)
                elif self._closed:
                    old, self._template = fresh, None
                self._change.notify_all()
            if old is not None:
                old.close()
        return fresh

    def discard(self, template: Template, *, rest: bool = False) -> None:
        """Discard a template that has exited or does not work; `rest` starts a back-off, since the next may fail
        too.
        """
        with self._change:
            if self._template is template:
                self._template = None
                self._former.append(template)
                if rest or template.branched <= 1:  # it never worked: leave it be for a while
                    self._not_before = max(self._not_before, time.monotonic() + RETRY_S)
        given_up = {"language": self._language.id, "template": template.id, "sandboxes": template.branched}
        repeated.log(logging.WARNING, "a template is given up", key=self._language.id, **given_up)
        template.close(kill=True)

    def quarantine(self, template: Template) -> None:
        """Stop forking from any template here, because a sandbox was not confined as required."""
        log.error("sandboxes are no longer made from this template", extra={"template": template.id})
        with self._change:
            current, self._template = self._template, None
            self._not_before = math.inf
        template.close()
        if current is not None:
            current.close()

    def close(self, *, kill: bool = False) -> None:
        """Let its template go, and any that is still booting; what they have forked lives on."""
        with self._change:
            self._closed = True
            template, self._template = self._template, None
        if template is not None:
            template.close(kill=kill)
