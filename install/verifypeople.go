package install

import (
	"errors"
	"fmt"
	"os"
)

// VerifyStatements checks every statement that people signed in a state
// directory: the ledger as [VerifyState] does, that the statement stands where
// it was signed for, its evidence by digest, and its signature where people
// lists the key. visit, which may be nil, gets each with whether its key is
// listed. What does not fit gives a *LedgerError.
func VerifyStatements(dir string, people []Person, visit func(s Statement, listed bool)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open state directory: %w", err)
	}
	defer root.Close()
	m := newMemory()
	var torn bool
	if _, _, err := verifyState(root, &torn, func(e Entry) error {
		return m.add(Head{Seq: e.Seq, Hash: e.Hash}, e.time(), e.Item, e.Event, e.Data)
	}); err != nil {
		return err
	}
	run, err := readSnapshot(root)
	if err != nil || run == nil {
		return errors.Join(err)
	}
	if err := m.check(root, people, run.Product, run.Site); err != nil || visit == nil {
		return err
	}
	for _, list := range m.statements {
		for _, t := range list {
			_, ok, other := known(people, t.By)
			visit(t.Statement, ok || other)
		}
	}
	return nil
}
