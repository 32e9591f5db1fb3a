package checkpoint

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metalcast/metalcast/internal/fault"
)

// config.json and generation_config.json are read as Python's json module reads them, because the
// tools that write and read them are Python's and go beyond the standard: NaN, Infinity and
// -Infinity are numbers, of a key that occurs twice the last value counts, and half a surrogate
// pair may be escaped
// (https://docs.python.org/3/library/json.html#standard-compliance-and-interoperability). Nothing
// else is read that way.

// parsePython checks that text is one JSON object. It returns the text without values that a later
// one with the same key replaces, and a note for every key whose values differ.
func parsePython(text []byte) (once []byte, notes []string, err error) {
	if bytes.HasPrefix(text, []byte("\xEF\xBB\xBF")) {
		return nil, nil, fault.Corrupt("", "begins with a byte order mark").WithHint("save it as UTF-8 without one")
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil, fault.Corrupt("", "empty, a JSON object was expected")
	}
	// Of the same length, so that errors name the right places.
	standard := eachLiteral(text, func(literal string) string {
		return strings.Map(func(r rune) rune {
			if r == '-' {
				return r
			}
			return '1'
		}, literal)
	})
	d := jsontext.NewDecoder(bytes.NewReader(standard), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(utf8.Valid(text)))
	r := repeats{text: text, d: d}
	kind := d.PeekKind()
	if err := r.value(nil); err != nil {
		return nil, nil, notJSON("not valid JSON", err)
	}
	if kind != '{' {
		return nil, nil, fault.Corrupt("", "not a JSON object")
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, nil, fault.Corrupt("", "text follows the JSON object at byte %d", d.InputOffset())
	}
	return r.without(), r.notes(), nil
}

// eachLiteral replaces the numbers that standard JSON does not have, NaN, Infinity and -Infinity,
// where a value may occur.
func eachLiteral(text []byte, replace func(literal string) string) []byte {
	var out []byte
	done, before := 0, byte('[') // before is the last byte that is not a space
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n':
			continue
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			before = '"'
		case 'N', 'I', '-':
			if n := literalAt(text[i:]); n > 0 && strings.IndexByte("[:,", before) >= 0 {
				out = append(append(out, text[done:i]...), replace(string(text[i:i+n]))...)
				i += n - 1
				done = i + 1
			}
			before = c
		default:
			before = c
		}
	}
	if done == 0 {
		return text
	}
	return append(out, text[done:]...)
}

// literalAt returns the length of a literal that text begins with, or 0.
func literalAt(text []byte) int {
	for _, literal := range []string{"NaN", "Infinity", "-Infinity"} {
		if rest, ok := bytes.CutPrefix(text, []byte(literal)); ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n,]}", rest[0]) >= 0) {
			return len(literal)
		}
	}
	return 0
}

// Standard returns text, as a Config holds it, in standard JSON: its literals become numbers with a
// spelling that does not occur otherwise, which restore turns back.
func Standard(text []byte) (standard []byte, restore func([]byte) []byte) {
	stands := map[string]string{} // for a literal
	zeros := strings.Repeat("0", longestDigits(text)+1)
	standard = eachLiteral(text, func(literal string) string {
		stands[literal] = fmt.Sprintf("%d.5e%s", len(literal), zeros) // no two have the same length
		return stands[literal]
	})
	return standard, func(text []byte) []byte {
		for literal, number := range stands {
			text = bytes.ReplaceAll(text, []byte(number), []byte(literal))
		}
		return text
	}
}

// longestDigits returns the length of the longest run of digits.
func longestDigits(text []byte) (most int) {
	run := 0
	for _, b := range text {
		if run++; b < '0' || b > '9' {
			run = 0
		}
		most = max(most, run)
	}
	return most
}

// repeats finds the members of objects that a later one with the same key replaces.
type repeats struct {
	text   []byte
	d      *jsontext.Decoder
	spans  [][2]int64 // ranges of text, each from a key to the next key
	differ []string   // notes about those whose value differs
	more   int        // more of them than are listed
}

