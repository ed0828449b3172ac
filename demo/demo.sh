#!/usr/bin/env bash
# demo.sh - a small fleet on this machine, seen on /metrics: a few real servers with
# life in them, one that is dead, one that hangs. Ctrl-C ends it and leaves nothing.
#
#   demo.sh                 runs until Ctrl-C
#   demo.sh --for SECONDS   shows the page, runs that long, and ends by itself
#   demo.sh --once          shows the page and ends
#
# The servers come from Docker where an engine answers and the images can be had;
# otherwise MariaDB from the machine's packages (installed if this is root) and
# MySQL where it can be fetched.
#
# Environment:
#   DEMO_SERVERS   docker or local: only that (default: auto)
#   DEMO_BINARY    the exporter to run (default: built here)
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
SELF=$ROOT/demo/demo.sh
SERVERS=$ROOT/tests/servers
cd "$ROOT"

say() { printf 'demo: %s\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "$0"; }

# The guard ends what the trap below could not, should this script be killed without
# a chance to run it: containers and the folder. (Servers have `keep`, the exporter a
# signal from the kernel.) It waits until file descriptor 8 is closed everywhere.
guard() {
  trap '' INT TERM HUP PIPE
  read -r _
  if [ -n "$DEMO_LABEL" ]; then
    # shellcheck disable=SC2046
    set -- $(timeout 20 docker ps -aq --filter "label=$DEMO_LABEL")
    [ $# -eq 0 ] || timeout 60 docker rm -f -v "$@"
  fi
  local i
  for ((i = 0; i < 400; i++)); do
    # Whoever still has the folder in its command line still uses it.
    # shellcheck disable=SC2062
    grep -qszF "$DEMO_DIR/" /proc/[0-9]*/cmdline || break
    sleep 0.1
  done
  rm -rf -- "$DEMO_DIR"
}
if [ "${1-}" = --guard ]; then set +e; guard >/dev/null 2>&1; exit 0; fi

LIFETIME=
while [ $# -gt 0 ]; do
  case $1 in
    --once) LIFETIME=0 ;;
    --for) LIFETIME=${2-}; shift ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  case $LIFETIME in ''|*[!0-9]*) die "--for needs a number of seconds" ;; esac
  shift
done

# ---- one folder, one trap ---------------------------------------------------------
# Everything this script starts is in one of these when it could still run at the end.
DIR='' # the one folder
INSTALLER='' # apt-get; not to be stopped half-way
JOBS=() # downloads and the build, each the leader of a process group
KEEPERS=() # test servers, the sick targets, the guard; they end when file descriptor 8 closes
LOADS=() # clients; they end with their servers
EXPORTER=''
LABEL="fleet-demo=$$-$RANDOM" # containers

# gone PID SECONDS: waits that long for the process to end.
gone() {
  local i
  for ((i = 0; i < $2 * 10; i++)); do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.1
  done
  return 1
}

# shellcheck disable=SC2329 # run by the trap
clean_up() {
  local rc=$? pid
  trap '' INT TERM HUP PIPE
  trap - EXIT
  set +e
  if [ -n "$DIR" ]; then say "stopping" 2>/dev/null; fi
  # A job that has only just been started may not lead its group yet.
  for pid in "${JOBS[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null; done
  if [ -n "$EXPORTER" ]; then
    kill -TERM "$EXPORTER" 2>/dev/null
    gone "$EXPORTER" 6 || kill -KILL "$EXPORTER" 2>/dev/null
  fi
  exec 8>&- # what the keepers wait for
  # They have bounds of their own, which sum up to less than this.
  for pid in "${KEEPERS[@]}"; do gone "$pid" 60 || kill -KILL "$pid" 2>/dev/null; done
  for pid in "${LOADS[@]}"; do gone "$pid" 5 || kill -KILL "$pid" 2>/dev/null; done
  for pid in "${JOBS[@]}"; do
    gone "$pid" 5
    kill -KILL -- "-$pid" 2>/dev/null
  done
  if [ -n "$INSTALLER" ] && ! gone "$INSTALLER" 0; then
    say "letting apt-get finish, so that the machine's packages are whole" 2>/dev/null
    gone "$INSTALLER" 300
  fi
  [ -z "$DIR" ] || rm -rf -- "$DIR"
  [ -z "$DIR" ] || say "stopped; nothing is left" 2>/dev/null
  exit "$rc"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
trap 'exit 141' PIPE

# ---- what there is ------------------------------------------------------------------
have_mariadb() { [ -n "$("$SERVERS/mariadb-server" version)" ]; }
have_mysql() { [ -n "$("$SERVERS/mysql-server" version)" ]; }

ENGINE=
case ${DEMO_SERVERS:-auto} in
  auto) if timeout 3 docker info >/dev/null 2>&1; then ENGINE=docker; fi ;;
  docker) timeout 10 docker info >/dev/null 2>&1 || die "DEMO_SERVERS=docker, but no engine answers"; ENGINE=docker ;;
  local) ;;
  *) die "DEMO_SERVERS is docker or local, not '$DEMO_SERVERS'" ;;
