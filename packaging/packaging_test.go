package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/needtest"
)

func TestVersions(t *testing.T) {
	for version, want := range map[string]string{
		"0.1.0": "0.1.0", "10.20.30": "10.20.30", "0.1.0-rc.1": "0.1.0rc1", "0.1.0rc1": "0.1.0rc1", "0.1.0-rc.12": "0.1.0rc12",
		"": "", "0.1": "", "v0.1.0": "", "0.1.0-rc": "", "0.1.0-rc1": "", "0.1.0rc.1": "", "0.1.0-rc.0": "", "0.01.0": "", "0.1.0-beta.1": "", "0.1.0+dirty": "", "0.1.0\n": "",
	} {
		got, err := pythonVersion(version)
		assert.Equal(t, want, got, "%q", version)
		assert.Equal(t, want == "", err != nil, "%q: %v", version, err)
	}
	require.ErrorContains(t, checkVersion("99.0.0"), `version "99.0.0": the constant Version in metalcast.go, which outputs record, is`)
}

// program builds an empty program for a system.
func program(t *testing.T, goos, goarch string, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	source, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644))
	c := exec.Command("go", slices.Concat([]string{"build", "-trimpath", "-o", out}, flags, []string{source})...)
	c.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0", "GOFLAGS=")
	text, err := c.CombinedOutput()
	require.NoError(t, err, "%s", text)
	content, err := os.ReadFile(out)
	require.NoError(t, err)
	return content
}

// The tag follows from the program, and a program that cannot run where its tag promises has none.
func TestTags(t *testing.T) {
	linux, mac := program(t, "linux", "amd64"), program(t, "darwin", "arm64")
	for _, test := range []struct {
		content []byte
		on, tag string
	}{
		{linux, "linux/amd64", "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64"},
		{program(t, "linux", "arm64"), "linux/arm64", "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64"},
		{mac, "darwin/arm64", "macosx_12_0_arm64"}, // the oldest that Go 1.26 targets
	} {
		b, err := newBinary(test.content)
		require.NoError(t, err, test.on)
		assert.Equal(t, []string{test.on, test.tag}, []string{b.os + "/" + b.arch, b.tag})
	}
	changed := func(content []byte, at int, to byte) []byte {
		c := bytes.Clone(content)
		c[at] = to
		return c
	}
	// offsets in a 64-bit ELF file; the last in a Mach-O file
	const firstProgramHeader, machine, cpu = 64, 18, 4
	for problem, content := range map[string][]byte{
		"is linked to libraries of the system":             changed(linux, firstProgramHeader, byte(elf.PT_INTERP)),
		"is linked to libraries of the system, a":          changed(linux, firstProgramHeader, byte(elf.PT_DYNAMIC)),
		"a program for EM_RISCV, x86_64 or aarch64 was":    changed(linux, machine, byte(elf.EM_RISCV)),
		"a program for CpuAmd64, arm64 was expected":       changed(mac, cpu, 7),
		"LC_UUID false, a signature true":                  program(t, "darwin", "arm64", "-ldflags=-B=none"),
		"a program for plan9/amd64, linux or darwin was e": bytes.Replace(linux, []byte("GOOS=linux\n"), []byte("GOOS=plan9\n"), -1),
	} {
		_, err := newBinary(content)
		require.ErrorContains(t, err, problem, problem)
	}
	for least, tag := range map[uint32]string{11 << 16: "macosx_11_0_arm64", 12 << 16: "macosx_12_0_arm64", 12<<16 | 3<<8: "macosx_13_0_arm64", 12<<16 | 1: "macosx_13_0_arm64", 26 << 16: "macosx_26_0_arm64"} {
		assert.Equal(t, tag, macPlatform(least))
	}
}

func testRelease() *release {
	return &release{"..", "1.2.3-rc.4", time.Date(2026, 5, 6, 7, 8, 10, 0, time.UTC)}
}

var testBinary = &binary{content: []byte("the program"), os: "linux", arch: "amd64", tag: "manylinux_2_17_x86_64.musllinux_1_1_x86_64"}

func TestArchive(t *testing.T) {
	pages := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(pages, "man", "man1"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(pages, "man", "man1", "metalcast.1"), []byte("page"), 0o600))
	name, content, err := testRelease().archive(testBinary, []byte("notices"), pages)
	require.NoError(t, err)
	assert.Equal(t, "metalcast-1.2.3-rc.4-linux-amd64.tar.gz", name)

	z, err := gzip.NewReader(bytes.NewReader(content))
	require.NoError(t, err)
	assert.True(t, z.ModTime.IsZero() && z.Name == "", "nothing of the machine in the stream's head")
	var names []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		inside, found := strings.CutPrefix(h.Name, "metalcast-1.2.3-rc.4-linux-amd64/")
		assert.True(t, found, h.Name)
		names = append(names, inside)
		mode := int64(0o644)
		if inside == "metalcast" {
			mode = 0o755
		}
		assert.Equal(t, mode, h.Mode, inside)
		assert.Equal(t, []any{0, 0, "", ""}, []any{h.Uid, h.Gid, h.Uname, h.Gname})
		assert.True(t, h.ModTime.Equal(testRelease().time), "%v", h.ModTime)
	}
	assert.Equal(t, []string{"LICENSE", "README.md", "THIRD-PARTY-LICENSES.txt", "man/man1/metalcast.1", "metalcast"}, names)

	require.NoError(t, os.Symlink("metalcast.1", filepath.Join(pages, "man", "man1", "other.1")))
	_, _, err = testRelease().archive(testBinary, nil, pages)
	require.ErrorContains(t, err, "other.1: neither a file nor a directory")
}

