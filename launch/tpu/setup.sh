#!/usr/bin/env bash
# Copies this checkout (what is committed) to all workers and installs it there.
set -euo pipefail
source "$(dirname "$0")/common.sh"
parse_arguments 'setup.sh NAME --zone=ZONE [--dry-run]' "$@"
cd "$(dirname "$0")/../.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
archive=$folder/$FOLDER.tar.gz
run git archive --format=tar.gz --output="$archive" HEAD
run gcloud compute tpus tpu-vm scp "$archive" "$NAME:$FOLDER.tar.gz" --zone="$ZONE" --worker=all
on all "set -e
mkdir -p $FOLDER
tar -xzf $FOLDER.tar.gz -C $FOLDER
command -v python3.11 || (sudo apt-get update -q && sudo apt-get install -qy python3.11 python3.11-venv)
cd $FOLDER
python3.11 -m venv .venv
.venv/bin/pip install -q --editable '.[tpu]'"
