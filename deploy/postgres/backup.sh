#!/bin/sh
# All databases as they were at one moment, into /backup; the last line of the output is the file's name.
set -eu
umask 077
PGPASSWORD=$(cat /run/secrets/postgres.password)
export PGPASSWORD
file=/backup/databases-$(date -u +%Y%m%dT%H%M%SZ).tar.gz
trap 'rm -f "$file.part"' EXIT
pg_basebackup --dbname="host=postgres user=postgres sslmode=verify-full sslrootcert=/run/secrets/ca.crt" \
  --pgdata=- --format=tar --wal-method=fetch --checkpoint=fast --compress=client-gzip:3 >"$file.part"
gzip -t "$file.part"
mv "$file.part" "$file"
echo "$file"
