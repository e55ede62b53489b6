#!/bin/sh
# /cgi-bin/resolve?NAME: the addresses that the guest's resolver has for it.
printf 'Content-Type: text/plain\r\n\r\n'
name=$(httpd -d "$QUERY_STRING")
case "$name" in -*) exit ;; esac
nslookup "$name" 2>&1
echo "status: $?"