// member is where an object's member lies in the text.
type member struct {
	name              string
	key, value, until int64
}

const (
	mostRepeats = 10   // that notes list one by one
	mostDigits  = 4300 // sys.int_info.default_max_str_digits
)

// value reads one value; path is the keys that lead to it.
func (r *repeats) value(path []string) error {
	switch r.d.PeekKind() {
	case '{':
		return r.object(path)
	case '[':
		if _, err := r.d.ReadToken(); err != nil {
			return err
		}
		for i := 0; r.d.PeekKind() != ']'; i++ {
			if err := r.value(append(path, strconv.Itoa(i))); err != nil {
				return err
			}
		}
		_, err := r.d.ReadToken()
		return err
	}
	v, err := r.d.ReadValue()
	if err == nil && len(v) > mostDigits && v.Kind() == '0' && !bytes.ContainsAny(v, ".eE") {
		return fault.Corrupt("", "a whole number of %d digits, Python reads %d at most", len(bytes.TrimLeft(v, "-")), mostDigits)
	}
	return err
}

func (r *repeats) object(path []string) error {
	if _, err := r.d.ReadToken(); err != nil {
		return err
	}
	var members []member
	last := map[string]int{}
	for r.d.PeekKind() != '}' {
		key, err := r.d.ReadValue()
		if err != nil {
			return err
		}
		end := r.d.InputOffset()
		m := member{keyName(key), end - int64(len(key)), end, 0}
		if err := r.value(append(path, m.name)); err != nil {
			return err
		}
		m.until = r.d.InputOffset()
		last[m.name] = len(members)
		members = append(members, m)
	}
	if _, err := r.d.ReadToken(); err != nil || len(last) == len(members) {
		return err
	}
	said := map[string]bool{}
	for i, m := range members {
		n := members[last[m.name]]
		if n.key == m.key {
			continue
		}
		r.spans = append(r.spans, [2]int64{m.key, members[i+1].key})
		if was, is := r.spelt(m), r.spelt(n); !bytes.Equal(was, is) && !said[m.name] {
			said[m.name] = true
			r.say(append(path, m.name), was, is)
		}
	}
	return nil
}

// keyName returns a key without its escapes. One that is not Unicode stays as it is spelled,
// because the decoder maps all halves of pairs to one character.
func keyName(key jsontext.Value) string {
	name, err := jsontext.AppendUnquote(nil, key)
	if err != nil || bytes.ContainsRune(name, unicode.ReplacementChar) {
		return string(key)
	}
	return string(name)
}

// spelt returns a member's value without the spaces before it, for comparison and for messages.
func (r *repeats) spelt(m member) []byte {
	return bytes.TrimLeft(r.text[m.value:m.until], ": \t\r\n")
}

func (r *repeats) say(path []string, was, is []byte) {
	if len(r.differ) == mostRepeats {
		r.more++
		return
	}
	key := strings.Join(path, ".")
	if len(key) > 200 {
		key = strings.ToValidUTF8(key[:200], "") + "..."
	}
	values := ""
	if len(was)+len(is) < 100 && !bytes.ContainsFunc(append(was[:len(was):len(was)], is...), func(c rune) bool { return !unicode.IsPrint(c) }) {
		values = fmt.Sprintf(", as %s and as %s", was, is)
	}
	r.differ = append(r.differ, fmt.Sprintf("has %q more than once%s; the last one counts", key, values))
}

// without returns the text except for what is replaced.
func (r *repeats) without() []byte {
	if len(r.spans) == 0 {
		return r.text
	}
	slices.SortFunc(r.spans, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	var out []byte
	done := int64(0)
	for _, s := range r.spans {
		if s[0] >= done { // otherwise it lies in one that is gone already
			out = append(out, r.text[done:s[0]]...)
			done = s[1]
		}
	}
	return append(out, r.text[done:]...)
}

func (r *repeats) notes() []string {
	if r.more > 0 {
		return append(r.differ, fmt.Sprintf("has %d keys more of which the values differ; the last one counts", r.more))
	}
	return r.differ
}
