# debroot.sh - sourced by mysql-server, mariadb-server, prometheus, nginx and keep; not a command of its own.
# shellcheck shell=bash disable=SC2153,SC2034
#
# Unpacks packages of ANY Debian suite (with the shared libraries and the libc
# of that suite) into a private folder and writes wrappers that run their
# programs with that suite's own dynamic loader. So a server that exists only
# in sid runs on bookworm, and:
#   * nothing is installed into the machine: dpkg's database, /etc and the
#     machine's apt lists stay as they are; no chroot, no mount, no container;
#   * root is not needed (it works for any user);
#   * the apt lists, the package cache and the locks are private, so a running
#     apt-get elsewhere on the machine is no obstacle.
#
# The mirror is never named here: it is read from the machine's own apt
# sources at run time, and apt's proxy and key settings stay in force.

# say/die write to stderr; stdout carries only the one line a caller may want.
say() { printf '%s: %s\n' "$PROG" "$*" >&2; }
die() { printf '%s: error: %s\n' "$PROG" "$*" >&2; exit 1; }

# now_ms: a monotonic-enough clock for the durations that are printed.
now_ms() { date +%s%3N; }
secs_since() { local ms=$(( $(now_ms) - $1 )); printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100)); }

# default_root NAME: where `install` puts a server when no folder is given.
default_root() {
  printf '%s/fleet-test-servers/%s\n' "${XDG_CACHE_HOME:-${HOME:-${TMPDIR:-/tmp}}/.cache}" "$1"
}

# abs_path PATH: PATH made absolute (it need not exist).
abs_path() { realpath -m -- "$1"; }

# archive_uris WORK: the archive roots of the machine's apt sources, each once, in
# their order. apt itself parses them, so deb822 and one-line files both work.
# A machine that never ran `apt-get update` names none: then the lists are
# fetched into WORK, so that neither root nor a changed machine is needed.
archive_uris() {
  local opts=() uris
  # shellcheck disable=SC2016 # the $(...) is apt's own
  uris=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null)
  if [ -z "$uris" ]; then
    mkdir -p "$1/own/lists/partial" "$1/own/cache/archives/partial"
    opts=(-o "Dir::State::lists=$1/own/lists" -o "Dir::Cache=$1/own/cache"
      -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3)
    apt-get "${opts[@]}" -qq update >>"$1/log" 2>&1
    # shellcheck disable=SC2016
    uris=$(apt-get "${opts[@]}" indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null)
  fi
  awk 'NF && !seen[$0]++' <<<"$uris"
}

# private_apt WORK SUITE URI: prepares WORK as apt's private home for one suite
# of one mirror and sets APT_OPTS to the options that make apt use it.
private_apt() {
  local work=$1 suite=$2 uri=$3 keyring=
  mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/etc"
  : >"$work/status"
  [ -r /usr/share/keyrings/debian-archive-keyring.gpg ] &&
    keyring='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] '
  printf 'deb %s%s %s main\n' "$keyring" "$uri" "$suite" >"$work/etc/sources.list"
  APT_OPTS=(
    -o "Dir::Etc::sourcelist=$work/etc/sources.list"
    -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null
    -o "Dir::State=$work/state"
    -o "Dir::State::status=$work/status"
    -o "Dir::Cache=$work/cache"
    -o "APT::Sandbox::User=$(id -un)"
    -o APT::Install-Recommends=false
    -o Acquire::Languages=none
    # A mirror that is a snapshot, or a clock ahead of it, must not stop a test
    # set-up; the signatures are checked all the same.
    -o Acquire::Check-Valid-Until=false
    -o Acquire::Retries=3
    -o Dpkg::Use-Pty=0
  )
}

# debroot_find WORK SUITE PACKAGE: finds the apt source that has PACKAGE in SUITE
# and prepares WORK and APT_OPTS for it. Sets DEBROOT_VERSION.
debroot_find() {
  local work=$1 suite=$2 uri
  command -v apt-get >/dev/null || die "apt-get not found: this needs a Debian machine"
  command -v dpkg-deb >/dev/null || die "dpkg-deb not found: this needs a Debian machine"
  # Not every archive root carries every suite (the security one has no sid),
  # so they are tried in turn until one yields the package.
  for uri in $(archive_uris "$work"); do
    rm -rf -- "$work/state" "$work/cache"
    private_apt "$work" "$suite" "$uri"
    apt-get "${APT_OPTS[@]}" -qq update >>"$work/log" 2>&1 || continue
    DEBROOT_VERSION=$(apt-cache "${APT_OPTS[@]}" policy "$3" 2>/dev/null | awk '/Candidate:/{print $2}')
    case $DEBROOT_VERSION in ''|'(none)') continue ;; esac
    return 0
  done
  [ -s "$work/log" ] && sed 's/^/  apt: /' "$work/log" >&2
  die "package $3 is in suite '$suite' of none of this machine's apt sources"
}

