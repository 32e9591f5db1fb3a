package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"al.essio.dev/pkg/shellescape"
)

// command returns a command line that a person can paste into bash, zsh or ksh. Every command that
// is printed comes from here.
func command(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return strings.Join(quoted, " ")
}

// shellWord quotes s if a shell would not take it literally. What a terminal would not show as it
// is becomes $'...' with octal escapes, because '...' would have to contain it raw.
func shellWord(s string) string {
	if plain(s) == s {
		return shellescape.Quote(s)
	}
	var b strings.Builder
	b.WriteString("$'")
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch part := s[:n]; {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\'' || r == '\\':
			b.WriteString(`\` + part)
		case shown(r, n):
			b.WriteString(part)
		default:
			for i := range n {
				fmt.Fprintf(&b, `\%03o`, part[i])
			}
		}
		s = s[n:]
	}
	return b.String() + "'"
}

// path returns p as an argument that is never taken for a flag, nor for zsh's "=command".
func path(p string) string {
	if strings.HasPrefix(p, "-") || strings.HasPrefix(p, "=") {
		return "./" + p
	}
	return p
}

// plain returns s for a terminal: control characters, invisible ones that reorder or hide text, and
// bytes that are not UTF-8 are written like Go escapes, because names come from checkpoints that
// anyone may have made.
func plain(s string) string {
	var b strings.Builder
	for i, n := 0, 0; i < len(s); i += n {
		var r rune
		switch r, n = utf8.DecodeRuneInString(s[i:]); {
		case shown(r, n):
			b.WriteString(s[i : i+n])
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			q := fmt.Sprintf("%+q", r) // '\n', '\x1b', '\u202e'
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// shown reports whether a terminal shows r, n bytes long, as itself.
func shown(r rune, n int) bool { return unicode.IsGraphic(r) && (r != utf8.RuneError || n > 1) }
