#!/usr/bin/env bash
# Keeps the classes that a run loads in .venv/spark.jsa. A JVM that is given it starts in half of the
# time. Java takes no archive of other jars than those that it was made with, and then starts as ever.
# usage: bash scripts/class_archive.sh     after scripts/setup.sh; then
#        export SPARK_SUBMIT_OPTS="-XX:SharedArchiveFile=$PWD/.venv/spark.jsa -Xlog:cds=off"
set -euo pipefail
cd "$(dirname "$0")/.."
archive=.venv/spark.jsa
[ "$archive" -nt .venv/installed ] && exit 0

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export SPARK_LOCAL_IP=127.0.0.1 SPARK_CONF_DIR="$folder/none"
.venv/bin/python scripts/make_ratings.py "$folder/ratings.csv" --rows 2000 > /dev/null
.venv/bin/recsys init "$folder/ratings.csv" --output "$folder/ratings.yaml" > /dev/null
SPARK_SUBMIT_OPTS="-XX:ArchiveClassesAtExit=$folder/spark.jsa -Xlog:cds=off -Xlog:cds+dynamic=off" \
    .venv/bin/recsys run --config "$folder/ratings.yaml" --set root="$folder/root" --set training.epochs=1 \
    --set training.early_stopping=null --set training.second_view=none > "$folder/log" 2>&1 ||
    { tail -n 5 "$folder/log" >&2; exit 1; }
# The JVM writes it when it ends, which is after the command.
before=-1
for _ in $(seq 120); do
    size=$(stat -c %s "$folder/spark.jsa" 2> /dev/null || echo 0)
    [ "$size" != 0 ] && [ "$size" = "$before" ] && break
    before=$size
    sleep 1
done
[ "$size" != 0 ] || { echo "class_archive: Java made none" >&2; exit 1; }
mv "$folder/spark.jsa" "$archive"
