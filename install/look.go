package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// lookStore opens a state directory to read it only: without its lock, so that
// people can look while a run goes on. It is nil where there is none, or nothing
// ran in it. The ledger is checked as in [VerifyState] without a key.
func lookStore(dir string) (*store, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	s := &store{dir: dir, root: root, memory: newMemory(), traced: newTrace()}
	if err := s.look(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if s.run == nil {
		return nil, s.close()
	}
	return s, nil
}

func (s *store) look() error {
	var err error
	if s.run, err = readSnapshot(s.root); err != nil || s.run == nil {
		return err
	}
	s.key, err = readFrom(s.root, fileKey, 32)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// The next run makes a new one: what rests on secrets shows as it will then.
		s.key = newKey()
		s.notes = append(s.notes, fileKey+" is missing from "+s.dir+", as in a record that was restored: whether a secret is still the same cannot be seen, and what rests on one will be done again")
	case err != nil:
		return fmt.Errorf("read state: %w", err)
	}
	if _, err := s.root.Stat(fileLedger); errors.Is(err, fs.ErrNotExist) && s.run.Ledger.Seq == 0 {
		return nil // killed before its first entry
	}
	var torn bool // a line that another process is writing
	_, _, err = verifyState(s.root, &torn, s.remember)
	return err
}