esac
if [ -z "${DEMO_BINARY:-}" ] && ! command -v cargo >/dev/null; then
  die "there is no cargo here: install Rust, then type make demo again"
fi
# The one thing that only root can do. With Docker it may still be needed, when no image can be had.
no_servers() {
  die "there is no database server here, and installing one needs root. Type these two commands:

  sudo apt-get install -y --no-install-recommends mariadb-server openssl
  make demo"
}
if [ -z "$ENGINE" ] && [ "$(id -u)" -ne 0 ] && ! have_mariadb; then no_servers; fi

DIR=$(mktemp -d "${TMPDIR:-/tmp}/fleet-demo.XXXXXX")
LOG=$DIR/exporter.log
mkfifo "$DIR/alive"
exec 8<>"$DIR/alive"
# Which is why everything that lives longer than a moment is started with 8>&-.
DEMO_DIR=$DIR DEMO_LABEL=${ENGINE:+$LABEL} setsid "$SELF" --guard <"$DIR/alive" 8>&- &
KEEPERS+=($!)

# job NAME COMMAND...: in the background, in a group that a Ctrl-C does not reach
# and that can be ended whole; its output goes to DIR/NAME.log. Sets JOB.
job() {
  local name=$1; shift
  setsid "$@" >"$DIR/$name.log" 2>&1 </dev/null 8>&- &
  JOB=$!
}

# ---- get and build, side by side ------------------------------------------------------
declare -A PULL=()
IMAGES=(mariadb:10.11 mariadb:11 mysql:9)
MYSQL_JOB=''
pull_images() {
  local image
  for image in "${IMAGES[@]}"; do
    if docker image inspect "$image" >/dev/null 2>&1; then continue; fi
    say "pulling the image $image"
    job "pull-${image/:/-}" timeout 120 docker pull -q "$image"
    PULL[$image]=$JOB
    JOBS+=("$JOB")
  done
}
get_servers() {
  if ! have_mariadb; then
    if [ "$(id -u)" -ne 0 ]; then no_servers; fi
    say "installing MariaDB from the machine's packages"
    job mariadb "$SERVERS/mariadb-server" install
    INSTALLER=$JOB
  fi
  if ! have_mysql; then
    say "fetching MySQL (it goes on without, if it cannot be had)"
    job mysql timeout 150 "$SERVERS/mysql-server" install
    MYSQL_JOB=$JOB
    JOBS+=("$JOB")
  fi
}
if [ -n "$ENGINE" ]; then pull_images; else get_servers; fi

BINARY=${DEMO_BINARY:-}
if [ -z "$BINARY" ]; then
  say "building the exporter (a few minutes the first time)"
  # In the background and waited for, so that a signal is heeded at once.
  setsid cargo build --locked -p fleet-query-exporter </dev/null 8>&- &
  JOBS+=($!)
  wait $! || die "the build failed"
  BINARY=${CARGO_TARGET_DIR:-$ROOT/target}/debug/fleet-query-exporter
fi
[ -x "$BINARY" ] || die "$BINARY is not there"

