#!/usr/bin/env bash
# Brings a model to the disk of every worker, as models/NAME, NAME being the last part of --from:
# a folder in a bucket, or one of this machine, which --bucket is then filled from first, once.
# Then run.sh takes --config.prior.name=models/NAME. What is there already is left alone: repeat it after
# an interruption, or for a new version. Pickles are never read, so they stay where they are.
set -euo pipefail
source "$(dirname "$0")/common.sh"
USAGE='weights.sh NAME --zone=ZONE --from=gs://BUCKET/FOLDER|FOLDER [--bucket=gs://BUCKET/FOLDER] [--dry-run]'
parse_arguments "$USAGE" "$@"
[ -n "$FROM" ] || fail "$USAGE" "--from is missing, for example gs://mine/IF-I-XL-v1.0"
copy=(gcloud storage rsync --recursive --exclude='.*[.](bin|pt|pth|ckpt|msgpack|onnx)$')

case $FROM in
  gs://*) check_bucket "$USAGE" --from "$FROM" ;;
  *)
    [ -d "$FROM" ] || fail "$USAGE" "--from is no folder of this machine, and no gs://BUCKET/FOLDER"
    [ -n "$BUCKET" ] || fail "$USAGE" "--bucket is missing: the workers take the weights from there"
    run "${copy[@]}" "$FROM" "$BUCKET"
    FROM=$BUCKET
    ;;
esac
FROM=${FROM%/}
name=${FROM##*/}
on all "mkdir -p $FOLDER/models/$name &&$(printf ' %q' "${copy[@]}" "$FROM" "$FOLDER/models/$name")"
