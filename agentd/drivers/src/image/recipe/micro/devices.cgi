#!/bin/sh
# /cgi-bin/devices: what the guest has beside disks and networks, as far as its drivers are loaded.
printf 'Content-Type: text/plain\r\n\r\n'
echo "channels: $(cat /sys/class/virtio-ports/*/name 2>/dev/null | tr '\n' ' ')"
echo "rng: $(cat /sys/class/misc/hw_random/rng_current 2>/dev/null)"
echo "random_bytes: $(head -c 32 /dev/hwrng 2>/dev/null | wc -c)"
