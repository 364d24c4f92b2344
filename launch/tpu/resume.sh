#!/usr/bin/env bash
# After a preemption: deletes what is left of the TPU, creates it again and goes on from the
# last checkpoint in --bucket. Give the arguments of create.sh and run.sh, and --from of weights.sh
# if that was used: a folder in a bucket. (A queued TPU takes its time: delete.sh and create.sh with
# --queued, and once it is active setup.sh, weights.sh and run.sh.)
set -euo pipefail
here=$(dirname "$0")
source "$here/common.sh"
USAGE='resume.sh NAME --zone=ZONE --type=TYPE --bucket=gs://BUCKET/FOLDER [--from=gs://BUCKET/FOLDER] [--version=IMAGE] [--spot] [--dry-run] -- PROMPT [ARGUMENTS]'
parse_arguments "$USAGE" "$@"
need_type "$USAGE"
[ -z "$QUEUED" ] || fail "$USAGE" "--queued TPUs are resumed by hand, see the top of this file"
[ -n "$BUCKET" ] || fail "$USAGE" "--bucket is missing: the disk of a preempted TPU is gone"
[ ${#REST[@]} -gt 0 ] || fail "$USAGE" "the prompt is missing after --"
[ -z "$FROM" ] || check_bucket "$USAGE" --from "$FROM"

place=("$NAME" --zone="$ZONE" ${DRY_RUN:+--dry-run})
bash "$here/delete.sh" "${place[@]}" || true
bash "$here/create.sh" "${place[@]}" --type="$TYPE" --version="$VERSION" ${SPOT:+--spot}
bash "$here/setup.sh" "${place[@]}"
[ -z "$FROM" ] || bash "$here/weights.sh" "${place[@]}" --from="$FROM"
bash "$here/run.sh" "${place[@]}" --bucket="$BUCKET" -- "${REST[@]}"
