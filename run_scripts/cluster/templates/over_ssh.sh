#!/usr/bin/env bash
# Trains on the machines of a host file, without a scheduler: copy, adapt the four settings, run it on any of them.
#
# Every machine needs this repository at the same path with the same .venv, and a file system shared by all for the
# data, the cache and --model-dir. Between the machines the port below must be open, and those that paddle picks.
# Ctrl-C, or SIGTERM to this script, reaches the first machine, which tells the others: training saves everywhere.
set -euo pipefail

HOSTS=${HOSTS:-run_scripts/cluster/templates/hosts.txt}
FOLDER=${FOLDER:-$PWD}                # of the repository, on every machine
PORT=${PORT:-29500}                   # free on the first machine
COMMAND=${COMMAND:-"run_scripts/run_spleeter.py -m fast_train -npn 4 -bs 20"}

mapfile -t nodes < <(grep -v -e '^#' -e '^[[:space:]]*$' "$HOSTS")
first=${nodes[0]}
logs=model/jobs/over_ssh
mkdir -p "$logs"

# The remote shell writes down its process id and becomes the command, so that a signal can be sent to it later.
start() {
  local node=$1 rank=$2
  local where="--nnodes ${#nodes[@]} --master $first:$PORT --node-rank $rank"
  if [ "${#nodes[@]}" -eq 1 ]; then where=""; fi
  ssh -o BatchMode=yes "$node" \
    "cd '$FOLDER' && echo \$\$ > '$logs/$rank.pid' && exec .venv/bin/python $COMMAND $where" > "$logs/$rank.log" 2>&1
}

stop() {
  ssh -o BatchMode=yes "$first" "cd '$FOLDER' && kill -TERM \$(cat '$logs/0.pid')" || true
}
trap stop TERM INT

pids=()
for rank in "${!nodes[@]}"; do
  start "${nodes[$rank]}" "$rank" &
  pids+=($!)
done
echo "outputs: $logs/0.log (node 0) to $logs/$((${#nodes[@]} - 1)).log"

# A signal interrupts `wait`; then wait again. All nodes end with the same status: 75 means, start me again.
status=0
for pid in "${pids[@]}"; do
  code=0
  wait "$pid" || code=$?
  while kill -0 "$pid" 2> /dev/null; do code=0; wait "$pid" || code=$?; done
  if [ "$code" -gt "$status" ]; then status=$code; fi
done
if [ "$status" -ne 0 ]; then tail -n 5 "$logs/0.log" >&2; fi
exit "$status"
