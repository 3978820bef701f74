#!/bin/sh
# Gives the broker a certificate, a key and its definitions that its own user may read, then starts it as the image does.
set -eu
for file in rabbitmq.key rabbitmq.crt ca.crt rabbitmq-definitions.json; do
  install -D -o rabbitmq -g rabbitmq -m 0600 "/run/secrets/$file" "/run/tls/$file"
done
chown rabbitmq:rabbitmq /run/tls
# Its figures are for those inside, not for everyone who reaches it to call: at the address that this name has, which
# the network `broker` alone knows.
inside=$(getent hosts rabbitmq-inside | cut -d ' ' -f 1)
printf 'prometheus.tcp.ip = %s\n' "${inside:?the network of the processes is missing}" >/etc/rabbitmq/conf.d/30-inside.conf
# What it may have is the container's memory, not the machine's: else it is killed before it stops those who publish.
memory=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes)
if [ "$memory" != max ]; then
  printf 'total_memory_available_override_value = %s\n' "$memory" >/etc/rabbitmq/conf.d/40-memory.conf
fi
exec docker-entrypoint.sh rabbitmq-server
