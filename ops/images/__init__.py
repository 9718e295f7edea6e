"""Building runner images without a container engine.

Building
========
An image is three layers, each a directory that an overlay mount stacks upon the next:

    agent-<key>/diff      the agent and what waits for a program, byte-compiled        (seconds)
    <language>-<key>/diff what the language's build.sh changed in the base             (up to a minute)
    base-<key>/rootfs     Debian and a python3, shared by every language on disk and in the page cache

`<key>` names the inputs: a layer is built again only when a file that goes into it has changed. A layer is
built in a temporary directory next to its target and renamed when it is complete; the pointer that the worker
reads, `<language>.json`, is written last and atomically. So a build that is killed leaves no half image.

A build runs in its own mount and pid namespace (`namespace`): the end of the builder, for any reason, ends its
children and removes its mounts. One builder at a time works on an image store (`store.Store.locked`).

Standard library only, as `make up` builds images while it installs the service.
"""