if [ -n "$ENGINE" ]; then
  for image in "${!PULL[@]}"; do
    wait "${PULL[$image]}" || say "$image cannot be had: left out"
  done
  have=()
  for image in "${IMAGES[@]}"; do
    if docker image inspect "$image" >/dev/null 2>&1; then have+=("$image"); fi
  done
  if [ ${#have[@]} -eq 0 ]; then
    [ "${DEMO_SERVERS:-auto}" = auto ] || die "none of the images can be had: ${IMAGES[*]}"
    say "no image can be had: taking servers of this machine instead"
    ENGINE=
    get_servers
  fi
fi
if [ -n "$INSTALLER" ]; then
  wait "$INSTALLER" || { tail -n 20 "$DIR/mariadb.log" >&2; die "MariaDB could not be installed (the reason is above)"; }
  INSTALLER=
fi
if [ -n "$MYSQL_JOB" ]; then
  wait "$MYSQL_JOB" || say "MySQL cannot be had here: the fleet is MariaDB only"
fi

# ---- the fleet --------------------------------------------------------------------------
PASSWORD=$(od -An -N 18 -tx1 /dev/urandom | tr -d ' \n')
(umask 077 && printf '%s\n' "$PASSWORD" >"$DIR/password")
NAMES=()
declare -A PORT=() KIND=()

# wait_until SECONDS COMMAND...: polls until it succeeds.
wait_until() {
  local end=$((SECONDS + $1)); shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.2
  done
}

# sql NAME [OPTION...]: the client of that server; by default as root.
sql() {
  local name=$1; shift
  if [ -n "$ENGINE" ]; then
    docker exec -i -e "MYSQL_PWD=$PASSWORD" "${LABEL#*=}-$name" "${KIND[$name]}" -h 127.0.0.1 -u root "$@"
  else
    MYSQL_PWD=${SQL_PWD-} "$SERVERS/${KIND[$name]}-server" client "${PORT[$name]}" "$@"
  fi
}

start_containers() {
  local image name
  for image in "${have[@]}"; do
    name=${image//[:.]/-}
    KIND[$name]=${image%%:*}
    # Both names of each variable: MySQL's image knows the first, MariaDB's both.
    timeout 60 docker run -d --rm --name "${LABEL#*=}-$name" --label "$LABEL" -p 127.0.0.1::3306 \
      -e "MYSQL_ROOT_PASSWORD=$PASSWORD" -e "MARIADB_ROOT_PASSWORD=$PASSWORD" "$image" >/dev/null ||
      { say "$image does not start: left out"; continue; }
    NAMES+=("$name")
  done
  for name in "${NAMES[@]}"; do
    wait_until 120 server_answers "$name" || die "$name did not answer within 120 s"
    PORT[$name]=$(docker port "${LABEL#*=}-$name" 3306/tcp | head -n 1)
    PORT[$name]=${PORT[$name]##*:}
  done
}
server_answers() { sql "$1" -e 'select 1' >/dev/null 2>&1; }

start_servers() {
  local name kinds=(mariadb mariadb) kind keeper i=0
  if have_mysql; then kinds+=(mysql); fi
  declare -A keepers=() count=()
  for kind in "${kinds[@]}"; do
    count[$kind]=$((${count[$kind]:-0} + 1))
    name=$kind-${count[$kind]}
    NAMES+=("$name")
    KIND[$name]=$kind
    : >"$DIR/$name.ready"
    # In another session: a Ctrl-C must not end the servers before the exporter.
    setsid "$SERVERS/keep" "$kind" 0 "$DIR/$name" <"$DIR/alive" >"$DIR/$name.ready" 2>"$DIR/$name.log" 8>&- &
    KEEPERS+=($!)
    keepers[$name]=$!
  done
  for name in "${NAMES[@]}"; do
    until read -r _ PORT["$name"] _ <"$DIR/$name.ready"; do
      keeper=${keepers[$name]}
      kill -0 "$keeper" 2>/dev/null || { tail -n 20 "$DIR/$name.log" >&2; die "$name did not start (the reason is above)"; }
      i=$((i + 1))
      [ $i -lt 600 ] || { tail -n 20 "$DIR/$name.log" >&2; die "$name was not ready within two minutes (the end of its log is above)"; }
      sleep 0.2
    done
  done
}

say "starting the servers"
if [ -n "$ENGINE" ]; then start_containers; else start_servers; fi
[ ${#NAMES[@]} -gt 0 ] || die "no server could be started"

TARGETS=
for name in "${NAMES[@]}"; do
  { sed "s/@PASSWORD@/$PASSWORD/" demo/users.sql; cat demo/shop.sql; } | sql "$name" || die "$name does not take the demo's tables"
  SQL_PWD=$PASSWORD sql "$name" -u shop -e 'call shop.live()' </dev/null >"$DIR/$name.load" 2>&1 8>&- &
  LOADS+=($!)
  TARGETS+="$name = \"127.0.0.1:${PORT[$name]}\""$'\n'
  say "  $name: $(sql "$name" -NBe 'select version()') on 127.0.0.1:${PORT[$name]}"
done

: >"$DIR/sick"
setsid perl demo/sick.pl <"$DIR/alive" >"$DIR/sick" 8>&- &
KEEPERS+=($!)
sick_ports() { read -r HUNG DEAD <"$DIR/sick"; }
wait_until 10 sick_ports || die "the sick targets did not start"
say "  dead: nobody listens on 127.0.0.1:$DEAD"
say "  hung: 127.0.0.1:$HUNG accepts, and never says a word"

# ---- the exporter -----------------------------------------------------------------------
HTTP=
for port in {9104..9203}; do
  if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then HTTP=$port; break; fi
done
[ -n "$HTTP" ] || die "127.0.0.1:9104 and the hundred ports after it are taken"
[ "$HTTP" = 9104 ] || say "127.0.0.1:9104 is taken; the exporter listens on $HTTP"

CONFIG=$DIR/fleet.toml
text=$(<demo/fleet.toml.in)
text=${text//@PORT@/$HTTP}
text=${text//@DIR@/$DIR}
text=${text//@DEAD@/$DEAD}
text=${text//@HUNG@/$HUNG}
text=${text//@TARGETS@/$TARGETS}
printf '%s\n' "$text" >"$CONFIG"

say "fleet-query-exporter --config $CONFIG --check"
"$BINARY" --config "$CONFIG" --check 2>&1 | sed 's/^/  /' || die "the configuration is refused"
# Ends with this script even if that is killed with no chance to clean up.
setpriv --pdeathsig TERM -- "$BINARY" --config "$CONFIG" >"$LOG" 2>&1 </dev/null 8>&- &
EXPORTER=$!

# get PATH: the status line and the body, by bash alone.
get() {
  # shellcheck disable=SC2016
  timeout 5 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" "$2" >&3 && cat <&3' \
    _ "$HTTP" "$1" 2>/dev/null 8>&- | sed '2,/^\r*$/d'
}
alive() { kill -0 "$EXPORTER" 2>/dev/null || { tail -n 20 "$LOG" >&2; die "the exporter has ended (its last lines are above)"; }; }
# Every query of every live server is on the page, and both sick ones have a reason.
page_is_full() {
  local name family page; alive; page=$(get /metrics)
  for name in "${NAMES[@]}"; do
    for family in process_count_by_host status activity_total shop_orders shop_orders_total table_size_bytes; do
      grep -q "^query_exporter_$family{.*\"$name\"" <<<"$page" || return 1
    done
  done
  for name in dead hung; do grep -q "^query_exporter_target_failure_reason{.*\"$name\".* 1\$" <<<"$page" || return 1; done
}
say "waiting until the page is complete"
wait_until 60 page_is_full || say "it is not complete after 60 s; here is what there is"

# ---- what to look at ----------------------------------------------------------------------
URL=http://127.0.0.1:$HTTP
show() { grep -E "$1" <<<"$PAGE" | head -n "${2:-20}" | sed 's/^/  /' || true; }
PAGE=$(get /metrics) || die "$URL/metrics does not answer"
FIRST=${NAMES[0]}
cat <<TEXT

The fleet is on $URL/metrics

  curl -s $URL/metrics | less
  curl -s $URL/metrics | grep _up
  curl -s $URL/metrics | grep process_count
  curl -s $URL/metrics | grep -E 'target_failure_reason.* 1\$'
  less $CONFIG
  tail -f $LOG

Who lives:
TEXT
show '^query_exporter_up\{'
echo 'Why the others do not, and what that costs: nobody waits for them.'
show '^query_exporter_target_failure_reason\{.* 1$'
echo "What the queries found on $FIRST:"
show "^query_exporter_(process_count_by_host|shop_orders|status)\{.*\"$FIRST\"" 10
echo 'What moves, now and three seconds later:'
show '^query_exporter_shop_orders_total\{.*"placed"'
sleep 3
PAGE=$(get /metrics) || die "$URL/metrics does not answer"
echo '  ...'
show '^query_exporter_shop_orders_total\{.*"placed"'
echo

# ---- until somebody has seen enough ---------------------------------------------------------
if [ -n "$LIFETIME" ]; then
  [ "$LIFETIME" -eq 0 ] || say "running for $LIFETIME s"
else
  say "running; Ctrl-C ends it and leaves nothing behind"
fi
end=$((SECONDS + ${LIFETIME:-0}))
while [ -z "$LIFETIME" ] || [ "$SECONDS" -lt "$end" ]; do
  alive
  sleep 1
done
