#!/bin/sh
# Puts a backup into the empty volume of the databases: restore.sh FILE (in /backup). Nothing is ever written over.
#
# With what the archive has of the time after it: the server takes it in at its start, to the last whole record, as it
# does after a crash.
set -eu
file=/backup/$(basename "${1:?which file of the backups?}")
data=/var/lib/postgresql/data
if [ -n "$(ls -A "$data" 2>/dev/null)" ]; then
  echo "there are databases here already: restore into an empty volume" >&2
  exit 1
fi
tar -xzf "$file" -C "$data"
cluster=$(LC_ALL=C pg_controldata -D "$data" | sed -n 's/^Database system identifier: *//p')
first=$(find "$data/pg_wal" -maxdepth 1 -name '????????????????????????' -printf '%f\n' | sort | head -n 1)
added=0
for archived in "/backup/wal-$cluster"/*; do
  name=$(basename "$archived" .partial)
  if [ -f "$archived" ] && [ ! -e "$data/pg_wal/$name" ] && expr "$name" ">=" "$first" >/dev/null; then
    cp "$archived" "$data/pg_wal/$name"
    added=$((added + 1))
  fi
done
chown -R postgres:postgres "$data"
chmod 700 "$data"
echo "restored from $(basename "$file"), and $added files of what was written later"
