package archive

import (
	"bytes"
	"fmt"
	"path"
	"strings"
)

const (
	tarBlock = 512
	// tarTime stands in every header: 1980-01-01 00:00:00 UTC. Headers say
	// nothing that the signature does not cover, so the time is a constant;
	// zero would make GNU tar warn about implausibly old files.
	tarTime = 315532800
	// tarOctalMax is the largest size the octal field holds: 8 GiB - 1.
	tarOctalMax = 1<<33 - 1
)

// tarHeader returns the canonical header of a regular file: POSIX ustar, mode
// 0644, owner 0, fixed time; sizes from 8 GiB up in GNU base-256. It is a pure
// function of name and size, so a reader compares instead of interpreting, and
// links, devices, extended headers and odd encodings cannot occur.
func tarHeader(name string, size int64) [tarBlock]byte {
	var h [tarBlock]byte
	copy(h[0:100], name)
	copy(h[100:108], "0000644\x00")
	copy(h[108:116], "0000000\x00")
	copy(h[116:124], "0000000\x00")
	if size <= tarOctalMax {
		copy(h[124:136], fmt.Sprintf("%011o\x00", size))
	} else {
		h[124] = 0x80
		for i, n := 135, size; i > 124 && n > 0; i, n = i-1, n>>8 {
			h[i] = byte(n)
		}
	}
	copy(h[136:148], fmt.Sprintf("%011o\x00", int64(tarTime)))
	copy(h[148:156], "        ")
	h[156] = '0'
	copy(h[257:265], "ustar\x0000")
	copy(h[329:337], "0000000\x00")
	copy(h[337:345], "0000000\x00")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

// entrySize returns the bytes a file of that size takes in a tar stream.
func entrySize(size int64) int64 {
	return tarBlock + (size+tarBlock-1)/tarBlock*tarBlock
}

// blobName returns a blob's entry name.
func blobName(b Blob) string { return "blobs/sha256/" + b.Digest.Encoded() }

// readHeader interprets a tar header that may come from anyone: it returns the
// name and size if, and only if, the header is the canonical one for them.
func readHeader(h []byte, offset int64) (name string, size int64, err error) {
	if bytes.Equal(h, make([]byte, tarBlock)) {
		return "", 0, &FormatError{Offset: offset, Err: ErrEntryHeader, Detail: "tar end mark before the end"}
	}
	name, _, _ = strings.Cut(string(h[0:100]), "\x00")
	fail := func(class error, detail string) (string, int64, error) {
		return "", 0, &FormatError{Offset: offset, Entry: name, Err: class, Detail: detail}
	}
	if h[156] != '0' {
		return fail(ErrEntryType, fmt.Sprintf("type %q", h[156]))
	}
	if name == "" || path.IsAbs(name) || path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../") || strings.ContainsAny(name, "\\\x00") {
		return fail(ErrEntryName, "")
	}
	if size, err = headerSize(h[124:136]); err != nil {
		return fail(ErrEntryHeader, err.Error())
	}
	if want := tarHeader(name, size); !bytes.Equal(h, want[:]) {
		return fail(ErrEntryHeader, "")
	}
	return name, size, nil
}

func headerSize(field []byte) (int64, error) {
	var n int64
	if field[0] == 0x80 {
		for _, b := range field[1:] {
			if n > MaxBlob {
				return 0, fmt.Errorf("size over %d", int64(MaxBlob))
			}
			n = n<<8 | int64(b)
		}
		return n, nil
	}
	for _, b := range field[:11] {
		if b < '0' || b > '7' {
			return 0, fmt.Errorf("size field %q", field)
		}
		n = n<<3 | int64(b-'0')
	}
	return n, nil
}
