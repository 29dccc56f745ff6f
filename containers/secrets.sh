#!/bin/sh
# Write random secrets for compose.yaml to .env in the current folder, readable by its owner alone.
# An .env that is there already is left as it is.
set -eu
umask 077
target=${1:-.env}
if [ -e "$target" ]; then
    echo "$target is there already: left as it is" >&2
    exit 0
fi
# A NATS configuration reads a value from the environment as it would read one from its file: it
# must begin with a letter to be a string. Letters and digits alone are safe in a URL, too.
secret() { printf 's%s' "$(od -An -tx1 -N24 /dev/urandom | tr -d ' \n')"; }
{
    echo "TALLYGATE_MASTER_KEY=sk-$(secret)"
    for part in PROXY LEDGER_WRITER LEDGER_READER ADMIN; do
        echo "TALLYGATE_NATS_${part}_PASSWORD=$(secret)"
    done
} >"$target"
echo "wrote $target; the master key is in it" >&2
