# The same verbs where kind makes the cluster. Sourced, never run.
# Nobody has run this on the machines that Weir is built on: no Docker is there. It is kept small.
# shellcheck shell=bash disable=SC2154 # lib.sh is sourced before it

kind_name=weir

kind_up() {
  if [ -e "$S/kind" ] && kind get clusters 2> /dev/null | grep -qx "$kind_name"; then
    echo "up: it is up already, by kind ($S)"
    return 0
  fi
  kind_down
  mkdir -p "$S"
  touch "$S/weir-cluster" "$S/kind"
  cp "$here/audit.yaml" "$S/audit.yaml"
  sed "s#STATE_FOLDER#$S#" "$here/kind.yaml" > "$S/kind.yaml"
  "$here/../tools/install" kind
  "$here/images" busybox nats python
  kind create cluster --name "$kind_name" --config "$S/kind.yaml" --kubeconfig "$KUBECONFIG" --wait 120s
  "$here/load-image" "$images"/{busybox,nats,python}.tar
  # kind has DNS and a default StorageClass of its own.
  kubectl apply --server-side -f "$here/manifests/3-nats.yaml" > /dev/null
  kubectl -n nats rollout status statefulset/nats --timeout=90s
  lap "NATS ready"
}

kind_down() {
  kind delete cluster --name "$kind_name" --kubeconfig "$KUBECONFIG" 2> /dev/null || true
  [ ! -e "$S/weir-cluster" ] || rm -rf "$S"
}
