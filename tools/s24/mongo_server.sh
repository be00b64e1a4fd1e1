#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A real MongoDB server for tests and `./s24 up --mongo`: mongod where it is installed, else DocumentDB (a PostgreSQL extension) with
# FerretDB 2 in front of it, built once and kept under the user's cache directory.
#
#	mongo_server.sh check            exit 0 and say which server there will be, or exit 3 and say why there is none
#	mongo_server.sh cached           exit 0 when start needs no prepare, so seconds; else exit 3 and say why
#	mongo_server.sh prepare          build what is missing (about four minutes, 1 GB, as root); at once when it is there
#	mongo_server.sh start DIR PORT   start it on 127.0.0.1:PORT with its data in DIR; prints the URI (and keeps it in DIR/uri)
#	mongo_server.sh stop DIR         stop it; the data stays
#
# The file can also be sourced: the functions are mongo_check, mongo_prepare, mongo_start and mongo_stop.

MONGO_FERRETDB_VERSION=v2.7.0
MONGO_PG_BIN=/usr/lib/postgresql/18/bin
mongo_cache=${S24_MONGO_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/schools24/documentdb}
mongo_root=$mongo_cache/root

mongo_say() {
	echo "mongo_server: $*" >&2
}

mongo_check() {
	local missing=()

	if command -v mongod >/dev/null; then
		echo mongod
		return 0
	fi
	# The mounts of the chroot are made in a mount namespace of their own, so nothing is left mounted whatever happens.
	[ "$(id -u)" = 0 ] || missing+=("root")
	command -v unshare >/dev/null || missing+=("unshare")
	if [ ! -e "$mongo_cache/ready" ]; then
		command -v go >/dev/null || missing+=("go 1.25 or newer")
		command -v debootstrap >/dev/null || missing+=("debootstrap")
	fi
	if [ ${#missing[@]} -gt 0 ]; then
		mongo_say "no MongoDB here: mongod is not installed, and its stand-in needs $(printf '%s, ' "${missing[@]}" | sed 's/, $//')"
		return 3
	fi
	echo documentdb
}

mongo_cached() {
	local kind

	kind=$(mongo_check) || return $?
	if [ "$kind" = documentdb ] && [ ! -e "$mongo_cache/ready" ]; then
		mongo_say "not prepared yet (tools/s24/mongo_server.sh prepare: once, minutes)"
		return 3
	fi
}

# Runs a command inside the chroot with its own /proc, /dev and, when given, DIR as /srv.
mongo_chroot() { # DIR or '' | command…
	local dir=$1
	shift
	S24_CHROOT=$mongo_root S24_SRV=$dir unshare --mount --propagation private bash -c '
		set -e
		mount --bind /proc "$S24_CHROOT/proc"
		mount --rbind /dev "$S24_CHROOT/dev"
		[ -z "$S24_SRV" ] || mount --bind "$S24_SRV" "$S24_CHROOT/srv"
		root=$S24_CHROOT
		unset S24_CHROOT S24_SRV
		exec env HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 chroot "$root" "$@"' mongo "$@"
}

# A step's output goes to a log; its tail is shown, without addresses, only when the step fails.
mongo_step() { # label | command…
	local label=$1 at=$SECONDS
	shift
	if ! "$@" >"$mongo_cache/$label.log" 2>&1 </dev/null; then
		mongo_say "$label failed:"
		tail -n 15 "$mongo_cache/$label.log" | sed -E 's#[a-z]+://[^ "]+#<address>#g; s#\b([a-z0-9-]+\.)+(org|com|net|io|dev)\b#<host>#g' >&2
		return 1
	fi
	mongo_say "$label: $((SECONDS - at)) s"
}

mongo_bootstrap() {
	# A half-made tree of an interrupted run cannot be trusted. Nothing can be mounted in it: see mongo_chroot.
	rm -rf --one-file-system "$mongo_root"
	debootstrap --variant=minbase sid "$mongo_root" ${S24_DEBIAN_MIRROR:+"$S24_DEBIAN_MIRROR"}
}

mongo_packages() {
	# No service may be started while packages are configured, and no cluster be made: start makes its own in DIR.
	printf '#!/bin/sh\nexit 101\n' >"$mongo_root/usr/sbin/policy-rc.d"
	chmod 755 "$mongo_root/usr/sbin/policy-rc.d"
	mkdir -p "$mongo_root/etc/postgresql-common"
	echo 'create_main_cluster = false' >"$mongo_root/etc/postgresql-common/createcluster.conf"
	mongo_chroot '' apt-get -o Acquire::Check-Valid-Until=false update
	mongo_chroot '' env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Check-Valid-Until=false -y install \
		--no-install-recommends postgresql-18 postgresql-18-documentdb
	rm -rf "$mongo_root"/var/cache/apt/archives/*.deb "$mongo_root"/var/lib/apt/lists/*
	[ -x "$mongo_root$MONGO_PG_BIN/postgres" ]
}

mongo_ferretdb() {
	# The toolchain at hand is used or nothing: a test must not download another one.
	CGO_ENABLED=0 GOTOOLCHAIN=local GOBIN="$mongo_cache" GOFLAGS=-buildvcs=false nice \
		go install "github.com/FerretDB/FerretDB/v2/cmd/ferretdb@$MONGO_FERRETDB_VERSION"
}

mongo_prepare() {
	local kind at=$SECONDS

	kind=$(mongo_check) || return $?
	[ "$kind" = documentdb ] || return 0
	mkdir -p "$mongo_cache"
	(
		flock 9 # two test runs may start at the same time
		[ ! -e "$mongo_cache/ready" ] || exit 0
		mongo_say "preparing DocumentDB and FerretDB $MONGO_FERRETDB_VERSION in $mongo_cache (once, minutes)"
		[ -x "$mongo_cache/ferretdb" ] || mongo_step ferretdb mongo_ferretdb || exit 1
		mongo_step bootstrap mongo_bootstrap || exit 1
		mongo_step packages mongo_packages || exit 1
		touch "$mongo_cache/ready"
		mongo_say "prepared in $((SECONDS - at)) s"
	) 9>"$mongo_cache/lock"
}

mongo_free_port() {
	/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

mongo_wait_port() { # port | pid | seconds
	local port=$1 pid=$2 n=$(($3 * 10))

	while ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
		kill -0 "$pid" 2>/dev/null || return 1
		[ $((n -= 1)) -gt 0 ] || return 1
		sleep 0.1
	done
}

mongo_cluster() { # DIR, where the data does not exist yet
	local dir=$1

	mkdir -p "$dir/pg"
	chown "$(mongo_chroot '' id -u postgres):$(mongo_chroot '' id -g postgres)" "$dir/pg"
	chmod 700 "$dir/pg"
	install -m 600 -o "$(mongo_chroot '' id -u postgres)" "$dir/password" "$dir/pwfile"
	mongo_chroot "$dir" chroot --userspec=postgres:postgres / "$MONGO_PG_BIN/initdb" -D /srv/pg -U s24 -E UTF8 --no-sync \
		--auth=scram-sha-256 --pwfile=/srv/pwfile || return 1
	# DocumentDB makes indexes over connections of its own to localhost: this is their password.
	echo "*:*:*:*:$(cat "$dir/password")" >"$dir/pwfile"
	mv "$dir/pwfile" "$dir/pgpass"
	cat >>"$dir/pg/postgresql.conf" <<-'CONF'
		shared_preload_libraries = 'pg_cron,pg_documentdb_core,pg_documentdb'
		cron.database_name = 'postgres'
		unix_socket_directories = ''
		listen_addresses = '127.0.0.1'
		max_connections = 120
	CONF
}

mongo_start_pg() { # DIR PORT
	mongo_chroot "$1" chroot --userspec=postgres:postgres / env PGPASSFILE=/srv/pgpass "$MONGO_PG_BIN/postgres" -D /srv/pg -p "$2" >>"$1/postgres.log" 2>&1 \
		</dev/null 9>&- &
	mongo_wait_port "$2" $! 30 || return 1
	head -n 1 "$1/pg/postmaster.pid" >"$1/postgres.pid" # $! is the shell around it
}

mongo_psql() { # PORT PASSWORD | arguments…
	PGPASSWORD=$2 PGOPTIONS='-c client_min_messages=error' mongo_chroot '' "$MONGO_PG_BIN/psql" -q -h 127.0.0.1 -p "$1" -U s24 -d postgres \
		-v ON_ERROR_STOP=1 "${@:3}" >/dev/null
}

mongo_start_documentdb() { # DIR PORT
	local dir=$1 port=$2 pg_port password url

	[ -s "$dir/password" ] || (umask 077 && head -c 18 /dev/urandom | base64 | tr '+/' '-_' >"$dir/password")
	password=$(cat "$dir/password")
	if [ ! -e "$dir/pg/PG_VERSION" ]; then
		mongo_cluster "$dir" >"$dir/initdb.log" 2>&1 || { tail -n 5 "$dir/initdb.log" >&2; return 1; }
	fi
	pg_port=$(mongo_free_port)
	mongo_start_pg "$dir" "$pg_port" || { tail -n 5 "$dir/postgres.log" >&2; return 1; }
	if [ ! -e "$dir/users" ]; then
		mongo_psql "$pg_port" "$password" -c 'CREATE EXTENSION IF NOT EXISTS documentdb CASCADE' || return 1
		# Its own function writes the salt in the length that MongoDB's drivers insist on; CREATE ROLE does not.
		mongo_psql "$pg_port" "$password" -c "SELECT documentdb_api.create_user('{\"createUser\": \"schools24\", \"pwd\": \"$password\",
			\"roles\": [{\"role\": \"clusterAdmin\", \"db\": \"admin\"}, {\"role\": \"readWriteAnyDatabase\", \"db\": \"admin\"}]}')" || return 1
		touch "$dir/users"
	fi

	url="postgres://s24:$password@127.0.0.1:$pg_port/postgres"
	mkdir -p "$dir/ferretdb" && chown -R 65534:65534 "$dir/ferretdb" || return 1
	# As nobody, who may not be able to walk down to the program and its folder: so both are opened here, and it runs under its own name.
	FERRETDB_POSTGRESQL_URL=$url FERRETDB_LISTEN_ADDR="127.0.0.1:$port" FERRETDB_DEBUG_ADDR=- FERRETDB_TELEMETRY=disable FERRETDB_STATE_DIR=/proc/self/fd/7 \
		FERRETDB_LOG_LEVEL=warn setpriv --reuid=65534 --regid=65534 --clear-groups bash -c 'cd /; exec -a ferretdb /proc/self/fd/8' \
		7<"$dir/ferretdb" 8<"$mongo_cache/ferretdb" >>"$dir/ferretdb.log" 2>&1 </dev/null 9>&- &
	echo $! >"$dir/mongo.pid"
	mongo_wait_port "$port" "$(cat "$dir/mongo.pid")" 30 || { tail -n 5 "$dir/ferretdb.log" >&2; return 1; }
	(umask 077 && echo "mongodb://schools24:$password@127.0.0.1:$port/?authSource=admin" >"$dir/uri")
}

mongo_start_mongod() { # DIR PORT
	mkdir -p "$1/db"
	mongod --dbpath "$1/db" --bind_ip 127.0.0.1 --port "$2" >>"$1/mongod.log" 2>&1 </dev/null &
	echo $! >"$1/mongo.pid"
	mongo_wait_port "$2" "$(cat "$1/mongo.pid")" 60 || { tail -n 5 "$1/mongod.log" >&2; return 1; }
	echo "mongodb://127.0.0.1:$2/" >"$1/uri"
}

mongo_start() { # DIR PORT
	local dir kind

	kind=$(mongo_check) || return $?
	mongo_prepare || return $?
	mkdir -p "$1" && dir=$(cd "$1" && pwd) || return 1
	if [ -e "$dir/mongo.pid" ] && kill -0 "$(cat "$dir/mongo.pid")" 2>/dev/null; then
		mongo_say "already running"
		cat "$dir/uri"
		return 0
	fi
	mongo_stop "$dir" # what a crash may have left
	if ! "mongo_start_$kind" "$dir" "$2"; then
		mongo_say "the server did not start; its logs are in $dir"
		mongo_stop "$dir"
		return 1
	fi
	cat "$dir/uri"
}

mongo_stop_pid() { # pid file | signal
	local pid n=100

	[ -s "$1" ] || return 0
	pid=$(cat "$1")
	# After a reboot the number may be another program's.
	if grep -qaE 'mongod|ferretdb|postgres' "/proc/$pid/cmdline" 2>/dev/null && kill "-$2" "$pid" 2>/dev/null; then
		while kill -0 "$pid" 2>/dev/null && [ $((n -= 1)) -gt 0 ]; do
			sleep 0.1
		done
		kill -9 "$pid" 2>/dev/null || true
	fi
	rm -f "$1"
}

mongo_stop() { # DIR
	mongo_stop_pid "$1/mongo.pid" TERM
	[ -s "$1/postgres.pid" ] || head -n 1 "$1/pg/postmaster.pid" >"$1/postgres.pid" 2>/dev/null || true
	mongo_stop_pid "$1/postgres.pid" INT # fast shutdown
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
	set -u
	case "${1-} $#" in
	"check 1" | "cached 1" | "prepare 1" | "stop 2" | "start 3") "mongo_$1" "${@:2}" ;;
	*)
		sed -n '3,13s/^# \{0,1\}//p' "$0" >&2
		exit 2
		;;
	esac
fi
