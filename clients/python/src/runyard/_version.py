"""The version of this package: that of the service, config/version.py."""

__version__ = "0.1.0"
