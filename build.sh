#!/usr/bin/env bash
# build.sh: everything that is built, tried and measured, by one command each. "build.sh help" lists them.
set -euo pipefail
cd "$(dirname "$0")"
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
actionlint=github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0

build() { # build bin/metalcast
	go build -trimpath -o bin/metalcast ./cmd/metalcast
}

demo() { # build, make the synthetic release in bin/demo, convert it, show what came out; the next demo makes it again
	build
	rm -rf bin/demo
	mkdir bin/demo
	run() { echo; echo "\$ bin/metalcast $*"; bin/metalcast "$@"; }
	run synth bin/demo/qwen-fp8
	run inspect bin/demo/qwen-fp8
	run convert bin/demo/qwen-fp8 bin/demo/qwen-bf16 --verify
	run inspect bin/demo/qwen-bf16
	echo
	ls -l bin/demo/qwen-bf16
	echo
	echo "both models stay in bin/demo until the next demo: $(du -sh bin/demo | cut -f1 | tr -d ' '). For the commands under \"next:\":"
	echo "  export PATH=\"$PWD/bin:\$PATH\""
}

parity() { # every Metal kernel, on this Mac's GPU or else emulated, beside the CPU's vector code and plain Go; and conversions with GPU and CPU, file by file; --quick takes samples
	local dir code tags=
	if [ "$(uname)" != Darwin ]; then
		emulator/needs.sh || { required fakemetal && exit 1; echo "skipping parity"; return; }
		emulator/fake/build.sh
		export CGO_ENABLED=1 CC="$PWD/emulator/fake/cc"
		tags=fakemetal,
	fi
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' RETURN
	for code in vector purego; do
		go build -tags "$tags$code" -o "$dir/$code" ./cmd/metalcast
		echo
		"$dir/$code" parity "$@"
	done
	"$dir/vector" synth "$dir/release" --quiet
	same "$dir" bf16
	same "$dir" 4bit -q
}

same() { # same DIR NAME [FLAG...]: converts DIR/release with both backends, by vector code and plain Go, and compares all they wrote: metalcast.json names no device
	local dir=$1 name=$2 code
	shift 2
	"$dir/vector" convert "$dir/release" "$dir/$name-metal" --device metal --quiet "$@"
	for code in vector purego; do
		"$dir/$code" convert "$dir/release" "$dir/$name-$code" --device cpu --quiet "$@"
		diff -r "$dir/$name-metal" "$dir/$name-$code" >&2 || return 1
	done
	echo "$name: metal, the CPU's vector code and plain Go wrote the same $(find "$dir/$name-metal" -type f | wc -l | tr -d ' ') files, byte for byte"
	rm -r "$dir/$name-"*
}

has_cc() { [ "$(go env CGO_ENABLED)" = 1 ] && command -v "$(go env CC)" >/dev/null; }

test_() { # all Go tests, and once more with the race detector those in which things run side by side: test [long] [go test's arguments]. "long" runs every round and size
	[ "${1:-}" = long ] && { export METALCAST_LONG=1; shift; }
	go vet ./...
	go test "$@" ./...
	if has_cc; then
		go test -race -short "$@" ./...
	else
		echo "no C compiler: nothing was tested with the race detector"
	fi
}