// readWheel has Python read a wheel: the archive is sound, RECORD is complete and correct, times,
// modes and order are as required.
const readWheel = `
import base64, csv, email, hashlib, io, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
assert wheel.testzip() is None
names = wheel.namelist()
assert names[-1].endswith("/RECORD") and names[:-1] == sorted(names[:-1]), names
record = {name: (sum, size) for name, sum, size in csv.reader(io.StringIO(wheel.read(names[-1]).decode()))}
assert sorted(record) == sorted(names), set(record) ^ set(names)
for entry in wheel.infolist():
    assert entry.date_time == (2026, 5, 6, 7, 8, 10), entry
    assert entry.create_system == 3 and entry.external_attr >> 16 == (0o100755 if "/scripts/" in entry.filename else 0o100644), entry
    sum, size = record[entry.filename]
    if entry.filename != names[-1]:
        content = wheel.read(entry)
        assert sum == "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("="), entry
        assert int(size) == len(content), entry
info = "metalcast-1.2.3rc4.dist-info/"
assert wheel.read("metalcast-1.2.3rc4.data/scripts/metalcast") == b"the program"
head = email.message_from_bytes(wheel.read(info + "METADATA"))
assert (head["Name"], head["Version"], head["Requires-Python"], head["License-Expression"]) == ("metalcast", "1.2.3rc4", ">=3.9", "MIT"), head.items()
assert all(info + "licenses/" + name in names for name in head.get_all("License-File"))
assert len(head.get_all("Project-URL")) == 3 and head.get_payload().startswith("# metalcast\n")
assert email.message_from_bytes(wheel.read(info + "WHEEL")).get_all("Tag") == ["py3-none-manylinux_2_17_x86_64", "py3-none-musllinux_1_1_x86_64"]
print("\n".join(names))
`

func TestWheel(t *testing.T) {
	name, content, err := testRelease().wheel(testBinary, []byte("notices"))
	require.NoError(t, err)
	assert.Equal(t, "metalcast-1.2.3rc4-py3-none-manylinux_2_17_x86_64.musllinux_1_1_x86_64.whl", name)
	python, err := exec.LookPath("python3")
	if err != nil {
		needtest.Skip(t, "system", "no python3")
	}
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	out, err := exec.Command(python, "-c", readWheel, path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	names := strings.Fields(string(out))
	for _, want := range []string{"metalcast/__init__.py", "metalcast/__main__.py", "metalcast/py.typed"} {
		assert.Contains(t, names, want)
	}
	assert.NotContains(t, string(out), "__pycache__")
	assert.NotContains(t, string(out), "tests")
}

// The Python package stays small enough to be read in a minute.
func TestPythonPackageIsSmall(t *testing.T) {
	files, err := readTree(filepath.Join("..", "python", "metalcast"), "")
	require.NoError(t, err)
	lines := 0
	for _, f := range files {
		if strings.HasSuffix(f.name, ".py") {
			lines += bytes.Count(f.content, []byte("\n"))
		}
	}
	assert.LessOrEqual(t, lines, 200)
}

func TestLinksOfThePage(t *testing.T) {
	const base = "https://example.org/blob/v1/"
	for in, want := range map[string]string{
		"none": "none", "[a](docs/a.md) and [b](#part) ([c](https://c.org))": "[a](" + base + "docs/a.md) and [b](#part) ([c](https://c.org))",
		"![p](docs/p.svg)": "![p](" + base + "docs/p.svg)", "x](": "x](" + base, "[m](mailto:a@b)": "[m](mailto:a@b)", "[L](LICENSE)": "[L](" + base + "LICENSE)",
	} {
		assert.Equal(t, want, absoluteLinks(in, base))
	}
}

// Everything linked in has its licence in the notices: here, what this test itself was built from.
func TestNotices(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	content, err := os.ReadFile(self)
	require.NoError(t, err)
	b := &binary{content: content}
	b.info, err = buildInfo(content)
	require.NoError(t, err)
	require.NotEmpty(t, b.info.Deps)
	text, err := notices(b)
	require.NoError(t, err)
	for _, d := range b.info.Deps {
		assert.Contains(t, string(text), "==== "+d.Path+" "+d.Version+": ")
	}
	assert.Contains(t, string(text), "==== Go go1.")
	assert.Contains(t, string(text), "Copyright 2009 The Go Authors.")
	require.ErrorContains(t, appendLicences(&bytes.Buffer{}, "x v1", t.TempDir()), "x v1: no file with a licence in ")
}

func TestSums(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b"), []byte("abc"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "form-only"), 0o700))
	for range 2 { // the second time checksums.txt is there
		require.NoError(t, writeSums(dir))
	}
	text, err := os.ReadFile(filepath.Join(dir, "checksums.txt"))
	require.NoError(t, err)
	assert.Equal(t, `e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a
ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b
`, string(text)) // FIPS 180-2's example, and the empty one
}
