//go:build all

package readers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// auditor takes out of a bundle, with tar, what the check of its signature
// needs, and returns the directory. It holds index.json, trusted_root.json and
// S, the one signature.
func auditor(t testing.TB, bundle string) string {
	t.Helper()
	dir := t.TempDir()
	shell(t, dir, `
tar --occurrence=1 --zstd -xf "$1" index.json
tar --occurrence=1 --zstd -xf "$1" trusted_root.json
tar --zstd -xf "$1" --wildcards 'signatures/*'
mv signatures/* S`, bundle)
	return dir
}

// verifyBlob is what an auditor types after that: DESIGN section 3.
const verifyBlob = `cosign verify-blob --new-bundle-format --bundle S --key "$1" --trusted-root trusted_root.json --private-infrastructure index.json`

// opensslVerify takes the raw signature out of the Sigstore bundle and checks
// it with nothing but openssl.
const opensslVerify = `
sed -n 's/.*"signature": *"\([^"]*\)".*/\1/p' S | openssl base64 -d -A >sig
openssl dgst -sha256 -verify "$1" -signature sig index.json`

// cosignKey makes a key pair with cosign and returns the paths of its halves.
func cosignKey(t testing.TB) (key, pub string) {
	t.Helper()
	dir := t.TempDir()
	run(t, dir, "cosign", "generate-key-pair")
	return filepath.Join(dir, "cosign.key"), filepath.Join(dir, "cosign.pub")
}

// opensslKey makes a key of an algorithm with openssl, imports it with cosign
// and returns the paths of its halves.
func opensslKey(t testing.TB, algorithm, option string) (key, pub string) {
	t.Helper()
	dir := t.TempDir()
	run(t, dir, "openssl", "genpkey", "-quiet", "-algorithm", algorithm, "-pkeyopt", option, "-out", "plain.pem")
	run(t, dir, "cosign", "import-key-pair", "-y", "--key", "plain.pem", "--output-key-prefix", "imported")
	return filepath.Join(dir, "imported.key"), filepath.Join(dir, "imported.pub")
}

// create makes a small bundle of one directory; args say who signs it.
func create(t testing.TB, args ...string) (path string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "airlock.yaml"), []byte(`apiVersion: airlock/v1
kind: Bundle
product: small
version: v1.0.0
release: 1
files: [{path: docs, name: docs}]
tools: {path: tools, platforms: [linux/amd64]}
`))
	write(t, filepath.Join(dir, "docs", "a.txt"), []byte("a\n"))
	write(t, filepath.Join(dir, "tools", "airlock-linux-amd64"), elf(62))
	run(t, dir, "airlock", append([]string{"bundle", "create"}, args...)...)
	return filepath.Join(dir, "small-v1.0.0.tar.zst")
}

// What airlock keygen and bundle create made, an auditor checks with stock
// cosign and with openssl alone; a changed index or another key is refused by
// both.
func TestAuditorChecksTheSignature(t *testing.T) {
	dir := auditor(t, lab.bundle)
	_, other := cosignKey(t)
	for name, line := range map[string]string{"cosign": verifyBlob, "openssl": opensslVerify} {
		t.Run(name, func(t *testing.T) {
			shell(t, dir, line, lab.pub)
			refuse(t, 1, dir, "sh", "-euc", line, "sh", other)
			changed := t.TempDir()
			for _, f := range []string{"S", "index.json", "trusted_root.json"} {
				copyFile(t, filepath.Join(dir, f), filepath.Join(changed, f))
			}
			index := strings.Replace(string(read(t, changed, "index.json")), "v1.0.0", "v1.0.1", 1)
			write(t, filepath.Join(changed, "index.json"), []byte(index))
			refuse(t, 1, changed, "sh", "-euc", line, "sh", lab.pub)
		})
	}
}

// Keys of other makers sign bundles that stock programs and Airlock accept. The
// digest is SHA-256 whatever the key: for P-384 cosign itself would take
// another one that its verify-blob refuses.
func TestKeysOfOtherMakers(t *testing.T) {
	tests := map[string]func(testing.TB) (key, pub string){
		"cosign": cosignKey,
		"P-384": func(t testing.TB) (string, string) {
			return opensslKey(t, "EC", "ec_paramgen_curve:P-384")
		},
		"RSA-3072": func(t testing.TB) (string, string) {
			return opensslKey(t, "RSA", "rsa_keygen_bits:3072")
		},
	}
	for name, pair := range tests {
		t.Run(name, func(t *testing.T) {
			key, pub := pair(t)
			path := create(t, "--key", key)
			run(t, t.TempDir(), "airlock", "bundle", "verify", "--key", pub, path)
			refuse(t, 11, t.TempDir(), "airlock", "bundle", "verify", "--key", lab.pub, path)
			dir := auditor(t, path)
			if s := string(read(t, dir, "S")); !strings.Contains(s, "SHA2_256") || strings.Contains(s, "SHA2_384") {
				t.Errorf("signature %s: want SHA2_256", s)
			}
			shell(t, dir, verifyBlob, pub)
			shell(t, dir, opensslVerify, pub)
			tool := filepath.Join(filepath.Dir(path), "airlock-linux-amd64")
			run(t, dir, "openssl", "dgst", "-sha256", "-verify", pub, "-signature", tool+".sig", tool)
		})
	}
}

