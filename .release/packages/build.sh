#!/usr/bin/env bash
# Packs promflow as dist/promflow-linux-<architecture>.deb and .rpm, for this machine's architecture.
#
# For each architecture that there are packages for:
#   .release/packages/build.sh all
# As if it were another version:
#   VERSION=0.0.1 .release/packages/build.sh
# A commit always gives the same packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0
this=$(go env GOARCH)
architectures=$this
case ${1-} in
'') ;;
all) architectures="amd64 arm64 arm riscv64" ;;
*)
	echo "build.sh: unexpected \"$1\": it takes nothing, or all" >&2
	exit 1
	;;
esac

made=dist/packages
rm -rf "$made"
mkdir -p "$made"

# The manual page, the completions and the version are the program's own.
operating_system=linux ./build.sh
program=dist/promflow-linux-$this
export VERSION ARCHITECTURE SOURCE_DATE_EPOCH
VERSION=${VERSION:-$("$program" version | sed -n 's/^promflow //p')}
SOURCE_DATE_EPOCH=$(date -d "$("$program" version | sed -n "s/^build date *//p")" +%s)
"$program" manual | gzip -9n >$made/promflow.1.gz
for shell in bash fish zsh; do
	"$program" completion $shell >$made/promflow.$shell
done
gzip -9nc CHANGELOG.md >$made/changelog.gz
cat >$made/changelog.yaml <<-END
	- semver: ${VERSION/-/\~}-1
	  date: $(date -ud "@$SOURCE_DATE_EPOCH" +%FT%TZ)
	  packager: $(sed -n 's/^maintainer: //p' .release/packages/nfpm.yaml)
	  deb: {urgency: medium, distributions: [unstable]}
	  changes:
	    - note: "What is new is in the changelog of promflow itself."
END

# The licenses of what is linked into the program.
{
	go env GOVERSION
	cat "$(go env GOROOT)/LICENSE"
	GOOS=linux CGO_ENABLED=0 go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' . | sort -u |
		while read -r module version folder; do
			printf '\n%s\n%s %s\n' "$(printf '%.0s=' {1..80})" "$module" "$version"
			find "$folder" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'notice*' -o -iname 'copying*' \) | sort | xargs cat
		done
} | gzip -9n >$made/licenses.gz

for each in $architectures; do
	if [ "$each" != "$this" ]; then
		operating_system=linux architecture=$each ./build.sh
	fi
	cp "dist/promflow-linux-$each" $made/promflow
	ARCHITECTURE=$each
	if [ "$each" = arm ]; then
		ARCHITECTURE=arm7
	fi
	for format in deb rpm; do
		go run $nfpm package --config=.release/packages/nfpm.yaml --packager=$format --target="dist/promflow-linux-$each.$format"
	done
done
