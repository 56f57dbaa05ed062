# Serves the first 8 MiB of the disk, until the client says at another port that it has them.
mkdir /tmp/www
dd if="/dev/$disk" of=/tmp/www/file bs=64k count=128 2> /dev/null
httpd -h /tmp/www
nc -l -p 81
# Until the client has heard that this was all (9: LAST_ACK), which is lost with this domain.
while cat /proc/net/tcp* | grep -q ':0051 [0-9A-F:]* 09 '; do usleep 10000; done
