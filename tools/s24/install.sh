#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing of the packages of the given groups (packages.txt), and nothing else: install.sh build run
# Debian's own services are neither started nor stopped: an invoke-rc.d policy forbids it while apt runs, and no cluster is made.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")

say() { echo "s24: $*"; }
die() { echo "s24: $*" >&2; exit 1; }

missing=()
for group in "$@"; do
	while read -r name; do
		dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$name")
	done < <(awk -v group="$group" '$1 == group { print $2 }' "$here/packages.txt")
done

# Another build of the same program will do.
wanted=()
for name in "${missing[@]}"; do
	case $name in
	nginx) [ -x /usr/sbin/nginx ] || wanted+=("$name") ;;
	nodejs) command -v node >/dev/null || wanted+=("$name") ;;
	prometheus) command -v promtool >/dev/null || wanted+=("$name") ;; # only its promtool is run
	*) wanted+=("$name") ;;
	esac
done
[ ${#wanted[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ]; then
	as_root=(env)
elif command -v sudo >/dev/null; then
	as_root=(sudo env)
else
	die "these packages are missing, and installing needs root or sudo: ${wanted[*]}"
fi
command -v apt-get >/dev/null || die "these packages are missing, and there is no apt-get: ${wanted[*]}"

say "installing ${#wanted[@]} packages: ${wanted[*]}"
# Only what we create here is removed again: a machine that has its own policy or its own cluster settings keeps them.
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.d/schools24-install.conf
made=()
undo() {
	for file in "${made[@]}"; do "${as_root[@]}" rm -f "$file"; done
}
trap undo EXIT
if [ ! -e $policy ]; then
	made+=("$policy")
	printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
	"${as_root[@]}" chmod 755 $policy
fi
if ! compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then # the first server package would make a cluster
	made+=("$clusters")
	"${as_root[@]}" mkdir -p "$(dirname $clusters)"
	echo 'create_main_cluster = false' | "${as_root[@]}" tee $clusters >/dev/null
fi
log=$(mktemp)
apt() {
	"${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 "$@" </dev/null >"$log" 2>&1 ||
		{ tail -n 30 "$log" >&2; die "apt-get $1 failed"; }
}
apt update
apt install --no-install-recommends "${wanted[@]}"
# Debian has promtool in the server's package alone. The policy above has kept the server from starting; it shall not start with the machine either.
if [[ " ${wanted[*]} " == *" prometheus "* ]]; then
	"${as_root[@]}" deb-systemd-helper disable prometheus.service >/dev/null 2>&1 || true
	"${as_root[@]}" update-rc.d prometheus disable >/dev/null 2>&1 || true
fi
rm -f "$log"
