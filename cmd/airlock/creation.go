package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/mirror/target/ecr"
	"github.com/airlock-project/airlock/mirror/target/gar"
	"github.com/airlock-project/airlock/mirror/target/harbor"
)

// creation are the settings of repositories and projects that mirror makes, as
// --create-with gives them: by name, the last of one name counts.
type creation map[string]string

// parseCreation reads NAME=VALUE for a kind of registry and refuses what that
// kind does not have.
func parseCreation(kind string, list []string) (creation, error) {
	known := map[string][]string{
		"ecr": {"immutable", "kms-key", "mutable-tags", "scan", "tag.NAME"}, "gar": {"immutable", "kms-key"}, "harbor": {"public", "storage-limit"},
	}[kind]
	c := creation{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok || value == "" {
			return nil, &usageError{fmt.Errorf("--create-with %q: want NAME=VALUE", s)}
		}
		key := name
		if strings.HasPrefix(name, "tag.") && name != "tag." {
			key = "tag.NAME"
		}
		switch {
		case len(known) == 0:
			return nil, &usageError{fmt.Errorf("--create-with %q: nothing is made in a registry of kind %s", s, kind)}
		case !slices.Contains(known, key):
			return nil, &usageError{fmt.Errorf("--create-with %q: for %s it is one of %s", s, kind, strings.Join(known, ", "))}
		}
		if _, err := strconv.ParseBool(value); err != nil && slices.Contains([]string{"immutable", "scan", "public"}, key) {
			return nil, &usageError{fmt.Errorf("--create-with %q: true or false", s)}
		}
		c[name] = value
	}
	return c, nil
}

// yes reads what parseCreation found to be true or false.
func (c creation) yes(name string) bool {
	v, err := strconv.ParseBool(c[name])
	return err == nil && v
}

func (c creation) ecr(o ecr.Options) ecr.Options {
	o.Immutable, o.ScanOnPush, o.KMSKey = c.yes("immutable"), c.yes("scan"), c["kms-key"]
	if v := c["mutable-tags"]; v != "" {
		o.MutableTags = strings.Split(v, ",")
	}
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if tag, ok := strings.CutPrefix(name, "tag."); ok {
			if o.Tags == nil {
				o.Tags = map[string]string{}
			}
			o.Tags[tag] = c[name]
		}
	}
	return o
}

func (c creation) gar(o gar.Options) gar.Options {
	o.ImmutableTags, o.KMSKey = c.yes("immutable"), c["kms-key"]
	return o
}

func (c creation) harbor(o harbor.Options) (harbor.Options, error) {
	o.Public = c.yes("public")
	if v := c["storage-limit"]; v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < -1 || n == 0 {
			return o, &usageError{fmt.Errorf("--create-with \"storage-limit=%s\": bytes, or -1 for none", v)}
		}
		o.StorageLimit = n
	}
	return o, nil
}
