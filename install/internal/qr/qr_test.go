package qr

import (
	"fmt"
	"strings"
	"testing"
)

func TestEncode(t *testing.T) {
	c, err := Encode("airlock ledger brewery cellar 12 " + strings.Repeat("0", 64))
	if err != nil {
		t.Fatal(err)
	}
	for i := range quiet {
		for x := range c {
			if c[i][x] || c[len(c)-1-i][x] || c[x][i] || c[x][len(c)-1-i] {
				t.Fatalf("the border has a dark module at line %d, place %d", i, x)
			}
		}
	}
	// A finder pattern (ISO/IEC 18004, 6.3.3) stands in three of the corners.
	finder := []string{"#######", "#.....#", "#.###.#", "#.###.#", "#.###.#", "#.....#", "#######"}
	far := len(c) - quiet - len(finder)
	for _, at := range [][2]int{{quiet, quiet}, {far, quiet}, {quiet, far}} {
		for y, row := range finder {
			for x, m := range row {
				if c[at[1]+y][at[0]+x] != (m == '#') {
					t.Fatalf("no finder pattern at %v: module %d,%d", at, x, y)
				}
			}
		}
	}
	lines := strings.Split(strings.TrimSuffix(c.Text(), "\n"), "\n")
	if want := (len(c) + 1) / 2; len(lines) != want {
		t.Errorf("%d lines of text for %d rows, want %d", len(lines), len(c), want)
	}
	first := fmt.Sprintf("M%d %dh7v1h-7z", quiet, quiet)
	if !strings.HasPrefix(c.Path(), first) {
		t.Errorf("path starts %.30q, want %q", c.Path(), first)
	}
}

func TestEncodeTooLong(t *testing.T) {
	if _, err := Encode(strings.Repeat("x", 3000)); err == nil {
		t.Error("3,000 bytes fit into a QR code")
	}
}
