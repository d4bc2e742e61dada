#!/bin/sh
# Add Intel's SGX repository for the Ubuntu release named, if its key is the one that is known; else end with an error.
set -eu
fingerprint=150434D1488BF80308B69398E5C7F0FA1C6C6C3C
keyring=/etc/apt/keyrings/intel-sgx-keyring.asc
mkdir -p /etc/apt/keyrings
curl -fsSL https://download.01.org/intel-sgx/sgx_repo/ubuntu/intel-sgx-deb.key -o "$keyring"
found="$(gpg --show-keys --with-colons "$keyring" | sed -n 's/^fpr:::::::::\([0-9A-F]*\):$/\1/p' | head -n 1)"
if [ "$found" != "$fingerprint" ]; then
  echo "the key of Intel's repository is $found, not $fingerprint" >&2
  exit 1
fi
echo "deb [signed-by=$keyring arch=amd64] https://download.01.org/intel-sgx/sgx_repo/ubuntu $1 main" \
  > /etc/apt/sources.list.d/intel-sgx.list
