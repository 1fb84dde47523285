// Package hub finds model weights in a machine's Hugging Face cache and downloads
// them into it: the cache's layout, the hub's HTTP API, and a downloader that
// resumes and checks every byte. It stops at one connection: where the traffic
// goes, and in what container the downloader runs, is decided by its callers.
package hub

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Endpoint is the hub that is asked where a Job names none.
const Endpoint = "https://huggingface.co"

// Want says which files of which repository are wanted.
type Want struct {
	Repo     string   `json:"repo"`     // "openai/gpt-oss-120b"
	Revision string   `json:"revision"` // commit, branch or tag; empty: main
	Include  []string `json:"include"`  // patterns of path.Match over the whole path, so "*" stops at "/"; empty: every file

	Encodings    bool         `json:"encodings"`    // the vocabulary files too
	Vocabularies []Vocabulary `json:"vocabularies"` // which ones; empty: those that gpt-oss needs
}

// Job is all that Fetch is told, but the token. It is JSON on stdin of
// `gateway fetch-weights`.
type Job struct {
	Want
	Endpoint     string `json:"endpoint"`      // https URL of the hub; empty: Endpoint
	EncodingsURL string `json:"encodings_url"` // https URL of the vocabulary files' folder; empty: EncodingsURL
	Dir          string `json:"dir"`           // the weights' folder, as the downloader sees it; required
	Shown        string `json:"shown"`         // what people call that folder; empty: Dir
	Roots        string `json:"roots"`         // PEM certificates that are trusted; empty: the system's
	By           string `json:"by"`            // "me@laptop": whom a second pull is told about
}

// shown is what to call the weights' folder in a message.
func (j Job) shown() string { return printable(cmp.Or(j.Shown, j.Dir)) }

// Kind sorts what can end a pull, for callers that act on it.
type Kind string

// The kinds of an Error.
const (
	KindUsage       Kind = "usage"       // the job is wrong
	KindUnreachable Kind = "unreachable" // the hub, or a host that it redirected to, could not be reached
	KindRefused     Kind = "refused"     // the gateway's policy refused a host
	KindDenied      Kind = "denied"      // gated or private, or there is no such repository
	KindRevision    Kind = "revision"    // no such revision, or not the pinned one
	KindDisk        Kind = "disk"        // no room for it
	KindCorrupt     Kind = "corrupt"     // what arrived is not what was announced
	KindRunning     Kind = "running"     // another pull of this repository runs
	KindInterrupted Kind = "interrupted" // asked to stop
	KindHub         Kind = "hub"         // the hub answered nonsense, or an error of its own
	KindFiles       Kind = "files"       // the weights' folder could not be used
)

// Error is why a pull ended. What was downloaded so far is kept and resumed from.
type Error struct {
	Kind Kind
	Text string // one line: operation, object, cause
	Hint string // what to do; may be empty
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Text
	}
	return e.Text + "; hint: " + e.Hint
}

func fail(kind Kind, hint, format string, args ...any) error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// KindOf is the kind of err, empty if it is no Error.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

var (
	repoName   = lazily(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	refName    = lazily(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)
	commitHash = lazily(`^[0-9a-f]{40}$`)
	sha256Hash = lazily(`^[0-9a-f]{64}$`)
)

// check refuses a Want whose names could not be those of a repository.
func (w Want) check() error {
	switch {
	case !repoName().MatchString(w.Repo) || strings.Contains(w.Repo, "..") || strings.Contains(w.Repo, "--"):
		return fail(KindUsage, "it is written ORGANISATION/NAME", "%q is no repository of the hub", w.Repo)
	case w.Revision != "" && (!refName().MatchString(w.Revision) || strings.Contains(w.Revision, "..") || strings.Contains(w.Revision, "//")):
		return fail(KindUsage, "write a commit of 40 hexadecimal digits, a branch or a tag", "%q is no revision", w.Revision)
	case len(w.Include) > 200:
		return fail(KindUsage, "", "%d patterns of files are too many", len(w.Include))
	}
	for _, pattern := range w.Include {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fail(KindUsage, `write for example "*.safetensors"`, "%q is no pattern of files", pattern)
		}
	}
	for _, v := range w.Vocabularies {
		if err := v.check(); err != nil {
			return err
		}
	}
	return nil
}

// includes reports whether a file of the repository is wanted.
func (w Want) includes(file string) bool {
	return len(w.Include) == 0 || slices.ContainsFunc(w.Include, func(pattern string) bool {
		ok, err := path.Match(pattern, file)
		return ok && err == nil
	})
}

// revision is what the hub is asked for.
func (w Want) revision() string {
	if w.Revision == "" {
		return "main"
	}
	return w.Revision
}

// pinned reports whether the revision is a commit.
func (w Want) pinned() bool { return commitHash().MatchString(w.Revision) }

// folder is the repository's in the cache's folder hub: repo_folder_name of
// huggingface_hub src/huggingface_hub/file_download.py@ee0a451.
func (w Want) folder() string { return "models--" + strings.ReplaceAll(w.Repo, "/", "--") }

// check fills in what is not set and refuses what could not work.
func (j Job) check() (Job, error) {
	if err := j.Want.check(); err != nil {
		return j, err
	}
	for _, u := range []struct {
		field    *string
		fallback string
	}{{&j.Endpoint, Endpoint}, {&j.EncodingsURL, EncodingsURL}} {
		if *u.field == "" {
			*u.field = u.fallback
		}
		*u.field = strings.TrimSuffix(*u.field, "/")
		if parsed, err := url.Parse(*u.field); err != nil || checkURL(parsed) != nil || parsed.RawQuery != "" || parsed.Fragment != "" {
			return j, fail(KindUsage, "write an https URL, for example "+u.fallback, "%q cannot be asked for files", printable(*u.field))
		}
	}
	if j.Dir == "" {
		return j, fail(KindUsage, "", "the job names no folder")
	}
	return j, nil
}
