#!/usr/bin/env bash
# What images/sgxkit is built from without a network, into .tools/images: a base system as a tar, and wheels. Root.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="$PWD/.tools/images"
mkdir -p "$folder/wheels"
if [ ! -e "$folder/base.tar" ]; then
  root="$(mktemp -d)"
  trap 'rm -rf "$root"' EXIT
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root"
  tar -C "$root" -cf "$folder/base.tar.new" .
  mv "$folder/base.tar.new" "$folder/base.tar"
fi
sed -n 's/^\([A-Za-z0-9][^ ;]*==[^ ;]*\).*/\1/p' requirements-dev.lock > "$folder/constraints.txt"
# For the Python of the base, whatever this machine's is.
.venv/bin/python -m pip download --quiet --dest "$folder/wheels" --constraint "$folder/constraints.txt" \
  --only-binary :all: --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
  --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
  hatchling $(.venv/bin/python - <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
print(*[one.replace(" ", "") for one in (*project["dependencies"], *project["optional-dependencies"]["kubernetes"])])
PYTHON
)
echo "all is in $folder"
