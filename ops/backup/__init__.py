"""Backup and restore of a service's state: `make backup FILE=…`, `make restore FILE=…`.

The archive
===========
A tar file, of regular files alone, in this order:

    format.json                 {"format": 1, "version": …, "revision": …, "created_at": …}
    db/runyard.sqlite           one moment of the records, taken by SQLite's online backup
    api/signing.key             signs links, where it is kept
    api/instance                the name of this instance
    settings/environment, …     the settings files that are there
    storage/uploads/SHA256      every blob that the records of that moment name
    storage/artifacts/SHA256
    sums.json                   size and SHA-256 of each of them; its absence shows that the archive was cut off

`archive` knows this form and believes nothing of what it reads. `save` writes an archive while the service runs: as
api's account, since root opens no database that another account owns. `load` puts one in place while none runs.

Standard library only, as a machine may be restored before the service is installed on it.
"""
