#!/usr/bin/env bash
# Builds deploy/Dockerfile without a container engine or a registry, and runs the image: it must become ready as its own user, on its own /data.
# Needs buildah (Debian packages it) and root. golang:1.26 is stood in for by this machine's Go and the few programs that the build stage runs, so that
# only our own part is shown: what the Dockerfile copies, builds and leaves in the image. Everything lies in a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
chmod 755 "$work" # the image's user reads the configuration in it
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
b=(buildah --root "$work/store" --runroot "$work/run")
trap '"${b[@]}" umount --all >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

base=$("${b[@]}" from scratch)
root=$("${b[@]}" mount "$base")
mkdir -p "$root"/{tmp,proc,sys,dev,etc/ssl/certs,usr/bin,usr/lib/x86_64-linux-gnu,usr/lib64,usr/local,go,root}
ln -s usr/bin "$root/bin"; ln -s usr/lib "$root/lib"; ln -s usr/lib64 "$root/lib64"
for program in bash sh make mkdir git; do
  file=$(readlink -f "$(command -v "$program")")
  cp "$file" "$root/usr/bin/$program"
  for lib in $(ldd "$file" | grep -oE '/[^ ]+'); do
    cp -L "$lib" "$root/usr/lib/x86_64-linux-gnu/"
    case $lib in /lib64/*) cp -L "$lib" "$root/usr/lib64/" ;; esac
  done
done
cp -r "$(go env GOROOT)" "$root/usr/local/go"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
"${b[@]}" umount "$base" >/dev/null
"${b[@]}" config --env PATH=/usr/local/go/bin:/usr/bin --env GOPATH=/go --env GOTOOLCHAIN=local "$base"
"${b[@]}" commit --quiet "$base" docker.io/library/golang:1.26 >/dev/null

"${b[@]}" bud --pull-never --format docker --volume "$(go env GOMODCACHE):/go/pkg/mod" --volume "$(go env GOCACHE):/root/.cache/go-build" \
  --file deploy/Dockerfile --tag hookmesh .

image=$("${b[@]}" from --pull-never localhost/hookmesh)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$work/hookmesh.yaml" <<YAML
http: {listen: "127.0.0.1:0"}
grpc: {listen: ""}
admin: {listen: "127.0.0.1:$port"}
data_dir: /data
YAML
chmod 644 "$work/hookmesh.yaml"
run=("${b[@]}" run --volume "$work/hookmesh.yaml:/hookmesh.yaml:ro" "$image" --)
timeout 30 "${run[@]}" /hookmesh up --config /hookmesh.yaml >"$work/log" 2>&1 &
up=$!
for _ in $(seq 25); do
  "${run[@]}" /hookmesh health --admin "http://127.0.0.1:$port" >/dev/null 2>&1 && ready=yes && break
  sleep 1
done
owner=$(ps -eo user:20,args | awk '/[/]hookmesh up --config \/hookmesh.yaml/ && $1 ~ /^65532/ {print $1; exit}')
wait "$up" || true # it is stopped by the time
[ "${ready:-}" = yes ] || { echo "the image does not become ready:" >&2; cat "$work/log" >&2; exit 1; }
[ "$owner" = 65532 ] || { echo "the image runs as user ${owner:-nobody that could be found}, not as 65532" >&2; exit 1; }
echo "ok    the image is built, and ready as user $owner: $("${b[@]}" images --format '{{.Size}}' localhost/hookmesh)"
