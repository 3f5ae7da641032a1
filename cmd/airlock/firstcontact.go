package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/verify/sign"
)

// putTools writes what a machine without Airlock needs beside the bundle, the
// binaries and a signature of each that openssl checks, and returns their paths
// and their lines for sha256sum -c. It comes before the bundle gets its name, so
// that a create which fails here can be run again. What is there already stays,
// checkBeside has found it to be the same.
func putTools(ctx context.Context, d *definition, out string, keys []*sign.Key) (beside []string, sums string, err error) {
	tools, err := sourceSet{dir: d.dir}.toolBinaries(d.def)
	if err != nil {
		return nil, "", err
	}
	for _, platform := range sortedKeys(tools) {
		dst := filepath.Join(filepath.Dir(out), toolName(platform))
		sum, err := copyTool(ctx, tools[platform], dst)
		if err != nil {
			return nil, "", err
		}
		sums += sumLine(hex.EncodeToString(sum), dst)
		beside = append(beside, dst)
		if len(keys) > 0 {
			if err := signTool(dst+".sig", sum, keys[0]); err != nil {
				return nil, "", err
			}
			beside = append(beside, dst+".sig")
		}
	}
	return beside, sums, nil
}

// signTool writes a tool's signature, unless a good one is there.
func signTool(path string, sum []byte, key *sign.Key) error {
	there, err := checkToolSignature(path, sum, key)
	if err != nil || there {
		return err
	}
	sig, err := key.Digest(sum)
	if err != nil {
		return err
	}
	return writeNew(path, sig, 0o644)
}

// sumLine is a file's line for sha256sum -c.
func sumLine(sum, path string) string { return sum + "  " + filepath.Base(path) + "\n" }

// checkBeside refuses, before anything is downloaded, to replace what lies
// where the bundle and its first-contact set will: an earlier bundle's
// checksums and the tool's signature would no longer fit. keys is empty for an
// unsigned bundle.
func checkBeside(ctx context.Context, d *definition, out string, keys []*sign.Key) error {
	if _, err := os.Lstat(out + ".sha256"); err == nil {
		return fmt.Errorf("write %s: %w", out+".sha256", os.ErrExist)
	}
	tools, err := sourceSet{dir: d.dir}.toolBinaries(d.def)
	if err != nil {
		return err
	}
	for _, platform := range sortedKeys(tools) {
		if err := checkTool(ctx, tools[platform], filepath.Join(filepath.Dir(out), toolName(platform)), keys); err != nil {
			return err
		}
	}
	return nil
}

// checkTool accepts at dst nothing, or src with a good signature, or src alone.
func checkTool(ctx context.Context, src, dst string, keys []*sign.Key) error {
	want, err := fileSum(ctx, src)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(dst + ".sig"); err == nil && len(keys) == 0 {
		return fmt.Errorf("write an unsigned bundle beside %s: %w", dst+".sig", os.ErrExist)
	}
	have, err := fileSum(ctx, dst)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err == nil && !bytes.Equal(have, want) {
		return fmt.Errorf("write %s, the tool of another bundle in this folder: %w", dst, os.ErrExist)
	}
	if len(keys) > 0 {
		_, err := checkToolSignature(dst+".sig", want, keys[0])
		return err
	}
	return nil
}

// maxToolSignature bounds a raw signature: that of an RSA key has 1 kB.
const maxToolSignature = 8 << 10

// checkToolSignature reports whether a signature of the tool is there. One that
// is not by key is an error: the bundle it came with needs it.
func checkToolSignature(path string, sum []byte, key *sign.Key) (there bool, err error) {
	sig, err := regular.Read(path, maxToolSignature)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !key.CheckDigest(sum, sig) {
		return false, fmt.Errorf("write %s, the signature of another tool or by another key: %w", path, os.ErrExist)
	}
	return true, nil
}

// fileSum returns the SHA-256 of a file.
func fileSum(ctx context.Context, path string) ([]byte, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, &contextReader{ctx, f})
	return h.Sum(nil), err
}

// copyTool puts a binary beside the bundle and returns its SHA-256. One that is
// there already is the same: checkBeside has seen to it.
func copyTool(ctx context.Context, src, dst string) (sum []byte, err error) {
	if _, err := os.Lstat(dst); err == nil {
		return fileSum(ctx, dst)
	}
	in, err := regular.Open(src)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	tmp := temporary(dst)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, h), &contextReader{ctx, in})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, dst); err != nil {
		return nil, errors.Join(err, os.Remove(tmp))
	}
	return h.Sum(nil), syncDir(filepath.Dir(dst))
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
