#!/usr/bin/env bash
# Check a clone in a virtual environment of other packages or another Python:
# the fast tests, then the demo, from the search to the test, and a resume.
#
#     tools/checks/environment.sh [REQUIREMENTS]
#
# REQUIREMENTS is requirements/onedl.txt by default. Of the environment:
# PYTHON, an interpreter; TORCH, a version in place of that in REQUIREMENTS;
# VENV, a folder for the virtual environment that is kept; RESUME_WITH, the
# interpreter of another environment, which goes on where this one stops.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
requirements=${1:-requirements/onedl.txt}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
venv=${VENV:-$folder/venv}

step() {
    local begun=$SECONDS
    echo "+ $*"
    "$@"
    printf '%6d s  %s\n' "$((SECONDS - begun))" "$*" >> "$folder/times"
}

git clone -q "$root" "$folder/clone"
cd "$folder/clone"
[ -z "${TORCH:-}" ] || sed -i "s/^torch==.*/torch==$TORCH/" "$requirements"
"${PYTHON:-python3}" -m venv "$venv"
# shellcheck source=/dev/null
source "$venv/bin/activate"
unset PYTHONPATH
decoded=work_dirs/search_demo/decoded

step pip install -q -r "$requirements" -r requirements/tests.txt
step pip install -q -e .
step python -m pytest -q -n "${WORKERS:-2}" -m 'not run' tests
step python tools/train.py configs/autodeeplab/search_demo.py
step python tools/decode.py work_dirs/search_demo/iter_450.pth
step python tools/train.py "$decoded/retrain.py"
step python tools/test.py "$decoded/retrain.py" \
    "$decoded/retrain/iter_600.pth"
step python tools/checks/resume.py --stops 3 --processes 1 --workers 1 \
    ${RESUME_WITH:+--resume-with "$RESUME_WITH"}

python --version
pip list 2> /dev/null |
    grep -iE '^(torch|numpy|(onedl-)?mm(cv|cv-lite|engine|segmentation)) '
cat "$folder/times"
