"""A Landlock domain for the agent and everything it starts. See Documentation/userspace-api/landlock.rst.

A second layer behind the mounts, the uid and the system call filter: it bounds a program's opens if another fails.
Reading is for the system's trees, /proc, /dev, /sys and the program's own places; writing for those places and the
device nodes; executing for the system's trees and where the mount of a place allows it. The root may be listed.

There are two domains. PID 1 confines itself before it takes anything from the host; it may also write beneath
/proc, where it steers the OOM killer. Each child enters a second, which may not, by one call before it becomes
anything of the user's: the rules have been made by then, since their opening of paths would cost a run what it need
not. As that domain lies within PID 1's, what is in it cannot trace PID 1.

A kernel without it, or with its first version (which forbids every rename across directories), is no fault here:
the agent sends the active version in READY, and the host reports it.
"""
# ruff: noqa: S108  # these paths are a sandbox's own

import os

from agent.libc import call, find

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG = 1
RULE_PATH_BENEATH = 1
#: With version 2 came REFER, without which nothing can be moved from one directory to another.
OLDEST, NEWEST = 2, 5
PR_GET_NO_NEW_PRIVS = 39

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR = 1 << 4, 1 << 5, 1 << 6, 1 << 7
MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK = 1 << 8, 1 << 9, 1 << 10, 1 << 11
MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV = 1 << 12, 1 << 13, 1 << 14, 1 << 15
#: The number of rights of each version, from the lowest bit on.
RIGHTS = {2: 14, 3: 15, 4: 15, 5: 16}

READ = READ_FILE | READ_DIR
OWN = (
    READ | WRITE_FILE | TRUNCATE | REFER | REMOVE_DIR | REMOVE_FILE
    | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM
)  # fmt: skip
#: Rules for the existing ones of these paths. A link is followed (/bin to /usr/bin).
RULES = (
    ("/", READ_DIR),
    ("/usr", READ | EXECUTE),
    ("/bin", READ | EXECUTE),
    ("/sbin", READ | EXECUTE),
    ("/lib", READ | EXECUTE),
    ("/lib32", READ | EXECUTE),
    ("/lib64", READ | EXECUTE),
    ("/libx32", READ | EXECUTE),
    ("/opt", READ | EXECUTE),
    ("/etc", READ),
    ("/var", READ),
    ("/proc", READ),
    ("/sys", READ),
    ("/dev", READ | WRITE_FILE | IOCTL_DEV),
    ("/dev/shm", OWN),
    ("/work", OWN | EXECUTE),
    ("/tmp", OWN | EXECUTE),
    # A compiler's; its mount is read-only when the program starts.
    ("/opt/build", OWN | EXECUTE),
    # Packages of npm: with Docker mounts of their own, elsewhere links to /opt/packages.
    ("/node_modules", READ | EXECUTE),
    ("/package.json", READ_FILE),
)
#: Of PID 1 alone.
ITS_OWN = (("/proc", READ | WRITE_FILE),)


class Landlock:
    """`version` is the active one, 0 if there is none; `children` the rules that wait for a child, or -1."""

    def __init__(self):
        self.version = 0
        self.children = -1
        self.rules = RULES

    def survey(self):
        """Find out once, in a template, which rules need no own entry: its children have the same image."""
        self.rules = [(path, rights) for path, rights in RULES if not _is_said_of_its_target(path, rights)]
        find("prctl")
        find("syscall")

    def confine(self):
        """Make the rules and enter their domain: in PID 1, after its mounts and before it reports ready."""
        known = _syscall(CREATE_RULESET, None, 0, VERSION_FLAG)
        version = min(known, NEWEST)
        if version < OLDEST or _prctl(PR_GET_NO_NEW_PRIVS) != 1:
            return
        handled = (1 << RIGHTS[version]) - 1
        children, ours = _ruleset(handled), _ruleset(handled)
        for path, rights in self.rules:
            _allow(path, rights & handled, children, ours)
        for path, rights in ITS_OWN:
            _allow(path, rights & handled, ours)
        if _syscall(RESTRICT_SELF, ours, 0) != 0:
            raise OSError("landlock_restrict_self failed")
        os.close(ours)
        self.version, self.children = version, children

    def enter(self):
        """Enter the domain, in a child. It must not go on without it, so every failure is raised."""
        if self.children >= 0:
            if _syscall(RESTRICT_SELF, self.children, 0) != 0:
                raise OSError("landlock_restrict_self failed")
            os.close(self.children)
            self.children = -1


#: PID 1's, and after a fork its children's.
landlock = Landlock()


def _ruleset(handled):
    """Create a ruleset without rules that handles the given rights, and return its descriptor."""
    fd = _syscall(CREATE_RULESET, handled.to_bytes(8, "little"), 8, 0)
    if fd < 0:
        raise OSError("landlock_create_ruleset failed")
    return fd


def _allow(path, rights, *rulesets):
    """Give these rights beneath a path, if it is there, in each of the sets. To open it is what costs."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    # struct landlock_path_beneath_attr is packed: eight bytes of rights, four of a descriptor.
    attribute = rights.to_bytes(8, "little") + place.to_bytes(4, "little")
    for ruleset in rulesets:
        if _syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, attribute, 0) != 0:
            raise OSError(f"landlock_add_rule of {path} failed")
    os.close(place)


def _is_said_of_its_target(path, rights):
    """Return whether a path is a link into a tree where another rule gives as much (/bin, if that is /usr/bin)."""
    target = os.path.realpath(path)
    return target != path and any(target.startswith(f"{tree}/") and rights & ~given == 0 for tree, given in RULES)


def _syscall(number, *arguments):
    """Make a system call for which the C library has no name either; return its result, or -1."""
    return call("syscall", number, *arguments)


def _prctl(option):
    return call("prctl", option, 0, 0, 0, 0)
