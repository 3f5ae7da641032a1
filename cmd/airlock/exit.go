package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/archive"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/bundle/source/dockerarchive"
	"github.com/airlock-project/airlock/bundle/source/helm"
	"github.com/airlock-project/airlock/bundle/source/registry"
	"github.com/airlock-project/airlock/bundle/source/terraform"
	"github.com/airlock-project/airlock/bundle/source/vendorarchive"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/offsite"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/verify"
	"github.com/airlock-project/airlock/verify/extract"
	"github.com/airlock-project/airlock/verify/sign"
	"github.com/spf13/cobra"
)

// Exit codes. An unknown code means failure.
const (
	exitDone        = 0
	exitFailed      = 1
	exitPartial     = 3
	exitUsage       = 4
	exitFormat      = 10
	exitUntrusted   = 11
	exitContent     = 12
	exitIncomplete  = 13
	exitItemFailed  = 20
	exitWaiting     = 21
	exitInterrupted = 130
)

const exitHelp = `Exit codes: 0 done; 1 failed; 3 done in part; 4 usage; 10 not a bundle or bad
format; 11 signature or signer not trusted; 12 content differs; 13 incomplete;
20 a required checklist item failed; 21 waiting for a person; 130 interrupted.`

// verdict is what an error means to the person at the keyboard.
type verdict struct {
	code int
	hint string
}

// rows know errors by their type: each says what an error means, or that it
// does not know it.
type rows []func(error) (verdict, bool)

func (r rows) find(err error) (verdict, bool) {
	for _, row := range r {
		if v, ok := row(err); ok {
			return v, true
		}
	}
	return verdict{}, false
}

// checklistOutcome is a run of the checklist that ended in order, but not in
// "done"; the report was shown already.
type checklistOutcome struct {
	status install.Status
	state  string
	next   string // the command for the first person who has to state something
}

func (e *checklistOutcome) Error() string { return "checklist: " + string(e.status) }

// is returns a row of the table: errors of type E get what f says of them.
func is[E error](f func(E) verdict) func(error) (verdict, bool) {
	return func(err error) (verdict, bool) {
		if e, ok := errors.AsType[E](err); ok {
			return f(e), true
		}
		return verdict{}, false
	}
}

// always returns a row with a fixed verdict.
func always[E error](code int, hint string) func(error) (verdict, bool) {
	return is(func(E) verdict { return verdict{code, hint} })
}

// table is asked from top to bottom; the first row that knows an error's type
// answers. Hints are keyed by type, never by words; l says what the command
// line named.
func table(l line) rows {
	return append(append(trustRows(l), sourceRows()...), placeRows(l)...)
}

// trustRows are about bundles and trust.
func trustRows(l line) rows {
	return rows{
		always[*usageError](exitUsage, "see "+l.command()+" --help"),
		is(func(e *settingError) verdict { return verdict{exitUsage, e.hint} }),
		always[*changedError](exitContent, "leave the file alone while it is read: copy it again from where it was made, and run the same command again"),
		always[*verify.NoPolicyError](exitUntrusted, "give the signer's public key with --key, or a policy with --policy; airlock policy init writes one"),
		always[*verify.UnsignedError](exitUntrusted, "ask for a signed bundle, or for its signature as BUNDLE.<name>.sigstore.json to lay beside it"),
		always[*verify.UntrustedError](exitUntrusted, "compare fingerprints with the signer; a missing countersignature can be laid beside the bundle"),
		is(func(e *verify.RefusedError) verdict { return verdict{exitUntrusted, refusedHint(e.Rule)} }),
		always[*verify.UnsupportedError](exitUsage, "remove it from the document, or use a version of airlock that knows it"),
		always[*verify.KeyError](exitUsage, "a public key is a PEM file such as airlock.pub, written by airlock keygen or cosign generate-key-pair"),
		is(func(e *archive.FormatError) verdict { return verdict{formatCode(e), formatHint(e)} }),
		always[*archive.MissingError](exitIncomplete, "copy the bundle again from where it was made"),
		always[*verify.ContentError](exitContent, "the bundle was damaged on its way: copy it again from where it was made, and compare BUNDLE.sha256"),
		always[*verify.ReadError](exitFailed, "the medium or the pipe failed, the bundle may be good: try again, or copy it from another medium"),
		always[*verify.IndexError](exitFormat, "the signature is good, the index is not one this version reads: try the airlock binary that came beside the bundle"),
		always[*sign.PasswordError](exitUsage, passwordHint(l)),
		always[*sign.KeyError](exitUsage, "airlock keygen makes a key; cosign import-key-pair brings one"),
		always[*noPasswordError](exitUsage, "set AIRLOCK_KEY_PASSWORD, use --password-file, or run on a terminal"),
		always[*noSignerError](exitUsage, "make a key with airlock keygen and name it under sign: in the definition or with --key; --unsigned makes a bundle for tests"),
		is(func(e *extract.NoItemError) verdict {
			return verdict{exitUsage, "the bundle carries: " + strings.Join(e.Have, ", ")}
		}),
	}
}

