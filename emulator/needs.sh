#!/bin/bash
# needs.sh: says which Debian or Ubuntu packages the fake Metal lacks here, and exits 1 if it lacks any that it needs. It installs nothing.
set -u
missing=()
cc=${FAKE_METAL_CC:-clang-19} cxx=${FAKE_METAL_CXX:-clang++-19}

command -v "$cc" >/dev/null || missing+=(clang-19)
runtime() { ls "$("$cc" -print-resource-dir 2>/dev/null)"/lib/*/libclang_rt.asan*.a >/dev/null 2>&1; }
runtime || missing+=(libclang-rt-19-dev)
library() { ldconfig -p 2>/dev/null | grep -q "$1" || compgen -G "/usr/lib/*/$1*" >/dev/null; }
library libobjc.so.4 || missing+=(libobjc4)
library libBlocksRuntime.so || missing+=(libblocksruntime-dev)
header() { compgen -G "$1" >/dev/null; }
header '/usr/include/*/ffi.h' || header /usr/include/ffi.h || missing+=(libffi-dev)
command -v "$cxx" >/dev/null && { echo '#include <vector>' | "$cxx" -x c++ -fsyntax-only - 2>/dev/null || missing+=(g++); }

# Not needed: only recommended by clang-19's package, and therefore not everywhere where that is.
command -v llvm-symbolizer-19 >/dev/null || command -v llvm-symbolizer >/dev/null ||
	echo "no llvm-symbolizer (package llvm-19): AddressSanitizer's reports will have addresses instead of names" >&2
[ ${#missing[@]} -eq 0 ] && exit 0
echo "the fake Metal needs packages that are not here: apt-get install ${missing[*]}" >&2
exit 1
