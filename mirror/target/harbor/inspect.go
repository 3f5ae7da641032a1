package harbor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/mirror/target"
)

const actionCreate = "create-project"

// need is what one repository of a project is to receive.
type need struct {
	target.Need
	repository string // without project
}

// project is what Harbor says of a project, and what it is to receive.
type project struct {
	RegistryID *int64 `json:"registry_id"` // of the registry that a proxy cache stands for
	Metadata   struct {
		RetentionID string `json:"retention_id"`
	} `json:"metadata"`

	name  string
	needs []need
}

// Inspect checks names and login, then asks about every project that is to
// receive something: whether it is there and takes pushes, whether there is
// room, which tags are kept and which are deleted. Names that Harbor does not
// take are fatal notices and nothing is asked about them. A refused login, a
// Harbor that cannot be reached and the context's end are errors; what this
// account may not read is a notice.
func (t *Target) Inspect(ctx context.Context, req target.Request) (target.State, error) {
	st := target.State{Repositories: map[string]target.Presence{}, CrossMount: target.MountAlways}
	projects := map[string]*project{}
	for _, n := range req.Repositories {
		name, repository, err := t.split(n.Name)
		if err != nil {
			st.Notices = append(st.Notices, target.Notice{
				Code: target.NameInvalid, Fatal: true, Repository: n.Name,
				Text: err.Error(), Remedy: "name the target " + t.opts.Host + "/PROJECT, in lower case",
			})
			continue
		}
		p := projects[name]
		if p == nil {
			p = &project{name: name}
			projects[name] = p
		}
		p.needs = append(p.needs, need{Need: n, repository: repository})
	}
	if len(projects) == 0 {
		return st, nil
	}
	if err := t.checkLogin(ctx); err != nil {
		return target.State{}, err
	}
	if err := t.checkReadOnly(ctx, &st); err != nil {
		return target.State{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(projects)) {
		if err := t.inspect(ctx, projects[name], &st); err != nil {
			return target.State{}, err
		}
	}
	return st, nil
}

func (t *Target) checkReadOnly(ctx context.Context, st *target.State) error {
	var info systemInfo
	if err := t.call(ctx, http.MethodGet, apiBase+"systeminfo", nil, &info); err != nil {
		return stops(ctx, err)
	}
	if info.ReadOnly {
		st.Notices = append(st.Notices, target.Notice{
			Code: target.ReadOnly, Fatal: true,
			Text:   "Harbor " + t.opts.Host + " is in read-only mode",
			Remedy: "wait for the upgrade or clean-up that set it, or let an administrator switch it off",
		})
	}
	return nil
}

// inspect looks at one project.
func (t *Target) inspect(ctx context.Context, p *project, st *target.State) error {
	// The one question about projects that is answered to robots of others too.
	err := t.call(ctx, http.MethodHead, apiBase+"projects?"+url.Values{"project_name": {p.name}}.Encode(), nil, nil)
	if stop := stops(ctx, err); stop != nil {
		return stop
	}
	switch {
	case err == nil:
	case status(err) == http.StatusNotFound:
		p.mark(st, target.Missing)
		t.missing(p, st)
		return nil
	default:
		if s := status(err); s == http.StatusForbidden || s == http.StatusUnauthorized {
			p.mark(st, target.Forbidden)
		}
		st.Notices = append(st.Notices, target.Notice{
			Code: target.StateUnread, Repository: p.name, Text: fmt.Sprintf("project %s cannot be read: %v", p.name, err),
			Remedy: fmt.Sprintf("give %s the right project:read on project %s", t.account(), p.name),
		})
		return nil
	}
	// Whether a repository below it is there the tags tell: a push makes it.
	return t.judge(ctx, p, st)
}

func (p *project) mark(st *target.State, presence target.Presence) {
	for _, n := range p.needs {
		st.Repositories[n.Name] = presence
	}
}

// missing decides what becomes of a project that does not exist.
func (t *Target) missing(p *project, st *target.State) {
	if t.opts.ManagedElsewhere {
		st.Notices = append(st.Notices, target.Notice{
			Code: target.RepositoryMissing, Fatal: true, Repository: p.name,
			Text:   fmt.Sprintf("Harbor project %q does not exist", p.name),
			Remedy: "create it where projects are managed",
		})
		return
	}
	set := map[string]string{"public": strconv.FormatBool(t.opts.Public)}
	if t.opts.StorageLimit != 0 {
		set["storage_limit"] = strconv.FormatInt(t.opts.StorageLimit, 10)
	}
	st.Actions = append(st.Actions, target.Action{Kind: actionCreate, Name: p.name, Settings: set})
}

// judge says what is to be known of a project that is there. Every question may
// be refused to an account that may well push.
func (t *Target) judge(ctx context.Context, p *project, st *target.State) error {
	var unread []string
	refused := func(what string, err error) error {
		if err == nil {
			return nil
		}
		unread = append(unread, what)
		return stops(ctx, err)
	}
	base := apiBase + "projects/" + p.name
	err := t.call(ctx, http.MethodGet, base, nil, p)
	if stop := refused("its kind, its tag retention", err); stop != nil {
		return stop
	}
	if p.RegistryID != nil && *p.RegistryID != 0 {
		st.Notices = append(st.Notices, target.Notice{
			Code: target.NotPushable, Fatal: true, Repository: p.name,
			Text:   fmt.Sprintf("project %s is a proxy cache of another registry and takes no pushes", p.name),
			Remedy: "name another project: a proxy cache cannot be changed into one that is pushed to",
		})
		return nil
	}
	may, err := t.mayPush(ctx, p.needs[0].Name)
	if err != nil {
		return err
	}
	if !may {
		st.Notices = append(st.Notices, target.Notice{
			Code: target.Denied, Fatal: true, Repository: p.name,
			Text: fmt.Sprintf("%s lacks repository:push on project %s", t.account(), p.name), Remedy: t.rightsRemedy(p.name),
		})
	}
	for _, q := range []struct {
		what string
		ask  func(context.Context, *project) ([]target.Notice, error)
	}{
		{"its quota", t.quotaNotices}, {"its immutable tag rules", t.immutableNotices}, {"its tag retention rules", t.retentionNotices},
	} {
		notices, err := q.ask(ctx, p)
		if stop := refused(q.what, err); stop != nil {
			return stop
		}
		st.Notices = append(st.Notices, notices...)
	}
	if len(unread) > 0 {
		st.Notices = append(st.Notices, target.Notice{
			Code: target.StateUnread, Repository: p.name,
			Text:   fmt.Sprintf("%s may not read of project %s: %s", t.account(), p.name, strings.Join(unread, ", ")),
			Remedy: "give it project:read, quota:read, immutable-tag:list and tag-retention:read to see what the push will meet",
		})
	}
	return nil
}

func (t *Target) rightsRemedy(project string) string {
	return fmt.Sprintf("give %s the rights repository:push and repository:pull on project %s", t.account(), project)
}

// quotaNotices compares the project's room with what is to be sent. Repositories
// that do not exist yet need all of their bytes; those that do may have some, so
// that only the former make certain that there is too little.
func (t *Target) quotaNotices(ctx context.Context, p *project) ([]target.Notice, error) {
	var summary struct {
		Quota *struct {
			Hard map[string]int64 `json:"hard"`
			Used map[string]int64 `json:"used"`
		} `json:"quota"`
	}
	if err := t.call(ctx, http.MethodGet, apiBase+"projects/"+p.name+"/summary", nil, &summary); err != nil {
		return nil, err
	}
	if summary.Quota == nil {
		return nil, errors.New("summary shows no quota")
	}
	hard, known := summary.Quota.Hard["storage"]
	if !known || hard < 0 {
		return nil, nil
	}
	used := max(summary.Quota.Used["storage"], 0)
	free := max(hard-used, 0)
	var all int64
	for _, n := range p.needs {
		all = saturate(all, n.Bytes)
	}
	if all <= free {
		return nil, nil
	}
	fresh, err := t.freshBytes(ctx, p, free)
	if err != nil {
		return nil, err
	}
	n := target.Notice{
		Code: target.QuotaExceeded, Fatal: fresh > free, Repository: p.name,
		Text: fmt.Sprintf("project %s has room for %s (%s of %s used), and %s are to be pushed", p.name, size(free), size(used), size(hard), size(all)),
		Remedy: fmt.Sprintf("raise the storage quota of project %s to %s, or delete what is not needed and run Harbor's garbage collection",
			p.name, size(saturate(used, all))),
	}
	if !n.Fatal {
		n.Text += ", less what the project has already"
	}
	return []target.Notice{n}, nil
}

// freshBytes adds up what goes to repositories that do not exist, until that is
// more than enough.
func (t *Target) freshBytes(ctx context.Context, p *project, enough int64) (int64, error) {
	var sum int64
	for _, n := range p.needs {
		// Harbor wants the slashes of a repository escaped twice.
		path := apiBase + "projects/" + p.name + "/repositories/" + url.PathEscape(url.PathEscape(n.repository))
		err := t.call(ctx, http.MethodGet, path, nil, nil)
		if status(err) == http.StatusNotFound {
			sum = saturate(sum, n.Bytes)
		} else if stop := stops(ctx, err); stop != nil {
			return 0, stop
		}
		if sum > enough {
			break
		}
	}
	return sum, nil
}

// saturate adds two sizes without overflow.
func saturate(a, b int64) int64 {
	if s := a + max(b, 0); s >= a {
		return s
	}
	return 1<<63 - 1
}

// size writes bytes as Harbor does in its own refusals.
func size(n int64) string {
	unit, v := "KiB", float64(n)/(1<<10)
	for _, next := range []string{"MiB", "GiB", "TiB", "PiB", "EiB"} {
		if v < 1024 {
			break
		}
		unit, v = next, v/1024
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}
