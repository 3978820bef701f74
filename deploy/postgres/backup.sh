#!/bin/sh
# All databases as they were at one moment, into /backup; the last line of the output is the file's name. What the
# archive has from before the oldest backup of these databases goes: nobody can use it any more.
set -eu
umask 077
PGPASSWORD=$(cat /run/secrets/database-backup.password)
export PGPASSWORD
server="host=postgres user=backup sslmode=verify-full sslrootcert=/run/secrets/ca.crt"
file=/backup/databases-$(date -u +%Y%m%dT%H%M%SZ).tar.gz
trap 'rm -f "$file.part"' EXIT
pg_basebackup --dbname="$server" --pgdata=- --format=tar --wal-method=fetch --checkpoint=fast --compress=client-gzip:3 \
  >"$file.part"
gzip -t "$file.part"
mv "$file.part" "$file"
cluster=$(psql -XAt "$server replication=true" -c IDENTIFY_SYSTEM | cut -d '|' -f 1)
for oldest in $(find /backup -maxdepth 1 -name 'databases-*.tar.gz' | sort); do
  of=$(tar -xzOf "$oldest" global/pg_control | od -An -tu8 -N8 | tr -d ' ')
  [ "$of" != "$cluster" ] || break  # those of databases that were here before are not of this archive
done
needed=$(tar -xzOf "$oldest" backup_label | sed -n 's/^START WAL LOCATION: .*(file \([0-9A-F]*\)).*/\1/p')
[ ! -d "/backup/wal-$cluster" ] || pg_archivecleanup "/backup/wal-$cluster" "$needed"
echo "$file"
