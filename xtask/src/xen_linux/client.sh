# What Linux asks of the guests httpd, which has its address from here, and kv, which has its own.
# The guests begin in their own time: a minute and more where the machine is slow.
kv=10.0.0.50
until nc -w 5 $kv 6379 < /dev/null > /dev/null 2>&1; do :; done
httpd=
until [ -n "$httpd" ]; do
    for address in 10.0.0.100 10.0.0.101 10.0.0.102 10.0.0.103; do
        nc -w 5 $address 80 < /dev/null > /dev/null 2>&1 && httpd=$address && break
    done
done
ping -c 1 -W 30 $httpd > /dev/null && echo "httpd answers a ping"
wget -q -O - http://$httpd/about
echo "$(wget -q -O - http://$httpd/bytes/1000000 | wc -c) bytes"
# Sends lines, and shows what is answered as one.
ask() { printf '%s\r\n' "$@" | nc -w 60 $kv 6379 | tr '\r\n' '  ' | tr -s ' '; }
echo "kv: $(ask 'SET a 1' 'SET b 2' 'DEL a' 'GET a' 'GET b' COUNT)"
many=
i=0
while [ $i -lt 200 ]; do
    many="$many SET key$i value$i"
    i=$((i + 1))
done
# Three words are a line each.
echo "kv: $(printf '%s %s %s\r\n' $many | nc -w 60 $kv 6379 | grep -c OK) of 200"
echo "kv: $(ask COMPACT 'GET key199' COUNT SHUTDOWN)"
xenstore-write "/local/domain/$(xl domid httpd)/control/shutdown" poweroff
