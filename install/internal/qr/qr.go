// Package qr draws QR codes (ISO/IEC 18004) for a terminal and for a page, so
// that a short text can leave a machine by a photograph.
package qr

import (
	"fmt"
	"image/color"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// quiet is the width of the light border that readers need, in modules
// (ISO/IEC 18004, 6.3.8).
const quiet = 4

// Code is the modules of a QR code, dark ones true, border included. It is
// square.
type Code [][]bool

// Encode makes the code of a text, with error correction of level M: a crease
// in the paper does not matter. A text of more than 2,331 bytes is an error.
func Encode(text string) (Code, error) {
	img, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return nil, fmt.Errorf("make QR code of %d bytes: %w", len(text), err)
	}
	n := img.Bounds().Dx()
	c := make(Code, n+2*quiet)
	for y := range c {
		c[y] = make([]bool, n+2*quiet)
		for x := range c[y] {
			if x < quiet || y < quiet || x >= n+quiet || y >= n+quiet {
				continue
			}
			gray, _ := color.GrayModel.Convert(img.At(x-quiet, y-quiet)).(color.Gray)
			c[y][x] = gray.Y < 128
		}
	}
	return c, nil
}

// Text draws the code with half blocks, two rows of modules a line. Colours are
// set, because a code that is light on dark is one that few readers take.
func (c Code) Text() string {
	var b strings.Builder
	for y := 0; y < len(c); y += 2 {
		b.WriteString("\x1b[30;107m") // black on bright white
		for x := range c[y] {
			upper, lower := c[y][x], y+1 < len(c) && c[y+1][x]
			switch {
			case upper && lower:
				b.WriteString("█")
			case upper:
				b.WriteString("▀")
			case lower:
				b.WriteString("▄")
			default:
				b.WriteString(" ")
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String()
}

// Path is the dark modules as the d attribute of an SVG path, one unit a module.
func (c Code) Path() string {
	var b strings.Builder
	for y, row := range c {
		for x := 0; x < len(row); x++ {
			if !row[x] {
				continue
			}
			from := x
			for x < len(row) && row[x] {
				x++
			}
			fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from, y, x-from, x-from)
		}
	}
	return b.String()
}
