#!/bin/sh
# The store's volume as one file, or back into an empty volume. The store must not run meanwhile.
#   backup.sh save          backup.sh load FILE
set -eu
umask 077
case ${1:-} in
save)
  file=/backup/store-$(date -u +%Y%m%dT%H%M%SZ).tar.gz
  trap 'rm -f "$file.part"' EXIT
  tar -czf "$file.part" -C /data .
  mv "$file.part" "$file"
  echo "$file"
  ;;
load)
  if [ -n "$(ls -A /data 2>/dev/null)" ]; then
    echo "there is something in the store already: restore into an empty volume" >&2
    exit 1
  fi
  tar -xzf "/backup/$(basename "${2:?which file of the backups?}")" -C /data
  ;;
*)
  echo "backup.sh save | load FILE" >&2
  exit 2
  ;;
esac
