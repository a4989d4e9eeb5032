#!/usr/bin/env bash
# Real Redis and Valkey servers of several versions, side by side, out of
# Debian's package archive, on a Debian (or Debian-derived) machine.  Nothing is
# installed into the system: the packages, and the C library each was built
# against, are unpacked below one folder, and small wrappers in its bin/ start
# each program through its own dynamic loader.
#
#   real-servers.sh [-f] [-q] [DIR] [NAME...]
#
#   DIR    where to unpack (default: .cache/servers)
#   NAME   only these (default: all the servers): redis-6.0 redis-7.0 redis-8.0
#          redis-8.6 valkey-8.1 valkey-9; and, only by name, rclone moto radosgw.
#          redis-8.6 comes and goes with Debian's experimental suite: nothing may
#          rest on it.
#   -f     fetch again even what is already there
#   -q     print nothing but problems
#
# Afterwards, for each of the servers:
#   DIR/bin/<server|cli|benchmark|check-rdb|check-aof|sentinel>, named as in
#       redis-server-6.0   redis-cli-7.0   redis-check-rdb-8.0
#       valkey-server-8.1  valkey-check-aof-9
#   DIR/servers.json       what there is: name, exact version, suite, programs
#
# For tests of object storage, by name:
#   DIR/bin/rclone         a client of S3 and much else. Debian builds it without
#                          `rclone serve s3`, so it is no server of S3.
#   DIR/bin/moto-server    -H 127.0.0.1 -p PORT: S3 in memory (Moto). Takes any
#                          credentials; has ranges, multipart, If-None-Match.
#   DIR/bin/radosgw        Ceph's S3 gateway, alone over a SQLite file; it verifies
#                          signatures, but gets ranges of small objects wrong and
#                          ignores If-None-Match. radosgw-admin makes its users. Both
#                          take: -c CONF -n client.rgw --no-mon-config (radosgw: -f),
#                          where CONF says, with D a folder of its own:
#                            [client.rgw]
#                            rgw_backend_store = dbstore
#                            dbstore_db_dir = D
#                            rgw_config_store = dbstore
#                            dbstore_config_uri = file:D/config.db
#                            rgw_data = D
#                            run_dir = D
#                            admin_socket =
#                            log_file = D/log
#                            rgw_frontends = beast endpoint=127.0.0.1:PORT
#                          radosgw-admin … user create --uid=U --display-name=U
#                            --access-key=A --secret-key=S   (before radosgw starts)
#
# A second run with everything in place touches no network and takes no time.
# The folder can be moved or copied as a whole.  Environment:
#   DEBIAN_MIRROR   base address of the archive (default: the one that this
#                   machine's own apt sources name)
# Exit status: 0 when at least one of the wanted programs works, 1 when none
# does, 2 for wrong arguments.  What is not to be had is said on standard error;
# the tests say what they miss.

set -u -o pipefail
export LC_ALL=C

# name | packages | suites to try, in order | version it must have (regex) |
# "extra": only by name, "optional": may be gone tomorrow
ENTRIES='
redis-6.0|redis-server redis-tools redis-sentinel|bullseye|^6\.0\.
redis-7.0|redis-server redis-tools redis-sentinel|bookworm|^7\.0\.
redis-8.0|redis-server redis-tools redis-sentinel|trixie forky sid|^8\.0\.
redis-8.6|redis-server redis-tools redis-sentinel|experimental|^8\.6\.|optional
valkey-8.1|valkey-server valkey-tools valkey-sentinel|trixie|^8\.1\.
valkey-9|valkey-server valkey-tools valkey-sentinel|forky sid|^9\.
rclone|rclone|forky sid|^(1\.(6[5-9]|[7-9][0-9]|[1-9][0-9][0-9])|[2-9])\.|extra
moto|python3-moto python3 python3-flask python3-flask-cors python3-docker python3-openapi-spec-validator python3-cffi-backend|trixie forky sid|^[5-9]\.|extra
radosgw|radosgw ceph-common|trixie|^18\.|extra
'

me=${0##*/}
force=0 quiet=0
say() { [ "$quiet" = 1 ] || printf '%s\n' "$*"; }
err() { printf '%s: %s\n' "$me" "$*" >&2; }
usage() { sed -n '2,/^$/{s/^# \{0,1\}//;p}' "$0"; }

args=()
for a in "$@"; do
  case $a in
    -f) force=1 ;;
    -q) quiet=1 ;;
    -h | --help) usage; exit 0 ;;
    -*) err "unknown option $a"; usage >&2; exit 2 ;;
    *) args+=("$a") ;;
  esac
