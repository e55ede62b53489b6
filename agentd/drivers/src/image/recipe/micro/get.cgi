#!/bin/sh
# /cgi-bin/get?HOST:PORT/PATH: what the guest gets from there over HTTP.
printf 'Content-Type: text/plain\r\n\r\n'
timeout 10 wget -q -O - "http://$(httpd -d "$QUERY_STRING")" 2>&1
echo "status: $?"
