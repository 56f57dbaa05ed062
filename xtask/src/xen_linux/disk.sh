#!/bin/busybox sh
# What xl runs for a disk of a domain: tells the back end which device of this machine it is.
[ "$1" = add ] || exit 0
device=$(xenstore-read "$XENBUS_PATH/params")
numbers=$(stat -L -c %t:%T "$device")
xenstore-write "$XENBUS_PATH/physical-device" "$numbers" \
    "$XENBUS_PATH/physical-device-path" "$device" "$XENBUS_PATH/hotplug-status" connected
