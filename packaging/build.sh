#!/usr/bin/env bash
# packaging/build.sh OUT: builds all that a release consists of, once, from the clone that it lies in. "./build.sh release" runs it in two and compares.
# CYCLONEDX names cyclonedx-gomod. What zig links for macOS, elsewhere than on a Mac, is kept apart in OUT/form-only.
set -euo pipefail
out=$1
cd "$(dirname "$0")/.."
work=$PWD/bin/packaging pages=$PWD/bin/packaging/pages
mkdir -p "$pages/completions" "$out"
# Nothing of this machine may change a byte. -buildvcs: the commit is in the program, or it is not built.
export LC_ALL=C TZ=UTC GOAMD64=v1 GOARM64=v8.0 GOFLAGS="-mod=readonly -buildvcs=true" SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
here() { CGO_ENABLED=0 go run -trimpath "$@"; } # here PACKAGE...: run on this machine

darwin=$out
packaging/program linux amd64 "$work/linux-amd64"
packaging/program linux arm64 "$work/linux-arm64"
packaging/program darwin arm64 "$work/darwin-arm64"
if [ "$(uname)" != Darwin ]; then
	darwin=$out/form-only
	mkdir "$darwin"
	here emulator/sdk/macho.go emulator/sdk/symbols.txt "$work/darwin-arm64"
fi

here ./cmd/metalcast man "$pages/man/man1" --quiet
for shell in bash zsh fish; do
	here ./cmd/metalcast completion $shell >"$pages/completions/metalcast.$shell"
done
mv "$pages/completions/metalcast.zsh" "$pages/completions/_metalcast" # as zsh looks for it

for kind in archive wheel; do
	here ./packaging $kind -out "$out" -pages "$pages" "$work/linux-amd64" "$work/linux-arm64"
	here ./packaging $kind -out "$darwin" -pages "$pages" "$work/darwin-arm64"
done
"$CYCLONEDX" mod -licenses -std -json -noserial -notimestamp -short-purls -output "$work/sbom.json" . 2>"$work/sbom.log" || { cat "$work/sbom.log" >&2; exit 1; }
here ./packaging sbom -out "$out" "$work/sbom.json"
here ./packaging sums "$out"
