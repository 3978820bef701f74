#!/bin/sh
# Replaces a service's containers by new ones while calls go on: deploy/roll.sh SERVICE...
#
# With the environment that docker compose takes (COMPOSE_ENV_FILES, VERSION). Its migration runs first. Then, one after
# another: a new container is made, and when that is healthy an old one is stopped, which finishes what it has begun. If
# a new one does not become healthy it is removed again and this ends with status 1; the old ones that are left go on.
set -eu
[ $# -gt 0 ] || { echo "roll.sh SERVICE..." >&2; exit 2; }

healthy() { # CONTAINER: within two minutes or so
  for _ in $(seq 120); do
    [ "$(docker inspect --format '{{.State.Health.Status}}' "$1")" != healthy ] || return 0
    sleep 1
  done
  return 1
}

for service in "$@"; do
  old=$(docker compose ps --all --quiet "$service")
  [ -n "$old" ] || { echo "$service: has no container to replace; docker compose up --detach makes one" >&2; exit 1; }
  docker compose run --rm --no-TTY --no-deps "migrate_${service%%_*}"
  count=$(echo "$old" | wc -w)
  for container in $old; do
    before=$(docker compose ps --all --quiet "$service")
    docker compose up --detach --no-deps --no-recreate --scale "$service=$((count + 1))" "$service"
    new=$(docker compose ps --all --quiet "$service" | grep -vxF "$before")
    if ! healthy "$new"; then
      echo "$service: the new container does not become healthy; the end of what it says:" >&2
      docker logs --tail 5 "$new" >&2
      docker rm --force "$new" >/dev/null
      exit 1
    fi
    docker stop "$container" >/dev/null
    docker rm "$container" >/dev/null
  done
  echo "$service: $count replaced"
done
