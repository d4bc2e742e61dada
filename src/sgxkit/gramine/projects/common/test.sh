#!/bin/sh
# Runs @name@ in Gramine, with SGX where it is signed and the machine has SGX, and looks at what it prints.
set -eu
cd "$(dirname "$0")"

run=gramine-direct
if [ -e /dev/sgx_enclave ] && [ -e @name@.sig ]; then
    run=gramine-sgx
fi

output=$(timeout 300 "$run" @name@)
case $output in
*'@expected@'*)
    echo "ok: $run @name@"
    ;;
*)
    printf '%s\n' "$output"
    echo "not ok: $run @name@ did not print: @expected@"
    exit 1
    ;;
esac
