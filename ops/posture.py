"""`make posture`: write the posture file of an engine with a runtime from what is measured here, for review.

ENGINE and RUNTIME select them. One sandbox of every built image is measured; those facts in which images may
differ are joined, in any other they must agree. The file is what every service holds its sandboxes against: it is
written on a machine that is known to be good, and read line by line before it is committed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from config.settings import Settings, SettingsError, load_settings
from ops import host
from sandbox.agent_client.readiness import await_ready
from sandbox.engines import Engine, EngineError, EngineUnusable
from sandbox.engines.apparmor import PROFILE, load_own
from sandbox.engines.confinement import apparmor_is_on
from sandbox.images import Images
from sandbox.languages import Catalogue, Language
from sandbox.posture.canary import settled
from sandbox.posture.facts import Facts, read_facts
from sandbox.posture.golden import Finding, compare, golden_path, load_golden
from worker.engines import open_engine

#: Until a Docker daemon has loaded the images.
LOADED_WITHIN_S = 300.0


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[tuple[Engine, Images, Catalogue]]:
    """Open the configured engine in a separate state directory, so that a running service is not affected."""
    state_dir = Path(tempfile.mkdtemp(prefix="runyard-posture-", dir=settings.state_dir.parent))
    try:
        state_dir.chmod(0o755)
        own = settings.model_copy(update={"state_dir": state_dir, "images_dir": settings.images})
        catalogue = Catalogue.load(only=settings.languages)
        if not own.disable_sandbox_security:
            load_own(own.apparmor_profile)
        engine, images = open_engine(own, catalogue, slots=4)
        try:
            yield engine, images, catalogue
        finally:
            engine.cleanup_stale()
            engine.close()
    finally:
        shutil.rmtree(state_dir, ignore_errors=True)


def measured(engine: Engine, images: Images, language: Language) -> Facts | None:
    """Measure the facts of a sandbox of a language's image; None without an image. Raises EngineError."""
    deadline = time.monotonic() + (LOADED_WITHIN_S if engine.name == "docker" else 0)
    while (image := images.get(language.id)) is None:
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.2)
    sandbox = engine.create(image)
    try:
        await_ready(sandbox)
        return read_facts(sandbox.process_view(), language)
    finally:
        sandbox.destroy()


def judged(settings: Settings, language: str) -> tuple[str, list[Finding]]:
    """Measure a sandbox of one language, layer by layer, and name its engine. Raises EngineError."""
    with opened(settings) as (engine, images, catalogue):
        known = catalogue.get(language)
        profile = (settings.apparmor_profile or PROFILE) if apparmor_is_on() else None
        golden = load_golden(engine.name, engine.runtime)

        def look() -> list[Finding]:
            facts = measured(engine, images, known) if known is not None else None
            if facts is None:
                raise EngineError(f"the image of {language} is not built")
            return compare(facts, golden, apparmor=profile, relaxed=settings.disable_sandbox_security)

        return f"{engine.name}/{engine.runtime}", settled(look)


def joined(found: dict[str, Facts]) -> Facts:
    """Merge the postures of all images. Raises ValueError that names a fact in which they must not differ."""
    whole: Facts = {}
    for language, facts in found.items():
        for layer, values in facts.items():
            for name, value in values.items():
                kept = whole.setdefault(layer, {}).setdefault(name, value)
                if kept != value:
                    whole[layer][name] = _joined(f"{language}: {layer}.{name}", kept, value)
    whole.pop("landlock", None)  # reported, never required
    whole["apparmor"] = {"label": f"{PROFILE} (enforce)"}  # wherever the kernel has it
    return whole


def _joined(where: str, one: Any, other: Any) -> Any:  # noqa: ANN401  # JSON
    if where.endswith("oom.oom_score_adj"):
        return min(one, other)
    raise ValueError(f"{where} is {other!r} and in another image {one!r}")


def write(settings: Settings) -> Path:
    """Measure, and write the file into this checkout; its path."""
    with opened(settings) as (engine, images, catalogue):
        found = {}
        for language in catalogue:
            facts = measured(engine, images, language)
            if facts is not None:
                found[language.id] = facts
        if not found:
            raise EngineError("no image is built: run make images")
        path = golden_path(engine.name, engine.runtime)
        path.write_text(json.dumps(joined(found), indent=1, ensure_ascii=False) + "\n")
        print(f"{path} from {', '.join(found)}: review every line before it is committed")
        return path


def show(settings: Settings, language: str) -> None:
    """Print, as JSON, how a sandbox of one language stands now."""
    name, findings = judged(settings, language)
    print(json.dumps({"name": name, "layers": [asdict(finding) for finding in findings]}))


def main(argv: list[str] | None = None) -> int:
    """Write the posture file, or print a posture. Returns 0 on success."""
    parser = argparse.ArgumentParser(prog="ops.posture", description=__doc__)
    parser.add_argument("--show", metavar="LANGUAGE", help="only print the posture of a sandbox in this language")
    options = parser.parse_args(argv)
    os.environ.setdefault("RUNYARD_ENV", "development")
    try:
        settings = load_settings()
        if options.show is not None:
            show(settings, options.show)
            return 0
        if settings.disable_sandbox_security:
            raise EngineUnusable(
                "DISABLE_SANDBOX_SECURITY=1: a posture measured without security must not be recorded"
            )
        host.prepare()
        write(settings)
    except (SettingsError, EngineError, ValueError) as e:
        print(f"make posture: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
