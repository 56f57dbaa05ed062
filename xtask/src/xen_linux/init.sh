#!/bin/busybox sh
# The initial domain of a Xen machine with Linux: starts Xen's toolstack, creates the domains that
# /job describes, shows what they say as `NAME| LINE` and how they ended as `NAME: REASON`, and halts.
#
# Everything that a domain says comes through xenconsoled, which looks at a ring that it has put off
# again after 200 ms at the latest: a console that a second has added nothing to is complete.
/bin/busybox mkdir -p /proc /sys /dev/pts /tmp /usr/bin /usr/sbin /sbin
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/usr/lib/xen-4.17/bin
LOGS=/var/log/xen/console
mkdir -p /run/lock /run/xen /run/xenstored /var/lib/xenstored /var/lib/xen /etc/xen $LOGS
touch /etc/xen/xl.conf
printf '%s\n' 'interface xenbr0' 'start 10.0.0.100' 'end 10.0.0.103' 'option subnet 255.255.255.0' \
    'option router 10.0.0.1' 'lease_file /tmp/leases' 'pidfile /run/udhcpd.pid' > /etc/udhcpd.conf
touch /tmp/leases
ln -s /run /var/run
ln -s /run/lock /var/lock
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
ln -s /proc/self/fd /dev/fd
while read -r module; do
    insmod "/modules/$module" || echo "no module $module"
done < /modules/order
mount -t xenfs xenfs /proc/xen
xenstored --pid-file=/run/xenstored.pid || halt -f
until xenstore-read -s / > /dev/null 2>&1; do usleep 50000; done
xen-init-dom0 > /dev/null
xenconsoled --log=guest --log-dir=$LOGS --timestamp=none --pid-file=/run/xenconsoled.pid

cd /job || halt -f
if [ -e /job/bridge ]; then
    ip link set lo up
    ip link add xenbr0 type bridge
    ip addr add 10.0.0.1/24 dev xenbr0
    ip link set xenbr0 up
    udhcpd -S /etc/udhcpd.conf
fi
# How a domain ended: a number of `sched_op`'s reasons, or nothing yet.
ended() { sed -n 's/.*has shut down, reason code \([0-9]*\) .*/\1/p;T;q' "/var/log/xen/xl-$1.log"; }
# Shows the lines of a domain that nobody has seen; $2 is how many were seen, and lines what is new.
show() {
    lines=$(wc -l 2> /dev/null < "$LOGS/guest-$1.log") || lines=0
    [ "$lines" -le "$2" ] || sed -n "$(($2 + 1)),${lines}s/^/$1| /p" "$LOGS/guest-$1.log"
}

running=
# Ids are given in the order of the list, and all are there when the first one runs.
while read -r name; do
    if xl create -p "$name/config" > "$name/refusal" 2>&1; then
        running="$running $name"
        echo 0 > "$name/seen"
        echo 0 > "$name/quiet"
    else
        sed "s/^/xl: /" "$name/refusal"
        echo "$name: refused"
    fi
done < list
for name in $running; do xl unpause "$name"; done
# What talks to the domains from here; it says itself when they are to end.
if [ -e client ]; then
    sh client 2>&1 | while read -r line; do echo "client| $line"; done &
fi
while [ -n "$running" ]; do
    usleep 100000
    still=
    for name in $running; do
        show "$name" "$(cat "$name/seen")"
        if [ "$lines" != "$(cat "$name/seen")" ] || [ -z "$(ended "$name")" ]; then
            echo "$lines" > "$name/seen"
            echo 0 > "$name/quiet"
        else
            echo $(($(cat "$name/quiet") + 1)) > "$name/quiet"
        fi
        if [ "$(cat "$name/quiet")" -lt 10 ]; then
            still="$still $name"
            continue
        fi
        # What is left is a line without an end, which awk gives one.
        tail -n +$((lines + 1)) "$LOGS/guest-$name.log" | awk -v name="$name" '{ print name "| " $0 }'
        case $(ended "$name") in
            0) echo "$name: POWEROFF" ;;
            1) echo "$name: REBOOT" ;;
            2) echo "$name: SUSPEND" ;;
            3) echo "$name: CRASH" ;;
            4) echo "$name: WATCHDOG" ;;
            *) echo "$name: reason $(ended "$name")" ;;
        esac
    done
    running=$still
done
wait
halt -f
