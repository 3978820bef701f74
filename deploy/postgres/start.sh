#!/bin/sh
# Gives the server a certificate and key that its own user may read, then starts it as the image does.
set -eu
install -d -o postgres -g postgres -m 0700 /run/tls
install -o postgres -g postgres -m 0600 /run/secrets/postgres.key /run/tls/server.key
install -o postgres -g postgres -m 0644 /run/secrets/postgres.crt /run/tls/server.crt
exec docker-entrypoint.sh postgres \
  -c ssl=on -c ssl_cert_file=/run/tls/server.crt -c ssl_key_file=/run/tls/server.key -c ssl_min_protocol_version=TLSv1.2 \
  -c hba_file=/etc/postgresql/pg_hba.conf -c password_encryption=scram-sha-256 \
  -c max_connections="${MAX_CONNECTIONS:-1000}" -c shared_buffers="${SHARED_BUFFERS:-256MB}" -c timezone=UTC \
  -c log_min_messages=warning -c log_min_error_statement=panic -c log_parameter_max_length_on_error=0 \
  -c wal_compression=on -c wal_keep_size=1GB -c max_slot_wal_keep_size=10GB
