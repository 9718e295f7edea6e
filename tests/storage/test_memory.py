"""A large file passes through a process without staying in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SIZE_MB, EXTRA_MB = 100, 64
PASS_THROUGH = """
import sys
from pathlib import Path
MIB = 1 << 20

def peak_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

def local():
    from storage.local import LocalStore
    return LocalStore(Path(sys.argv[2]))

def s3():
    from storage.s3 import S3Location, S3Store, connect
    return S3Store(S3Location(connect(sys.argv[3], "path"), sys.argv[4], "up/"), Path(sys.argv[2]))

store = {"local": local, "s3": s3}[sys.argv[1]]()
small = store.put([b"warm up"], MIB)
with store.open(small) as content:
    list(content)
before = peak_mb()
blob = store.put((b"%d" % n * (MIB // len(b"%d" % n)) for n in range(int(sys.argv[5]))), 200 * MIB)
with store.open(blob) as content:
    read = sum(map(len, content))
assert read == blob.size > 90 * MIB
print(peak_mb() - before)
"""


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_100_mb_in_and_out_take_little_memory(rig_of, kind):
    folder, url, bucket = rig_of(kind)
    done = subprocess.run(
        [sys.executable, "-c", PASS_THROUGH, kind, str(folder), url, bucket, str(SIZE_MB)],
        cwd=REPO,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < EXTRA_MB


@pytest.fixture
def rig_of(request):
    def of(kind):
        if kind == "local":
            return request.getfixturevalue("local").area, "", ""
        rig = request.getfixturevalue("s3")
        return rig.spool, request.getfixturevalue("s3_server").url, rig.bucket

    return of
