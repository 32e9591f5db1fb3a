// Command packaging turns built programs into what users install: archives, and wheels for Python's
// package index. ./build.sh release and ./build.sh wheel run it.
//
//	go run ./packaging version VERSION
//	go run ./packaging archive -out DIR -pages DIR BINARY...
//	go run ./packaging wheel -out DIR BINARY...
//	go run ./packaging sbom -out DIR FILE
//	go run ./packaging sums DIR
//
// It runs in the root of the repository. It reads from a binary which system it is for, and the
// oldest version of it. Every timestamp is SOURCE_DATE_EPOCH, and nothing else about the machine or
// the directory affects the output.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/metalcast/metalcast"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("version, archive, wheel, sbom or sums was expected")
	}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	out := f.String("out", ".", "the directory to write to")
	pages := f.String("pages", "", "the directory with man pages and completions")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "version":
		return checkVersion(f.Arg(0))
	case "sums":
		return writeSums(f.Arg(0))
	case "archive", "wheel", "sbom":
		r, err := readRelease(".")
		if err != nil {
			return err
		}
		if args[0] == "sbom" {
			return r.writeSBOM(*out, f.Arg(0))
		}
		for _, path := range f.Args() {
			if err := r.pack(args[0], *out, *pages, path); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		return nil
	}
	return fmt.Errorf("%q is neither version, archive, wheel, sbom nor sums", args[0])
}

// release is what all packages of a version share.
type release struct {
	root    string // the repository's root
	version string // semantic: 0.1.0-rc.1
	time    time.Time
}

func readRelease(root string) (*release, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("SOURCE_DATE_EPOCH is %q, seconds since 1970 were expected", text)
	}
	return &release{root, metalcast.Version, time.Unix(seconds, 0).UTC()}, nil
}

// pack writes one package and prints its path.
func (r *release) pack(kind, out, pages, path string) error {
	b, err := readBinary(path)
	if err != nil {
		return err
	}
	notices, err := notices(b)
	if err != nil {
		return err
	}
	var name string
	var content []byte
	if kind == "wheel" {
		name, content, err = r.wheel(b, notices)
	} else {
		name, content, err = r.archive(b, notices, pages)
	}
	if err != nil {
		return err
	}
	name = filepath.Join(out, name)
	if err := os.WriteFile(name, content, 0o644); err != nil {
		return err
	}
	fmt.Println(name)
	return nil
}
