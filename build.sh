#!/usr/bin/env bash
# Compiles promflow into one static binary, dist/promflow-<operating system>-<architecture>.
#
# For another system, change these two or set them in the environment, as in
#   operating_system=linux architecture=arm64 ./build.sh
set -euo pipefail

operating_system=${operating_system:-$(go env GOOS)}
architecture=${architecture:-$(go env GOARCH)}

cd "$(dirname "${BASH_SOURCE[0]}")"

# What --version and promflow_build_info say. Without git, or outside of a clone, only the version is known.
version=0.1.0-dev revision=unknown branch=unknown
if [ -e .git ] && git rev-parse --verify --quiet HEAD >/dev/null; then
	revision=$(git rev-parse HEAD)
	branch=$(git rev-parse --abbrev-ref HEAD)
	if git describe --tags >/dev/null 2>&1; then
		version=$(git describe --tags --always --dirty)
	fi
	if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
		revision+=-dirty
	fi
fi

output=dist/promflow-$operating_system-$architecture
if [ "$operating_system" = windows ]; then
	output+=.exe
fi

package=github.com/prometheus/common/version
CGO_ENABLED=0 GOOS=$operating_system GOARCH=$architecture go build -trimpath -buildvcs=false -o "$output" \
	-ldflags "-s -w -X $package.Version=$version -X $package.Revision=$revision -X $package.Branch=$branch" .
echo "$output"