func refusedHint(rule string) string {
	return map[string]string{
		"product":  "check that this is the right medium, or add the product to the policy",
		"release":  "use a newer bundle; --allow-older goes back below what this site has seen, never below the policy's floor",
		"expired":  "ask for a newer bundle, and check this machine's clock",
		"audience": "ask for a bundle made for this site; site.yaml names the site",
		"tool":     "use the airlock binary that came beside the bundle",
	}[rule]
}

// formatCode tells a file that was cut short from one that is something else.
func formatCode(e *archive.FormatError) int {
	if errors.Is(e, archive.ErrTruncated) {
		return exitIncomplete
	}
	return exitFormat
}

func formatHint(e *archive.FormatError) string {
	switch {
	case errors.Is(e, archive.ErrNotBundle):
		return "give a file made by airlock bundle create, or a directory that tar unpacked it to"
	case errors.Is(e, archive.ErrTruncated):
		return "the copy is not whole: copy the bundle again and compare BUNDLE.sha256"
	default:
		return "the file was changed after it was made: copy it again from where it was made, and tell whoever sent it if that does not help"
	}
}

// sourceRows are about definitions and what they bring.
func sourceRows() rows {
	return rows{
		always[*noDefinitionError](exitUsage, "write one with airlock bundle init --preset spacelift-self-hosted --platform onprem, or name it with -f"),
		always[manifests.Findings](exitUsage, "correct the document; airlock schema prints a JSON Schema that editors understand"),
		always[*artifact.NameError](exitUsage, "rename the file: such a name cannot be carried to every system"),
		always[*artifact.TypeError](exitUsage, "links and devices are not carried: put a copy of the file there, or leave it out"),
		always[*artifact.ContentError](exitContent, "the bundle was made wrongly: tell whoever made it"),
		always[*staleLockError](exitUsage, "run airlock bundle lock and review what changed"),
		always[*bundle.ChangedError](exitContent, "airlock bundle lock accepts what is there now; review the change of airlock.lock"),
		always[*bundle.MissingImagesError](exitUsage, "add them under images:, or under the chart's ignore: with a reason"),
		is(func(e *bundle.SpaceError) verdict {
			return verdict{exitFailed, "free space in " + e.Dir + " or write elsewhere with -o"}
		}),
		always[*archive.BusyError](exitFailed, "wait for the other airlock bundle create, or choose another -o"),
		always[*vendorarchive.ChecksumError](exitContent, "the archive is damaged or not the one its checksums speak of: download it again"),
		always[*vendorarchive.SignerError](exitUntrusted, "check signer.fingerprint in the definition against the vendor's published one; do not use the archive otherwise"),
		always[*vendorarchive.SignatureError](exitUntrusted, "download the checksums and their signature again; do not use the archive otherwise"),
		always[*vendorarchive.KeyError](exitUntrusted, "check signer.fingerprint in the definition against the vendor's published one, and export that key: gpg --export --armor FINGERPRINT"),
		always[*vendorarchive.MissingMemberError](exitUsage, "list the archive with tar -tzf and correct the path in the definition"),
		always[*vendorarchive.VersionError](exitUsage, "make version, file name and image tags in the definition agree with the archive"),
		always[*dockerarchive.DiffIDError](exitContent, "the image tar is damaged: export it again"),
		always[*dockerarchive.DigestError](exitContent, "the image tar is damaged: export it again"),
		always[*dockerarchive.MissingError](exitContent, "the image tar is not whole: export it again"),
		always[*dockerarchive.SelectError](exitUsage, "correct as: in the definition"),
		always[*dockerarchive.PlatformError](exitUsage, "export the image for the platform wanted, or correct platforms:"),
		always[*registry.PlatformError](exitUsage, "correct platforms: in the definition, or say platforms: all"),
		always[*registry.DigestError](exitContent, "the registry answers with other content than it promises: ask whoever runs it"),
		always[*registry.FormatError](exitFailed, "the image cannot be carried as it is: push it again with a current tool"),
		always[*terraform.UnsupportedSourceError](exitUsage, "put the module into a folder and name it with path:"),
		always[*terraform.RemoteError](exitUsage, "vendor the nested module beside its caller and use a local source"),
		always[*terraform.EscapeError](exitUsage, "pack the folder that holds both modules"),
		always[*chart.MissingDependenciesError](exitUsage, "run helm dependency build in the chart and create again"),
		always[*chart.SchemaError](exitUsage, "correct the values: named in the definition"),
		always[*helm.UnusedIgnoreError](exitUsage, "remove the entry from ignore:"),
		always[*helm.VersionError](exitUsage, "correct version: in the definition"),
	}
}

