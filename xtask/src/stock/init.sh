#!/bin/busybox sh
# The first program of stock Linux as a domain: brings up what every role needs, does what the word
# `role=` of the command line says, and powers off. Linux makes variables of the words that it does not
# know itself.
/bin/busybox mkdir -p /proc /sys /tmp
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# What has no device may be another Linux than the one that the modules are of.
if [ -n "$address$disk" ]; then
    for module in /modules/*; do
        insmod "$module" || echo "no module $module"
    done
fi
# Devices come up beside this script.
if [ -n "$address" ]; then
    until [ -e /sys/class/net/eth0 ]; do usleep 10000; done
    ip addr add "$address/24" dev eth0
    ip link set eth0 up
fi
if [ -n "$disk" ]; then
    until [ -b "/dev/$disk" ]; do usleep 10000; done
fi
echo "Linux is of the kind $(cat /sys/hypervisor/type) $(cat /sys/hypervisor/guest_type), CPUs: $(nproc)"
. "/role/$role"
echo "$role has ended"
poweroff -f
