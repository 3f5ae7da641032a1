package vendorarchive

import (
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	"github.com/airlock-project/airlock/bundle/artifact"
)

// maxSumLines bounds the lines of a checksums file.
const maxSumLines = 10_000

// FindSum returns the sha256 (64 lower case hex digits) that a SHA256SUMS file,
// as sha256sum writes it, gives for the file with the base name given. Every
// line must be well formed, and exactly one must be of that file.
func FindSum(sums []byte, name string) (string, error) {
	if len(sums) > MaxSums {
		return "", fmt.Errorf("read checksums: more than %d bytes", MaxSums)
	}
	text := strings.TrimSuffix(string(sums), "\n")
	found := ""
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		if n++; n > maxSumLines {
			return "", fmt.Errorf("read checksums: more than %d lines", maxSumLines)
		}
		sum, member, err := parseSum(line)
		if err != nil {
			return "", fmt.Errorf("read checksums: line %d: %w", n, err)
		}
		if path.Base(member) != name {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("read checksums: line %d: %q is listed twice", n, name)
		}
		found = sum
	}
	if found == "" {
		return "", fmt.Errorf("read checksums: %q is not listed", name)
	}
	return found, nil
}

// parseSum reads one line: 64 hex digits, a space, a space or "*", the name.
func parseSum(line string) (sum, name string, err error) {
	if strings.HasSuffix(line, "\r") {
		return "", "", fmt.Errorf("ends in a carriage return: the file was changed after it was signed")
	}
	if len(line) < 67 || line[64] != ' ' || line[65] != ' ' && line[65] != '*' {
		return "", "", fmt.Errorf("%.100q is not <sha256>, two spaces, <name>", line)
	}
	raw, err := hex.DecodeString(line[:64])
	if err != nil {
		return "", "", fmt.Errorf("%q is no sha256", line[:64])
	}
	if _, err := artifact.MemberName(line[66:]); err != nil {
		return "", "", err
	}
	return hex.EncodeToString(raw), line[66:], nil
}