// placeRows are about registries, files and installations.
func placeRows(l line) rows {
	return rows{
		is(func(e *mirror.PartialError) verdict { return partialVerdict(l, e) }),
		is(func(e *mirror.FailedError) verdict { return failedVerdict(l, e) }),
		always[*mirror.ConflictError](exitFailed, "nothing was overwritten: delete the tag or use another prefix, after finding out who pushed it"),
		is(recordVerdict),
		always[*mapError](exitPartial, "everything that the result names is in the registry; only the map is not written: name a place with room with --relocation-map and run the command again, which sends nothing twice"),
		// Of several errors, the mistake of the person at the keyboard comes first.
		func(err error) (verdict, bool) {
			e, ok := errors.AsType[*fs.PathError](err)
			if !ok || !errors.Is(e.Err, fs.ErrNotExist) {
				return verdict{}, false
			}
			return pathVerdict(l, e), true
		},
		is(func(e *target.Problem) verdict { return verdict{exitFailed, e.Remedy} }),
		always[*mirror.CollisionError](exitUsage, "two items would get one name: use --keep-host, --flatten or --map"),
		always[*mirror.OverrideError](exitUsage, "correct --map: airlock bundle inspect lists references and names"),
		always[*mirror.NameError](exitUsage, "put it elsewhere with --map REF=REPOSITORY, or use another prefix, --flatten or --keep-host"),
		is(func(e *mirror.RefusedError) verdict { return verdict{exitFailed, e.Notices[0].Remedy} }),
		always[*mirror.MovedError](exitFailed, "nothing was sent: make a new plan with --dry-run --output json and review what changed"),
		always[*mirror.BusyError](exitFailed, "wait for the other run to end, or give another --record"),
		always[*mirror.VerifyError](exitFailed, "the registry does not give back what it was given: ask whoever runs it to look at its storage, and for a clean-up that is under way; --verify full sends again what is lost"),
		is(func(e *remote.TokenError) verdict {
			return verdict{exitFailed, "ask whoever runs " + e.Host + ", where the registry sends logins; a proxy in between may answer for it"}
		}),
		is(func(e *remote.AuthError) verdict { return verdict{exitFailed, loginHint(l, e.Host)} }),
		is(func(e *remote.PlainHTTPError) verdict {
			return verdict{exitFailed, "if that is meant, say --plain-http " + e.Host}
		}),
		is(func(e *remote.TLSError) verdict {
			return verdict{exitFailed, "give the authority that signed the certificate of " + e.Host + " with --ca-file"}
		}),
		always[*remote.UnreachableError](exitFailed, "check the name, the network and any proxy; --resolve HOST:IP names an address by hand"),
		always[*remote.NotFoundError](exitFailed, "check the name and the tag; some registries also answer so when a login is needed"),
		always[*remote.StatusError](exitFailed, statusHint),
		is(func(e *checklistOutcome) verdict { return outcomeVerdict(e) }),
		always[*install.NoChecklistError](exitUsage, "airlock bundle inspect shows what the bundle carries; without a checklist it can be mirrored, not installed"),
		always[*install.ChecklistError](exitUsage, "whoever made the bundle has to correct its checklist"),
		always[*foreseenError](exitItemFailed, "correct what is shown above; nothing was run"),
		always[*install.InputError](exitUsage, "correct inputs: in the site file"),
		always[*install.SelectionError](exitUsage, "airlock checklist show lists phases and items"),
		always[*install.MismatchError](exitUsage, "bundle, checklist and site do not belong together: check which medium and which site file"),
		always[*removalError](exitPartial, "what is gone is recorded; correct what is in the way and run the command again"),
		is(func(e *waitingError) verdict { return verdict{exitWaiting, "the next person runs: " + e.next} }),
		is(statementVerdict),
		is(func(e *noPublicKeyError) verdict { return verdict{exitUsage, e.hint()} }),
		always[*install.UnlistedError](exitUntrusted, "list the key under people: in the site file, with left: DAY where its owner is gone; airlock checklist verify --key takes it too"),
		is(func(e *install.SignerError) verdict { return signerVerdict(e) }),
		is(func(e *install.EvidenceError) verdict {
			return verdict{exitUsage, "airlock checklist show lists what evidence the item takes" + after(": ", strings.Join(e.Have, ", "))}
		}),
		always[*install.NoRunError](exitUsage, "airlock bundle install begins one; --state or --site name another place"),
		always[*noIdentityError](exitUsage, "name your key with --key, or give the site an identity; airlock keygen makes one"),
		is(func(e *install.HeldError) verdict {
			return verdict{exitFailed, "wait for it to end; if that machine is gone, say --break-lock REASON, which goes into the ledger (the lock runs out by itself at " + e.By.Expires.UTC().Format(time.RFC3339) + ")"}
		}),
		always[*install.ForkError](exitFailed, "nothing was done here; airlock checklist restore --state NEW gets that record back to go on with; --break-lock REASON goes on with the one here"),
		always[*install.LostError](exitFailed, "nothing more was done here; find out who took the lock before you go on with --resume"),
		always[*offsite.MissingError](exitUsage, "name the record with --from REGISTRY/PREFIX/airlock-state:TAG; each run has one"),
		always[*offsite.ForeignError](exitContent, "somebody else uses that name in the registry: find out who, and remove it"),
		always[*install.LockedError](exitFailed, "wait for the other run to end"),
		is(func(e *install.LedgerError) verdict {
			if e.Torn {
				return verdict{exitContent, "a run that was killed, or a full disk, leaves that: airlock bundle install --resume cuts it off and records it; if no run was stopped, keep the record as it is for the auditor"}
			}
			return verdict{exitContent, "the record was changed or damaged: keep it as it is for the auditor and start with another --state"}
		}),
		always[*install.ArtifactError](exitContent, "the record was changed or damaged: put the file back from a copy of the state directory, or keep it as it is for the auditor and start with another --state"),
		is(func(e *listenError) verdict { return e.verdict() }),
		always[*stdoutError](exitFailed, "what the command does is done; only its result could not be written"),
		is(func(e *otherFileError) verdict {
			return verdict{exitFailed, "nothing is ever overwritten: name another file with --" + e.flag}
		}),
		is(func(*regular.TooLargeError) verdict {
			return verdict{exitUsage, "it is not what belongs there: check the path"}
		}),
		is(func(e *fs.PathError) verdict { return pathVerdict(l, e) }),
	}
}

