"""`python -m ops.effective FOLDER`: print the effective settings as JSON, for `make` (see `ops.record`).

They are those of this process's environment, with the settings file of FOLDER beneath them; with `--installed`
those of the files of an installed service. Exit status 78 means that they are not valid; stderr then names each
problem. `--check` also tries whether a service can start with them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from config.settings import SettingsError
from config.settings_file import apply_file
from ops.state import StatePlace
from ops.unit_settings import forget_settings, read_files, record_of

EX_CONFIG = 78


def main() -> int:
    """Print the effective settings. Returns 0, or 78 if they are invalid."""
    parser = argparse.ArgumentParser(prog="ops.effective", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runyard-env", default="production")
    parser.add_argument("--installed", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # a problem is reported once, by its exception
    try:
        if options.installed:
            forget_settings(of_builder=False)
            layered, settings = read_files(StatePlace.of_environment())
        else:
            layered, settings = apply_file(options.folder, options.runyard_env)
        if options.check:
            from ops.preflight import check_start  # loads the engines

            check_start(settings)
    except SettingsError as e:
        print(e, file=sys.stderr)
        return EX_CONFIG
    for warning in layered.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(json.dumps(asdict(record_of(layered))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
