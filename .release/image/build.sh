#!/usr/bin/env bash
# Writes dist/promflow-image.tar, the container image for amd64, arm64 and ARMv7; --help lists the flags. The same commit gives the same file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

program=$(mktemp)
trap 'rm -f "$program"' EXIT
go build -C .release/image -o "$program" .
"$program" "$@"
