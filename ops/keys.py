"""`make keys`: stored keys without HTTP, whether the service runs or not.

    make keys                                       all of them, the newest first
    make keys KEYS="create --plan pro --label bob"  create a key; it is printed once, on stdout
    make keys KEYS="revoke key_…"                   revoke a key immediately and permanently

The settings are those of the running service; where none runs, those of `make up`. The database belongs to api's
account, so this process becomes that account before it opens it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

from config.version import VERSION
from ops.environment import clean
from ops.install import InstallError
from ops.settings import choose_place, use_service_settings
from ops.state import StatePlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.keys.plans import Plans
    from api.keys.service import KeyService
    from config.settings import Settings
    from records import Records
    from records.keys import StoredKey

OPERATOR = "operator"
#: Set for the second attempt, by an interpreter that has the service's libraries.
TRIED = "RUNYARD_KEYS_TRIED"
PAGE = 100
FAILED, MISUSED = 1, 2


def main(argv: list[str] | None = None) -> int:
    """Run a command. Returns 0 on success, 1 on failure, 2 for an unknown command."""
    options = _parser().parse_args(argv)
    try:
        choose_place()
        _find_libraries()
        use_service_settings()
    except InstallError as e:
        print(f"make keys: {e}", file=sys.stderr)
        return FAILED
    from config.settings import SettingsError, load_settings
    from records.errors import RecordsUnavailable

    os.environ.setdefault("RUNYARD_ENV", "development")  # as make up does
    try:
        settings = load_settings()
        _become_api(settings)
        return _do(options, settings)
    except (SettingsError, RecordsUnavailable, OSError, ValueError) as e:
        print(f"make keys: {e}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make keys", description=__doc__, usage='make keys KEYS="…"')
    parser.add_argument("--version", action="version", version=f"runyard {VERSION}")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="list all keys, the newest first")
    create = commands.add_parser("create", help="create a key; it is shown only once")
    create.add_argument("--plan", required=True, help="a plan from PLANS_FILE")
    create.add_argument("--label", default="", help="at most 64 characters of A-Z a-z 0-9 _ . @ - and spaces")
    revoke = commands.add_parser("revoke", help="revoke a key immediately and permanently")
    revoke.add_argument("id", help="the id (key_…) that list shows")
    return parser


def _find_libraries() -> None:
    """Go on in the installed service's interpreter, unless this one can already do what is asked.

    With its own copy of the code: api's account need not be able to read the checkout.
    """
    if importlib.util.find_spec("sqlalchemy") and importlib.util.find_spec("pydantic_settings"):
        return
    python = StatePlace.of_environment().python
    if not python.exists() or os.environ.get(TRIED):
        print("make keys: the service is not installed: run make up first", file=sys.stderr)
        sys.exit(FAILED)
    argv = [str(python), "-P", "-s", "-m", "ops.keys", *sys.argv[1:]]
    os.execve(python, argv, {**clean(), TRIED: "1"})  # noqa: S606


def _become_api(settings: Settings) -> None:
    """Become the uid of api. Files that root creates next to the database would not be writable by api."""
    if not settings.parts.has_api:
        raise ValueError("ROLE=worker: this machine has no records; run the command where the api is")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(settings.api_uid)
        os.setuid(settings.api_uid)
    os.umask(0o077)


def _do(options: argparse.Namespace, settings: Settings) -> int:
    from api.keys.plans import load_plans
    from api.keys.service import KeyService
    from records import migrate, open_records

    plans = load_plans(settings)
    migrate(settings.database)
    records = open_records(settings.database, connections=1)
    try:
        keyring = KeyService(records.keys, records.usage, plans)
        if options.command == "create":
            return _create(keyring, plans, options.plan, options.label)
        if options.command == "revoke":
            return _revoke(keyring, options.id)
        return _list(records, keyring)
    finally:
        records.close()


def _create(keyring: KeyService, plans: Plans, plan: str, label: str) -> int:
    from api.keys.service import LABEL_RULE, is_label

    if plan not in plans:
        print(f"make keys: unknown plan {plan!r}; available: {', '.join(plans)}", file=sys.stderr)
        return MISUSED
    if not is_label(label):
        print(f"make keys: label: {LABEL_RULE}", file=sys.stderr)
        return MISUSED
    made = keyring.make(plan, OPERATOR, label=label)
    print(f"{made.stored.id}, plan {plan}: the key is shown only once", file=sys.stderr)
    print(made.text)
    return 0


def _revoke(keyring: KeyService, key_id: str) -> int:
    if not keyring.revoke(key_id, OPERATOR):
        print("make keys: no such key, or already revoked", file=sys.stderr)
        return FAILED
    print(f"{key_id} is revoked", file=sys.stderr)
    return 0


def _list(records: Records, keyring: KeyService) -> int:
    from config.clock import rfc3339

    print(f"{'id':<33}{'prefix':<10}{'plan':<12}{'left':>8}  {'state':<10}{'created':<26}label")
    for key in _all(records):
        left = keyring.left(key).runs
        state = "revoked" if key.revoked_at_ms is not None else "disabled" if key.disabled else "active"
        shown = "-" if left is None else str(left)
        made = rfc3339(key.created_at_ms)
        print(f"{key.id:<33}{key.prefix:<10}{key.plan:<12}{shown:>8}  {state:<10}{made:<26}{key.label}")
    return 0


def _all(records: Records) -> Iterator[StoredKey]:
    after = None
    while True:
        page = records.keys.list(limit=PAGE, after=after)
        yield from page.items
        if not page.has_more:
            return
        after = page.items[-1].id


if __name__ == "__main__":
    sys.exit(main())