// statusHint is for what a registry answered to one request.
const statusHint = "the registry did not do it; what was done is kept, run the command again"

// partialVerdict takes the hint of the first thing that went wrong: that is
// the one which the error shows.
func partialVerdict(l line, e *mirror.PartialError) verdict {
	v, _ := placeRows(l).find(e.Errs[0])
	switch v.hint {
	case "":
		return verdict{exitPartial, "run the same command again: what is there is not sent again"}
	case statusHint:
		return verdict{exitPartial, v.hint}
	}
	return verdict{exitPartial, v.hint + "; then run the same command again, what is there is not sent again"}
}

// failedVerdict is that of the first thing that went wrong, since nothing
// arrived.
func failedVerdict(l line, e *mirror.FailedError) verdict {
	if v, ok := placeRows(l).find(e.Errs[0]); ok {
		return v
	}
	return verdict{exitFailed, ""}
}

// recordVerdict tells a record that could not be opened from one that ended
// while everything arrived.
func recordVerdict(e *mirror.RecordError) verdict {
	switch {
	case e.Ended:
		return verdict{exitPartial, "everything arrived; only the record is not whole, so that the next run asks for more: free space there, or give another --record"}
	case errors.Is(e, syscall.ENOSPC):
		return verdict{exitFailed, "the disk is full: free space, or give another --record"}
	}
	return verdict{exitFailed, "remove what is in its place after looking at it, or give a directory that only you write to with --record"}
}

