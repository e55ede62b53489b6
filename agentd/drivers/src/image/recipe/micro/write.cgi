#!/bin/sh
# /cgi-bin/write?TEXT: keeps TEXT on the disk, synced; without one, answers what was kept.
printf 'Content-Type: text/plain\r\n\r\n'
[ -z "$QUERY_STRING" ] || { httpd -d "$QUERY_STRING" >/data/text.new && mv /data/text.new /data/text && sync; }
cat /data/text 2>/dev/null
