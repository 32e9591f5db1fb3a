package main

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"errors"
	"fmt"
	"os"
)

// binary is a built program and the system it is for, as recorded in the file.
type binary struct {
	content  []byte
	info     *buildinfo.BuildInfo
	os, arch string
	tag      string // the platform tag of its wheel
}

func readBinary(path string) (*binary, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return newBinary(content)
}

func newBinary(content []byte) (b *binary, err error) {
	b = &binary{content: content}
	if b.info, err = buildInfo(content); err != nil {
		return nil, err
	}
	for _, s := range b.info.Settings {
		switch s.Key {
		case "GOOS":
			b.os = s.Value
		case "GOARCH":
			b.arch = s.Value
		}
	}
	switch b.os {
	case "linux":
		b.tag, err = linuxTag(content)
	case "darwin":
		b.tag, err = macTag(content)
	default:
		err = fmt.Errorf("a program for %s/%s, linux or darwin was expected", b.os, b.arch)
	}
	return b, err
}

func buildInfo(content []byte) (*buildinfo.BuildInfo, error) {
	return buildinfo.Read(bytes.NewReader(content))
}

// linuxTag returns the tag of a static program, which runs under glibc and musl alike. The oldest
// Linux that Go supports (3.2) is older than any with glibc 2.17.
func linuxTag(content []byte) (string, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return "", errors.New("is linked to libraries of the system, a static program was expected: CGO_ENABLED=0")
		}
	}
	machine, ok := map[elf.Machine]string{elf.EM_X86_64: "x86_64", elf.EM_AARCH64: "aarch64"}[f.Machine]
	if !ok {
		return "", fmt.Errorf("a program for %v, x86_64 or aarch64 was expected", f.Machine)
	}
	return fmt.Sprintf("manylinux_2_17_%[1]s.manylinux2014_%[1]s.musllinux_1_1_%[1]s", machine), nil
}

// Load commands (mach-o/loader.h's values).
const (
	loadUUID          = 0x1B
	loadCodeSignature = 0x1D
	loadBuildVersion  = 0x32
)

// macTag returns a tag for the oldest macOS that the program supports. Without a UUID and a
// signature macOS does not start it.
func macTag(content []byte) (string, error) {
	f, err := macho.NewFile(bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	if f.Cpu != macho.CpuArm64 {
		return "", fmt.Errorf("a program for %v, arm64 was expected", f.Cpu)
	}
	var least uint32
	var signed, named bool
	for _, l := range f.Loads {
		raw := l.Raw()
		switch f.ByteOrder.Uint32(raw) {
		case loadUUID:
			named = true
		case loadCodeSignature:
			signed = true
		case loadBuildVersion: // command, size, platform, oldest system
			least = f.ByteOrder.Uint32(raw[12:])
		}
	}
	if !named || !signed || least == 0 {
		return "", fmt.Errorf("LC_UUID %v, a signature %v, LC_BUILD_VERSION %v: macOS wants all three", named, signed, least != 0)
	}
	return macPlatform(least), nil
}

// macPlatform returns the tag for an oldest macOS, 0xMMMMmmpp. From macOS 11 on installers know
// only tags of major versions.
func macPlatform(least uint32) string {
	major := least >> 16
	if least&0xFFFF != 0 {
		major++
	}
	return fmt.Sprintf("macosx_%d_0_arm64", major)
}
