#!/usr/bin/env bash
# What the tests of pages need: Debian's chromium, and axe-core, which finds what people with
# disabilities cannot use. usage: bash scripts/browser.sh
#
# Installs only what is missing, and says what it could not; the tests are then skipped with a reason.
# build/axe/node_modules/axe-core/axe.min.js comes through npm.
set -uo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null; then
    root=
    [ "$(id -u)" = 0 ] || root="sudo -n"
    log=$(mktemp)
    echo "browser: installing chromium" >&2
    if ! { $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends chromium fonts-dejavu-core; } > "$log" 2>&1; then
        tail -n 3 "$log" >&2
        echo "browser: chromium is not there; the tests of pages will be skipped" >&2
    fi
    rm -f "$log"
fi
if [ ! -e build/axe/node_modules/axe-core/axe.min.js ]; then
    mkdir -p build/axe
    npm install --prefix build/axe --no-save --no-audit --no-fund --ignore-scripts --silent axe-core@4.14.1 >&2 ||
        echo "browser: axe-core is not there; what it finds will not be tested" >&2
fi
exit 0
