#!/usr/bin/env bash
# Compiles promflow into one static binary, dist/promflow-<operating system>-<architecture>, for this machine.
#
# For another system, change these two or set them in the environment, as in
#   operating_system=linux architecture=arm64 ./build.sh
# For every system that promflow compiles for:
#   ./build.sh all
set -euo pipefail

operating_system=${operating_system:-$(go env GOOS)}
architecture=${architecture:-$(go env GOARCH)}

# mips and mipsle are without a floating-point unit, as routers are, and arm is ARMv7.
every="
	linux/amd64 linux/arm64 linux/arm linux/riscv64 linux/mips linux/mipsle
	darwin/amd64 darwin/arm64
	freebsd/amd64 freebsd/arm64 openbsd/amd64
	windows/amd64 windows/arm64
"
export CGO_ENABLED=0 GOARM=7 GOMIPS=softfloat

cd "$(dirname "${BASH_SOURCE[0]}")"

# What promflow version says. Without git, or outside of a clone, only the release that is being worked on is known.
release=$(sed -n 's/^const Release = "\(.*\)"$/\1/p' app/version.go)
version=$release-dev commit=unknown date=
if [ -e .git ] && git rev-parse --verify --quiet HEAD >/dev/null; then
	commit=$(git rev-parse HEAD)
	date=$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)
	version=$release-dev.$(git rev-list --count HEAD)
	if tag=$(git describe --exact-match --tags --match 'v[0-9]*' 2>/dev/null); then
		version=${tag#v}
		if [ "$version" != "$release" ]; then
			echo "build.sh: this commit has the tag $tag, but app/version.go says $release: they have to agree" >&2
			exit 1
		fi
	fi
	if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
		commit+=-dirty
	fi
fi

# build OPERATING_SYSTEM ARCHITECTURE compiles, and prints the file's name and size.
build() {
	local output=dist/promflow-$1-$2
	if [ "$1" = windows ]; then
		output+=.exe
	fi
	local package=github.com/prometheus/common/version
	GOOS=$1 GOARCH=$2 go build -trimpath -buildvcs=false -o "$output" \
		-ldflags "-s -w -X $package.Version=$version -X $package.Revision=$commit -X $package.BuildDate=$date" .
	printf '%-32s %4s MB\n' "$output" "$(($(wc -c <"$output") / 100000))" | sed 's/\(.\) MB/.\1 MB/'
}

case ${1-} in
'') build "$operating_system" "$architecture" ;;
all)
	for target in $every; do
		build "${target%/*}" "${target#*/}"
	done
	;;
*)
	echo "build.sh: unexpected \"$1\": it takes nothing, or all" >&2
	exit 1
	;;
esac
