#!/bin/sh
# Starts the Redis that follows, in its data folder, once its append-only file ends where a transaction ends.
#
# After a full disk or a power cut the file may end in the middle of one. With `aof-load-truncated yes`, its default,
# Redis cuts off the last half command only: the start after that then carries out half of a change that was never
# confirmed. `redis-check-aof` cuts off the whole transaction. docs/redis.md has more.
set -eu
manifest=appendonlydir/appendonly.aof.manifest
[ ! -e "$manifest" ] || yes | redis-check-aof --fix "$manifest"
exec "$@" --aof-load-truncated no
