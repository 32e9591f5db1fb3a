package main

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// word is a text that is replaced wherever it occurs.
type word struct {
	text, by string
	path     bool // must end where a path component ends
	whole    bool // must not touch letters or digits
}

// private replaces everything that identifies the user: names, places, machines.
type private []word

// vocabulary has words that occur in every report: a user with such a name is only replaced in
// paths.
var vocabulary = strings.Fields(`metal metalcast cpu gpu apple intel mac macos darwin linux arm64 go golang test tests parity bench demo doctor kernel disk conversion
	convert copy loop read write memcpy dequant quantize cast affine transposed worker workers thread threads scalar vector neon purego device paravirtual virtual equal verified`)

// leastWord is the minimum length of a name that is searched for inside other words too.
// leastSecret is the minimum length of what the environment calls a key or a token; "1" is not one.
const (
	leastWord   = 4
	leastSecret = 8
)

// patterns match what has a recognisable form: anyone's homes, volumes and temporary directories,
// addresses, serial numbers, tokens.
var patterns = []struct {
	form *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`(/Users|/home)/[^/\s"':,;)<>]+`), "$1/<user>"},
	{regexp.MustCompile(`/Volumes/[^/\s"':,;)<>]+`), "/Volumes/<volume>"},
	{regexp.MustCompile(`(/private)?/var/folders/[^/\s]+/[^/\s"':,;)]+(/T\b)?`), "<tmp>"},
	{regexp.MustCompile(`[\w.+-]+@[\w-]+(\.[\w-]+)*\.[A-Za-z]{2,}\b`), "<address>"},
	{regexp.MustCompile(`\b[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b`), "<uuid>"},
	{regexp.MustCompile(`\b[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}\b`), "<address>"},
	{regexp.MustCompile(`\b(hf|ghp|gho|github_pat)_\w{20,}`), "<token>"},
}

// identity is what a machine reveals about its user and itself.
type identity struct {
	homes, users, hosts, serials []string
	places                       []word // other directories
}

// identify collects the identity from the system, which is goos, and the environment.
func identify(dir, goos string) identity {
	var id identity
	if home, err := os.UserHomeDir(); err == nil {
		id.homes = append(id.homes, home)
	}
	id.users = []string{os.Getenv("USER"), os.Getenv("LOGNAME"), os.Getenv("SUDO_USER")}
	if u, err := user.Current(); err == nil {
		id.homes = append(id.homes, u.HomeDir)
		id.users = append(id.users, u.Username, u.Name)
		id.users = append(id.users, strings.Fields(u.Name)...)
	}
	if host, err := os.Hostname(); err == nil {
		id.hosts = append(id.hosts, host)
	}
	id.hosts = append(id.hosts, os.Getenv("HOSTNAME"))
	if goos == "darwin" {
		for _, what := range []string{"ComputerName", "LocalHostName", "HostName"} {
			id.hosts = append(id.hosts, said("scutil", "--get", what))
		}
		for _, m := range regexp.MustCompile(`"IOPlatform(?:SerialNumber|UUID)" = "(.+)"`).FindAllStringSubmatch(said("ioreg", "-rd1", "-c", "IOPlatformExpertDevice"), -1) {
			id.serials = append(id.serials, m[1])
		}
		volumes, _ := filepath.Glob("/Volumes/*")
		for _, v := range volumes {
			id.places = append(id.places, word{text: v, by: "/Volumes/<volume>"})
		}
	}
	id.places = append(id.places, word{text: dir, by: "<metalcast>"}, word{text: os.TempDir(), by: "<tmp>"})
	for _, set := range os.Environ() {
		name, value, _ := strings.Cut(set, "=")
		switch {
		case filepath.IsAbs(value) && !strings.Contains(value, string(os.PathListSeparator)) && name != "SHELL" && name != "_":
			id.places = append(id.places, word{text: value, by: "<$" + name + ">"})
		case strings.Contains(name, "TOKEN"), strings.Contains(name, "SECRET"), strings.Contains(name, "PASSWORD"), strings.HasSuffix(name, "KEY"):
			id.serials = append(id.serials, value)
		}
	}
	return id
}

// said returns what a program prints, or "".
func said(name string, args ...string) string {
	out, _ := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(out))
}

