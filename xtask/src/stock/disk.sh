# Works on the disk, speaks to others, and puts what a server outside the machine gives on the disk.
echo "sectors: $(cat "/sys/block/$disk/size")"
echo "first 4 MiB: $(dd if="/dev/$disk" bs=64k count=64 2> /dev/null | sha256sum)"
for other in $(echo "$others" | tr , " "); do
    ping -c 3 -W 30 "$other" > /tmp/ping && echo "$other answers" || cat /tmp/ping
done
wget -q -O /tmp/fetched "$from" || echo "cannot fetch $from"
echo "fetched: $(sha256sum < /tmp/fetched)"
dd if=/tmp/fetched of="/dev/$disk" bs=64k seek=128 conv=fsync 2> /dev/null || echo "cannot write"
rm /tmp/fetched
# What is read now comes from the disk again.
echo 3 > /proc/sys/vm/drop_caches
echo "read back: $(dd if="/dev/$disk" bs=64k skip=128 count=128 2> /dev/null | sha256sum)"