# debroot_unpack ROOT SUITE PACKAGE...: downloads the packages of SUITE with all
# they depend on and unpacks them into ROOT, which is put in place whole or not
# at all. Sets DEBROOT_VERSION to the first package's version.
debroot_unpack() {
  local root=$1 suite=$2 work deb; shift 2
  work=$(mktemp -d "${TMPDIR:-/tmp}/debroot.XXXXXX") || die "cannot make a temporary folder"
  # shellcheck disable=SC2064
  trap "rm -rf -- '$work' '$root.new'" EXIT
  debroot_find "$work" "$suite" "$1"

  say "fetching $1 $DEBROOT_VERSION ($suite) with its libraries"
  apt-get "${APT_OPTS[@]}" -y --download-only install "$@" >"$work/log" 2>&1 || {
    sed 's/^/  apt: /' "$work/log" >&2; die "the download failed"; }
  DEBROOT_DOWNLOAD_MB=$(du -sm "$work/cache/archives" | cut -f1)

  rm -rf -- "$root.new"; mkdir -p "$root.new"
  for deb in "$work"/cache/archives/*.deb; do
    # perl, debconf and friends serve maintainer scripts, which are never run.
    case ${deb##*/} in
      perl*|libperl*|libdb5*|libgdbm*|libc-gconv*|debconf*|adduser*|passwd*|gawk*|procps*|rsync*|lsof*|iproute2*|psmisc*|init-system*|systemd*) continue ;;
    esac
    dpkg-deb -x "$deb" "$root.new" || die "cannot unpack ${deb##*/}"
  done
  # Suites from before the /usr merge ship /lib and /lib64; make one layout.
  local d
  for d in bin sbin lib lib64; do
    if [ -d "$root.new/$d" ] && [ ! -L "$root.new/$d" ]; then
      mkdir -p "$root.new/usr/$d"; cp -a "$root.new/$d/." "$root.new/usr/$d/"; rm -rf -- "${root:?}.new/$d"
    fi
  done
  # Documentation and the tools no test uses: about a third of the size.
  rm -rf -- "$root.new"/usr/share/{doc,man,locale,lintian,gdb,gcc,bash-completion} "$root.new"/var
  for d in innochecksum ibd2sdi myisam_ftdump myisamchk myisamlog myisampack mysqlimport mysqlshow mysqlslap \
    mysql_config_editor mysql_migrate_keyring mysql_secure_installation mysql_tzinfo_to_sql perror \
    mysqld_multi mysqldumpslow aria_chk aria_dump_log aria_ftdump aria_pack aria_read_log; do
    rm -f -- "$root.new/usr/bin/$d"
  done
  # The loader itself, not a link to it: old suites link with absolute paths.
  DEBROOT_LOADER=$(cd "$root.new" &&
    find usr/lib64 usr/lib -type f \( -name 'ld-linux*.so.*' -o -name 'ld-[0-9]*.so' \) 2>/dev/null | head -n 1)
  [ -n "$DEBROOT_LOADER" ] || die "the unpacked packages hold no dynamic loader"
}

