package install

import "github.com/airlock-project/airlock/manifests"

// Compile checks a checklist with kinds, for tests outside the package: the
// kinds import this one.
func Compile(c *manifests.Checklist, probes map[string]Probe, actions map[string]Action) error {
	_, err := compile(c, probes, actions)
	return err
}