simd() { # the vector code of arm64 under qemu, and the code without any: what "test" does not run on amd64
	local pkg dir require=${METALCAST_REQUIRE-}
	METALCAST_REQUIRE=${require//simd/} go test -tags purego ./cpufallback ./internal/mlxquant # without vector code by intent
	command -v qemu-aarch64 >/dev/null || { required qemu && exit 1; echo "skipping arm64: no qemu-aarch64"; return; }
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' RETURN
	for pkg in cpufallback internal/mlxquant; do
		CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go test -c -o "$dir/test" "./$pkg"
		(cd "$pkg" && qemu-aarch64 "$dir/test" -test.run 'SIMD|Golden|Fuzz|Allocation|Parity/vectors' "$@")
	done
}

lint() { # gofmt, shell (with shellcheck where it is), workflows, formula, vet for every system, staticcheck
	local files scripts=(build.sh .ci/run .ci/metal-compiler .ci/brew .ci/assemble emulator/needs.sh emulator/fake/build.sh emulator/fake/cc emulator/msl/msl-compile emulator/sdk/cc emulator/sdk/generate emulator/sdk/link emulator/sdk/zig packaging/build.sh packaging/program)
	files=$(gofmt -l .)
	[ -z "$files" ] || { echo "not gofmt'ed: $files" >&2; exit 1; }
	.ci/bash32 "${scripts[@]}"
	if command -v shellcheck >/dev/null; then shellcheck -S warning -e SC1007,SC2054,SC2064,SC2120 "${scripts[@]}" .ci/bash32; fi # which itself has what it refuses
	go run $actionlint -shellcheck= -pyflakes=
	! grep -n 'uses: [^.]' .github/workflows/* | grep -vE '@[0-9a-f]{40} # v[0-9.]+$' >&2 || { echo "an action that is not pinned to a commit" >&2; exit 1; }
	if command -v ruby >/dev/null; then ruby -c packaging/homebrew/metalcast.rb packaging/homebrew/try.rb >/dev/null; fi
	go vet ./...
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 go vet ./...
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go vet ./...
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go vet ./...
	go vet emulator/check/check.go
	go vet emulator/sdk/macho.go
	go vet emulator/mutants/mutants.go
	(fakemetal vet)
	shaders
	go run $staticcheck ./...
	go mod verify
	go mod tidy -diff
}

fakemetal() { # the Metal backend on Linux against a fake Metal: fakemetal [vet|test|race|asan|fast|reverse|stress|lib] [go test's arguments]
	local what=${1:-test}
	[ $# -gt 0 ] && shift
	emulator/needs.sh || { required fakemetal && exit 1; echo "skipping fakemetal"; return; }
	local build=(emulator/fake/build.sh) packages=(./emulator/... ./cgo/... ./metal/...)
	local which=FakeMetal # of the root package's tests and cmd's; "test" runs all, which on a Mac use its GPU
	export CGO_ENABLED=1 CC="$PWD/emulator/fake/cc" GODEBUG="${GODEBUG:-clobberfree=1}"
	gotest() { # -count=1: the go command does not see the library change
		go test -tags fakemetal -count=1 "$@" "${packages[@]}" || return # errexit does not hold inside "a && b && c"
		case " $* " in *" -run "*) ;; *) go test -tags fakemetal -count=1 -run "$which" "$@" . ./cmd/... ;; esac
	}
	case $what in
	lib) "${build[@]}" ;;
	vet) "${build[@]}" && go vet -tags fakemetal . "${packages[@]}" &&
		GOBIN="$PWD/bin" CC= CGO_ENABLED=0 go install $staticcheck && bin/staticcheck -tags fakemetal "${packages[@]}" ;; # not go run: it is not to be linked with the fake
	test) "${build[@]}" && which=. && gotest "$@" && fake_metallib ;;
	race) "${build[@]}" && gotest -race -short "$@" ;;
	asan)
		export LSAN_OPTIONS="suppressions=$PWD/emulator/fake/lsan.supp:print_suppressions=0"
		"${build[@]}" asan && gotest -asan "$@" &&
			ASAN_OPTIONS=external_symbolizer_path= go test -tags fakemetal -asan -count=1 -run TestAtomics ./emulator/probe # as where llvm-symbolizer is missing
		;;
	fast) "${build[@]}" && FAKE_METAL_FAST=1 gotest "$@" ;; # kernels with -ffast-math, subnormals flushed whatever the options
	reverse) "${build[@]}" && MSLEMU_REVERSE=1 gotest "$@" ;; # the threads of a threadgroup in reverse order
	stress) "${build[@]}" && METALCAST_STRESS=${METALCAST_STRESS:-3m} gotest -run Stress -v -timeout 30m "$@" ;;
	*) echo "no such check: fakemetal $what" >&2; exit 2 ;;
	esac
}

kernels() { # the text of each kernel library, as it is compiled: kernels DIR
	local name
	mkdir -p "$1"
	for name in convert quantize; do cat shaders/arithmetic.metal "shaders/$name.metal" >"$1/$name.metal"; done
}

metallib() { # on a Mac with Apple's Metal toolchain: compile the kernels, and build bin/metalcast with them embedded
	local dir name
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' RETURN
	kernels "$dir"
	# Only a compile tells whether the toolchain is there: it is a component of Xcode's since version 26.
	for name in convert quantize; do
		xcrun -sdk macosx metal -std=macos-metal2.4 -mmacosx-version-min=12.0 -fno-fast-math -c "$dir/$name.metal" -o "$dir/$name.air" ||
			{ echo "no Metal toolchain: xcodebuild -downloadComponent MetalToolchain; metalcast does not need it" >&2; exit 1; }
		xcrun -sdk macosx metallib "$dir/$name.air" -o "shaders/$name.metallib"
	done
	go build -trimpath -tags metallib -o bin/metalcast ./cmd/metalcast
}

darwin() { # vet and link for macOS on arm64, on any system; installs zig into .venv-zig. darwin -write: take over what the program links against
	local out=bin/darwin-arm64/metalcast
	emulator/sdk/link vet
	emulator/sdk/link "$out"
	go run emulator/sdk/macho.go "$@" emulator/sdk/symbols.txt "$out"
	echo "$out"
}

fake_metallib() {
	# The embedded metallibs, of the kind that the fake device loads.
	local name
	kernels emulator/build/kernels
	for name in convert quantize; do { printf MTLB && cat "emulator/build/kernels/$name.metal"; } >"shaders/$name.metallib"; done
	go test -tags fakemetal,metallib -count=1 -run Metallib ./metal
	rm shaders/convert.metallib shaders/quantize.metallib
}

required() { case ",${METALCAST_REQUIRE:-}," in *",$1,"*) true ;; *) false ;; esac; }

shaders() { # what MSL forbids and C++ allows, in the kernels' text
	emulator/needs.sh || { required fakemetal && exit 1; echo "skipping shaders"; return; }
	kernels emulator/build/kernels
	go run emulator/check/check.go emulator/check/planted.txt emulator/build/kernels/*.metal
}

mutants() { # one-line errors planted in shaders, metal, cgo and plan, one at a time: the tests under fakemetal must see each. mutants [name]
	emulator/needs.sh || { required fakemetal && exit 1; echo "skipping mutants"; return; }
	go run emulator/mutants/mutants.go emulator/mutants/mutants.txt "$@"
}

venv() { # install mlx, mlx-lm and mlx-vlm into .venv, for "consumers" and the Go tests that compare with MLX
	[ -x .venv/bin/python ] || python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r consumers/requirements.txt
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r consumers/model-requirements.txt
}

consumers() { # mlx-lm and mlx-vlm on what metalcast writes; installs them into .venv
	build
	venv
	METALCAST="$PWD/bin/metalcast" METALCAST_REQUIRE="${METALCAST_REQUIRE:-consumers}" .venv/bin/python -m pytest -q consumers "$@"
}

compatibility() { # write docs/compatibility.md anew: what each runtime makes of each family; after "consumers"
	build
	METALCAST="$PWD/bin/metalcast" .venv/bin/python consumers/compatibility.py docs/compatibility.md
}

fuzz() { # every fuzz target for a while: fuzz [time each, 20s] [part of the names]; ends each with a line for docs/fuzzing.md
	local each=${1:-20s} which=${2:-} pkg name log
	log=$(mktemp)
	trap 'rm -f "$log"' RETURN
	for pkg in $(go list ./...); do
		for name in $(go test -list '^Fuzz' "$pkg" | grep "^Fuzz.*$which" || true); do
			echo "$pkg $name"
			go test -run '^$' -fuzz "^$name\$" -fuzztime "$each" -fuzzminimizetime 5s "$pkg" | tee "$log"
			echo "| $name | $(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$log" | tail -1) | $each | $(date -u +%F) |"
		done
	done
}

bench() { # beside memcpy, copies and other converters: bench [quick|full|SECTION] [options, see --help]; full writes docs/performance.md
	build
	python3 bench/compare.py "$@"
}

mac_report() { # try everything on this machine and write one file to send back, without anything private: mac-report [-o FILE] [-quick]
	go run ./internal/macreport collect "$@"
}

macs() { # write README's column and the table of docs/performance.md from the reports in docs/macs
	go run ./internal/macreport tables
}

release() { # archives, wheels, checksums and an SBOM of HEAD in bin/release: release VERSION; built twice, in two directories, which must give the same bytes
	local version dir copy commit
	version=$(go run ./packaging version "${1:-}")
	commit=$(git rev-parse HEAD)
	[ -z "$(git status --porcelain)" ] || echo "release: what is not committed is not in it" >&2
	dir=$(mktemp -d)
	trap "rm -rf '$dir'" EXIT
	GOBIN="$dir" go install $cyclonedx
	export CYCLONEDX="$dir/cyclonedx-gomod" ZIG=${ZIG:-}
	[ "$(uname)" = Darwin ] || ZIG=$(emulator/sdk/zig)
	for copy in first another/second; do # each compiles everything by itself
		git clone -q . "$dir/$copy/metalcast"
		git -C "$dir/$copy/metalcast" checkout -q --detach "$commit"
		GOCACHE="$dir/$copy/cache" "$dir/$copy/metalcast/packaging/build.sh" "$dir/$copy/out"
	done
	diff -r "$dir/first/out" "$dir/another/second/out" >&2 || { echo "release: two builds of one commit differ, see above" >&2; exit 1; }
	rm -rf bin/release
	mkdir -p bin
	mv "$dir/first/out" bin/release
	echo "bin/release: metalcast $version of $commit by $(go env GOVERSION), built twice, byte for byte the same"
	[ ! -d bin/release/form-only ] || echo "bin/release/form-only: for macOS, but linked by zig: a check of form that no Mac has run, not to be published"
}

wheel() { # this machine's wheel in bin/wheel, tried: installs it into a new environment of PYTHON (python3), converts the demo's model by command and from Python, compares; python/tests, twine
	local goos arch dir file bin
	goos=$(go env GOHOSTOS) arch=$(go env GOHOSTARCH)
	dir=$(mktemp -d)
	trap "rm -rf '$dir'" EXIT
	packaging/program "$goos" "$arch" "$dir/program"
	rm -rf bin/wheel
	mkdir -p bin/wheel
	file=$(SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) go run ./packaging wheel -out bin/wheel "$dir/program")
	"${PYTHON:-python3}" -m venv "$dir/venv"
	bin=$dir/venv/bin
	"$bin/pip" install --quiet --disable-pip-version-check --no-deps "$file"
	"$bin/metalcast" version
	"$bin/metalcast" synth "$dir/fp8" --quiet
	"$bin/metalcast" convert "$dir/fp8" "$dir/command" --quiet
	"$bin/python" -c 'import metalcast, sys; metalcast.convert(*sys.argv[1:])' "$dir/fp8" "$dir/python"
	diff -r "$dir/command" "$dir/python" >&2
	"$bin/pip" install --quiet --disable-pip-version-check -r python/requirements.txt
	"$bin/twine" check --strict "$file"
	env -u METALCAST_BINARY "$bin/python" -m pytest -q -p no:cacheprovider python/tests
	echo "$file: installed, and the same model by command and from Python"
}

formula() { # the source archive of HEAD and the Homebrew formula that builds it: formula VERSION DIR [URL, of a release's file]; tries the formula where there is ruby and no brew
	local version=$1 dir=$2 name=metalcast-$1-source.tar.gz url=${3:-https://github.com/metalcast/metalcast/releases/download/v$1/metalcast-$1-source.tar.gz} sum
	mkdir -p "$dir"
	git archive --format=tar --prefix="metalcast-$version/" HEAD | gzip -9n >"$dir/$name"
	sum=$(sha256 "$dir/$name")
	sed -e 1d -e "s|@URL@|$url|; s|@VERSION@|$version|; s|@SHA256@|$sum|" packaging/homebrew/metalcast.rb >"$dir/metalcast.rb"
	echo "$dir/metalcast.rb: $url, sha256 $sum"
	command -v brew >/dev/null && return
	if command -v ruby >/dev/null; then
		ruby packaging/homebrew/try.rb "$dir/metalcast.rb" "$dir/$name"
	else
		required ruby && exit 1
		echo "skipping the formula's test: no ruby"
	fi
}

vulnerabilities() { # known ones in what metalcast uses: asks vuln.go.dev
	go run $govulncheck ./...
}

sha256() { { shasum -a 256 "$1" 2>/dev/null || sha256sum "$1"; } | cut -d' ' -f1; }

nightly() { # what is too long for every change
	parity
	mutants
	METALCAST_LONG=1 METALCAST_NIGHTLY=1 go test -timeout 3h ./...
	fuzz "${1:-10m}"
	bench
}

help() {
	sed -n 's/^\([a-z_]*\)() { # /\1: /p' "$0" | sed 's/^test_/test/; s/^mac_report/mac-report/'
}

what=${1:-help}
[ $# -gt 0 ] && shift
case $what in
build | venv | demo | parity | simd | lint | fakemetal | kernels | metallib | darwin | shaders | mutants | consumers | compatibility | release | wheel | formula | vulnerabilities | fuzz | bench | macs | nightly | help) "$what" "$@" ;;
test) test_ "$@" ;;
mac-report) mac_report "$@" ;;
*) echo "build.sh: no command \"$what\"; these are:" >&2; help >&2; exit 2 ;;
esac