# debroot_wrap ROOT PROGRAM...: writes ROOT/bin/NAME for each program (a path in
# ROOT), which runs it with ROOT's loader and libraries wherever ROOT lies. A
# program whose libraries are incomplete is refused here, not at its first run.
debroot_wrap() {
  local root=$1 prog name libs; shift
  libs=$(cd "$root" && find usr/lib -maxdepth 1 -type d -name '*-linux-gnu*' | head -n 1)
  mkdir -p "$root/bin"
  for prog in "$@"; do
    [ -e "$root/$prog" ] || die "the unpacked packages hold no $prog"
    name=${prog##*/}
    if [ "$(head -c 2 "$root/$prog")" = '#!' ]; then
      ln -sfn "../$prog" "$root/bin/$name"; continue
    fi
    if "$root/$DEBROOT_LOADER" --library-path "$root/$libs" --list "$root/$prog" 2>&1 | grep 'not found' >&2; then
      die "$name lacks the shared libraries named above"
    fi
    cat >"$root/bin/$name" <<WRAP
#!/bin/sh
# Written by debroot.sh: runs $name with the loader and the libraries it was built for.
root=\$(cd "\$(dirname "\$(readlink -f "\$0")")/.." && pwd)
exec "\$root/$DEBROOT_LOADER" --library-path "\$root/$libs:\$root/$libs/libproxy" "\$root/$prog" "\$@"
WRAP
    chmod 755 "$root/bin/$name"
  done
}

# debroot_commit ROOT: puts the finished ROOT.new in place of ROOT.
debroot_commit() {
  rm -rf -- "$1.old"
  [ -e "$1" ] && mv -- "$1" "$1.old"
  mv -- "$1.new" "$1" && rm -rf -- "$1.old"
}

# ---- what both servers share in start and stop --------------------------------

# socket_for DATADIR PORT: the socket's path; the kernel allows it 107 bytes, so
# a deep data folder gets one in the temporary folder instead.
socket_for() {
  local s=$1/mysqld.sock
  [ ${#s} -le 100 ] || s=${TMPDIR:-/tmp}/mysqld-$2-$(id -u).sock
  printf '%s\n' "$s"
}

# pid_of DATADIR: the pid of the server that runs on DATADIR, if one does. The
# pid file alone is not believed: the process must name this data folder.
pid_of() {
  local pid=
  [ -r "$1/mysqld.pid" ] && read -r pid <"$1/mysqld.pid"
  [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null &&
    tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "--datadir=$1" && printf '%s\n' "$pid"
}

# check_port PORT: a number a server can listen on, with nobody there yet.
check_port() {
  case $1 in ''|*[!0-9]*) die "PORT must be a number: '$1'" ;; esac
  [ "$1" -ge 1 ] && [ "$1" -le 65535 ] || die "PORT out of range: $1"
  if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then die "127.0.0.1:$1 is already taken"; fi
}

# pids_on DATADIR: every process that names this data folder: a server that
# starts, runs or is being initialised, whether or not it has a pid file yet.
# --regexp= keeps grep's own command line from being such a one.
pids_on() {
  # shellcheck disable=SC2062
  grep -lszxF "--regexp=--datadir=$1" /proc/[0-9]*/cmdline | cut -d/ -f3
}

# wait_ready PID LOG TIMEOUT CHECK...: runs CHECK until it succeeds; fails when
# the process ends first or the time is up, and then shows the end of the log.
wait_ready() {
  local pid=$1 log=$2 timeout=$3 until; shift 3
  until=$(( $(now_ms) + timeout * 1000 ))
  while ! "$@" >/dev/null 2>&1; do
    if ! kill -0 "$pid" 2>/dev/null; then
      tail -n 15 "$log" >&2; die "the server ended while starting (the end of $log is above)"
    fi
    if [ "$(now_ms)" -ge "$until" ]; then
      tail -n 15 "$log" >&2; kill "$pid" 2>/dev/null
      die "the server did not answer within $timeout s (the end of $log is above)"
    fi
    sleep 0.1
  done
}

# stop_server DATADIR TIMEOUT: a clean shutdown. Stopping what does not run is
# success; a server that has to be killed is a failure, said as such.
stop_server() {
  local pid t0 until; t0=$(now_ms)
  pid=$(pid_of "$1") || { say "no server runs on $1"; return 0; }
  kill -TERM "$pid" || die "cannot signal process $pid"
  until=$(( $(now_ms) + $2 * 1000 ))
  while kill -0 "$pid" 2>/dev/null; do
    # A zombie (its parent has not reaped it) has ended all the same.
    case $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) in Z|'') break ;; esac
    if [ "$(now_ms)" -ge "$until" ]; then
      kill -KILL "$pid" 2>/dev/null
      die "process $pid did not shut down within $2 s and was killed"
    fi
    sleep 0.1
  done
  rm -f -- "$1/mysqld.pid"
  say "stopped $1 in $(secs_since "$t0") s"
}