done
dir=${args[0]:-.cache/servers}
wanted=("${args[@]:1}")
if [ ${#wanted[@]} = 0 ]; then
  mapfile -t wanted < <(printf '%s' "$ENTRIES" | sed -n '/|extra$/d; s/|.*//p')
fi
# Field $2 of entry $1; the fourth may hold bars of its own.
field() {
  local line
  line=$(grep -- "^$1|" <<<"$ENTRIES")
  line=${line%|extra} line=${line%|optional}
  if [ "$2" = 4 ]; then cut -d'|' -f4- <<<"$line"; else cut -d'|' -f"$2" <<<"$line"; fi
}
for n in "${wanted[@]}"; do
  case $ENTRIES in *"
$n|"*) ;; *) err "no such entry: $n"; exit 2 ;; esac
done

mkdir -p "$dir/bin" || { err "cannot make $dir"; exit 1; }
dir=$(cd "$dir" && pwd -P)

# One run at a time in one folder.
if command -v flock >/dev/null; then
  exec 9>"$dir/.lock"
  flock -w 900 9 || { err "another run holds $dir"; exit 1; }
fi

tmp=
cleanup() { [ -z "$tmp" ] || rm -rf -- "$tmp"; }
trap cleanup EXIT
trap 'exit 130' INT TERM

# The first thing that apt complained of in log $1 (errors before warnings).
first_problem() {
  { sed -n 's/^E: //p' "$1"; sed -n 's/^W: //p' "$1"; tail -n 1 "$1"; } 2>/dev/null | head -n 1
}

# ---- the archive's address ------------------------------------------------

# The archive that this machine's own release comes from, as apt has it, or as
# the source files say where apt has no lists yet.
find_mirror() {
  if [ -n "${DEBIAN_MIRROR:-}" ]; then
    printf '%s\n' "${DEBIAN_MIRROR%/}"
    return 0
  fi
  local code site
  code=$(. /etc/os-release 2>/dev/null; printf %s "${VERSION_CODENAME:-}")
  site=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    awk -v c="$code" '$3=="main" && $1 !~ /security/ { if ($2==c && !best) best=$1; if (!any) any=$1 }
      END { print best ? best : any }')
  if [ -z "$site" ]; then
    # deb822 files, then one-line files
    site=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
      awk 'tolower($1)=="uris:" { for (i=2;i<=NF;i++) if ($i !~ /security/ && $i ~ /debian/) { print $i; exit } }')
  fi
  if [ -z "$site" ]; then
    site=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
      sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\) .*/\2/p' | grep debian | grep -v security | head -n 1)
  fi
  [ -n "$site" ] || return 1
  printf '%s\n' "${site%/}"
}

# ---- one suite's package lists ---------------------------------------------

arch=$(dpkg --print-architecture 2>/dev/null) || { err "dpkg is needed"; exit 1; }

suite_conf() { printf '%s/apt-%s/apt.conf' "$tmp" "$1"; }

# Downloads the lists of suite $1 into a folder of their own; 0 when usable.
suite_ready() {
  local suite=$1 d="$tmp/apt-$1"
  [ -e "$d/ok" ] && return 0
  [ -e "$d/bad" ] && return 1
  mkdir -p "$d/lists/partial" "$d/cache/archives/partial" "$d/state"
  : >"$d/status"
  printf 'deb %s %s main\n' "$mirror" "$suite" >"$d/sources.list"
  # experimental is no whole release: what its packages need is mostly in sid.
  [ "$suite" != experimental ] || printf 'deb %s sid main\n' "$mirror" >>"$d/sources.list"
  # Read after the machine's own settings, which thus keep their proxy and keys;
  # the machine's own package state, pins and hooks must not count.
  cat >"$d/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Default-Release "$suite";
Dir::Etc::sourcelist "$d/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "-";
Dir::State "$d/state";
Dir::State::status "$d/status";
Dir::State::extended_states "$d/extended_states";
Dir::State::Lists "$d/lists";
Dir::Cache "$d/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
APT::Cache::ShowOnlyFirstOr "true";
Dir::Log "$d";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
CONF
  if apt-get -c "$d/apt.conf" -qq update >"$d/update.log" 2>&1; then
    : >"$d/ok"
    return 0
  fi
  : >"$d/bad"
  return 1
}

# The version that suite $1 offers of package $2, without epoch and revision.
candidate() {
  apt-cache -c "$(suite_conf "$1")" policy "$2" 2>/dev/null |
    sed -n 's/^ *Candidate: *//p' | grep -v '^(none)$' | head -n 1
}
upstream() { sed -e 's/^[0-9]*://' -e 's/-[^-]*$//' -e 's/[+~].*$//' <<<"$1"; }

# ---- one entry -------------------------------------------------------------

