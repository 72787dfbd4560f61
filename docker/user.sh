#!/bin/sh
# user.sh: the user that everything runs as, and a folder for its results.
set -eu

useradd --create-home --uid 1000 --shell /usr/sbin/nologin gputape
mkdir -p /train/runs
chown -R gputape:gputape /train
