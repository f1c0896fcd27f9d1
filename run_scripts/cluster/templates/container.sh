#!/usr/bin/env bash
# Runs a command of this repository in the vendor's container, with the SDAA cards of this machine.
#
# Not verified: no such machine was available. The names of the device nodes, of teco-smi and of the packages are those
# that the vendor documents; the image, and whatever else its driver wants to see in the container, you must fill in.
#
#   IMAGE=… run_scripts/cluster/templates/container.sh python run_scripts/run_spleeter.py -m fast_train -npn 4 --device sdaa
set -euo pipefail

: "${IMAGE:?name the image that the vendor gave you, with paddle-sdaa in it}"
REPOSITORY=$(cd "$(dirname "$0")/../../.." && pwd)
DATA=${DATA:-$REPOSITORY/dataset}     # songs; may lie elsewhere
SHM=${SHM:-16g}                       # for the processes that prepare batches; Docker's own 64 MB is too little

cards=()
for node in /dev/tcaicard*; do
  if [ -e "$node" ]; then cards+=(--device "$node"); fi
done
if [ "${#cards[@]}" -eq 0 ]; then
  echo "error: there is no /dev/tcaicard* here: is the driver loaded?" >&2
  exit 1
fi

# --network host: several nodes meet at --master, and their processes at ports that paddle picks.
# --init and exec: SIGTERM reaches the command, which saves and ends with 75 (docker stop waits --stop-timeout seconds).
exec docker run --rm --init --network host --stop-timeout 300 \
  "${cards[@]}" --shm-size "$SHM" \
  --env SDAA_VISIBLE_DEVICES --env PADDLESTEMS_REQUEUE_STATUS \
  --volume "$REPOSITORY:$REPOSITORY" --volume "$DATA:$DATA" --workdir "$REPOSITORY" \
  "$IMAGE" "$@"