# The programs of an entry: <name in usr/bin> <name of the wrapper> [<arguments>]
programs() {
  local kind=${1%%-*} ver=${1#*-} p
  case $1 in
    rclone) echo 'rclone rclone' ;;
    moto) echo 'python3 moto-server -m moto.server' ;;
    radosgw) echo 'radosgw radosgw'; echo 'radosgw-admin radosgw-admin' ;;
    *) for p in server cli benchmark check-rdb check-aof sentinel; do
      echo "$kind-$p $kind-$p-$ver"
    done ;;
  esac
}

write_wrapper() { # <entry> <program path below the entry> <wrapper name> <loader> <library path> <arguments>
  local w="$dir/bin/$3" lua
  {
    printf '#!/bin/sh\n'
    printf 'f=$(readlink -f -- "$0") && d=${f%%/bin/*}/%s || exit 127\n' "$1"
    for lua in "$dir/$1"/usr/lib/*/lua/5.1; do # where 6.0 looks for its cjson
      [ -d "$lua" ] && printf 'LUA_CPATH="$d/%s/?.so;;"; export LUA_CPATH\n' "${lua#"$dir/$1/"}"
    done
    if [ "$1" = moto ]; then
      printf 'PYTHONHOME="$d/usr" PYTHONPATH="$d/usr/lib/python3/dist-packages"; export PYTHONHOME PYTHONPATH\n'
    fi
    printf 'exec "$d/%s" --library-path "%s" "$d/%s" %s"$@"\n' "$4" "$5" "$2" "${6:+$6 }"
  } >"$w.new.$$" && chmod 755 "$w.new.$$" && mv -f "$w.new.$$" "$w"
}

program_version() { # what the program says of itself
  case $1 in
    rclone) "$dir/bin/rclone" version 2>/dev/null | sed -n '1s/^rclone v\([0-9.]*\).*/\1/p' ;;
    moto) "$dir/bin/moto-server" --help >/dev/null 2>&1 && upstream "$2" ;;
    radosgw) "$dir/bin/radosgw" --version 2>/dev/null | sed -n 's/^ceph version \([0-9.]*\).*/\1/p' ;;
    *) "$dir/bin/${1%%-*}-server-${1#*-}" --version 2>/dev/null | sed -n 's/.* v=\([0-9.]*\).*/\1/p' ;;
  esac
}

present() { # is entry $1 in place, whole?
  local p w
  [ -s "$dir/$1/.complete" ] || return 1
  while read -r p w _; do
    [ -x "$dir/bin/$w" ] || return 1
  done < <(programs "$1")
}

drop_entry() { # what a failed attempt left
  local p w
  rm -rf "${dir:?}/$1"
  while read -r p w _; do rm -f "$dir/bin/$w"; done < <(programs "$1")
}

get_entry() {
  local name=$1 packages=$2 suites=$3 want=$4
  local suite cand reason='' pkgs first=${2%% *}
  for suite in $suites; do
    if ! suite_ready "$suite"; then
      reason="$reason; suite $suite: $(first_problem "$tmp/apt-$suite/update.log")"
      continue
    fi
    cand=$(candidate "$suite" "$first")
    if [ -z "$cand" ]; then
      reason="$reason; suite $suite has no $first"
      continue
    fi
    if ! [[ $(upstream "$cand") =~ $want ]]; then
      reason="$reason; suite $suite has $first $cand"
      continue
    fi
    if unpack_entry "$name" "$packages" "$suite" "$cand"; then return 0; fi
    [ -s "$dir/$name/.complete" ] || drop_entry "$name"
    reason="$reason; $fail"
  done
  err "$name is not available${reason:+: ${reason#; }}"
  return 1
}

