"""pip that executes nothing of a package: `python3 -I wheels_only.py ARGUMENTS`.

`--only-binary` is about what an index offers. A wheel may depend on the URL of a source package, and to resolve
that pip would execute it. Here each way to a source package ends before.
"""

import sys

from pip._internal import wheel_builder
from pip._internal.cli.main import main
from pip._internal.distributions.sdist import SourceDistribution
from pip._internal.exceptions import InstallationError


def refuse(*_arguments, **_options):
    """Refuse a source package."""
    raise InstallationError("a package depends on a source package by its URL, which is not permitted")


SourceDistribution.prepare_distribution_metadata = refuse
wheel_builder._build_one = refuse

if __name__ == "__main__":
    sys.exit(main())
