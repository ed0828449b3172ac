#!/usr/bin/env bash
# compose.sh - checks docker-compose.yml as a whole: everything comes up healthy, and its
# Prometheus has the series of both servers, which move. Needs a Docker engine with
# Compose v2; exits 77 (left out) where none answers. Its own project name and ports of
# the system's choice, so that a demo that runs beside it is not touched.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'tests/compose.sh: %s\n' "$*"; }
fail() {
  say "FAILED: $*" >&2
  compose ps -a >&2 || true
  compose logs --no-color --tail 40 >&2 || true
  exit 1
}

if ! timeout 10 docker info >/dev/null 2>&1 || ! docker compose version >/dev/null 2>&1; then
  say "LEFT OUT: no Docker engine with Compose v2 answers here; nothing was checked"
  exit 77
fi

export EXPORTER_PORT=0 PROMETHEUS_PORT=0 GRAFANA_PORT=0
project=fleet-compose-test-$$
compose() { docker compose -p "$project" "$@"; }
# shellcheck disable=SC2329 # run by the trap
finish() {
  trap '' INT TERM HUP
  timeout 120 docker compose -p "$project" down -v --remove-orphans --rmi local >/dev/null 2>&1 || true
  [ -z "$(docker ps -aq --filter "label=com.docker.compose.project=$project")" ] || say "containers are left" >&2
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

t0=$SECONDS
timeout 1500 docker compose -p "$project" up -d --build --wait --wait-timeout 300 --quiet-pull || fail "it does not come up healthy"
say "up and healthy after $((SECONDS - t0)) s"

# ---- how the exporter runs ------------------------------------------------------------
id=$(compose ps -q exporter)
how=$(docker inspect -f '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.State.Health.Status}}' "$id")
[ "$how" = '65532:65532 true [ALL] [no-new-privileges:true] healthy' ] || fail "the exporter runs as: $how"
secret=$(<configs/compose/secrets/exporter_password)
docker inspect "$id" | grep -qF "$secret" && fail "the password is in docker inspect"
compose logs --no-color exporter | grep -qF "$secret" && fail "the password is in the exporter's log"
while read -r service port; do
  published=$(compose port "$service" "$port")
  [ "${published%:*}" = 127.0.0.1 ] || fail "$service is published on $published"
done <<<$'exporter 9104\nprometheus 9090\ngrafana 3000'
say "the exporter: not root, read-only, no capabilities, password in no inspect and no log; ports on the loopback"

# ---- what Prometheus has ----------------------------------------------------------------
compose exec -T prometheus promtool check config /etc/prometheus/prometheus.yml >/dev/null || fail "prometheus.yml is not valid"

# query EXPRESSION: the values, a line each.
query() { compose exec -T prometheus promtool query instant http://127.0.0.1:9090 "$1" </dev/null; }
# within SECONDS TEXT EXPRESSION: waits until the expression has a result.
within() {
  local end=$((SECONDS + $1)) result=''
  while [ "$SECONDS" -lt "$end" ]; do
    result=$(query "$3" 2>&1) && [ -n "$result" ] && { say "$2: ${result//$'\n'/; }"; return 0; }
    sleep 1
  done
  fail "not within $1 s: $2 ($3): ${result:-nothing}"
}
within 60 'Prometheus scrapes the exporter' 'up{job="fleet-query-exporter"} == 1'
for target in mysql mariadb; do
  within 60 "$target is up" "query_exporter_up{target=\"$target\"} == 1"
  within 60 "its sessions are counted" "query_exporter_process_count_by_host{target=\"$target\",user=\"exporter\"} >= 1"
  within 60 "its orders come in" "increase(query_exporter_shop_orders_total{target=\"$target\",name=\"placed\"}[30s]) > 0"
done

# Each panel's expression is one that Prometheus takes; that its families exist is seen by a result.
empty=()
count=0
while IFS= read -r expr; do
  expr=${expr//\\\"/\"}
  # shellcheck disable=SC2016 # Grafana's variables
  expr=${expr//'$__rate_interval'/1m} expr=${expr//'$target'/.*}
  result=$(query "$expr" 2>&1) || fail "a panel's expression is refused: $expr: $result"
  [ -n "$result" ] || empty+=("$expr")
  count=$((count + 1))
done < <(sed -n 's/^ *"expr": "\(.*\)",$/\1/p' configs/grafana/dashboards/*.json)
[ "$count" -gt 0 ] || fail "no panel was found"
say "$count expressions of the dashboard are taken, ${#empty[@]} have nothing to show here"
[ ${#empty[@]} -eq 0 ] || printf '  nothing: %s\n' "${empty[@]}"

say "ok after $((SECONDS - t0)) s"
echo "1 passed, 0 failed"
