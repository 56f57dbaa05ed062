#!/bin/busybox sh
# What xl runs for a network card of a domain: connects it to the bridge.
[ "$1" = online ] || exit 0
brctl addif xenbr0 "$vif"
ip link set "$vif" up
xenstore-write "$XENBUS_PATH/hotplug-status" connected
