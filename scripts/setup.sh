# Sourced by demo.sh and test.sh: from a bare Debian 12 to a virtual environment with this package.
# usage: . scripts/setup.sh
#
# Installs only what is missing: Java 17, a C compiler, Python's headers and venv, and PostgreSQL for
# the tests through apt, and .venv through pip. A second run finds everything in place and installs nothing.

find_java() {
    # Spark 4 needs Java 17 or newer, with a module that minimal builds leave out.
    local candidate
    for candidate in "${JAVA_HOME:+$JAVA_HOME/bin/java}" java /usr/lib/jvm/java-17-openjdk-*/bin/java; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
        "$candidate" --list-modules 2>/dev/null | grep -q '^jdk.incubator.vector@\(1[7-9]\|[2-9][0-9]\)' || continue
        JAVA_HOME=$(dirname "$(dirname "$(readlink -f "$(command -v "$candidate")")")")
        export JAVA_HOME
        return 0
    done
    return 1
}

missing_packages() {
    find_java || echo openjdk-17-jre-headless
    command -v gcc >/dev/null || echo gcc
    # gcc alone brings the C library's headers only as a recommendation.
    echo '#include <math.h>' | gcc -fsyntax-only -x c - 2>/dev/null || echo libc6-dev
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    python3 -c 'import pathlib, sysconfig
raise SystemExit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' || echo python3-dev
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || echo postgresql
}

install_packages() {
    local packages root= log
    packages=$(missing_packages | tr '\n' ' ')
    [ -z "$packages" ] && return 0
    [ "$(id -u)" = 0 ] || root="sudo -n"
    if ! command -v apt-get >/dev/null || ! ${root:-true} ${root:+true} 2>/dev/null; then
        echo "setup: please install, as root: apt-get install $packages" >&2
        return 1
    fi
    echo "setup: installing $packages" >&2
    log=$(mktemp)
    if ! { $root apt-get update -qq && without_cluster "$packages" "$root" &&
        $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
    } > "$log" 2>&1; then
        cat "$log" >&2
        echo "setup: apt-get failed; please install, as root: $packages" >&2
        return 1
    fi
    rm -f "$log"
}

without_cluster() {
    # Debian's package would make a server and start it; scripts/postgres.sh starts its own.
    local packages=$1 root=$2 settings=/etc/postgresql-common/createcluster.conf
    case " $packages " in *" postgresql "*) ;; *) return 0 ;; esac
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-common &&
        $root sed -i 's/^#\? *create_main_cluster.*/create_main_cluster = false/' "$settings"
}

install_venv() {
    local extras=$1 wanted
    wanted="$extras $(python3 --version) $(cat pyproject.toml scripts/constraints.txt | sha256sum)"
    [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ] && return 0
    echo "setup: installing the package into .venv" >&2
    [ -x .venv/bin/pip ] || python3 -m venv .venv
    .venv/bin/pip install -q --use-pep517 --disable-pip-version-check -c scripts/constraints.txt -e ".[$extras]" || {
        echo "setup: pip could not install the package into .venv; see above" >&2
        return 1
    }
    # Built here, for this CPU: an import shows whether that went well.
    .venv/bin/python -W error -c 'import lightfm' || {
        echo "setup: LightFM was built without OpenMP or does not run; install gcc and remove .venv" >&2
        return 1
    }
    echo "$wanted" > .venv/installed
}

cd "$(dirname "${BASH_SOURCE[0]}")/.." || return 1
# Both scripts install the same, so that neither undoes the other's.
install_packages && find_java && install_venv "demo,docs,test,iceberg,lineage,mlflow,tune,export,examples,viewer" || exit 1
export PATH="$PWD/.venv/bin:$PATH" SPARK_LOCAL_IP=127.0.0.1
