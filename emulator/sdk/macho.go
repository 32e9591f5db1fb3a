//go:build ignore

// macho.go checks a binary that was linked for macOS on another system: what it expects of every library, and what macOS
// wants before it runs a program.
//
//	go run emulator/sdk/macho.go [-write] SYMBOLS BINARY
package main

import (
	"debug/macho"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

func main() {
	write := flag.Bool("write", false, "write the binary's symbols to SYMBOLS")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: macho [-write] SYMBOLS BINARY")
		os.Exit(2)
	}
	problems, err := check(flag.Arg(0), flag.Arg(1), *write)
	if err != nil {
		problems = append(problems, err.Error())
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

func check(list, binary string, write bool) ([]string, error) {
	f, err := macho.Open(binary)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	have, err := undefined(f)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(list)
	if err != nil {
		return nil, err
	}
	if write {
		return nil, os.WriteFile(list, []byte(comments(string(text))+strings.Join(have, "\n")+"\n"), 0o666)
	}
	problems := compare(listed(string(text)), have)
	twice, err := loadedTwice(f)
	return slices.Concat(problems, twice, loadCommands(f)), err
}

// loadedTwice finds libraries that are named more than once, which dyld dislikes.
func loadedTwice(f *macho.File) (problems []string, err error) {
	libraries, err := f.ImportedLibraries()
	slices.Sort(libraries)
	for i := 1; i < len(libraries); i++ {
		if libraries[i] == libraries[i-1] {
			problems = append(problems, "loaded twice: "+libraries[i])
		}
	}
	return problems, err
}

// undefined lists "library symbol" of all that other libraries must have, and a library without a symbol where none of its symbols is used.
// CoreGraphics is one: without it a command-line tool gets no default Metal device.
func undefined(f *macho.File) ([]string, error) {
	const undefinedExternal, typeMask, stab = 1, 0x0F, 0xE0
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	var list []string
	used := make([]bool, len(libraries))
	name := func(i int) string {
		base, _, _ := strings.Cut(path.Base(libraries[i]), ".")
		return base
	}
	for _, s := range f.Symtab.Syms {
		if s.Type&stab != 0 || s.Type&typeMask != undefinedExternal {
			continue
		}
		ordinal := int(s.Desc >> 8)
		if ordinal < 1 || ordinal > len(libraries) {
			return nil, fmt.Errorf("%s: no library for it", s.Name)
		}
		list = append(list, name(ordinal-1)+" "+s.Name)
		used[ordinal-1] = true
	}
	for i := range libraries {
		if !used[i] {
			list = append(list, name(i))
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func comments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func listed(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			list = append(list, line)
		}
	}
	return list
}

func compare(want, have []string) (problems []string) {
	for _, s := range have {
		if !slices.Contains(want, s) {
			problems = append(problems, "the binary expects a symbol that is not listed: "+s)
		}
	}
	for _, s := range want {
		if !slices.Contains(have, s) {
			problems = append(problems, "a listed symbol is not used any more: "+s)
		}
	}
	return problems
}

// Load commands (mach-o/loader.h's values).
const (
	cmdUUID          = 0x1B
	cmdCodeSignature = 0x1D
	cmdBuildVersion  = 0x32

	platformMacOS = 1
	macOS12       = 12 << 16
)

// loadCommands looks for what macOS 26 wants to see before main: a UUID, the least system, a signature, which may be ad hoc.
func loadCommands(f *macho.File) (problems []string) {
	if f.Cpu != macho.CpuArm64 || f.Type != macho.TypeExec {
		problems = append(problems, fmt.Sprintf("not an arm64 program: %v %v", f.Cpu, f.Type))
	}
	found := map[uint32]bool{}
	for _, l := range f.Loads {
		raw := l.Raw()
		word := func(i int) uint32 { return f.ByteOrder.Uint32(raw[4*i:]) }
		switch word(0) {
		case cmdUUID:
			found[cmdUUID] = slices.ContainsFunc(raw[8:24], func(b byte) bool { return b != 0 })
		case cmdBuildVersion:
			found[cmdBuildVersion] = true
			if word(2) != platformMacOS || word(3) != macOS12 {
				problems = append(problems, fmt.Sprintf("LC_BUILD_VERSION: platform %d, least version %#x; expected macOS 12.0", word(2), word(3)))
			}
		case cmdCodeSignature:
			found[cmdCodeSignature] = adHoc(f, int64(word(2)), int(word(3)))
		}
	}
	for cmd, name := range map[uint32]string{cmdUUID: "LC_UUID", cmdBuildVersion: "LC_BUILD_VERSION", cmdCodeSignature: "an ad-hoc signature"} {
		if !found[cmd] {
			problems = append(problems, "the binary lacks "+name)
		}
	}
	return problems
}

// adHoc looks for a code directory with the ad-hoc flag in the signature.
func adHoc(f *macho.File, offset int64, size int) bool {
	const superBlob, codeDirectory, flagAdHoc = 0xFADE0CC0, 0xFADE0C02, 2
	// The signature is the end of the last segment.
	segment := f.Segment("__LINKEDIT")
	if segment == nil {
		return false
	}
	b := make([]byte, size)
	if _, err := segment.ReadAt(b, offset-int64(segment.Offset)); err != nil || size < 12 {
		return false
	}
	be := binary.BigEndian
	if be.Uint32(b) != superBlob {
		return false
	}
	for i := range int(be.Uint32(b[8:])) {
		at := be.Uint32(b[12+8*i+4:])
		if be.Uint32(b[at:]) == codeDirectory && be.Uint32(b[at+12:])&flagAdHoc != 0 {
			return true
		}
	}
	return false
}
