package install

import (
	"errors"
	"testing"
	"testing/synctest"
)

// TestSteady: what a run is just writing is read again, what stays wrong is told.
func TestSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name         string
			fails, tries int
			err          error
		}{
			{"whole", 0, 1, nil},
			{"between two files", 2, 3, nil},
			{"changed", 99, lookTries, &LedgerError{Text: "x"}},
			{"not about the record", 99, 1, errors.New("x")},
		} {
			tries := 0
			_, err := steady(func() (int, error) {
				if tries++; tries <= tt.fails {
					if tt.err == nil {
						return 0, &LedgerError{Text: "for a moment"}
					}
					return 0, tt.err
				}
				return 1, nil
			})
			if tries != tt.tries || (err == nil) != (tt.err == nil) {
				t.Errorf("%s: %d tries, %v", tt.name, tries, err)
			}
		}
	})
}
