package main

import (
	"strings"
	"unicode/utf8"

	"github.com/sallyport/sallyport/audit"
)

// printable is a text of one line or more with nothing in it that a terminal
// obeys: errors repeat what machines, servers and hubs said.
func printable(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\t", " "), "\n")
	for i, line := range lines {
		lines[i] = audit.Printable(line)
	}
	return strings.Join(lines, "\n")
}

// shorten cuts a text after so many bytes, and shows that it did.
func shorten(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	for bytes > 0 && !utf8.RuneStart(text[bytes]) {
		bytes--
	}
	return text[:bytes] + "…"
}