func outcomeVerdict(e *checklistOutcome) verdict {
	switch e.status {
	case install.StatusFailed:
		return verdict{exitItemFailed, "correct what the report names and run again with --resume"}
	case install.StatusWaiting:
		if e.next == "" {
			return verdict{exitWaiting, "commit what was rendered, let the controller apply it, and run the same command again"}
		}
		return verdict{exitWaiting, "somebody has to sign: " + e.next + "; airlock checklist status shows who and what else"}
	default:
		return verdict{exitPartial, "the report says what is left, in the order to do it"}
	}
}

func statementVerdict(e *install.StatementError) verdict {
	if e.Probes {
		return verdict{exitItemFailed, "nothing was signed: correct it first; airlock checklist status shows what is left"}
	}
	return verdict{exitUsage, "airlock checklist show lists what each item takes"}
}

func signerVerdict(e *install.SignerError) verdict {
	who := "anybody whom the site lists"
	if len(e.Roles) > 0 {
		who = strings.Join(e.Roles, " or ")
	}
	return verdict{exitUsage, "nothing was signed: it takes a key with role " + who + "; people: in the site file says whose is which"}
}

// judge finds code and hint of an error.
func judge(ctx context.Context, l line, err error) verdict {
	v, ok := table(l).find(err)
	if ctx.Err() != nil && (!ok || errors.Is(err, context.Canceled) || mayBeStopped(v.code)) {
		return verdict{exitInterrupted, l.goOn(err)}
	}
	switch {
	case ok && v.hint != "":
		return v
	case errors.Is(err, syscall.ENOSPC):
		return verdict{exitFailed, fullHint(err)}
	case errors.Is(err, fs.ErrExist):
		return verdict{exitFailed, existHint(l, pathOf(err))}
	case ok:
		return v
	}
	return verdict{exitFailed, l.lastHint()}
}

// mayBeStopped says whether an interrupt can be behind an error with this code;
// what was found out about trust or content stays what it is.
func mayBeStopped(code int) bool {
	return code == exitFailed || code == exitPartial || code == exitItemFailed || code == exitWaiting
}

// text is what an error says. Where an interrupt ended the command it names
// the signal, which the libraries below do not know.
func text(ctx context.Context, err error) string {
	cause := context.Cause(ctx)
	if cause == nil || !errors.Is(err, context.Canceled) {
		return err.Error()
	}
	return strings.ReplaceAll(err.Error(), context.Canceled.Error(), cause.Error())
}

// exit reports an error, once, and returns the exit code.
func (a *app) exit(ctx context.Context, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitDone
	}
	if cobraUsage(cmd, err) {
		err = &usageError{err}
	}
	v := judge(ctx, line{cmd}, err)
	if a.output == "json" {
		a.jsonLine(map[string]any{"error": text(ctx, err), "hint": v.hint, "exitCode": v.code})
		return v.code
	}
	fmt.Fprintf(a.stderr, "airlock: %s\n", text(ctx, err))
	if v.hint != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", v.hint)
	}
	return v.code
}

// cobraUsage reports whether cobra itself refused the command line: then no
// command was found to run.
func cobraUsage(cmd *cobra.Command, err error) bool {
	_, ours := errors.AsType[*usageError](err)
	return !ours && cmd != nil && cmd.Parent() == nil && cmd.CalledAs() == "" && strings.HasPrefix(err.Error(), "unknown command")
}
