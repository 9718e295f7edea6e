"""Errors of an image's build.

ImageError
├── HostLacks       a program, a right or a kernel feature is missing
└── BuildFailed     a step of the build ended with an error
"""

from __future__ import annotations


class ImageError(Exception):
    """The base: an image could not be built; the message is a sentence for the user."""


class HostLacks(ImageError):
    """A program, a right or a kernel feature that building needs is missing."""


class BuildFailed(ImageError):
    """A step of the build ended with an error; the message holds the end of its output."""
