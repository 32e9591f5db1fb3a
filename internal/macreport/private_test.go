package main

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/temptest"
)

// A user's name, home, machine, directories, serial number and token are in the output of every
// part, and none of them is in the file.
func TestReportHoldsNothingPrivate(t *testing.T) {
	users := map[string]struct{ user, full, host, computer, chip string }{
		"usual":         {"alice", "Alice Liddell", "Alices-MacBook-Pro.local", "Alice’s MacBook Pro", ""},
		"short":         {"al", "Al Bo", "al-mbp", "al-mbp", ""},
		"in the chip":   {"max", "Max Mustermann", "Maxs-Mac.fritz.box", "Maxs Mac", "Apple M4 Max"},
		"a kernel word": {"metal", "Metal Head", "metal", "metal", ""},
		"part of one":   {"kern", "Kern Conv", "kern.example.org", "Kern", ""},
		"not ASCII":     {"jörg", "Jörg Müller", "joergs-mac.local", "Jörgs Mäc", ""},
		"with a dot":    {"jane.doe", "Jane Doe", "corp-0815.corp.example.com", "CORP-0815", ""},
		"with a space":  {"jane doe", "Jane Doe", "host0815", "host 0815", ""},
	}
	for name, u := range users {
		t.Run(name, func(t *testing.T) {
			base := temptest.Dir(t)
			home := filepath.Join(base, "Users", u.user)
			scratch := filepath.Join(base, "folders", "zz", "abc123", "T")
			require.NoError(t, os.MkdirAll(home, 0o755))
			require.NoError(t, os.MkdirAll(scratch, 0o755))
			require.NoError(t, os.Symlink(home, filepath.Join(base, "link")))
			t.Setenv("HOME", filepath.Join(base, "link"))
			t.Setenv("USER", u.user)
			t.Setenv("LOGNAME", u.user)
			t.Setenv("HF_HOME", filepath.Join(base, "Secret Project", "hf"))
			t.Setenv("HF_TOKEN", "plantedtoken1234")
			t.Setenv("CHIP", u.chip)
			t.Setenv("SAID", strings.Join([]string{
				home + "/models/x.safetensors: no such file", "link " + base + "/link/x", "~" + u.user + "/x", "by " + u.user + ", on " + u.host, u.full,
				"/Users/" + u.user + "/a", "/home/" + u.user + "/a", "/private/var/folders/zz/abc123/T/x", scratch + "/x", "/Volumes/Backup/models", base + "/Secret Project/hf/hub",
				u.computer, "serial C02XK1ABCDEF, 564D1A2B-9C3D-4E5F-8A6B-7C8D9E0F1A2B, 3c:22:fb:01:02:03", "someone@example.com", "hf_abcdefghijklmnopqrstuvwxyz", "plantedtoken1234",
				`{"path":"` + home + `/y"}`,
			}, "\n"))
			t.Setenv("PART_parity", `printf '%s\n' "$SAID"; printf '{\n  "device": "%s",\n  "elements": 1,\n  "differences": 1\n}\n' "$HOME/$USER"; exit 7`)
			t.Setenv("PART_test", `printf '%s\n' "$SAID" >&2; printf '{"Action":"output","Package":"m","Output":"at %s/z\\n"}\n{"Action":"fail","Package":"m"}\n' "$HOME"; exit 1`)
			for _, part := range []string{"demo", "bench"} {
				t.Setenv("PART_"+part, `printf '%s\n' "$SAID" "$PWD/bin/demo"; exit 1`)
			}
			var clone string
			text := collected(t, func(c *collector) {
				clone = c.dir
				t.Setenv("TMPDIR", scratch)
				c.identity = identify(c.dir, runtime.GOOS)
				c.identity.users = append(c.identity.users, append(strings.Fields(u.full), u.full)...)
				c.identity.hosts = append(c.identity.hosts, u.host, u.computer)
				c.identity.serials = append(c.identity.serials, "C02XK1ABCDEF")
			})
			secrets := []string{home, clone, scratch, base + "/link", "/Users/" + u.user, "/home/" + u.user, "Secret Project", "/Volumes/Backup", "abc123", "C02XK1ABCDEF", "564D1A2B", "3c:22",
				"example.com", "hf_abc", "plantedtoken", u.full}
			if chip := u.chip; chip != "" {
				assert.Contains(t, text, chip, "the device is no secret")
				text = strings.ReplaceAll(text, chip, "")
			}
			// every report contains it; it is replaced only where it identifies someone
			if u.user != "metal" {
				secrets = append(secrets, u.host, u.computer)
				assert.NotRegexp(t, `(?i)(^|[^\pL\pN])`+regexp.QuoteMeta(u.user)+`($|[^\pL\pN])`, text)
			}
			for _, secret := range secrets {
				assert.NotContains(t, strings.ToLower(text), strings.ToLower(secret))
			}
			r, err := parse("x", []byte(text))
			require.NoError(t, err)
			assert.Contains(t, r.part("parity").Output, "~/models/x.safetensors: no such file", "what is left says what happened")
			assert.Contains(t, r.part("test").Output, "at ~/z")
		})
	}
}

