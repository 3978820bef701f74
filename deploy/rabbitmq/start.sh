#!/bin/sh
# Gives the broker a certificate, a key and its definitions that its own user may read, then starts it as the image does.
set -eu
for file in rabbitmq.key rabbitmq.crt ca.crt rabbitmq-definitions.json; do
  install -D -o rabbitmq -g rabbitmq -m 0600 "/run/secrets/$file" "/run/tls/$file"
done
chown rabbitmq:rabbitmq /run/tls
exec docker-entrypoint.sh rabbitmq-server
