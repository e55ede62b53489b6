#!/bin/sh
# The page at /: what a test asks a guest about itself.
printf 'Content-Type: text/plain\r\n\r\n'
echo "hostname: $(hostname)"
echo "boots: $(cat /data/boots)"
echo "uptime: $(cut -d ' ' -f 1 /proc/uptime)"
echo "address: $(ip -4 -o addr show scope global | awk '{print $2 "=" $4}' | tr '\n' ' ')"
echo "cpus: $(grep -c ^processor /proc/cpuinfo)"
echo "memory_kib: $(awk '/^MemTotal/ {print $2}' /proc/meminfo)"
echo "disk_bytes: $(cat /sys/block/vda/size 2>/dev/null | awk '{printf "%.0f", $1 * 512}')"
echo "client: $REMOTE_ADDR"
echo "kernel: $(uname -r)"
