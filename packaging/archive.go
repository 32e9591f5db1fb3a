package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// file is an entry in a package.
type file struct {
	name    string // with slashes
	content []byte
	mode    fs.FileMode
}

const (
	plainFile  fs.FileMode = 0o644
	executable fs.FileMode = 0o755
)

func byName(a, b file) int { return cmp.Compare(a.name, b.name) }

// readTree reads all files below dir, as entries below name.
func readTree(dir, name string) (list []file, err error) {
	err = filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s: neither a file nor a directory", at)
		}
		content, err := os.ReadFile(at)
		inside, _ := filepath.Rel(dir, at)
		list = append(list, file{path.Join(name, filepath.ToSlash(inside)), content, plainFile})
		return err
	})
	return list, err
}

// documents returns the texts that are part of every package.
func (r *release) documents(notices []byte) ([]file, error) {
	license, err := os.ReadFile(filepath.Join(r.root, "LICENSE"))
	return []file{{"LICENSE", license, plainFile}, {noticesName, notices, plainFile}}, err
}

// archive returns the name and the content of a .tar.gz with the program, its man pages and the
// project's texts.
func (r *release) archive(b *binary, notices []byte, pages string) (name string, content []byte, err error) {
	if pages == "" {
		return "", nil, errors.New("-pages is missing")
	}
	files, err := r.documents(notices)
	if err != nil {
		return "", nil, err
	}
	readme, err := os.ReadFile(filepath.Join(r.root, "README.md"))
	if err != nil {
		return "", nil, err
	}
	read, err := readTree(pages, "")
	if err != nil {
		return "", nil, err
	}
	files = append(append(files, read...), file{"README.md", readme, plainFile}, file{"metalcast", b.content, executable})
	top := fmt.Sprintf("metalcast-%s-%s-%s", r.version, b.os, b.arch)
	for i := range files {
		files[i].name = path.Join(top, files[i].name)
	}
	content, err = r.tarball(files)
	return top + ".tar.gz", content, err
}

func (r *release) tarball(files []file) ([]byte, error) {
	slices.SortFunc(files, byName)
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.content)), Mode: int64(f.mode), ModTime: r.time, Format: tar.FormatUSTAR}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.content); err != nil {
			return nil, err
		}
	}
	err = errors.Join(t.Close(), z.Close())
	return out.Bytes(), err
}

// sumsName is the list of checksums, in the format of sha256sum -c.
const sumsName = "checksums.txt"

func writeSums(dir string) error {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, e := range entries {
		if e.IsDir() || e.Name() == sumsName {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(content), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, sumsName), []byte(b.String()), 0o644)
}