// private returns the words that replace an identity. Texts in keep stay, even if a part of them is
// a name: "Apple M4 Max" is not a user.
func (id identity) private(keep ...string) private {
	var p private
	for _, text := range keep {
		p = append(p, word{text: text, by: text, whole: true})
	}
	var places []word
	for _, home := range id.homes {
		places = append(places, word{text: home, by: "~"})
	}
	for _, w := range append(places, id.places...) {
		w.path = true
		w.text = strings.TrimRight(w.text, string(filepath.Separator))
		p = append(p, w)
		if real, err := filepath.EvalSymlinks(w.text); err == nil {
			p = append(p, word{text: real, by: w.by, path: true})
		}
		p = append(p, word{text: "/private" + w.text, by: w.by, path: true})
	}
	for _, host := range id.hosts {
		short, _, _ := strings.Cut(host, ".")
		p = append(p, name(host, "<host>"), name(short, "<host>"))
	}
	for _, user := range id.users {
		p = append(p, name(user, "<user>"))
	}
	for _, s := range id.serials {
		if len(s) >= leastSecret {
			p = append(p, word{text: s, by: "<secret>"})
		}
	}
	for _, w := range slices.Clone(p) {
		for _, form := range forms(w.text) {
			w.text = form
			p = append(p, w)
		}
	}
	p = slices.DeleteFunc(p, func(w word) bool {
		return utf8.RuneCountInString(w.text) < 2 || w.path && strings.Count(w.text, "/") == 0
	})
	// the longest wins; among equals, the one to keep
	slices.SortStableFunc(p, func(a, b word) int { return len(b.text) - len(a.text) })
	return p
}

// forms returns the other ways to write a text: composed and decomposed, as macOS's file systems
// may return it, and as Go, a URL and a shell escape it.
func forms(text string) []string {
	list := []string{norm.NFC.String(text), norm.NFD.String(text), strings.Trim(strconv.QuoteToASCII(text), `"`), (&url.URL{Path: text}).EscapedPath(), strings.ReplaceAll(text, " ", `\ `)}
	return slices.DeleteFunc(list, func(form string) bool { return form == text })
}

// name adds the name of a user or host. It is replaced inside longer words too, unless it is short
// or in the vocabulary, which would make the report unreadable.
func name(text, by string) word {
	w := word{text: text, by: by, whole: utf8.RuneCountInString(text) < leastWord}
	for _, v := range vocabulary {
		if strings.EqualFold(v, text) {
			return word{}
		}
		w.whole = w.whole || strings.Contains(v, strings.ToLower(text))
	}
	return w
}

// text replaces everything private in s.
func (p private) text(s string) string {
	var b strings.Builder
	for at := 0; at < len(s); {
		w, found := p.at(s, at)
		if !found {
			_, size := utf8.DecodeRuneInString(s[at:])
			b.WriteString(s[at : at+size])
			at += size
			continue
		}
		b.WriteString(w.by)
		at += len(w.text)
	}
	s = b.String()
	for _, f := range patterns {
		s = f.form.ReplaceAllString(s, f.by)
	}
	return s
}

// at returns the word that occurs at s[at:], regardless of case.
func (p private) at(s string, at int) (word, bool) {
	for _, w := range p {
		end := at + len(w.text)
		if end > len(s) || !strings.EqualFold(s[at:end], w.text) {
			continue
		}
		before, _ := utf8.DecodeLastRuneInString(s[:at])
		after, _ := utf8.DecodeRuneInString(s[end:])
		switch {
		case w.whole && (at > 0 && alphanumeric(before) || end < len(s) && alphanumeric(after)):
		case w.path && end < len(s) && (alphanumeric(after) || after == '-' || after == '_'):
		default:
			return w, true
		}
	}
	return word{}, false
}

func alphanumeric(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"(\s*:)?`)

// document replaces everything private in the values of a JSON document; its keys are metalcast's
// own.
func (p private) document(d json.RawMessage) json.RawMessage {
	return quoted.ReplaceAllFunc(d, func(literal []byte) []byte {
		var s string
		if bytes.HasSuffix(literal, []byte(":")) || json.Unmarshal(literal, &s) != nil {
			return literal
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if e.Encode(p.text(s)) != nil {
			return []byte(`"<private>"`)
		}
		return bytes.TrimRight(b.Bytes(), "\n")
	})
}

// report replaces everything private in a report.
func (p private) report(r report) report {
	r.Commit = p.text(r.Commit)
	r.Parts = slices.Clone(r.Parts)
	for i := range r.Parts {
		part := &r.Parts[i]
		part.Summary, part.Output = p.text(part.Summary), p.text(part.Output)
		part.Documents = slices.Clone(part.Documents)
		for j, d := range part.Documents {
			part.Documents[j] = p.document(d)
		}
	}
	return r
}
