# Sourced by the other scripts: where things are, and how to speak.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"

state=$root/.hallmark
binary=$root/bin/hallmark
pidfile=$state/serve.pid
portfile=$state/serve.port
serverlog=$state/serve.log
export CGO_ENABLED=0
# One set of compiled packages serves the program, the checks and the tests.
export GOFLAGS='-trimpath -buildvcs=false' GOWORK=off

say() { printf '%s\n' "$*"; }
fail() {
	printf '%s\n' "$*" >&2
	exit 1
}

# seconds START: time since START, a value of $EPOCHREALTIME, in seconds.
seconds() {
	local now=${EPOCHREALTIME/[.,]/} then=${1/[.,]/}
	printf '%d.%d' $(((now - then) / 1000000)) $(((now - then) / 100000 % 10))
}

need_go() {
	command -v go >/dev/null || fail "Go is not on the PATH. Install the version that go.mod names (or a newer one)."
}

# own_server prints the process id of the server that scripts/run started, if it
# still runs. A process id alone proves nothing, since it may be somebody else's
# by now: the program must be ours.
own_server() {
	local pid exe
	[ -r "$pidfile" ] || return 1
	read -r pid <"$pidfile" || return 1
	[[ $pid =~ ^[0-9]+$ ]] || return 1
	exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 1
	[ "${exe% (deleted)}" = "$binary" ] || return 1
	tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qx serve || return 1
	printf '%s' "$pid"
}

# stop_server ends that server, if there is one, and waits for its end.
stop_server() {
	local pid i
	if pid=$(own_server); then
		kill "$pid" 2>/dev/null || true
		for ((i = 0; i < 80; i++)); do
			own_server >/dev/null || break
			sleep 0.1
		done
		if own_server >/dev/null; then
			kill -9 "$pid" 2>/dev/null || true
			sleep 0.2
		fi
		printf '%s' "$pid"
	fi
	rm -f "$pidfile" "$portfile"
}

# port_open PORT: somebody listens on it.
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# healthy PORT: a server answers /healthz there within 2 seconds.
healthy() {
	local line
	{
		exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
		printf 'GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
		read -r -t 2 line <&3 || line=
		exec 3>&- 3<&-
	} 2>/dev/null
	[[ $line == *' 200 '* ]]
}
