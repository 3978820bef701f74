#!/bin/sh
# What the databases write, as they write it, into /backup: with a backup from before, all up to a moment ago.
#
# In a folder for each cluster of databases, named by its identifier, in files as PostgreSQL has them in pg_wal. What is
# not here yet the server keeps (max_slot_wal_keep_size in start.sh), so that nothing is missing after a pause.
set -eu
umask 077
PGPASSWORD=$(cat /run/secrets/database-backup.password)
export PGPASSWORD
server="host=postgres user=backup sslmode=verify-full sslrootcert=/run/secrets/ca.crt"
cluster=$(psql -XAt "$server replication=true" -c IDENTIFY_SYSTEM | cut -d '|' -f 1)
folder=/backup/wal-${cluster:?the server does not say which cluster it is}
mkdir -p -m 0755 "$folder"  # `watch` looks how old the newest is
pg_receivewal --dbname="$server" --slot=archive --create-slot --if-not-exists
exec pg_receivewal --dbname="$server" --slot=archive --directory="$folder" --synchronous
