#!/usr/bin/env bash
# demo.sh - checks `make demo`: what its page shows, and that stopping it, however and
# whenever, leaves no process, no port, no container and no file.
#
# Environment: what demo/demo.sh takes (DEMO_SERVERS, DEMO_BINARY).
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
demo=''
MARK="fleet-demo-test-$$-$RANDOM" # in the environment of everything the demo starts
passed=0 name=''

# marked: the processes that carry the mark and have not ended.
marked() {
  local f
  # Files of processes that end meanwhile are no error.
  # shellcheck disable=SC2062
  { grep -lsz "^FLEET_DEMO_MARK=$MARK\$" /proc/[0-9]*/environ || true; } | while read -r f; do
    f=${f#/proc/}; f=${f%/environ}
    # The zombie of a child that this script has not waited for has ended.
    case $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$f/status" 2>/dev/null) in Z|'') ;; *) printf '%s ' "$f" ;; esac
  done
}
# shellcheck disable=SC2329 # run by the trap
finish() {
  local pid
  set +e
  [ -z "$demo" ] || kill -TERM -- "-$demo" 2>/dev/null || kill -TERM "$demo" 2>/dev/null
  for _ in {1..300}; do [ -n "$(marked)" ] || break; sleep 0.1; done
  for pid in $(marked); do kill -KILL "$pid"; done
  rm -rf -- "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

fail() {
  printf 'tests/demo.sh: FAILED: %s: %s\n' "$name" "$*" >&2
  sed 's/^/  | /' "$scratch/out" >&2
  exit 1
}

# containers: the demos' containers, if there is an engine.
containers() { timeout 10 docker ps -aq --filter label=fleet-demo 2>/dev/null | sort || true; }

# begin NAME COMMAND...: starts the demo as a terminal would: in a process group of
# its own, with signals that are not ignored, and all it writes under $scratch/tmp.
begin() {
  name=$1; shift
  mkdir "$scratch/tmp"
  : >"$scratch/out"
  containers >"$scratch/containers"
  TMPDIR=$scratch/tmp FLEET_DEMO_MARK=$MARK setsid env --default-signal=INT,HUP "$@" </dev/null >"$scratch/out" 2>&1 &
  demo=$!
}
# said TEXT SECONDS: waits until the demo has said it.
said() {
  local i
  for ((i = 0; i < $2 * 10; i++)); do
    grep -qF -- "$1" "$scratch/out" && return 0
    kill -0 "$demo" 2>/dev/null || fail "the demo ended before it said '$1'"
    sleep 0.1
  done
  fail "the demo did not say '$1' within $2 s"
}
# ended SECONDS: the demo ends in time, and nothing is left.
ended() {
  local i left
  for ((i = 0; i < $1 * 10; i++)); do
    kill -0 "$demo" 2>/dev/null || break
    sleep 0.1
  done
  ! kill -0 "$demo" 2>/dev/null || fail "the demo has not ended after $1 s"
  wait "$demo" 2>/dev/null || true
  demo=''
  left=$(marked)
  # shellcheck disable=SC2086
  [ -z "$left" ] || { ps -o pid,args -p ${left// /,}0 >&2 || true; fail "processes are left: $left"; }
  left=$(ls -A "$scratch/tmp")
  [ -z "$left" ] || fail "files are left: $left"
  rmdir "$scratch/tmp"
  local port
  # shellcheck disable=SC2013 # one word a line
  for port in $(grep -oE '127\.0\.0\.1:[0-9]+' "$scratch/out" | cut -d: -f2 | sort -u); do
    case $(grep -F "127.0.0.1:$port is taken" "$scratch/out") in ?*) continue ;; esac
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || fail "something still listens on port $port"
  done
  left=$(containers | comm -13 "$scratch/containers" -)
  [ -z "$left" ] || fail "containers are left: $left"
  passed=$((passed + 1))
  echo "tests/demo.sh: $name: ok"
}

# page: the exporter's page through the URL that the demo printed.
page() {
  local port
  port=$(sed -n 's|^The fleet is on http://127\.0\.0\.1:\([0-9]*\)/metrics$|\1|p' "$scratch/out")
  [ -n "$port" ] || fail "no URL was printed"
  # shellcheck disable=SC2016
  timeout 5 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" >&3 && cat <&3' _ "$port" ||
    fail "the page does not answer on port $port"
}
# value FAMILY LABEL...: the value of the one series that has these labels, in any order.
value() {
  local lines=$PAGE label family=$1; shift
  lines=$(grep "^query_exporter_$family{" <<<"$lines" || true)
  for label; do lines=$(grep -F "$label" <<<"$lines" || true); done
  [ "$(grep -c . <<<"$lines")" -eq 1 ] || fail "not one series but these for $family $*: ${lines:-none}"
  printf '%s\n' "${lines##* }"
}

# ---- the whole way ------------------------------------------------------------------
t0=$SECONDS
begin "shown, then Ctrl-C" demo/demo.sh
said 'running; Ctrl-C ends it' 300
echo "tests/demo.sh: the fleet was shown after $((SECONDS - t0)) s"
PAGE=$(page)
[ -n "$(marked)" ] || fail "no process carries the mark: this script would see nothing left"
names=$(sed -n 's/^demo:   \(\(mariadb\|mysql\)-[^ ]*\): .* on 127\.0\.0\.1:[0-9]*$/\1/p' "$scratch/out")
[ -n "$names" ] || fail "the demo named no server"
declare -A before=()
for target in $names; do
  [ "$(value up "target=\"$target\"")" = 1 ] || fail "$target is not up"
  value status "target=\"$target\"" 'variable_name="Threads_connected"' >/dev/null
  value process_count_by_host "target=\"$target\"" 'user="exporter"' >/dev/null
  value table_size_bytes "target=\"$target\"" 'table_name="orders"' >/dev/null
  before[$target]=$(value shop_orders_total "target=\"$target\"" 'name="placed"')
done
for target in dead hung; do
  [ "$(value up "target=\"$target\"")" = 0 ] || fail "$target is said to be up"
  grep -q "^query_exporter_target_failure_reason{.*\"$target\".* 1\$" <<<"$PAGE" || fail "$target has no reason"
done
for _ in {1..100}; do
  still=''
  PAGE=$(page)
  for target in $names; do
    [ "$(value shop_orders_total "target=\"$target\"" 'name="placed"')" -gt "${before[$target]}" ] || still+=" $target"
  done
  [ -n "$still" ] || break
  sleep 0.2
done
[ -z "$still" ] || fail "the counter does not move:$still"
kill -INT -- "-$demo"
ended 60

# ---- other ends -----------------------------------------------------------------------
begin "once" demo/demo.sh --once
said 'The fleet is on' 120
ended 60
begin "through make, the terminal closes" make demo
said 'The fleet is on' 120
kill -HUP -- "-$demo"
ended 60
begin "SIGTERM to the script alone" demo/demo.sh
said 'The fleet is on' 120
kill -TERM "$demo"
ended 60
begin "SIGKILL to the script alone" demo/demo.sh
said 'The fleet is on' 120
kill -KILL "$demo"
for _ in {1..300}; do [ -n "$(marked)" ] || break; sleep 0.1; done
ended 60
for pause in 0.2 1 2.5 4; do
  begin "Ctrl-C after $pause s" demo/demo.sh
  sleep "$pause"
  kill -INT -- "-$demo"
  ended 60
done
begin "SIGTERM during the start" demo/demo.sh
said 'starting the servers' 120
kill -TERM "$demo"
ended 60

echo "$passed passed, 0 failed"
