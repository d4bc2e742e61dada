#!/bin/sh
# Starts @name@ in Gramine, with SGX where it is signed and the machine has SGX, and asks it something.
set -eu
cd "$(dirname "$0")"

run=gramine-direct
if [ -e /dev/sgx_enclave ] && [ -e @name@.sig ]; then
    run=gramine-sgx
fi

"$run" @name@ >server.log 2>&1 &
server=$!
# Gramine hands no SIGTERM on (sys.enable_sigterm_injection).
trap 'kill -KILL "$server" 2>/dev/null || true' EXIT

for _ in $(seq 120); do
    if [ "$(redis-cli -p 6379 set answer 42 2>/dev/null)" = OK ] && [ "$(redis-cli -p 6379 get answer)" = 42 ]; then
        echo "ok: $run @name@"
        exit 0
    fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.5
done
cat server.log
echo "not ok: $run @name@ did not answer"
exit 1
