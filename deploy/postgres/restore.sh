#!/bin/sh
# Puts a backup into the empty volume of the databases: restore.sh FILE (in /backup). Nothing is ever written over.
set -eu
file=/backup/$(basename "${1:?which file of the backups?}")
data=/var/lib/postgresql/data
if [ -n "$(ls -A "$data" 2>/dev/null)" ]; then
  echo "there are databases here already: restore into an empty volume" >&2
  exit 1
fi
tar -xzf "$file" -C "$data"
chown -R postgres:postgres "$data"
chmod 700 "$data"
echo "restored from $(basename "$file")"
