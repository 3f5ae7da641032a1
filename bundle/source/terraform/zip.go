package terraform

import (
	"archive/zip"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/airlock-project/airlock/bundle"
)

// spoolZip writes the tree as a zip that depends on nothing but names, bytes,
// executable bits and the time given.
func (t *tree) spoolZip(spool *bundle.Spool, created time.Time) (bundle.Descriptor, error) {
	w, err := spool.Create()
	if err != nil {
		return bundle.Descriptor{}, err
	}
	defer w.Abort()
	if err := t.writeZip(w, created); err != nil {
		return bundle.Descriptor{}, fmt.Errorf("write zip: %w", err)
	}
	return w.Commit(bundle.MediaTypeModule)
}

func (t *tree) writeZip(w io.Writer, created time.Time) error {
	z := zip.NewWriter(w)
	date, clock := dosTime(created)
	for _, name := range t.names() {
		f := t.files[name]
		h := &zip.FileHeader{
			Name:               name,
			Method:             zip.Store,
			CreatorVersion:     3<<8 | 20, // Unix, which is what makes the mode count
			ReaderVersion:      20,
			CRC32:              crc32.ChecksumIEEE(f.data),
			CompressedSize64:   uint64(len(f.data)),
			UncompressedSize64: uint64(len(f.data)),
			Flags:              0x800, // names are UTF-8
		}
		h.SetMode(f.mode)
		// CreateRaw, because CreateHeader puts a data descriptor behind each member
		// and an extra field into each header. It takes the time from these two.
		h.ModifiedDate, h.ModifiedTime = date, clock //nolint:staticcheck // see above
		m, err := z.CreateRaw(h)
		if err == nil {
			_, err = m.Write(f.data)
		}
		if err := errors.Join(err, z.Flush()); err != nil {
			return err
		}
	}
	return z.Close()
}

// dosTime returns a time as zip keeps it: UTC, in steps of two seconds, from
// 1980 to 2107 (PKWARE APPNOTE 4.4.6). Times outside become the nearest inside.
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	if t.Year() < 1980 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if t.Year() > 2107 {
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	date = uint16(t.Day() + int(t.Month())<<5 + (t.Year()-1980)<<9)
	clock = uint16(t.Second()/2 + t.Minute()<<5 + t.Hour()<<11)
	return date, clock
}
