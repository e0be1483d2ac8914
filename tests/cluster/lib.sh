# Settings and small functions that the cluster scripts share. Sourced, never run.
# shellcheck shell=bash disable=SC2034

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WEIR_CACHE=${WEIR_CACHE:-$HOME/.cache/weir}
tools=$WEIR_CACHE/tools
nats_version=2.15.1 # the one that runs inside the cluster

# What is built is kept under a hash of everything that decides it, so a changed version never
# meets an old program, and two checkouts of the same version share one build.
hash_of() { # path...: one short hash of these files, their names included
  (cd "$here" && find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12)
}
key=$(hash_of mod build)
store=$WEIR_CACHE/cluster/$key
bin=$store/bin
images=$store/images

# Everything that one cluster writes. Sockets live in it, and a socket's path has room for 107
# characters, hence the short default.
S=$(realpath -m "${WEIR_CLUSTER_STATE:-/tmp/weir-cluster}")
# The name of the cluster's cgroup: two clusters with two state folders do not meet.
group=weir-$(printf %s "$S" | sha256sum | cut -c1-8)

node_name=weir
node_ip=10.213.0.1
pod_cidr=10.244.0.0/24
service_cidr=10.96.0.0/16
api_service=10.96.0.1 # the first address of service_cidr, by Kubernetes' own rule
dns_service=10.96.0.10

export KUBECONFIG=$S/admin.conf
export KUBECACHEDIR=$S/kubecache HELM_CACHE_HOME=$S/helm HELM_CONFIG_HOME=$S/helm HELM_DATA_HOME=$S/helm
export CONTAINERD_ADDRESS=$S/containerd.sock
export CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 # one a call, about cgroup v1
export PATH=$tools/bin:$bin:$PATH

fail() { # message: one line on standard error, then the end
  echo "${0##*/}: $*" >&2
  exit 1
}

# Where Docker and kind are there they make the cluster; else this machine's root does.
uses_kind() {
  command -v kind > /dev/null && command -v docker > /dev/null && docker info > /dev/null 2>&1
}

main_pid() { # prints the pid of the program that holds the cluster's namespaces, if it runs
  local pid
  pid=$(cat "$S/unshare.pid" 2> /dev/null) || return 1
  # A pid alone could be another program's by now; the command line names our state folder.
  tr '\0' ' ' 2> /dev/null < "/proc/$pid/cmdline" | grep -qF "/node $S " || return 1
  echo "$pid"
}

init_pid() { # prints the pid, seen from outside, of process 1 of the cluster
  local pid
  pid=$(main_pid) || return 1
  pgrep -P "$pid"
}

one_at_a_time() { # waits for another `up` or `down` of the same state folder
  [ -z "${WEIR_CLUSTER_LOCKED:-}" ] || return 0
  exec 9< "$(dirname "$S")" # a folder that stays can be locked, and nothing is left behind
  flock -w 900 9 || fail "another up or down has been running for 15 minutes"
  export WEIR_CLUSTER_LOCKED=1
}

cgroup_roots() { # the folders in which the cluster's cgroup has to be: one of cgroup v2, one a controller of v1
  local folder
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo /sys/fs/cgroup
    return
  fi
  for folder in /sys/fs/cgroup/*/; do
    # A cgroup2 mounted beside v1 has no controllers for pods; names such as cpu are often links.
    [ ! -e "$folder/cgroup.controllers" ] && [ -e "$folder/cgroup.procs" ] && echo "${folder%/}"
  done
}
