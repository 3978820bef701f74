#!/bin/sh
# Replaces a service's containers by new ones while calls go on: deploy/roll.sh SERVICE...
#
# With the environment that docker compose takes (COMPOSE_ENV_FILES, VERSION). Its migration runs first. Then, one after
# another: a new container is made, and when that is healthy an old one is stopped, which finishes what it has begun. If
# a new one does not become healthy this ends with status 1, and the old ones that are left go on.
set -eu
[ $# -gt 0 ] || { echo "roll.sh SERVICE..." >&2; exit 2; }
for service in "$@"; do
  docker compose run --rm --no-TTY --no-deps "migrate_${service%%_*}"
  old=$(docker compose ps --quiet "$service")
  count=$(echo "$old" | wc -w)
  for container in $old; do
    docker compose up --detach --wait --no-deps --no-recreate --scale "$service=$((count + 1))" "$service"
    docker stop "$container" >/dev/null
    docker rm "$container" >/dev/null
  done
  echo "$service: $count replaced"
done
