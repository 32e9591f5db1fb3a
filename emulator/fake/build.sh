#!/bin/bash
# build.sh [asan]: ../build/libfakemetal.so or libfakemetal-asan.so, fake Foundation and Metal with the emulator inside.
set -euo pipefail
cd "$(dirname "$0")"
suffix= sanitize=()
if [ "${1:-}" = asan ]; then
	suffix=-asan sanitize=(-fsanitize=address)
fi
cc=${FAKE_METAL_CC:-clang-19} cxx=${FAKE_METAL_CXX:-clang++-19}
build=$(mkdir -p ../build && cd ../build && pwd)
msl=$(cd ../msl && pwd)
library=$build/libfakemetal$suffix.so
objects=$build/obj$suffix
mkdir -p "$objects"

common=(-g -O1 -fPIC -Wall -Wextra -Wno-unused-parameter ${sanitize[@]+"${sanitize[@]}"})
objc=(-fobjc-runtime=gcc -fblocks -Wno-deprecated-objc-isa-usage -Iinclude
	"-DFAKE_METAL_MSL=\"$msl\"" "-DFAKE_METAL_BUILD=\"$build\"")
emulator=(-O2 -std=c++17)

newer() { # is a source newer than the library?
	[ ! -e "$library" ] || [ -n "$(find . ../msl -newer "$library" -type f -print -quit)" ]
}
compile() { # compile OBJECT COMMAND...: in the background
	local object=$objects/$1
	shift
	"$@" -o "$object" &
	pids+=($!)
	made+=("$object")
}

newer || exit 0
pids=() made=()
for f in *.m; do compile "$f.o" "$cc" "${common[@]}" "${objc[@]}" -c "$f"; done
for f in *.c; do compile "$f.o" "$cc" "${common[@]}" -c "$f"; done
for f in ../msl/{fiber,threadgroup,dispatcher,faults}.cpp; do compile "$(basename "$f").o" "$cxx" "${common[@]}" "${emulator[@]}" -c "$f"; done
for p in ${pids[@]+"${pids[@]}"}; do wait "$p"; done
"$cxx" ${sanitize[@]+"${sanitize[@]}"} -shared ${made[@]+"${made[@]}"} -o "$library.new" -l:libobjc.so.4 -lBlocksRuntime -lpthread -ldl
mv "$library.new" "$library"
