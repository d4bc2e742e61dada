#!/usr/bin/env bash
# Everything of a small Kubernetes cluster, into .tools/kubernetes: for `make test-kubernetes`.
#
# Go builds etcd, the control plane, the kubelet and helm from the module proxy; Debian's archive gives containerd, runc
# and the network plug-ins, unpacked and not installed. About 20 minutes of two processors, 3 GB while it builds.
set -euo pipefail
cd "$(dirname "$0")/.."
kubernetes=v1.34.2 etcd=v3.5.17 helm=v3.22.0
tools="$PWD/.tools/kubernetes" work="$PWD/.tools/build"
mkdir -p "$tools/cni" "$work"
for program in go apt-get dpkg-deb; do
  command -v "$program" >/dev/null || { echo "cluster_tools: $program is needed" >&2; exit 1; }
done
export CGO_ENABLED=0 GOFLAGS=-mod=mod

build() { # module, version, package, program, more of go.mod
  local folder="$work/$4"
  [ -x "$tools/$4" ] && return
  mkdir -p "$folder"
  (
    cd "$folder"
    printf 'module sgxkit.dev/build\n\ngo 1.24\n' > go.mod
    [ -z "${5:-}" ] || printf '%s\n' "$5" >> go.mod
    go get "$3@$2"
    go build -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$kubernetes" -o "$tools/$4" "$3"
  )
}

# k8s.io/kubernetes takes its own libraries from a folder; as modules they have the version v0.MINOR.PATCH.
staging() {
  echo "replace ("
  curl -fsS "$(go env GOPROXY | cut -d, -f1)/k8s.io/kubernetes/@v/$kubernetes.mod" |
    sed -n "s|^\t*\(k8s.io/[^ ]*\) => ./staging.*|\t\1 => \1 ${kubernetes/v1./v0.}|p"
  echo ")"
}
libraries="$(staging)"

build helm.sh/helm/v3 "$helm" helm.sh/helm/v3/cmd/helm helm
build go.etcd.io/etcd/server/v3 "$etcd" go.etcd.io/etcd/server/v3 etcd
for program in kube-apiserver kube-controller-manager kube-scheduler kubelet; do
  build k8s.io/kubernetes "$kubernetes" "k8s.io/kubernetes/cmd/$program" "$program" "$libraries"
done
build k8s.io/kubernetes "$kubernetes" k8s.io/kubernetes/cmd/kubectl kubectl "$libraries"

mkdir -p "$work/pause"
cat > "$work/pause/main.go" <<'GO'
package main

import (
	"os"
	"os/signal"
	"syscall"
)

// Holds a pod's namespaces until it is told to end.
func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
GO
(cd "$work/pause" && GOFLAGS= go build -ldflags '-s -w' -o "$tools/pause" main.go)

(cd "$work" && apt-get download containerd runc containernetworking-plugins)
for archive in "$work"/*.deb; do dpkg-deb -x "$archive" "$work/debian"; done
cp "$work"/debian/usr/bin/{containerd,containerd-shim-runc-v2,ctr} "$work"/debian/usr/sbin/runc "$tools/"
cp "$work"/debian/usr/lib/cni/{bridge,host-local,loopback} "$tools/cni/"
rm -rf "$work"
echo "all is in $tools"
