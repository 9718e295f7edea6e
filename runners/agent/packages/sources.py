"""Python packages that an index has only as source: found and downloaded with a network, built without one.

To resolve a source package, pip executes it. So the index is read here, and the requirements of the build are taken
from its pyproject.toml as text. Nothing can be downloaded while a package is built.
"""

import base64
import email
import hashlib
import io
import os
import re
import ssl
import sys
import tarfile
import tomllib
import urllib.request
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from agent.packages.tool import forget_proxy, run

SOURCES, WHEELHOUSE, BUILT = "/work/sources", "/work/wheelhouse", "/work/built"
#: As PEP 517 has it for a package that names none.
DEFAULT_REQUIRES = ["setuptools>=40.8.0", "wheel"]
MAX_PAGE_BYTES = 32 << 20
MAX_SOURCE_BYTES = 256 << 20
TIMEOUT_S = 30
_SOURCE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)\.tar\.gz")


class IndexPage(HTMLParser):
    """The links of a page of an index, with their Requires-Python."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "a" and given.get("href") and "data-yanked" not in given:
            self.found.append((given["href"], given.get("data-requires-python") or ""))


def find(index, requirement):
    """Return (version, URL, SHA-256) of the newest source package that a requirement permits, or None."""
    from pip._vendor.packaging.requirements import InvalidRequirement, Requirement
    from pip._vendor.packaging.specifiers import InvalidSpecifier, SpecifierSet
    from pip._vendor.packaging.utils import canonicalize_name
    from pip._vendor.packaging.version import InvalidVersion, Version

    try:
        wanted = Requirement(requirement)
    except InvalidRequirement:
        return None
    page = urljoin(index.rstrip("/") + "/", canonicalize_name(wanted.name) + "/")
    try:
        content, base = get(page, MAX_PAGE_BYTES, index)
    except OSError:
        return None
    links = IndexPage()
    links.feed(content.decode("utf-8", "replace"))
    found = []
    for href, requires_python in links.found:
        url, fragment = urldefrag(urljoin(base, href))
        match = _SOURCE.fullmatch(url.rpartition("/")[2])
        if match is None or canonicalize_name(match["name"]) != canonicalize_name(wanted.name):
            continue
        try:
            version = Version(match["version"])
            fits = SpecifierSet(requires_python).contains(".".join(map(str, sys.version_info[:3])))
        except (InvalidVersion, InvalidSpecifier):
            continue
        if fits and wanted.specifier.contains(version):
            found.append((version, url, fragment.removeprefix("sha256=") if "sha256=" in fragment else ""))
    return max(found, default=None)


def fetch(index, requirement, pip_argv):
    """Download a source package and what its build needs. Returns its name, version and hash. Raises OSError."""
    version, url, sha256 = find(index, requirement) or (None, "", "")
    if version is None:
        raise OSError(f"{requirement} has no source package")
    content, _ = get(url, MAX_SOURCE_BYTES, index)
    digest = hashlib.sha256(content).hexdigest()
    if sha256 and sha256 != digest:
        raise OSError(f"{url.rpartition('/')[2]} is not the file that the index names")
    os.makedirs(SOURCES, exist_ok=True)
    with open(f"{SOURCES}/{url.rpartition('/')[2]}", "wb") as file:
        file.write(content)
    print(f"  Downloading {url.rpartition('/')[2]} (a source package)", file=sys.stderr, flush=True)
    requires, name = _read(content)
    argv = [*pip_argv("download"), "--only-binary=:all:", f"--dest={WHEELHOUSE}", "--", *requires]
    if run(argv) != 0:
        raise OSError(f"the requirements of the build of {requirement} cannot be had")
    return [name, str(version), digest]


def build():
    """Build a wheel of each source package, with what was downloaded alone. Returns the exit status."""
    forget_proxy()
    argv = [sys.executable, "-I", "-m", "pip", "--isolated", "--disable-pip-version-check", "wheel", "--no-input"]
    argv += ["--no-cache-dir", "--no-deps", "--no-index", f"--find-links={WHEELHOUSE}", f"--wheel-dir={BUILT}"]
    argv += ["--progress-bar=off", "--"]
    argv += [f"{SOURCES}/{name}" for name in sorted(os.listdir(SOURCES))]
    return run(argv)


def get(url, most, index=""):
    """Return the content at a URL, and the URL after redirects. Raises OSError.

    The user name and password in the address of an index are sent to its host alone.
    """
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler(), urllib.request.HTTPSHandler(context=context)
    )
    if not url.startswith(("http://", "https://")):
        raise OSError(f"{url} is no address of an index")
    host = urlsplit(url).netloc.rpartition("@")[2]
    plain = urlsplit(url)._replace(netloc=host).geturl()
    request = urllib.request.Request(plain, headers={"Accept": "text/html, */*;q=0.9"})  # noqa: S310  # see above
    user_info, at, own_host = urlsplit(index).netloc.rpartition("@")
    if at and (urlsplit(url).scheme, host) == (urlsplit(index).scheme, own_host):
        login = base64.b64encode(unquote(user_info).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {login}")
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        content = answer.read(most + 1)
        if len(content) > most:
            raise OSError(f"{url.rpartition('/')[2]} is larger than {most} bytes")
        return content, answer.url


def _read(content):
    """Return what the build of a source package requires, and its name, as text. Raises OSError."""
    requires, name = DEFAULT_REQUIRES, ""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for entry in archive:
                path = entry.name.split("/")
                if not entry.isfile() or len(path) != 2 or entry.size > 1 << 20:
                    continue
                if path[1] == "pyproject.toml":
                    text = archive.extractfile(entry).read().decode("utf-8", "replace")
                    requires = tomllib.loads(text).get("build-system", {}).get("requires", requires)
                elif path[1] == "PKG-INFO":
                    name = str(email.message_from_bytes(archive.extractfile(entry).read()).get("Name", ""))
    except (tarfile.TarError, ValueError, EOFError) as e:
        raise OSError(f"a source package cannot be read: {e}") from e
    if not isinstance(requires, list) or not all(isinstance(one, str) for one in requires):
        raise OSError("a source package names requirements of its build that are none")
    return [one for one in requires if "@" not in one], name