fail=
unpack_entry() { # sets fail on failure
  local name=$1 packages=$2 suite=$3 cand=$4
  local conf work root loader libpath libs p w v f
  conf=$(suite_conf "$suite")
  work="$tmp/get-$name"
  rm -rf "$work"; mkdir -p "$work/debs"
  root="$work/root"; mkdir -p "$root"

  # The shared libraries (and Lua modules, which older ones link) that they need,
  # all the way down, of the same suite.
  libs=libc6 level="$packages libc6"
  while [ -n "$level" ]; do
    # shellcheck disable=SC2086
    level=$(apt-cache -c "$conf" --important depends $level 2>/dev/null |
      awk -v more="$([ "$name" = moto ] && echo '^python3')" \
        '$1 ~ /Depends:$/ && ($2 ~ /^(lib|lua-)/ || (more && $2 ~ more)) { print $2 }' | sort -u |
      grep -vxF -f <(printf '%s\n' $libs))
    libs="$libs $level"
  done

  # shellcheck disable=SC2086
  if ! (cd "$work/debs" && apt-get -c "$conf" -qq download $packages $libs) >"$work/download.log" 2>&1; then
    fail="download from $suite failed: $(first_problem "$work/download.log")"
    return 1
  fi
  for f in "$work"/debs/*.deb; do
    if ! dpkg-deb -x "$f" "$root" 2>"$work/unpack.log"; then
      fail="cannot unpack ${f##*/}: $(head -n 1 "$work/unpack.log")"
      return 1
    fi
  done
  rm -rf "$root"/usr/share "$root"/etc "$root"/var "$root"/usr/lib/*/gconv "$root"/usr/lib/*/perl-base

  # The loader: a real file (older packages link to it with an absolute path).
  loader=
  for f in "$root"/lib/*/ld-linux*.so.* "$root"/usr/lib/*/ld-linux*.so.* "$root"/lib/ld-linux*.so.* \
    "$root"/lib64/ld-linux*.so.* "$root"/usr/lib64/ld-linux*.so.*; do
    if [ -f "$f" ] && [ -x "$f" ]; then loader=${f#"$root"/}; break; fi
  done
  [ -n "$loader" ] || { fail="no dynamic loader in libc6 of $suite"; return 1; }
  libpath=
  while read -r f; do
    libpath="$libpath${libpath:+:}\$d/${f#"$root"/}"
  done < <(find "$root" -name '*.so*' -not -type d -printf '%h\n' | grep -v '/ossl-modules\|/engines\|/python3\|/lua/\|/audit$' | sort -u)

  mkdir -p "$dir/bin"
  rm -rf "${dir:?}/$name"
  mv "$root" "$dir/$name" || { fail="cannot move into $dir"; return 1; }
  while read -r p w v; do
    if ! [ -e "$dir/$name/usr/bin/$p" ]; then
      fail="$p is not in the packages of $suite"
      return 1
    fi
    write_wrapper "$name" "usr/bin/$p" "$w" "$loader" "$libpath" "$v" || { fail="cannot write $dir/bin/$w"; return 1; }
  done < <(programs "$name")
  v=$(program_version "$name" "$cand")
  [ -n "$v" ] || { fail="the program from $suite does not run here"; return 1; }
  printf '%s\t%s\t%s\n' "$v" "$suite" "$cand" >"$dir/$name/.complete"
  rm -rf "$work"
}

# ---- all of it -------------------------------------------------------------

manifest() {
  local name v s c p w sep='' psep
  {
    printf '['
    while IFS='|' read -r name _; do
      [ -n "$name" ] && present "$name" || continue
      IFS=$'\t' read -r v s c <"$dir/$name/.complete"
      printf '%s\n  {"name":"%s","version":"%s","suite":"%s","package":"%s","bin":{' "$sep" "$name" "$v" "$s" "$c"
      psep=''
      while read -r p w _; do
        case $name in redis-* | valkey-*) p=${p#*-} ;; moto) p=server ;; esac
        printf '%s"%s":"bin/%s"' "$psep" "$p" "$w"
        psep=','
      done < <(programs "$name")
      printf '}}'
      sep=','
    done <<<"$ENTRIES"
    printf '\n]\n'
  } >"$dir/servers.json.new" && mv -f "$dir/servers.json.new" "$dir/servers.json"
}

todo=()
for n in "${wanted[@]}"; do
  if [ "$force" = 1 ] || ! present "$n"; then todo+=("$n"); fi
done

if [ ${#todo[@]} -gt 0 ]; then
  for c in apt-get apt-cache dpkg-deb; do
    command -v "$c" >/dev/null || { err "$c is needed"; exit 1; }
  done
  tmp=$(mktemp -d "$dir/.tmp.XXXXXX") || { err "cannot write in $dir"; exit 1; }
  if ! mirror=$(find_mirror); then
    err "this machine's apt sources name no Debian archive; set DEBIAN_MIRROR"
  else
    # The lists of each first-choice suite, all at once.
    for n in "${todo[@]}"; do
      suites=$(field "$n" 3)
      echo "${suites%% *}"
    done | sort -u >"$tmp/suites"
    while read -r s; do
      suite_ready "$s" &
    done <"$tmp/suites"
    wait
    for n in "${todo[@]}"; do
      get_entry "$n" "$(field "$n" 2)" "$(field "$n" 3)" "$(field "$n" 4)" || true
    done
  fi
  manifest
fi

works=0
for n in "${wanted[@]}"; do
  if present "$n"; then
    works=$((works + 1))
    IFS=$'\t' read -r v s c <"$dir/$n/.complete"
    say "$n: $v ($s, $c)"
  fi
done
if [ "$works" = 0 ]; then
  err "none of: ${wanted[*]}"
  exit 1
fi
exit 0
