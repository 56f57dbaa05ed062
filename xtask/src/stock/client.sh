# Fetches a file of the other domain, which may not have begun to serve.
until wget -q -O /tmp/fetched "http://$from/file" 2> /dev/null; do usleep 100000; done
echo "fetched: $(sha256sum < /tmp/fetched)"
until echo 'the client is content' | nc "$from" 81 2> /dev/null; do usleep 100000; done
