"""The rules that the agent makes of Landlock, for each version that a kernel may have."""

from __future__ import annotations

import os

import pytest

NO_NEW_PRIVS = 39


class Kernel:
    """What the calls were given, and a kernel's answers to them."""

    def __init__(self, module, version, *, no_new_privs=1):
        self.module, self.version, self.no_new_privs = module, version, no_new_privs
        self.rulesets: dict[int, tuple[int, dict[str, int]]] = {}
        self.entered: list[int] = []

    def syscall(self, number, *arguments):
        module = self.module
        if number == module.CREATE_RULESET:
            attribute, size, flags = arguments
            if flags == module.VERSION_FLAG:
                return self.version
            assert size == len(attribute) == 8
            fd = os.open("/dev/null", os.O_RDONLY)
            self.rulesets[fd] = (int.from_bytes(attribute, "little"), {})
            return fd
        if number == module.ADD_RULE:
            fd, kind, attribute, flags = arguments
            assert (kind, flags, len(attribute)) == (module.RULE_PATH_BENEATH, 0, 12)
            place = os.readlink(f"/proc/self/fd/{int.from_bytes(attribute[8:], 'little')}")
            self.rulesets[fd][1][place] = int.from_bytes(attribute[:8], "little")
            return 0
        assert number == module.RESTRICT_SELF
        self.entered.append(arguments[0])
        return 0


@pytest.fixture
def module(fresh_agent):
    from agent import landlock

    return landlock


@pytest.fixture
def confined(module, monkeypatch):
    def confined(version, **how):
        kernel = Kernel(module, version, **how)
        monkeypatch.setattr(module, "_syscall", kernel.syscall)
        monkeypatch.setattr(module, "_prctl", lambda option: kernel.no_new_privs if option == NO_NEW_PRIVS else -1)
        landlock = module.Landlock()
        before = len(os.listdir("/proc/self/fd"))
        landlock.confine()
        # The places were let go; what waits for a child is all that is kept.
        assert len(os.listdir("/proc/self/fd")) == before + (landlock.children >= 0)
        return landlock, kernel

    return confined


@pytest.mark.parametrize(
    ("version", "how"),
    [(-1, {}), (0, {}), (1, {}), (7, {"no_new_privs": 0})],
    ids=["none", "zero", "one", "privileges"],
)
def test_where_it_cannot_be_used_it_is_left_out_and_said_to_be(confined, version, how):
    landlock, kernel = confined(version, **how)
    assert (landlock.version, kernel.rulesets, kernel.entered) == (0, {}, [])
    landlock.enter()
    assert kernel.entered == []


@pytest.mark.parametrize("version", [2, 3, 4, 5, 6, 9])
def test_no_right_is_named_that_the_kernel_does_not_know(module, confined, version):
    landlock, kernel = confined(version)
    assert landlock.version == min(version, 5)
    known = {2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}[landlock.version]
    for handled, rules in kernel.rulesets.values():
        assert handled == known
        for rights in rules.values():
            assert rights
            assert rights & ~known == 0
    landlock.enter()
    os_entered, child_entered = kernel.entered
    assert os_entered != child_entered
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(child_entered)


def test_what_a_child_may_do_where(module, confined):
    landlock, kernel = confined(5)
    rules = kernel.rulesets[landlock.children][1]
    writing = module.WRITE_FILE | module.MAKE_REG | module.REMOVE_FILE | module.MAKE_DIR | module.TRUNCATE
    written = {place for place, rights in rules.items() if rights & writing}
    assert written <= {"/work", "/tmp", "/dev/shm", "/dev", "/opt/build"}
    made = {place for place, rights in rules.items() if rights & module.MAKE_REG}
    assert made <= {"/work", "/tmp", "/dev/shm", "/opt/build"}
    executed = {place for place, rights in rules.items() if rights & module.EXECUTE}
    assert executed <= {"/usr", "/opt", "/work", "/tmp", "/opt/build", "/node_modules"} | {
        os.path.realpath(f"/{n}") for n in ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
    }
    assert rules["/"] == module.READ_DIR
    assert rules["/proc"] == rules["/etc"] == module.READ
    for rights in rules.values():
        assert not rights & (module.MAKE_CHAR | module.MAKE_BLOCK)
    landlock.enter()


def test_of_a_link_into_a_tree_with_the_same_rights_nothing_is_said_twice(module, monkeypatch):
    links = {"/bin": "/usr/bin", "/lib64": "/elsewhere", "/var": "/usr/var", "/tmp": "/usr/tmp"}
    monkeypatch.setattr(module.os.path, "realpath", lambda path: links.get(path, path))
    landlock = module.Landlock()
    landlock.survey()
    left_out = [rule for rule in module.RULES if rule not in landlock.rules]
    # What is executed or read beneath /usr; but nothing is written there.
    assert [path for path, _ in left_out] == ["/bin", "/var"]


def test_a_child_that_cannot_be_confined_does_not_go_on(module, confined, monkeypatch):
    landlock, _ = confined(5)
    monkeypatch.setattr(module, "_syscall", lambda *_: -1)
    with pytest.raises(OSError, match="restrict_self"):
        landlock.enter()
    os.close(landlock.children)
