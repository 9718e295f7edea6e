#!/bin/sh
# `server DIRECTORY`, MINIO_ROOT_USER and MINIO_ROOT_PASSWORD: as MinIO is started.
set -eu
: "${MINIO_ROOT_USER:?}" "${MINIO_ROOT_PASSWORD:?}"
[ "$1" = server ] && [ -d "$2" ]
cd /
exec setpriv --reuid=nobody --regid=nogroup --clear-groups python3 -W ignore -m moto.server -H 0.0.0.0 -p 9000
