"""`python -m config.settings_doc`: the settings as a page of documentation, docs/configuration.md."""

from __future__ import annotations

from typing import Any, get_args

from pydantic.fields import FieldInfo

from config.allowed import allowed_values
from config.environment import SETTINGS
from config.other_names import LABEL, LOG_LEVELS, OTHER_NAMES
from config.runakode_keys import RUNAKODE_KEYS, UNUSED_KEY
from config.settings import IMAGE_PREFIX, UNUSED, Settings
from config.variables import OTHERS, Reader, Secret, Variable

HEAD = """# Configuration

Everything is set by environment variables or in the [settings file](settings-file.md), read and checked once,
before a start. A value that does not fit is refused by the variable's name, and a running service is not stopped;
`make doctor` shows what is in force. This page is written by `python -m config.settings_doc`; a test compares it
with the code.

**Readers**: `api` and `worker` are the two processes of the service, `images` builds the runner images, `ops` is
the supervisor and the commands of `make`. The supervisor gives each process only the variables that it reads.
**Secret** names the part of the value that no log shows; `make doctor` shows `***` for the whole value.

| variable | default | values | readers | secret | |
|---|---|---|---|---|---|
"""

NAMES_HEAD = """
## Other names of settings

These names, which tinirun's server has, are accepted in the environment. A setting that is given by both names with
different values is refused at the start. They are not for the settings file.

| variable | setting | |
|---|---|---|
"""
#: More about a name than that it is another one.
NAMES_NOTES = {
    "RUNNER_API_KEY": f"one entry, with the label `{LABEL}` and the default rate; added to those of `API_KEYS`",
    "RUNNER_CLEANUP_INTERVAL": "in seconds: the interval of cleaning functions and layers",
    "RUNNER_LOG_LEVEL": ", ".join(f"`{given}` is `{level}`" for given, level in LOG_LEVELS.items()),
}

RUNAKODE_HEAD = f"""
## Keys of runakode's config.yaml

These keys are accepted in the settings file ([runakode](dialects-runakode.md#settings)). A setting that is given by
both of its keys is refused. `{UNUSED_KEY}` is accepted, warned about and unused.

| key | setting | value |
|---|---|---|
"""

OTHERS_HEAD = """
## Variables that libraries and programs read

The supervisor passes these on in the same way. If a setting is named, it passes them only while that is set.

| variable | readers | secret | only with |
|---|---|---|---|
"""
SECRETS = {
    Secret.NONE: "",
    Secret.WHOLE: "the whole value",
    Secret.LIST: "each of the list",
    Secret.KEYS: "each token",
    Secret.PASSWORD: "password in the URL",
    Secret.HEADERS: "the value of each header",
}

IMAGES = f"""
`{IMAGE_PREFIX}<LANG>` (for instance `{IMAGE_PREFIX}PYTHON`) names an image of your own for a language, built by the
runner's Dockerfile: for the engine `docker` a reference that its daemon has, for `oci` the path of a root file
system, of an OCI image layout, or of an archive of either or from `docker save`. The service refuses to
start if one cannot be started, or if its agent has another protocol version: rebuild it after an upgrade.
"""


def page() -> str:
    """Return the whole page as Markdown."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    unused = " and ".join(f"`{name}`" for name in UNUSED)
    tail = f"\n{unused} are accepted, warned about once and unused: there is no shared host directory.\n"
    others = [_row_of_other(pattern, facts) for pattern, facts in OTHERS.items()]
    names = [f"| `{name}` | `{own}` | {NAMES_NOTES.get(name, '')} |" for name, own in OTHER_NAMES.items()]
    tail += NAMES_HEAD + "\n".join(names) + "\n"
    keys = [f"| `{key}` | `{facts.setting.upper()}` | {facts.form} |" for key, facts in RUNAKODE_KEYS.items()]
    tail += RUNAKODE_HEAD + "\n".join(keys) + "\n"
    return HEAD + "\n".join(rows) + "\n" + IMAGES + tail + OTHERS_HEAD + "\n".join(others) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    default = "unset" if field.default is None else f"`{_shown(field.default)}`"
    facts = SETTINGS[name.upper()]
    columns = (f"`{name.upper()}`", default, allowed_values(field), _readers(facts), SECRETS[facts.secret])
    return f"| {' | '.join(columns)} | {field.description} |"


def _row_of_other(pattern: str, facts: Variable) -> str:
    needs = "" if facts.needs is None else f"`{facts.needs.upper()}`"
    return f"| `{pattern}` | {_readers(facts)} | {SECRETS[facts.secret]} | {needs} |"


def _readers(facts: Variable) -> str:
    return ", ".join(reader for reader in get_args(Reader) if reader in facts.readers)


def _shown(value: Any) -> str:  # noqa: ANN401  # any type of default
    return str(int(value)) if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(page(), end="")
