package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// wheel returns the name and the content of a wheel (PyPA's "binary distribution format" 1.0): the
// Python package, and the program among the scripts, which installers put beside Python.
func (r *release) wheel(b *binary, notices []byte) (name string, content []byte, err error) {
	version, err := pythonVersion(r.version)
	if err != nil {
		return "", nil, err
	}
	base := "metalcast-" + version
	files, err := readTree(filepath.Join(r.root, "python", "metalcast"), "metalcast")
	if err != nil {
		return "", nil, err
	}
	files = slices.DeleteFunc(files, func(f file) bool { return strings.Contains(f.name, "__pycache__/") })
	metadata, err := r.metadata(version)
	if err != nil {
		return "", nil, err
	}
	texts, err := r.documents(notices)
	if err != nil {
		return "", nil, err
	}
	info := base + ".dist-info"
	for _, t := range texts {
		files = append(files, file{path.Join(info, "licenses", t.name), t.content, plainFile})
	}
	files = append(files,
		file{base + ".data/scripts/metalcast", b.content, executable},
		file{info + "/METADATA", metadata, plainFile},
		file{info + "/WHEEL", wheelFile(b.tag), plainFile})
	slices.SortFunc(files, byName)
	record, err := recordOf(files, info+"/RECORD")
	if err != nil {
		return "", nil, err
	}
	content, err = r.zipped(append(files, record)) // RECORD last, as the format recommends
	return fmt.Sprintf("%s-py3-none-%s.whl", base, b.tag), content, err
}

// wheelFile returns WHEEL, in which a tag that stands for several has one line for each.
func wheelFile(tag string) []byte {
	var b bytes.Buffer
	b.WriteString("Wheel-Version: 1.0\nGenerator: metalcast-packaging\nRoot-Is-Purelib: false\n")
	for t := range strings.SplitSeq(tag, ".") {
		fmt.Fprintf(&b, "Tag: py3-none-%s\n", t)
	}
	return b.Bytes()
}

// recordOf returns RECORD: every file's SHA-256 and size, except its own.
func recordOf(files []file, name string) (file, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	for _, f := range files {
		sum := sha256.Sum256(f.content)
		if err := w.Write([]string{f.name, "sha256=" + base64.RawURLEncoding.EncodeToString(sum[:]), fmt.Sprint(len(f.content))}); err != nil {
			return file{}, err
		}
	}
	if err := w.Write([]string{name, "", ""}); err != nil {
		return file{}, err
	}
	w.Flush()
	return file{name, b.Bytes(), plainFile}, w.Error()
}

func (r *release) zipped(files []file) ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: r.time}
		h.SetMode(f.mode)
		w, err := z.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return out.Bytes(), err
}

const repository = "https://github.com/metalcast/metalcast"

// metadata returns METADATA, Metadata-Version 2.4 (with PEP 639's licences), with the README as the
// description.
func (r *release) metadata(version string) ([]byte, error) {
	readme, err := os.ReadFile(filepath.Join(r.root, "README.md"))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, line := range [][2]string{
		{"Metadata-Version", "2.4"},
		{"Name", "metalcast"},
		{"Version", version},
		{"Summary", "Converts FP8 checkpoints into ones that Apple-silicon runtimes load, exactly, in one streaming pass"},
		{"License-Expression", "MIT"},
		{"License-File", "LICENSE"},
		{"License-File", noticesName},
		{"Keywords", "mlx,fp8,safetensors,quantization,apple-silicon,checkpoint"},
		{"Classifier", "Development Status :: 4 - Beta"},
		{"Classifier", "Environment :: Console"},
		{"Classifier", "Intended Audience :: Developers"},
		{"Classifier", "Intended Audience :: Science/Research"},
		{"Classifier", "Operating System :: MacOS"},
		{"Classifier", "Operating System :: POSIX :: Linux"},
		{"Classifier", "Programming Language :: Go"},
		{"Classifier", "Programming Language :: Python :: 3"},
		{"Classifier", "Programming Language :: Python :: 3 :: Only"},
		{"Classifier", "Topic :: Scientific/Engineering :: Artificial Intelligence"},
		{"Classifier", "Typing :: Typed"},
		{"Requires-Python", ">=3.9"},
		{"Project-URL", "Source, " + repository},
		{"Project-URL", "Issues, " + repository + "/issues"},
		{"Project-URL", "Changelog, " + repository + "/blob/main/CHANGELOG.md"},
		{"Description-Content-Type", "text/markdown; charset=UTF-8; variant=GFM"},
	} {
		fmt.Fprintf(&b, "%s: %s\n", line[0], line[1])
	}
	b.WriteString("\n")
	b.WriteString(absoluteLinks(string(readme), repository+"/blob/v"+r.version+"/"))
	return b.Bytes(), nil
}

// absoluteLinks makes a page's links to other files of the repository absolute, for sites that show
// only the page.
func absoluteLinks(page, base string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(page, "](")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("](")
		if !strings.Contains(rest[:strings.IndexByte(rest+")", ')')], ":") && !strings.HasPrefix(rest, "#") {
			b.WriteString(base)
		}
		page = rest
	}
}
