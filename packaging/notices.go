package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// noticesName is the file with the licences of everything linked in; most require that their text
// is distributed too.
const noticesName = "THIRD-PARTY-LICENSES.txt"

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|copyright|patents)([.\-_].*)?$`)

// notices returns the licences of the modules that a program was built from, and of Go, whose
// runtime it contains.
func notices(b *binary) ([]byte, error) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := appendLicences(&out, "Go "+b.info.GoVersion, string(bytes.TrimSpace(goroot))); err != nil {
		return nil, err
	}
	dirs, err := moduleDirs()
	if err != nil {
		return nil, err
	}
	for _, d := range b.info.Deps {
		at := d
		if d.Replace != nil {
			at = d.Replace
		}
		if err := appendLicences(&out, at.Path+" "+at.Version, dirs[d.Path]); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// moduleDirs returns where the module cache has the modules that the program may be built from.
func moduleDirs() (map[string]string, error) {
	list, err := exec.Command("go", "list", "-m", "-json", "all").Output()
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(list)); ; {
		var m struct{ Path, Dir string }
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return dirs, nil
		} else if err != nil {
			return nil, err
		}
		dirs[m.Path] = m.Dir
	}
}

func appendLicences(out *bytes.Buffer, what, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	found := false
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		found = true
		fmt.Fprintf(out, "==== %s: %s ====\n\n%s\n\n", what, e.Name(), bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))))
	}
	if !found {
		return fmt.Errorf("%s: no file with a licence in %s", what, dir)
	}
	return nil
}
