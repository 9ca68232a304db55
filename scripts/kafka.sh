#!/usr/bin/env bash
# Apache Kafka on 127.0.0.1 for tests and for trying things out: KRaft, no Docker. Needs Java 17 and Maven.
#   kafka.sh jars                     fetch Kafka's jars once and print the folder that holds them
#   kafka.sh prepare DIR [NODES]      write the settings of NODES nodes (default 1) on free ports and format their disks.
#                                     If DIR/server.pem and DIR/ca.pem exist, each node gets a listener with TLS and SASL too
#   kafka.sh node DIR ID              become node ID (1, 2, …) of DIR
#   kafka.sh start [NODES] [DIR]      prepare if need be, run all nodes, print their addresses, end on Ctrl-C
# HOOKMESH_CACHE is where the jars are kept; default: the user's cache folder.
set -euo pipefail
version=4.1.1
log4j=2.25.3
cache=${HOOKMESH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hookmesh}
libs=$cache/kafka-$version
# Users of the listener with SASL; the passwords guard nothing but tests.
user=hookmesh password=hookmesh-test-password

jars() {
  if [ ! -f "$libs/.complete" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9 # several tests may come at once
  fi
  if [ ! -f "$libs/.complete" ]; then
    local work
    work=$(mktemp -d)
    cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>hookmesh</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>$log4j</version></dependency>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$log4j</version></dependency>
</dependencies></project>
POM
    mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$libs" >&2
    rm -rf "$work"
    touch "$libs/.complete"
  fi
  echo "$libs"
}

# java runs a class of Kafka. The serial collector and the quick compiler start fastest and need the least memory: in the minutes that a
# test lasts, the other compiler takes more than a third of the processor time of a node for code that it will hardly run. KAFKA_TIER=4 asks
# for it, as production does.
java_args() {
  args=(-Xmx"${KAFKA_HEAP:-256m}" -XX:+UseSerialGC -XX:TieredStopAtLevel="${KAFKA_TIER:-1}" -Dlog4j2.configurationFile="$dir/log4j2.properties" -cp "$libs/*")
}

free_port() {
  local port
  while :; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    [[ " ${taken[*]:-} " == *" $port "* ]] && continue
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
    taken+=("$port")
    found=$port
    return
  done
}

prepare() {
  dir=$(mkdir -p "$1" && cd "$1" && pwd)
  local nodes=${2:-1} id replicas insync voters="" secure="" map="CONTROLLER:PLAINTEXT,PLAIN:PLAINTEXT,SECURE:SASL_SSL"
  jars >/dev/null
  printf 'rootLogger.level=%s\nrootLogger.appenderRef.f.ref=f\nappender.f.type=Console\nappender.f.name=f\nappender.f.layout.type=PatternLayout\nappender.f.layout.pattern=%%d %%p %%c{1}: %%m%%n\n' "${KAFKA_LOG:-WARN}" >"$dir/log4j2.properties"
  replicas=$((nodes < 3 ? nodes : 3)) insync=$((nodes < 3 ? 1 : 2)) taken=()
  local plain=() controller=() sasl=()
  for ((id = 1; id <= nodes; id++)); do
    free_port; plain[id]=$found
    free_port; controller[id]=$found
    free_port; sasl[id]=$found
    voters+="${voters:+,}$id@127.0.0.1:${controller[id]}"
  done
  [ -f "$dir/server.pem" ] && secure=yes
  : >"$dir/brokers"; : >"$dir/secure-brokers"
  for ((id = 1; id <= nodes; id++)); do
    echo "127.0.0.1:${plain[id]}" >>"$dir/brokers"
    local listeners="PLAIN://127.0.0.1:${plain[id]}" advertised
    [ -n "$secure" ] && listeners+=",SECURE://127.0.0.1:${sasl[id]}" && echo "127.0.0.1:${sasl[id]}" >>"$dir/secure-brokers"
    advertised=$listeners
    cat >"$dir/$id.properties" <<CONF
process.roles=broker,controller
node.id=$id
controller.quorum.voters=$voters
listeners=$listeners,CONTROLLER://127.0.0.1:${controller[id]}
advertised.listeners=$advertised
inter.broker.listener.name=PLAIN
controller.listener.names=CONTROLLER
listener.security.protocol.map=$map
log.dirs=$dir/data-$id
auto.create.topics.enable=false
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$insync
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$insync
group.initial.rebalance.delay.ms=0
message.max.bytes=33554432
replica.fetch.max.bytes=33554432
controlled.shutdown.retry.backoff.ms=500
broker.session.timeout.ms=6000
unclean.leader.election.enable=false
CONF
    if [ "$nodes" = 1 ]; then
      # One node has no replica: an acknowledged record is on its disk.
      echo "log.flush.interval.messages=1" >>"$dir/$id.properties"
    fi
    [ -n "$secure" ] && cat >>"$dir/$id.properties" <<CONF
ssl.keystore.type=PEM
ssl.keystore.location=$dir/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=$dir/ca.pem
listener.name.secure.ssl.client.auth=${KAFKA_CLIENT_AUTH:-none}
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_$user="$password";
listener.name.secure.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
CONF
    java_args
    java "${args[@]}" kafka.tools.StorageTool format -t aG9va21lc2gtdGVzdHMtMQ -c "$dir/$id.properties" \
      --add-scram "SCRAM-SHA-256=[name=$user,password=$password]" --add-scram "SCRAM-SHA-512=[name=$user,password=$password]" >"$dir/format-$id.log" 2>&1 ||
      { cat "$dir/format-$id.log" >&2; exit 1; }
  done
}

node() {
  dir=$(cd "$1" && pwd)
  java_args
  exec java "${args[@]}" kafka.Kafka "$dir/$2.properties"
}

start() {
  local nodes=${1:-1} where=${2:-$(mktemp -d)} id
  [ -f "$where/brokers" ] || prepare "$where" "$nodes"
  trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT INT TERM
  for ((id = 1; id <= nodes; id++)); do
    (node "$where" "$id") >"$where/node-$id.log" 2>&1 &
  done
  echo "Kafka's data and logs are in $where; brokers: $(paste -sd, "$where/brokers")"
  wait
}

case ${1:-} in
jars | prepare | node | start) "$@" ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