// Keys that Airlock does not take are refused before anything is written.
func TestWeakKeysAreRefused(t *testing.T) {
	for name, key := range map[string][2]string{
		"RSA-2048": {"RSA", "rsa_keygen_bits:2048"},
		"P-521":    {"EC", "ec_paramgen_curve:P-521"},
	} {
		t.Run(name, func(t *testing.T) {
			private, public := opensslKey(t, key[0], key[1])
			path := create(t, "--unsigned")
			refuse(t, 4, t.TempDir(), "airlock", "bundle", "sign", "--key", private, path)
			refuse(t, 4, t.TempDir(), "airlock", "bundle", "verify", "--key", public, path)
			if beside, err := filepath.Glob(path + ".*sigstore.json"); err != nil || len(beside) != 0 {
				t.Errorf("written: %v, %v", beside, err)
			}
		})
	}
}

// Key files of airlock keygen serve stock cosign.
func TestCosignTakesOurKeys(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "blob"), []byte("anything"))
	run(t, dir, "cosign", "sign-blob", "-y", "--tlog-upload=false", "--new-bundle-format", "--key", lab.key, "--bundle", "blob.sigstore.json", "blob")
	verify := []string{"verify-blob", "--new-bundle-format", "--private-infrastructure", "--bundle", "blob.sigstore.json", "--key"}
	root := []string{"--trusted-root", filepath.Join(auditor(t, lab.bundle), "trusted_root.json"), "blob"}
	run(t, dir, "cosign", append(append(verify, lab.pub), root...)...)
	public := run(t, dir, "cosign", "public-key", "--key", lab.key)
	if want := string(read(t, lab.pub)); strings.TrimSpace(public) != strings.TrimSpace(want) {
		t.Errorf("cosign reads the public key\n%s, want\n%s", public, want)
	}
	write(t, filepath.Join(dir, "blob"), []byte("anything else"))
	refuse(t, 1, dir, "cosign", append(append(verify, lab.pub), root...)...)
}

// A signature that stock cosign made over the index, laid beside an unsigned
// bundle, makes it a signed one; beside a changed name, or by another key, not.
func TestCountersignedByCosign(t *testing.T) {
	path := create(t, "--unsigned")
	key, pub := cosignKey(t)
	dir := t.TempDir()
	refuse(t, 11, dir, "airlock", "verify", "--key", pub, path)
	run(t, dir, "tar", "--occurrence=1", "--zstd", "-xf", path, "index.json")
	run(t, dir, "cosign", "sign-blob", "-y", "--new-bundle-format", "--tlog-upload=false", "--key", key, "--bundle", path+".second.sigstore.json", "index.json")
	run(t, dir, "airlock", "verify", "--key", pub, path)
	refuse(t, 11, dir, "airlock", "verify", "--key", lab.pub, path)
	if err := os.Rename(path+".second.sigstore.json", path+".json"); err != nil {
		t.Fatal(err)
	}
	refuse(t, 11, dir, "airlock", "verify", "--key", pub, path)
}

// A signature that airlock lays beside a bundle is one that cosign accepts.
func TestCosignChecksACountersignature(t *testing.T) {
	path := create(t, "--unsigned")
	key, pub := cosignKey(t)
	dir := t.TempDir()
	run(t, dir, "airlock", "bundle", "sign", "--key", key, path)
	beside, err := filepath.Glob(path + ".*.sigstore.json")
	if err != nil || len(beside) != 1 {
		t.Fatalf("beside the bundle: %v, %v", beside, err)
	}
	run(t, dir, "tar", "--zstd", "-xf", path, "index.json", "trusted_root.json")
	copyFile(t, beside[0], filepath.Join(dir, "S"))
	shell(t, dir, verifyBlob, pub)
	run(t, dir, "airlock", "verify", "--key", pub, path)
}

// A signature of an unpacked bundle lies beside the directory, never in it, also
// for whoever stands inside.
func TestSignWhereItLies(t *testing.T) {
	path := create(t, "--unsigned")
	key, pub := cosignKey(t)
	for _, name := range []string{".", "../layout/", "blobs/.."} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "layout")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			run(t, dir, "tar", "--zstd", "-xf", path)
			refuse(t, 11, dir, "airlock", "verify", "--key", pub, name)
			run(t, dir, "airlock", "bundle", "sign", "--key", key, name)
			run(t, dir, "airlock", "verify", "--key", pub, name)
			run(t, t.TempDir(), "airlock", "verify", "--key", pub, dir)
		})
	}
}
