"""The page: one file, read once, and the policy that lets in its own script and style alone, by their hashes."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources


def page() -> bytes:
    """Return page.html."""
    return (resources.files("web.demo") / "page.html").read_bytes()


def content_security_policy(html: bytes, frame_ancestors: str) -> str:
    """Return the policy of a page: scripts and styles by their hashes, images from `data:` alone."""
    script, style = (_hash_of(html, tag) for tag in (b"script", b"style"))
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; connect-src 'self'; "
        f"base-uri 'none'; form-action 'none'; frame-ancestors {frame_ancestors}; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash_of(html: bytes, tag: bytes) -> str:
    (content,) = re.findall(rb"<%s>(.*?)</%s>" % (tag, tag), html, re.DOTALL)
    return f"sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}"
