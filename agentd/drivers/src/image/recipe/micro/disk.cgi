#!/bin/sh
# /cgi-bin/disk: the name, bytes and serial of each disk. /cgi-bin/disk?DISK, by serial or name: the text at its beginning.
# /cgi-bin/disk?DISK=TEXT: writes TEXT there.
printf 'Content-Type: text/plain\r\n\r\n'
query=$(httpd -d "$QUERY_STRING")
wanted=${query%%=*}
for block in /sys/block/vd* /sys/block/sr*; do
  [ -e "$block/size" ] || continue
  name=${block##*/} serial=$(cat "$block/serial" 2>/dev/null)
  if [ -z "$wanted" ]; then
    echo "$name $(awk '{printf "%.0f", $1 * 512}' "$block/size") ${serial:--} ro=$(cat "$block/ro")"
  elif [ "$wanted" = "$name" ] || [ "$wanted" = "$serial" ]; then
    case "$query" in
      *=*) printf '%s\n' "${query#*=}" | dd of="/dev/$name" bs=512 count=1 conv=sync,notrunc,fsync 2>&1 ;;
      *) head -c 512 "/dev/$name" 2>&1 | tr -d '\000' ;;
    esac
    echo "status: $?"
  fi
done
