#!/usr/bin/env bash
# Usage: tools/slurm_search.sh PARTITION JOB_NAME WORKERS CONFIG
#        --work-dir DIR --storage URL [options of search.py]
# An array of jobs, each of which is a worker with a GPU of its own; DIR is in
# a file system, and URL a PostgreSQL or MySQL server, that all nodes reach.
set -euo pipefail

PARTITION=$1
JOB_NAME=$2
WORKERS=$3
CONFIG=$4
ROOT=$(cd "$(dirname "$0")/.." && pwd)

# SBATCH_ARGS is a list of options: to be split.
PYTHONPATH="$ROOT:${PYTHONPATH:-}" sbatch \
    --partition="$PARTITION" \
    --job-name="$JOB_NAME" \
    --array="1-$WORKERS" \
    --gres=gpu:1 \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --requeue \
    ${SBATCH_ARGS:-} \
    --wrap="$(printf '%q ' python -u "$ROOT/tools/search.py" "$CONFIG" "${@:5}")"
