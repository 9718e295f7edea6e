"""Try whether a service can start with some settings, without touching one that runs.

Each check is one that the supervisor, the api or the worker makes at its start, or one step of that start. The rest
is left to the start itself: `make up` brings the earlier service back if that fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from api.keys.plans import load_plans
from api.packages.patterns_file import load_patterns
from api.system.instance_lease import FILE as INSTANCE
from config.settings import IMAGE_PREFIX, Settings, SettingsError, image_overrides
from ops.broker import check_broker
from ops.state import directory_problem
from records import open_records
from records.errors import RecordsUnavailable
from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.apparmor import profile_in_force
from sandbox.engines.confinement import load_profile
from sandbox.engines.runtimes import RUNTIMES, find_runtime
from sandbox.languages import Catalogue
from sandbox.pool.sizes import pool_sizes
from storage import areas
from storage.errors import StorageError, StorageMisconfigured
from storage.layout import check_place
from transport.access import broker_access
from worker.engines import oci_is_possible
from worker.gvisor import OFF

DATABASE_WAIT_S = 5.0
REFUSED = (SettingsError, EngineError, StorageMisconfigured, ValueError, OSError)


def check_start(settings: Settings, *, connects: bool = True) -> None:
    """Raise SettingsError with a line for each reason why the service cannot start with these settings.

    Without `connects` only the settings and the files that they name are looked at: no engine, no server is asked.
    """
    checks: list[Callable[[Settings], object]] = [_check_folders, broker_access]
    if settings.parts.has_api:
        checks += [_check_owner, _check_plans, _check_packages]
    if settings.parts.has_worker:
        checks += [_check_languages, _check_confinement]
    if connects:
        checks += [
            *([_check_engine] if settings.parts.has_worker else []),
            *([_check_database] if settings.parts.has_api else []),
            _check_bucket,
            check_broker,
        ]
    problems = []
    for check in checks:
        try:
            check(settings)
        except REFUSED as e:
            problems.append(str(e))
    if problems:
        raise SettingsError("\n".join(problems), problems)


def _check_folders(settings: Settings) -> None:
    problem = directory_problem(settings.state_dir)
    if problem is not None:
        raise SettingsError(problem)
    check_place(settings.storage)
    for name, path in (("IMAGES_DIR", settings.images), ("STORAGE_DIR", settings.storage)):
        if not path.is_absolute():
            raise SettingsError(f"{name}: {path} must be an absolute path")
        taken = next((folder for folder in (path, *path.parents) if folder.exists()), path)
        if not taken.is_dir():
            raise SettingsError(f"{name}: {taken} is not a directory")


def _check_owner(settings: Settings) -> None:
    """Refuse another account of the api than the one that its files belong to."""
    for path in (settings.api_home / INSTANCE, settings.state_dir / "db/runyard.sqlite"):
        if path.exists() and (owner := path.stat().st_uid) != settings.api_uid:
            raise SettingsError(
                f"UID_BASE={settings.uid_base}: {path} belongs to uid {owner}, the UID_BASE of an earlier start"
            )


def _check_plans(settings: Settings) -> None:
    """Read them as root, and as the account of the api, which reads them at its start."""
    load_plans(settings)
    with _as_api(settings.api_uid):
        load_plans(settings)


def _check_packages(settings: Settings) -> None:
    """Read the patterns of packages in the same way."""
    load_patterns(settings)
    with _as_api(settings.api_uid):
        load_patterns(settings)


@contextmanager
def _as_api(uid: int) -> Iterator[None]:
    """Look at files with the rights of the api's account."""
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _check_languages(settings: Settings) -> None:
    catalogue = Catalogue.load(only=settings.languages)
    languages = list(catalogue)
    pool_sizes(languages, memory_mb=0, wanted=settings.warm_pool)
    wanted = None if settings.gvisor_pool == OFF else settings.gvisor_pool
    pool_sizes(languages, memory_mb=0, wanted=wanted, name="GVISOR_POOL")
    for name in image_overrides():
        if catalogue.get(name) is None:
            supported = ", ".join(catalogue.ids)
            raise SettingsError(f"{IMAGE_PREFIX}{name.upper()}: unknown language; supported: {supported}")


def _check_confinement(settings: Settings) -> None:
    if settings.disable_sandbox_security:
        return
    load_profile(settings.seccomp_profile)
    if settings.apparmor_profile is not None:
        profile_in_force(settings.apparmor_profile)


def _check_engine(settings: Settings) -> None:
    if settings.engine != "docker" and oci_is_possible(settings.runtime):
        for name, value in image_overrides().items():
            if not Path(value).exists():
                raise SettingsError(f"{IMAGE_PREFIX}{name.upper()}={value}: no such file or directory")
        return
    if settings.engine == "oci":
        names = (settings.runtime,) if settings.runtime else RUNTIMES
        if not any(find_runtime(name) for name in names):
            raise SettingsError(f"ENGINE=oci: {' or '.join(names)} is not installed (RUNTIME)")
        return
    from sandbox.engines.docker.daemon import Daemon  # the SDK takes a tenth of a second to load

    daemon = Daemon(settings.docker_host)
    try:
        runtimes = daemon.about.runtimes
        if settings.runtime is not None and settings.runtime not in runtimes:
            known = ", ".join(sorted(runtimes))
            raise EngineUnusable(f"RUNTIME={settings.runtime}: the Docker daemon does not know it; it has {known}")
    finally:
        daemon.close()


def _check_database(settings: Settings) -> None:
    if settings.database_url is None:
        return  # a file in STATE_DIR
    if settings.database_url.startswith("sqlite:"):
        _check_database_folder(settings)
        return
    try:
        records = open_records(settings.database, connections=1, wait_s=DATABASE_WAIT_S)
        try:
            records.ping()
        finally:
            records.close()
    except RecordsUnavailable as e:
        raise SettingsError(f"DATABASE_URL: the database does not answer: {e}") from e


def _check_database_folder(settings: Settings) -> None:
    """Check whether the api can make the file, and the folders that are missing."""
    folder = settings.database_file.parent
    if folder == settings.state_dir / "db":
        return
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with _as_api(settings.api_uid):
        usable = os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
    if not usable or not folder.is_dir():
        raise SettingsError(
            f"DATABASE_URL: the account of the api (uid {settings.api_uid}) cannot write in {folder}"
        )


def _check_bucket(settings: Settings) -> None:
    if settings.bucket is None:
        return
    try:
        areas.for_api(settings).uploads.check()
    except StorageError as e:
        raise SettingsError(f"STORAGE_URL: {e}") from e
