package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// maxRefs bounds what is kept of an advertisement.
const maxRefs = 200_000

var (
	errNotGit = errors.New("what answers does not speak Git's protocol")
	errShort  = errors.New("the answer ends before its end")
)

// list asks for the references: by version 2 of the protocol where the server
// knows it, else as version 0 advertises them.
func (s *session) list(ctx context.Context) (refs, error) {
	answer, err := s.do(ctx, http.MethodGet, "/info/refs", "service="+service, "application/x-"+service+"-advertisement", nil)
	if err != nil {
		return refs{}, err
	}
	lines, err := lines(answer)
	if err != nil {
		return refs{}, &problem{codeOther, err.Error()}
	}
	lines = skipHeader(lines)
	if len(lines) == 0 || string(lines[0]) != "version 2" {
		r, err := parseV0(lines)
		return r, asProblem(err)
	}
	if answer, err = s.do(ctx, http.MethodPost, "/"+service, "", "application/x-"+service+"-result", lsRefs()); err != nil {
		return refs{}, err
	}
	r, err := parseV2(answer)
	return r, asProblem(err)
}

func asProblem(err error) error {
	if err == nil {
		return nil
	}
	return &problem{codeOther, err.Error()}
}

// lines reads pkt-lines (gitprotocol-common): four hexadecimal digits that count
// themselves, then the content; below four they mark ends. Marks are left out.
func lines(data []byte) ([][]byte, error) {
	var out [][]byte
	for len(data) > 0 {
		if len(data) < 4 {
			return nil, errShort
		}
		n, err := strconv.ParseUint(string(data[:4]), 16, 16)
		if err != nil || n == 3 {
			return nil, errNotGit
		}
		if n < 4 {
			data = data[4:]
			continue
		}
		if uint64(len(data)) < n {
			return nil, errShort
		}
		line := bytes.TrimSuffix(data[4:n], []byte("\n"))
		if msg, ok := bytes.CutPrefix(line, []byte("ERR ")); ok {
			return nil, fmt.Errorf("it answers with an error: %.200q", msg)
		}
		out = append(out, line)
		if len(out) > maxRefs {
			return nil, fmt.Errorf("it has more than %d references", maxRefs)
		}
		data = data[n:]
	}
	return out, nil
}

// skipHeader drops the line that names the service, which smart servers put
// before what they advertise.
func skipHeader(list [][]byte) [][]byte {
	if len(list) > 0 && bytes.HasPrefix(list[0], []byte("# service=")) {
		return list[1:]
	}
	return list
}

// lsRefs is the command ls-refs of version 2.
func lsRefs() []byte {
	var b bytes.Buffer
	for _, line := range []string{"command=ls-refs\n", "agent=airlock\n"} {
		fmt.Fprintf(&b, "%04x%s", len(line)+4, line)
	}
	b.WriteString("0001") // delimiter
	for _, line := range []string{"symrefs\n"} {
		fmt.Fprintf(&b, "%04x%s", len(line)+4, line)
	}
	b.WriteString("0000")
	return b.Bytes()
}

// parseV0 reads "OID NAME", the first with capabilities after a zero byte. An
// empty repository advertises capabilities^{} only.
func parseV0(list [][]byte) (refs, error) {
	var r refs
	if len(list) == 0 {
		return r, errNotGit
	}
	for i, line := range list {
		if i == 0 {
			if string(line) == "version 1" {
				continue
			}
		}
		text, caps, _ := bytes.Cut(line, []byte{0})
		for c := range strings.FieldsSeq(string(caps)) {
			if branch, ok := strings.CutPrefix(c, "symref=HEAD:"); ok && isName(branch) {
				r.head = branch
			}
		}
		name, err := reference(text)
		if err != nil {
			return r, err
		}
		if name != "capabilities^{}" && !strings.HasSuffix(name, "^{}") {
			r.names = append(r.names, name)
		}
	}
	return r, nil
}

// parseV2 reads "OID NAME [symref-target:NAME]".
func parseV2(data []byte) (refs, error) {
	var r refs
	list, err := lines(data)
	if err != nil {
		return r, err
	}
	for _, line := range list {
		text, more, _ := bytes.Cut(line, []byte(" symref-target:"))
		name, err := reference(text)
		if err != nil {
			return r, err
		}
		if name == "HEAD" {
			if branch, _, _ := strings.Cut(string(more), " "); isName(branch) {
				r.head = branch
			}
		}
		r.names = append(r.names, name)
	}
	return r, nil
}

// reference checks "OID NAME"; names hold no control characters or spaces
// (git-check-ref-format).
func reference(line []byte) (string, error) {
	oid, name, ok := strings.Cut(string(line), " ")
	if !ok || len(oid) != 40 && len(oid) != 64 && oid != "unborn" || oid != "unborn" && strings.Trim(oid, "0123456789abcdef") != "" {
		return "", errNotGit
	}
	if !isName(name) {
		return "", errNotGit
	}
	return name, nil
}

func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f })
}