// Text that identifies nobody stays: names of kernels, versions, modules, devices.
func TestPrivateLeavesTheRest(t *testing.T) {
	p := identity{homes: []string{"/Users/al"}, users: []string{"al", "Al", "metal", "conv", "max"}, hosts: []string{"mac.local"}}.private("Apple M4 Max")
	for _, text := range []string{
		"dequant F8_E4M3 128x128 BF16 -> BF16", "Apple M4 Max", "metal", "github.com/progrium/darwinkit@v0.5.0/macos/metal/x.go:12", "convert, FP8 to bfloat16", "all 256 codes",
		"0123456789abcdef0123456789abcdef01234567", "macOS 26.1, a Mac", "/usr/local/go/src/x.go:1", "19:22:01", "/Users/<user>/x",
	} {
		assert.Equal(t, text, p.text(text))
	}
	assert.Equal(t, "~/x /Users/<user>/x <user> <user>.", p.text("/Users/al/x /Users/alice/x max AL."))
	assert.Equal(t, `{"al": "<user>", "n": 1, "s": "~ <b> \"~\""}`, string(p.document([]byte(`{"al": "al", "n": 1, "s": "/Users/al <b> \"/Users/al\""}`))))
}

// A name is found however it is spelled.
func TestPrivateFindsEveryForm(t *testing.T) {
	p := identity{homes: []string{"/Users/jörg s"}, users: []string{"jörg s"}}.private()
	for _, home := range []string{"/Users/jo\u0308rg s", `"/Users/j\u00f6rg s"`, "file:///Users/j%C3%B6rg%20s", `/Users/jörg\ s`} {
		assert.Contains(t, p.text(home+"/x"), "~")
		assert.NotContains(t, p.text(home+" by jörg s"), "rg")
	}
}

// A machine without a home, a user or a name causes no replacements: neither "" nor "/" is
// replaced.
func TestPrivateOfNobody(t *testing.T) {
	p := identity{homes: []string{"", "/"}, users: []string{"", "x"}, hosts: []string{""}, serials: []string{"", "1"}, places: []word{{text: "/", by: "<root>"}}}.private("", "")
	assert.Equal(t, "/a/x: 1", p.text("/a/x: 1"))
}

// A Mac has more names than other systems, printed by its own programs; their output here is copied
// from their manuals.
func TestIdentifyOfAMac(t *testing.T) {
	bin := temptest.Dir(t)
	for name, script := range map[string]string{
		"scutil": `case $2 in ComputerName) echo "Alice’s Mac" ;; LocalHostName) echo Alices-Mac ;; *) echo "$2: not set" >&2; exit 1 ;; esac`,
		"ioreg": `cat <<'END'
+-o J314sAP  <class IOPlatformExpertDevice, id 0x100000227, registered, matched, active, busy 0 (8 ms), retain 38>
    {
      "IOPlatformUUID" = "564D1A2B-9C3D-4E5F-8A6B-7C8D9E0F1A2B"
      "IOPlatformSerialNumber" = "C02XK1ABCDEF"
      "model" = <"MacBookPro18,3">
    }
END`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/bash\n"+script+"\n"), 0o755))
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	p := identify("/clone", "darwin").private()
	assert.Equal(t, "<host>, <host>, <secret>, <secret>, MacBookPro18,3", p.text("alice’s mac, Alices-Mac, C02XK1ABCDEF, 564d1a2b-9c3d-4e5f-8a6b-7c8d9e0f1a2b, MacBookPro18,3"))
}
